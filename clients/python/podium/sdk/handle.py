"""A task in the hands of whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from podium.sdk.errors import FailedPrecondition
from podium.sdk.results import Outcome, value_of
from podium.v1 import event_pb2

if TYPE_CHECKING:  # the client makes handles, and handles ask the client
    from podium.sdk.client import Client

T = TypeVar("T")


class TaskHandle:
    """A task that was submitted, or that is known by its id."""

    __slots__ = ("_client", "_ended", "cursor", "task_id", "traceparent")

    def __init__(
        self,
        client: Client,
        task_id: str,
        *,
        ended: asyncio.Future[Outcome] | None = None,
        cursor: str = "",
        traceparent: str = "",
    ) -> None:
        self.task_id = task_id
        # Everything about the task lies after it in the log.
        self.cursor = cursor
        # W3C trace context of its submit span; empty for a task known by its id.
        self.traceparent = traceparent
        self._client = client
        self._ended = ended

    def when_ended(self, callback: Callable[[Outcome], None]) -> None:
        """Calls back when the task has ended; only for tasks that this client submitted.

        Args:
            callback: is given how it ended, on the program's loop; at once where it has ended.

        Raises:
            ValueError: the task was not submitted by this client, as one known by its id.
        """
        if self._ended is None:
            raise ValueError("the end of another client's task is not followed: await outcome()")
        self._ended.add_done_callback(
            lambda ended: None if ended.cancelled() else callback(ended.result())
        )

    async def outcome(self) -> Outcome:
        """Waits for the task's end, for however long, and returns how it ended.

        Raises:
            NotFound: there is no such task, or it ended too long ago.
        """
        if self._ended is None:
            return await self._client._poll(self.task_id)
        # Whoever gives up waiting must not take the future from the others.
        return await asyncio.shield(self._ended)

    @overload
    async def result(self, timeout_s: float | None = None) -> Any: ...

    @overload
    async def result(self, timeout_s: float | None = None, *, into: type[T]) -> T: ...

    async def result(self, timeout_s: float | None = None, *, into: Any = None) -> Any:
        """Waits for the result and returns it.

        Args:
            timeout_s: how long to wait; None = for ever.
            into: what it is: bytes, str, a dataclass, a pydantic model or another type as a
                handler's payload may have. Default: JSON as data, text as str, else bytes.

        Raises:
            TaskFailed: the task ended without one; TaskCanceled, TaskExpired, TaskRejected.
            ResultMisfit: the result is not what `into` says; `violations` name the fields.
            TimeoutError: it has not ended within `timeout_s`; it goes on.
        """
        async with asyncio.timeout(timeout_s):
            outcome = await self.outcome()
        return value_of(self.task_id, outcome.payload(), into)

    @property
    def done(self) -> bool:
        """Whether the end is known here."""
        return self._ended is not None and self._ended.done()

    def events(self) -> AsyncIterator[event_pb2.Event]:
        """Yields the task's events from its creation on, until it has ended.

        Raises:
            NotFound: there is no such task, or it ended too long ago.
        """
        return self._client.watch(task_ids=[self.task_id], cursor=self.cursor, until_ended=True)

    async def cancel(self, reason: str = "") -> bool:
        """Cancels the task; False when it had ended before.

        Raises:
            NotFound: there is no such task, or it ended too long ago.
        """
        try:
            await self._client.cancel([self.task_id], reason=reason)
        except FailedPrecondition:
            return False
        return True

    async def provide_input(self, value: Any, *, question: int = 0) -> None:
        """Answers the task's question: of that epoch, or what it asks now.

        Raises:
            FailedPrecondition: INPUT_NOT_REQUIRED.
            AlreadyExists: QUESTION_ANSWERED, by another answer.
        """
        await self._client.provide_input(self.task_id, value, question=question)
