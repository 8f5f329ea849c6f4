"""What holds for every test: how long an example takes is the machine's business, not a fault."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
