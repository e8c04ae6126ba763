"""`make bench-edge`: what the bridge and the dashboard cost, each figure by its goal.

The bare echo is an endpoint of the same WebSocket library that sends back what it gets, measured in
the same run, by turns. Clients are processes of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.bench import bridges, dashboards, parts

PARTS: dict[str, tuple[str, parts.Part]] = {
    "messages": ("Messages through the bridge, beside a bare echo", bridges.messages),
    "memory": ("Memory of idle connections", bridges.memory),
    "stalled": ("One of 1,000 connections does not read", bridges.stalled),
    "dashboards": ("1,000 tasks/s followed by 100 dashboards", dashboards.fan_out),
    "page": ("The dashboard in Chromium, nothing cached", dashboards.page),
}
"""By name: a title, and what measures it, given the share of the full size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for; 1 = a goal was missed."""
    return parts.run("make bench-edge ARGS=...", __doc__ or "", PARTS, argv)


if __name__ == "__main__":
    sys.exit(main())
