"""Holds back what the scheduler has no room for, so that asking does not cost what working needs.

After a refusal nothing of its kind goes out until the time that the scheduler named. From then on
the tasks that wait for an answer are kept to a window, which grows with each that is taken and
shrinks with each refusal, as that of TCP does (additive increase, multiplicative decrease, RFC
5681): so a client comes to offer what ends, whatever that is, and shares it with others. What is
held back gets the scheduler's answer here, within microseconds.
"""

from __future__ import annotations

import time

from podium.sdk.errors import ResourceExhausted
from podium.v1 import task_pb2

PRIORITY = 5
"""Of tasks that name none."""
PRIORITY_MAX = 9
URGENT_PRIORITY = 6
"""From which a scheduler takes tasks that others have no room for; a refusal says its own."""
WINDOW_MIN = 16.0
GROWTH = 16.0
"""Tasks by which the window grows while as many are taken as it holds."""
SHRUNK = 0.7
"""What a refusal leaves of it (RFC 8312 has the same factor)."""
CALM_S = 1.0
"""Without having to hold anything back for so long, the gate opens."""


def priority_of(spec: task_pb2.TaskSpec) -> int:
    """Returns the priority that a task has."""
    return spec.priority if spec.HasField("priority") else PRIORITY


def still_taken(error: ResourceExhausted) -> int:
    """Returns the priority from which a full backlog takes tasks; above all where it takes none."""
    named = error.metadata.get("urgent_priority", "")
    return int(named) if named.isdecimal() else PRIORITY_MAX + 1


class Gate:
    """Open until the backlog is full."""

    __slots__ = ("_below", "_calm_from_s", "_error", "_pause_s", "_until_s", "_window", "shut")

    def __init__(self) -> None:
        # Whether anything may be held back; cheap to ask for each task.
        self.shut = False
        self._below = 0
        self._pause_s = 0.0
        self._until_s = 0.0
        self._calm_from_s = 0.0
        self._window = 0.0
        self._error: ResourceExhausted | None = None

    def refused(self, error: ResourceExhausted, unanswered: int) -> None:
        """Shuts for what the scheduler refused, for as long as it said.

        Args:
            error: its answer.
            unanswered: tasks that waited for an answer then, the refused ones included.
        """
        if error.reason != "BACKLOG_FULL" or not error.retry_after_s:
            return
        now_s = time.monotonic()
        # Once for all calls that were under way: they met the same full backlog.
        if now_s >= self._until_s:
            self._window = max(WINDOW_MIN, SHRUNK * unanswered)
        self._error = error
        self._below = still_taken(error)
        self._pause_s = error.retry_after_s
        self._until_s = now_s + self._pause_s
        self._calm_from_s = self._until_s + CALM_S
        self.shut = True

    def taken(self, count: int) -> None:
        """Notes that the scheduler took so many tasks."""
        if self._window:
            self._window += GROWTH * count / self._window

    def passes(self, spec: task_pb2.TaskSpec) -> bool:
        """Returns whether a task is so urgent that the shut gate does not concern it."""
        return priority_of(spec) >= self._below

    def refusal(self, spec: task_pb2.TaskSpec, unanswered: int) -> ResourceExhausted | None:
        """Returns the answer to a task that is held back; None for one that may go.

        Args:
            spec: the task.
            unanswered: tasks that wait for an answer, without this one.
        """
        error, now_s = self._error, time.monotonic()
        if error is None or now_s >= self._calm_from_s:
            self.shut = False
            return None
        if (unanswered < self._window and now_s >= self._until_s) or self.passes(spec):
            return None
        # Behind the window the next answer makes room; the pause that was named is of that order.
        retry_after_s = self._until_s - now_s
        if retry_after_s <= 0:
            retry_after_s = self._pause_s
            self._calm_from_s = now_s + CALM_S
        return ResourceExhausted(
            error.reason, error.message, metadata=error.metadata, retry_after_s=retry_after_s
        )
