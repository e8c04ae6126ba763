"""Errors as the bridge tells them."""

from __future__ import annotations

from podium.v1.bridge_pb2 import BridgeError, BridgeResponse
from services.kernel.errors import PodiumError


def refusal(ref: str, error: PodiumError, arm: str = "") -> BridgeResponse:
    """Return the answer to a request that failed.

    Args:
        ref: The request.
        error: Why.
        arm: The field of the request under which the error's own paths lie.
    """
    path = error.violations[0].field if error.violations else ""
    return BridgeResponse(
        ref=ref,
        error=BridgeError(
            code=error.code,
            reason=error.reason,
            message=error.message,
            field=f"{arm}.{path}" if arm and path else path,
            retry_after_ms=round((error.retry_after_s or 0) * 1_000),
            agent_id="" if ref else error.metadata.get("agent_id", ""),
        ),
    )
