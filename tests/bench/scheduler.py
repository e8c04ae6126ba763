"""`make bench-scheduler`: what the queue, the log and its recovery cost, each figure by its goal.

Each part is a function that takes the share of the full size and returns rows; `PARTS` lists them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.bench import backlog, commits, fairness, keys, partitions, parts, recovery, structures

PARTS: dict[str, tuple[str, parts.Part]] = {
    "grants": ("Grants at any depth of the backlog", backlog.grants),
    "memory": ("Memory of what waits", backlog.memory),
    "collectors": ("Garbage collection against pools", structures.collectors),
    "queues": ("The ready queue against a list kept sorted", structures.queues),
    "commits": ("Group commit under submits", commits.measure),
    "fairness": ("Fairness and the wait of the lowest class (virtual time)", fairness.measure),
    "journals": ("SQLite and PostgreSQL on the same disk under the same load", recovery.loads),
    "recovery": ("Recovery of one that was killed", recovery.recoveries),
    "takeover": ("Takeover between two replicas", recovery.takeovers),
    "partitions": ("Owners of partitions at work at once", partitions.measure),
    "keys": ("Latency that two concurrency rules add", keys.measure),
}
"""By name: a title, and what measures it, given the share of the full size."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts that were asked for; 1 = a goal was missed."""
    return parts.run("make bench-scheduler ARGS=...", __doc__ or "", PARTS, argv)


if __name__ == "__main__":
    sys.exit(main())
