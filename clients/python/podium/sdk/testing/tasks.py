"""Tasks of a suite in the hands of a test, or of a handler whose children they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from podium.sdk import payloads
from podium.sdk.errors import TaskCanceled, TaskExpired, TaskFailed
from podium.sdk.results import value_of
from podium.sdk.testing.entries import Entry, Event
from podium.v1 import task_pb2

if TYPE_CHECKING:  # the suite makes tasks, and tasks ask the suite
    from podium.sdk.testing.suite import Suite

_ERRORS = {"CANCELED": TaskCanceled, "EXPIRED": TaskExpired}


class Task:
    """A task of the suite; like `podium.sdk.handle.TaskHandle`, and open to look into."""

    def __init__(self, suite: Suite, entry: Entry) -> None:
        self.task_id = entry.task_id
        self._suite = suite
        self._entry = entry

    @property
    def state(self) -> str:
        """Its state: QUEUED, RUNNING, RETRY_WAIT, COMPLETED and so on."""
        return self._entry.state

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._entry.ended

    @property
    def spec(self) -> task_pb2.TaskSpec:
        """What was asked for."""
        return self._entry.spec

    @property
    def log(self) -> list[Event]:
        """What has happened to it, in order."""
        return list(self._entry.events)

    @property
    def events(self) -> list[str]:
        """The same, by name alone: created, queued, assigned, started and so on."""
        return [event.type for event in self._entry.events]

    @property
    def agents(self) -> list[str]:
        """Who worked on it, by attempt."""
        return [event.agent_id for event in self._entry.events if event.type == "started"]

    @property
    def question(self) -> Any:
        """What it asks while its state is INPUT_REQUIRED, else None."""
        question = self._entry.question
        return None if question is None else payloads.decode(question)

    @property
    def partials(self) -> list[Any]:
        """The pieces of the result that were reported, over all attempts."""
        reports = self._entry.progress
        return [payloads.decode(r.partial) for r in reports if r.HasField("partial")]

    @property
    def usage(self) -> task_pb2.Usage:
        """What it consumed, over all attempts."""
        return self._entry.usage

    async def result(self, timeout_s: float | None = None, *, into: Any = None) -> Any:
        """Waits for the result and returns it, as `TaskHandle.result`.

        Args:
            timeout_s: real time.
            into: its type.

        Raises:
            ResultMisfit: it is not of this type.
            TaskFailed: it ended without one; TaskCanceled, TaskExpired.
            AssertionError: nothing will happen to it any more, for example because it asks.
        """
        entry = self._entry
        async with asyncio.timeout(timeout_s):
            await self._suite.ended(entry)
        if entry.state == "COMPLETED":
            return value_of(self.task_id, entry.result, into)
        kind = _ERRORS.get(entry.state, TaskFailed)
        raise kind(self.task_id, entry.failure.reason, entry.failure.message)

    async def cancel(self, reason: str = "") -> bool:
        """Cancels it and all that descends from it; False when it had ended before."""
        return self._suite.cancel(self._entry, reason)

    @property
    def question_epoch(self) -> int:
        """Under which lease it asked last; which question an answer is for."""
        return self._entry.lease_epoch

    async def provide_input(self, value: Any, *, question: int = 0) -> None:
        """Answers its question: of that epoch, or what it asks now.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
            AlreadyExists: QUESTION_ANSWERED, by another answer.
        """
        self._suite.provide_input(self._entry, value, question)

    async def reaches(self, state: str) -> None:
        """Waits until it is in a state.

        Raises:
            AssertionError: it ends, or nothing happens any more, before it is.
        """
        await self._suite.until(self._entry, lambda: self._entry.state == state)


class Child(Task):
    """A child, whose parent's handler counts as idle while it waits for it."""

    async def result(self, timeout_s: float | None = None, *, into: Any = None) -> Any:
        """Waits for the result and returns it; see `Task.result`."""
        self._suite._waited_for.append(self._entry)
        try:
            return await super().result(timeout_s, into=into)
        finally:
            self._suite._waited_for.remove(self._entry)
