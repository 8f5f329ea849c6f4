"""What to do with a device. Apart from the decision table, so that clients need no compiler."""

from enum import IntEnum


class Status(IntEnum):
    """The four answers that 3GPP knows; UNKNOWN is 5422 on S13, 404 on N5g-eir."""

    WHITELISTED = 1
    GREYLISTED = 2
    BLACKLISTED = 3
    UNKNOWN = 4
