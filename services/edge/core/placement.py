"""Which Routing an agent has its session with, where there are several."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def place(agent_id: str, routers: Iterable[str]) -> str | None:
    """Return the Routing for an agent; None when there is none.

    Every bridge comes to the same answer without asking another, and when one Routing goes only
    its own agents move (highest random weight). So an agent that comes back through another bridge
    comes back to the Routing that still waits for it.
    """
    return max(routers, key=lambda router: _weight(agent_id, router), default=None)


def _weight(agent_id: str, router: str) -> bytes:
    return blake2b(f"{agent_id} {router}".encode(), digest_size=8).digest()
