"""Free TCP ports on the loopback interface, which no other process of tests is given meanwhile.

A port that the system chooses is anyone's again as soon as it is let go: a test that closes it for
a server that is still to start may lose it to one that runs beside it. So these lie below those
that the system chooses from, and each process takes them from a block of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cache

FIRST, END = 10_000, 32_768
"""Linux chooses from 32,768 on by itself."""
BLOCK = 700
METRICS_OFFSET = 100
"""How far above its port a service shows its metrics, unless told otherwise."""


class Block:
    """Ports that are this process's as long as it lives: it holds the first of them."""

    def __init__(self, first: int, claim: socket.socket) -> None:
        self._ports = range(first + 1, first + BLOCK - METRICS_OFFSET)
        self._claim = claim
        self._next = 0

    def free(self) -> int:
        """Returns the next port that nothing has bound; each comes again when all others have."""
        for _ in self._ports:
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            if held := _bound(port):
                held.close()
                return port
        raise AssertionError(f"all ports of {self._ports} are taken")


def free_ports(count: int) -> list[int]:
    """Returns distinct ports that nothing listens on."""
    block = _own()
    return [block.free() for _ in range(count)]


def free_port() -> int:
    """Returns one free port."""
    return free_ports(1)[0]


def ports_of(services: Sequence[str]) -> dict[str, int]:
    """Returns a free port for each of some services, as `services.suite` takes them."""
    return dict(zip(services, free_ports(len(services)), strict=True))


@cache
def _own() -> Block:
    for first in range(FIRST, END - BLOCK + 1, BLOCK):
        if claim := _bound(first):
            return Block(first, claim)
    raise AssertionError("more processes of tests run here than there are blocks of ports for")


def _bound(port: int) -> socket.socket | None:
    """Returns a socket that holds a port, unless something has it."""
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    return held
