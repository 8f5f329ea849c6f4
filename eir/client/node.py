"""A plain, blocking client of one node: what the command line asks with."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import grpc

from eir.client.tls import ClientTls, credentials
from eir.errors import Refused, Unavailable
from eir.wire.v1 import admin_pb2, admin_pb2_grpc, eligibility_pb2, eligibility_pb2_grpc

Reply = TypeVar("Reply")

_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,  # the node stopped before it took up the call
    }
)
ExplainReply = admin_pb2.ExplainReply
Origin = admin_pb2.Origin


class NodeClient:
    """One channel to ``host:port`` or ``unix:path``. Every call raises Unavailable or Refused.

    ``timeout``: seconds that a call may take, connecting included.
    """

    def __init__(self, address: str, *, tls: ClientTls | None = None, timeout: float = 5.0) -> None:
        self._address = address
        self._timeout = timeout
        if tls is None:
            self._channel = grpc.insecure_channel(address)
        else:
            self._channel = grpc.secure_channel(address, credentials(tls))
        self._eligibility = eligibility_pb2_grpc.EligibilityStub(self._channel)
        self._admin = admin_pb2_grpc.AdminStub(self._channel)

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def check(self, imei: str, msisdn: str, imsi: str) -> eligibility_pb2.CheckReply:
        """One verdict; each identifier as digits, empty = not known."""
        request = eligibility_pb2.CheckRequest(imei=imei, msisdn=msisdn, imsi=imsi)
        return self._call(lambda: self._eligibility.Check(request, timeout=self._timeout))

    def explain(self, imei: str, msisdn: str, imsi: str) -> admin_pb2.ExplainReply:
        """One verdict with every rule tried."""
        request = admin_pb2.ExplainRequest(imei=imei, msisdn=msisdn, imsi=imsi)
        return self._call(lambda: self._admin.Explain(request, timeout=self._timeout))

    def status(self) -> admin_pb2.StatusReply:
        """What the node serves, and its alarms."""
        request = admin_pb2.StatusRequest()
        return self._call(lambda: self._admin.Status(request, timeout=self._timeout))

    def reload(self, *, timeout: float) -> admin_pb2.ReloadReply:
        """Have configuration and depot read again; ``timeout`` in seconds."""
        request = admin_pb2.ReloadRequest()
        return self._call(lambda: self._admin.Reload(request, timeout=timeout))

    def _call(self, ask: Callable[[], Reply]) -> Reply:
        try:
            return ask()
        except grpc.RpcError as error:
            code, detail = error.code(), error.details() or ""
            if code in _NO_ANSWER:
                raise Unavailable(f"no answer from {self._address}: {detail}") from error
            raise Refused("node-refused", f"{code.name}: {detail}", where=self._address) from error
