"""Children of a task under test: noted, and answered as the test says."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from podium.sdk import payloads, specs
from podium.sdk.errors import TaskCanceled, TaskFailed
from podium.sdk.results import value_of
from podium.sdk.specs import SubmitOptions
from podium.sdk.testing.repeats import same
from podium.v1 import task_pb2

T = TypeVar("T")

Replies = Mapping[str, Any]
"""What children return, by type: a value, an error to raise, or a function of the payload."""


@dataclass
class Child:
    """A task that the handler submitted."""

    task_id: str
    spec: task_pb2.TaskSpec
    reply: Any
    canceled: bool = False

    @property
    def asked(self) -> task_pb2.TaskSpec:
        """What was asked for."""
        return self.spec

    @property
    def type(self) -> str:
        """Its type."""
        return self.spec.type

    @property
    def payload(self) -> Any:
        """Its payload, decoded."""
        return payloads.decode(self.spec.payload)

    async def result(self, timeout_s: float | None = None, *, into: Any = None) -> Any:
        """Returns what the test says that it returns.

        Raises:
            ResultMisfit: it is not what `into` says.
            TaskFailed: what the test gave is an error.
        """
        if self.canceled:
            raise TaskCanceled(self.task_id, "CANCELED", "canceled by its parent")
        reply = self.reply(self.payload) if callable(self.reply) else self.reply
        if inspect.isawaitable(reply):
            async with asyncio.timeout(timeout_s):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
        return value_of(self.task_id, payloads.encode(reply), into)

    async def cancel(self, reason: str = "") -> bool:
        """Notes that the handler canceled it."""
        was, self.canceled = self.canceled, True
        return not was


class Scripted:
    """Takes children in and answers them; as `podium.sdk.children.Children`."""

    def __init__(self, replies: Replies, noted: Callable[[Child], None]) -> None:
        self._replies = replies
        self._noted = noted
        self._by_key: dict[str, Child] = {}
        self._loop = asyncio.get_running_loop()

    async def submit(self, task_type: str, payload: Any, options: SubmitOptions) -> Child:
        """Notes a child.

        Raises:
            AlreadyExists: IDEMPOTENCY_KEY_REUSED.
            InvalidArgument: as a real submit, for what can be seen from here.
        """
        spec = specs.build(task_type, payload, options)
        known = self._by_key.get(spec.request_id) if spec.request_id else None
        if known is not None:
            return same(known, spec)
        task_id = f"child-{len(self._by_key) + 1}"
        missing = TaskFailed(task_id, "NO_REPLY", f"the test has no reply for {task_type}")
        child = Child(task_id, spec, self._replies.get(task_type, missing))
        self._by_key[spec.request_id or task_id] = child
        self._noted(child)
        return child

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the test's loop while the handler's thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
