"""From a feed's address to the site that a publisher writes to."""

from __future__ import annotations

from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.site import FolderSite, Site


def open_site(address: Address) -> Site:
    """The site at ``address``; a missing folder is made.

    Raises Refused ``feed-read-only`` for a web server, ``feed-extra-missing`` for a bucket without
    the extra.
    """
    if address.place == "web":
        detail = "publish into the folder or bucket behind the web server, not through it"
        raise Refused("feed-read-only", detail, where=address.url)
    if address.place == "folder":
        return FolderSite(address.folder)
    try:
        from eir.feed.bucket_site import BucketSite
    except ImportError as error:
        raise Refused("feed-extra-missing", "install the extra: pip install 'eir[feed]'") from error
    return BucketSite(address)
