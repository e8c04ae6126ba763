"""Holds back what the scheduler has just said it has no room for, until the time it named.

A client that goes on asking costs a full scheduler the time that its backlog needs; here the answer
is the same, and there within microseconds.
"""

from __future__ import annotations

import time

from podium.sdk.errors import ResourceExhausted
from podium.v1 import task_pb2

PRIORITY = 5
"""Of tasks that name none."""
PRIORITY_MAX = 9


def priority_of(spec: task_pb2.TaskSpec) -> int:
    """Returns the priority that a task has."""
    return spec.priority if spec.HasField("priority") else PRIORITY


def still_taken(error: ResourceExhausted) -> int:
    """Returns the priority from which a full backlog takes tasks; above all where it takes none."""
    named = error.metadata.get("urgent_priority", "")
    return int(named) if named.isdecimal() else PRIORITY_MAX + 1


class Gate:
    """Open until the backlog is full."""

    __slots__ = ("_below", "_error", "_until_s", "shut")

    def __init__(self) -> None:
        # Whether anything may be held back; cheap to ask for each task.
        self.shut = False
        self._below = 0
        self._until_s = 0.0
        self._error: ResourceExhausted | None = None

    def refused(self, error: ResourceExhausted) -> None:
        """Shuts for what the scheduler refused, for as long as it said."""
        if error.reason != "BACKLOG_FULL" or not error.retry_after_s:
            return
        self._error = error
        self._below = still_taken(error)
        self._until_s = time.monotonic() + error.retry_after_s
        self.shut = True

    def refusal(self, spec: task_pb2.TaskSpec) -> ResourceExhausted | None:
        """Returns the answer to a task that is held back; None for one that may go."""
        error, left_s = self._error, self._until_s - time.monotonic()
        if error is None or left_s <= 0:
            self.shut = False
            return None
        if priority_of(spec) >= self._below:
            return None
        return ResourceExhausted(
            error.reason, error.message, metadata=error.metadata, retry_after_s=left_s
        )
