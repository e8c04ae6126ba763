"""Rules of the times that requests name."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from services.kernel.rules import Checker


def check_time(
    checker: Checker, path: str, time: Timestamp, now_ms: int, ahead_s: float
) -> int | None:
    """Return a time in milliseconds, or None when it is not valid or too far ahead.

    Args:
        checker: Is told what is wrong.
        path: The field.
        time: Its value.
        now_ms: The time now.
        ahead_s: How far ahead it may lie.
    """
    # The generated classes only convert what is well formed, and raise for the rest.
    formed = 0 <= time.nanos <= 999_999_999 and time.seconds >= 0
    if not checker.require(path, formed, "must be a valid time"):
        return None
    near = time.seconds * 1000 <= now_ms + ahead_s * 1000
    if not checker.require(path, near, f"must be at most {ahead_s / 86_400:g} days ahead"):
        return None
    return time.ToMilliseconds()
