"""Whose pages may use the bridge, and under which names it may be addressed.

A WebSocket is not bound by the same-origin rule: any page of the world may open one to any host, so
the server has to ask where the page came from. And a page whose own name was made to point at this
machine is "same host" as the bridge, so the names by which the bridge is known count too.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

same_host = "self"
no_origin = "none"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """The rules of one bridge.

    Args:
        origins: allowed origins such as `https://podium.example`; `self` is the host that the
            request was addressed to, `none` a request without Origin, which no browser sends.
        hosts: names under which the bridge is known; empty = any.
    """

    def __init__(self, origins: Collection[str], hosts: Collection[str]) -> None:
        self._origins = frozenset(origins)
        self._hosts = frozenset(host.lower() for host in hosts)

    def knows_host(self, host: str) -> bool:
        """Tell whether a Host header names this bridge."""
        name = _split(f"//{host}")
        return name is not None and (not self._hosts or name[0] in self._hosts)

    def allows(self, origins: Collection[str], host: str) -> bool:
        """Tell whether a page of this Origin may connect, given the request's Host header."""
        if not origins:
            return no_origin in self._origins
        if len(origins) > 1:
            return False
        (origin,) = origins
        if origin in self._origins:
            return origin not in (same_host, no_origin)
        scheme, separator, rest = origin.partition("://")
        if same_host not in self._origins or not separator or scheme not in _DEFAULT_PORTS:
            return False
        default = _DEFAULT_PORTS[scheme]
        theirs, ours = _split(f"//{rest}"), _split(f"//{host}")
        return (
            theirs is not None
            and ours is not None
            and rest == rest.lower()  # browsers write origins in lower case
            and theirs[0] == ours[0]
            and (theirs[1] or default) == (ours[1] or default)
        )


def names_of(host: str) -> frozenset[str]:
    """Return the names of a bridge that listens on `host`: empty, any, unless on loopback."""
    return _LOOPBACK if host.strip("[]") in _LOOPBACK else frozenset()


def _split(address: str) -> tuple[str, int | None] | None:
    """Return host and port of `//host:port`; nothing when it is anything else."""
    try:
        parts = urlsplit(address)
        if not parts.hostname or parts.netloc != address[2:] or "@" in parts.netloc:
            return None
        return parts.hostname, parts.port
    except ValueError:
        return None
