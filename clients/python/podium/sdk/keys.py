"""Idempotency keys that clients make for their own repeats of calls that were not answered."""

from __future__ import annotations

import secrets

from podium.sdk.errors import InvalidArgument, Violation

RETRY_PREFIX = "podium-retry:"
"""Begins such keys, which schedulers keep apart from others and remember for 10 minutes."""

# Who repeats for longer than that needs a key that is kept.
RETRY_S_MAX = 300.0


def own_key(patience_s: float) -> str:
    """Returns a key for a call that is repeated for so long; with numbers behind it for several."""
    return (RETRY_PREFIX if patience_s <= RETRY_S_MAX else "") + secrets.token_hex(12)


def check_chosen(request_id: str) -> None:
    """Checks a key that a caller chose.

    Raises:
        InvalidArgument: it would soon be forgotten.
    """
    if request_id.startswith(RETRY_PREFIX):
        why = f"must not begin with {RETRY_PREFIX}, which is for clients' own repeats"
        raise InvalidArgument(
            "INVALID_FIELD", "the call is not valid", violations=[Violation("request_id", why)]
        )
