"""Text of the environment into values; each raises ValueError with what it must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 10**6, "gb": 10**9}
_BYTES |= {"kib": 1024, "mib": 1024**2, "gib": 1024**3}
_NUMBERS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}:[0-9]+")
_HOST = re.compile(r"\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]{1,253}")


def as_text(text: str) -> str:
    """Return the text as it is."""
    return text


def as_path(text: str) -> Path:
    """Return a path, with `~` expanded."""
    return Path(text).expanduser()


def as_integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


as_count = as_integer(1, 10**9)
"""A whole number of at least 1."""


def as_port(text: str) -> int:
    """Return a TCP port; 0 takes any free one."""
    return as_integer(0, 65_535)(text)


def as_seconds(text: str) -> float:
    """Return a positive time in seconds from `15`, `0.5`, `250ms`, `15s`, `5m`, `1h` or `7d`."""
    found = _AMOUNT.fullmatch(text)
    if not found or found[2].lower() not in _SECONDS:
        raise ValueError("must be a time such as 15, 250ms, 15s or 5m")
    value = float(found[1]) * _SECONDS[found[2].lower()]
    if not 0 < value < 1e9:
        raise ValueError("must be a time above 0")
    return value


def as_size(text: str) -> int:
    """Return bytes from `65536`, `64KiB`, `4MiB` or `1GB`."""
    found = _AMOUNT.fullmatch(text)
    if not found or found[2].lower() not in _BYTES:
        raise ValueError("must be a size such as 65536, 64KiB or 4MiB")
    value = int(float(found[1]) * _BYTES[found[2].lower()])
    if value < 1:
        raise ValueError("must be a size of at least 1 byte")
    return value


def as_fraction(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise ValueError("must be a number from 0 to 1")
    return value


def as_flag(text: str) -> bool:
    """Return a truth value."""
    lowered = text.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be on or off")


def as_choice(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of `words`, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError("must be " + " or ".join(words))
        return text.lower()

    return parse


def as_address(text: str) -> str:
    """Return `host:port` of a peer."""
    host, _, port = text.rpartition(":")
    plain_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535
    if not plain_port or not _HOST.fullmatch(host):
        raise ValueError("must be host:port, such as 127.0.0.1:7701")
    return text


def as_replicas(text: str) -> str:
    """Return `host:port` of a peer, or several with commas between, as IPv4 numbers."""
    addresses = [as_address(part.strip()) for part in text.split(",")]
    if len(addresses) > 1 and not all(_NUMBERS.fullmatch(one) for one in addresses):
        raise ValueError(
            "must be one host:port, or several such as 10.0.0.1:7701,10.0.0.2:7701; give replicas "
            "with names one name that resolves to all of them"
        )
    return ",".join(addresses)


def as_endpoint(text: str) -> str:
    """Return `host:port` of a collector, without a scheme, or `off`."""
    if text.lower() in ("off", "none"):
        return "off"
    return as_address(text.removeprefix("http://").rstrip("/"))
