"""Asks a service of this container whether it is ready: `python -m probe 7701`.

For container engines that cannot put the gRPC health question themselves; exits 0 for yes.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ready(address: str, timeout_s: float = 2.0) -> str:
    """Returns "" when the service at the address is ready, else why not."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="readiness"), timeout=timeout_s
            )
        except grpc.RpcError as error:
            return f"{address}: {error.code().name} {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


if __name__ == "__main__":
    sys.exit(ready(f"127.0.0.1:{sys.argv[1]}") or 0)
