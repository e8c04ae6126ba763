"""Why a frame is refused: each reason with the canonical code that the same fault has in a call.

A session goes on after most refusals, so there is no status to carry the code; the frame does.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.kernel.errors import PodiumError, ResourceExhausted

CODES: Mapping[str, str] = {
    "INVALID_FIELD": "INVALID_ARGUMENT",
    "BATCH_TOO_LARGE": "INVALID_ARGUMENT",
    "HELLO_REQUIRED": "FAILED_PRECONDITION",
    "HELLO_REPEATED": "FAILED_PRECONDITION",
    "AGENT_NOT_YOURS": "PERMISSION_DENIED",
    "CAPABILITY_NOT_GRANTED": "PERMISSION_DENIED",
    "ROLE_MISSING": "PERMISSION_DENIED",
    "LEASE_NOT_YOURS": "PERMISSION_DENIED",
    "HELLO_RATE": "RESOURCE_EXHAUSTED",
    "TOO_MANY_AGENTS": "RESOURCE_EXHAUSTED",
    "FRAME_RATE": "RESOURCE_EXHAUSTED",
    "TOO_MANY_STRIKES": "RESOURCE_EXHAUSTED",
    "PROBE_UNANSWERED": "UNAVAILABLE",
    "DRAINING": "UNAVAILABLE",
}
"""Reason to canonical code; a reason that is missing here cannot be sent."""


def too_many(message: str, most: int) -> PodiumError:
    """Return the error for an agent that there is no room for, here or on its stream."""
    told = {"agents_max": str(most)}
    return ResourceExhausted("TOO_MANY_AGENTS", message, metadata=told, retry_after_s=5.0)
