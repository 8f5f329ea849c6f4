"""The ports that workers share, claimed by the keeper for as long as it lives.

A claim is bound and never listens, so no connection comes to it; it settles what port 0 means, and
keeps the port while no worker holds it. Workers join it by SO_REUSEPORT, which the system lets
only processes of the same user do.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from eir.errors import Refused


class Ports:
    """Claims on the TCP addresses among some; Unix sockets pass as they are."""

    def __init__(self, addresses: Iterable[str], *, shared: bool) -> None:
        """``shared``: others of ours may listen there already.

        Raises Refused ``listen-failed`` where a port can't be had.
        """
        self._claims: list[socket.socket] = []
        with contextlib.ExitStack() as until_good:
            until_good.callback(self.close)
            self.addresses = tuple(self._claimed(address, shared) for address in addresses)
            until_good.pop_all()

    def close(self) -> None:
        """Give the claims up."""
        for claim in self._claims:
            claim.close()

    def _claimed(self, address: str, shared: bool) -> str:
        if address.startswith("unix:"):
            return address
        host, _, port = address.rpartition(":")
        try:
            family, kind, _, _, place = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            if not shared:
                _refuse_listener(family, kind, place)
            claim = socket.socket(family, kind)
            self._claims.append(claim)
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            claim.bind(place)
        except OSError as fault:
            raise Refused("listen-failed", fault.strerror or str(fault), where=address) from fault
        return f"{host}:{claim.getsockname()[1]}"


def _refuse_listener(family: int, kind: int, place: object) -> None:
    """Without SO_REUSEPORT, so that another node on this port is not silently joined."""
    with socket.socket(family, kind) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(place)  # type: ignore[arg-type]
