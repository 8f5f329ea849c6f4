"""The native gRPC front (pygrpc-native) answering a constant: python … HOST:PORT."""

from __future__ import annotations

import sys

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from eir.wire.v1 import eligibility_pb2 as wire

ONE = wire.CheckReply(
    status=1, reason=9, reason_name="bound", registry_serial=1, operator_serial=1
).SerializeToString()
TOGETHER = 256


def many(message: bytes) -> bytes:
    size = len(wire.CheckBatchRequest.FromString(message).imei14)
    return wire.CheckBatchReply(
        status=[1] * size, reason=[9] * size, registry_serial=1, operator_serial=1
    ).SerializeToString()


def main(address: str) -> None:
    names = ("/eir.v1.Eligibility/Check", "/eir.v1.Eligibility/CheckBatch")
    front = NativeGrpcFront(address, tuple((name, False) for name in names), io_threads=1)
    front.start()
    print("listening", flush=True)
    while (events := front.recv_batch(TOGETHER)) is not None:
        for kind, call, method, message, _peer in events:
            if kind == EVENT_CALL:
                front.respond(call, ONE if method == 0 else many(message))


if __name__ == "__main__":
    main(sys.argv[1])
