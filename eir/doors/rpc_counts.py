"""What the gRPC doors count by peer: verdicts by status, and calls that failed by their code.

A peer is the common name of its certificate where one is asked for, else the host that it calls
from; how many are told apart is bounded. Never names a device or a subscriber.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import grpc
import numpy as np
from numpy.typing import NDArray

from eir.core.policy import Status
from eir.doors.rpc_border import Context
from eir.serve.events import Events, Peers, host_of

_NAMES = ("", *(status.name.lower() for status in Status))


class RpcCounts:
    """Counts for one door; any thread may."""

    def __init__(self, events: Events | None, *, by_certificate: bool = False) -> None:
        """``by_certificate``: every peer has shown one, and it is what names it."""
        self._events = events or Events()
        self._by_certificate = by_certificate
        self._peers = Peers()

    def peer_of(self, context: Context) -> str:
        """Who calls."""
        if self._by_certificate:
            names = context.auth_context().get("x509_common_name", ())
            return next(iter(names), b"").decode(errors="replace")
        return host_of(context.peer())

    def answered(self, peer: str, status: NDArray[np.uint8]) -> None:
        """One message's verdicts, uint8[n]."""
        peer = self._peers.named(peer)
        for number, times in enumerate(np.bincount(status).tolist()):
            if times:
                self._events.add(("grpc", "answer", _NAMES[number], peer), times)

    def answered_each(self, peers: Iterable[str], status: NDArray[np.uint8]) -> None:
        """One verdict for each of these callers' addresses, in order."""
        verdicts = zip(map(host_of, peers), status.tolist(), strict=True)
        for (peer, number), times in Counter(verdicts).items():
            self._events.add(("grpc", "answer", _NAMES[number], self._peers.named(peer)), times)

    def failed(self, peer: str, code: grpc.StatusCode) -> None:
        """A call of this peer ended without a verdict."""
        self._events.add(("grpc", "fault", code.name, self._peers.named(peer)))

    def failed_each(self, addresses: Iterable[str], code: grpc.StatusCode) -> None:
        """Calls of these callers' addresses ended without a verdict."""
        for peer, times in Counter(map(host_of, addresses)).items():
            self._events.add(("grpc", "fault", code.name, self._peers.named(peer)), times)
