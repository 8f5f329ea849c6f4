"""gRPC by HTTP/2 frames of one's own making, for what no gRPC client would send."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events

CHECK = "/eir.v1.Eligibility/Check"
BATCH = "/eir.v1.Eligibility/CheckBatch"
GOAWAY = 7
HEADERS = (("te", "trailers"), ("content-type", "application/grpc"))


class Frames:
    """One HTTP/2 connection that checks nothing of what it sends."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.rest = b""
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.initiate_connection()
        self.send()

    def send(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(self.h2.data_to_send())

    def open(self, path: str, *more: tuple[str, str]) -> int:
        stream = self.h2.get_next_available_stream_id()
        where = ((":scheme", "http"), (":authority", "eir.example"), (":path", path))
        self.h2.send_headers(stream, [(":method", "POST"), *where, *HEADERS, *more])
        return stream

    def ask(
        self, path: str, message: bytes, *more: tuple[str, str], told: int | None = None
    ) -> int:
        stream = self.open(path, *more)
        length = len(message) if told is None else told
        body = b"\0" + length.to_bytes(4, "big") + message
        self.h2.send_data(stream, body, end_stream=True)
        return stream

    def ending(self, stream: int) -> dict[bytes, bytes]:
        """The headers and trailers of a call, once the server has ended it."""
        return self.endings([stream])[0]

    def endings(self, streams: Sequence[int]) -> list[dict[bytes, bytes]]:
        """The same of each of these calls, once all have ended."""
        told: dict[int, dict[bytes, bytes]] = {stream: {} for stream in streams}
        open_still = set(streams)
        while open_still:
            octets = self.socket.recv(65_536)
            assert octets, "the server hung up"
            for event in self.h2.receive_data(self._without_goaway(octets)):
                stream = getattr(event, "stream_id", None)
                if stream not in told:
                    continue
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    told[stream] |= dict(event.headers)
                if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    open_still.discard(stream)
            self.send()
        return list(told.values())

    def _without_goaway(self, octets: bytes) -> bytes:
        """The whole frames that have come, but GOAWAY: h2 hears no answer any more after it."""
        self.rest += octets
        whole = b""
        while len(self.rest) >= 9 and len(self.rest) >= (
            size := 9 + int.from_bytes(self.rest[:3], "big")
        ):
            frame, self.rest = self.rest[:size], self.rest[size:]
            whole += frame if frame[3] != GOAWAY else b""
        return whole
