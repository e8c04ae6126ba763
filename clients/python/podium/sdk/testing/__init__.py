"""For the tests of programs that use Podium: handlers without a server, whole journeys in process.

::

    record = await run_handler(agent, "text.shout", "hello")
    assert record.result == "HELLO"

`run_handler` runs one attempt exactly as a host would, with nothing around it. `Suite` is a small
double of the scheduler and the router under a manual clock, for retries, timeouts, cancellation,
questions and children.
"""

from __future__ import annotations

from podium.sdk.testing.children import Child, Replies
from podium.sdk.testing.runs import Report, Run, RunRecord, run_handler, start_handler
from podium.sdk.testing.suite import Suite
from podium.sdk.testing.tasks import Task

__all__ = [
    "Child",
    "Replies",
    "Report",
    "Run",
    "RunRecord",
    "Suite",
    "Task",
    "run_handler",
    "start_handler",
]
