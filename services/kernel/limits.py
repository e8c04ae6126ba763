"""Every bound that two services must agree on, with its unit in the name, and the token bucket."""

from __future__ import annotations

message_bytes_max = 4 * 1024 * 1024
"""One gRPC message in either direction."""
payload_bytes_max = 256 * 1024
"""The payload of one task, and the result of one attempt."""
metadata_bytes_max = 8 * 1024
"""The headers of one call, as a server accepts them."""
batch_len_max = 1_000
"""Items of one request."""
stream_batch_len_max = 256
"""Items coalesced in one message of a stream."""
stream_batch_bytes_max = message_bytes_max // 2
"""Bytes coalesced in one message of a stream."""
page_len_max = 1_000
"""Items of one page."""
page_len_default = 100
"""Items of one page when the caller does not say."""
id_len_max = 64
"""Characters of an identifier."""
name_len_max = 128
"""Characters of a name for people."""
text_len_max = 1_024
"""Characters of a message for people."""
capability_len_max = 64
"""Characters of a capability's name."""
capabilities_len_max = 64
"""Capabilities of one agent, or of one task."""
labels_len_max = 32
"""Labels of one thing."""
label_key_len_max = 64
"""Characters of a label's key."""
label_value_len_max = 256
"""Characters of a label's value."""
violations_len_max = 16
"""Field violations told in one error: it must fit into the trailing headers."""
unary_s_max = 30.0
"""Seconds a unary call may take when its caller set no deadline."""
deadline_s_max = 7 * 24 * 3600.0
"""Seconds a task's deadline may lie ahead."""


class TokenBucket:
    """Lets `rate_per_s` through on average and `burst` at once; told the time, it owns no clock."""

    __slots__ = ("_burst", "_filled_s", "_level", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        assert rate_per_s > 0 and burst >= 1
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._level = float(burst)
        self._filled_s: float | None = None

    def take(self, now_s: float, n: float = 1) -> float:
        """Take `n` tokens and return 0, or take none and return the seconds to wait for them.

        More than the burst never fits at once: such a request passes when the bucket is full and
        leaves a debt, so that it is slowed like many small ones instead of refused forever.
        """
        if self._filled_s is not None and now_s > self._filled_s:
            gained = (now_s - self._filled_s) * self._rate_per_s
            self._level = min(self._burst, self._level + gained)
        if self._filled_s is None or now_s > self._filled_s:
            self._filled_s = now_s
        missing = min(n, self._burst) - self._level
        # A billionth of a token is rounding, not a reason to send somebody away again.
        if missing > 1e-9:
            return missing / self._rate_per_s
        self._level -= n
        return 0.0
