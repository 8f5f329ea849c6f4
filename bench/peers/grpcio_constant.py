"""Stock grpcio, generated code on its asyncio server, answering a constant: python … HOST:PORT."""

from __future__ import annotations

import asyncio
import sys

import grpc.aio

from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc


class Constant(wire_grpc.EligibilityServicer):
    """Every device is bound."""

    async def Check(self, request, context):  # noqa: N802  the generated name
        """WHITELISTED, whoever it is."""
        return wire.CheckReply(
            status=1, reason=9, reason_name="bound", registry_serial=1, operator_serial=1
        )

    async def CheckBatch(self, request, context):  # noqa: N802  the generated name
        """WHITELISTED, all of them."""
        size = len(request.imei14)
        return wire.CheckBatchReply(
            status=[1] * size, reason=[9] * size, registry_serial=1, operator_serial=1
        )


async def main(address: str) -> None:
    server = grpc.aio.server()
    wire_grpc.add_EligibilityServicer_to_server(Constant(), server)
    server.add_insecure_port(address)
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
