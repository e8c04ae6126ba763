"""Runs one attempt at a task with no server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Unpack

from podium.sdk import payloads, specs
from podium.sdk.agent import Agent
from podium.sdk.context import CLEARED
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import TaskError
from podium.sdk.runner import Runner
from podium.sdk.settings import Settings
from podium.sdk.spans import Span
from podium.sdk.specs import SubmitOptions
from podium.sdk.testing.children import Child, Replies, Scripted
from podium.sdk.testing.times import date
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2, task_pb2

TASK_ID = "task-under-test"
LEASE_EPOCH = 1
TRACEPARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
TIMEOUT_S = 30.0


class Report(NamedTuple):
    """One report of progress."""

    fraction: float
    message: str


@dataclass
class RunRecord:
    """What came of an attempt, and what was said on the way."""

    # What the handler returned, as the submitter would get it: JSON as data, text as str.
    result: Any = None
    # How the attempt failed; None when it did not.
    error: TaskError | None = None
    # Whether it stopped on request.
    canceled: bool = False
    # Why the agent declined the task: BUSY, INCAPABLE; empty when it took it.
    declined: str = ""
    # What it asked by need_input; None when it did not ask.
    question: Any = None
    progress: list[Report] = field(default_factory=list)
    # Pieces of the result, as they were sent.
    partials: list[Any] = field(default_factory=list)
    # As they were saved; empty where one cleared what was saved before.
    checkpoints: list[bytes] = field(default_factory=list)
    usage: task_pb2.Usage = field(default_factory=task_pb2.Usage)
    confidence: float | None = None
    children: list[Child] = field(default_factory=list)
    # Names of the spans, in the order of their ends; `execute` is the attempt itself.
    spans: list[str] = field(default_factory=list)

    def value(self) -> Any:
        """Returns the result.

        Raises:
            TaskError: the attempt failed.
            AssertionError: it ended in another way.
        """
        if self.error is not None:
            raise self.error
        assert not (self.canceled or self.declined), f"canceled, or declined: {self.declined}"
        assert self.question is None, f"it waits for an answer to {self.question!r}"
        return self.result


class _Notebook(Tracer):
    """Notes spans instead of sending them."""

    def __init__(self, record: RunRecord) -> None:
        super().__init__("agent", Settings(otlp_endpoint="off"))
        self._record = record

    def record(self, ids: Any, parent_id: int, name: str, *rest: Any, **more: Any) -> None:
        self._record.spans.append(name)

    def keep(self, span: Span) -> None:
        self._record.spans.append(span[3])


class Run:
    """An attempt that runs; use it as an async context manager, or through `run_handler`."""

    def __init__(self, agent: Agent, assign: session_pb2.Assign, replies: Replies) -> None:
        self.record = RunRecord()
        self._agent = agent
        self._assign = assign
        self._replies = replies
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Run:
        """Opens the agent and assigns the task."""
        await self._opened.enter_async_context(self._agent.opened())
        children = Scripted(self._replies, self.record.children.append)
        notebook = _Notebook(self.record)
        self._runner = Runner([self._agent], self._hear, notebook, children)
        frame = session_pb2.RouterFrame(agent_id=self._agent.agent_id, assign=self._assign)
        self._runner.take([frame])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the handler if it still runs."""
        await self._runner.stop()
        await self._opened.aclose()

    def cancel(self, reason: str = "CANCELED") -> None:
        """Asks the handler to stop, as CANCELED, EXPIRED, ATTEMPT_TIMEOUT or LEASE_LOST."""
        lease = session_pb2.LeaseRef(task_id=self._assign.task_id, lease_epoch=LEASE_EPOCH)
        cancel = session_pb2.Cancel(lease=lease, reason=reason)
        agent_id = self._agent.agent_id
        self._runner.take([session_pb2.RouterFrame(agent_id=agent_id, cancel=cancel)])
        if reason == "LEASE_LOST":
            # Then nobody is told of the end.
            self.record.canceled = True

    async def wait(self, timeout_s: float = TIMEOUT_S) -> RunRecord:
        """Waits for the end of the attempt and returns what came of it.

        Raises:
            TimeoutError: it has not ended within `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            if self.record.canceled:
                await self._runner.stop(within_s=None)
            else:
                await self._ended.wait()
        return self.record

    async def changed(self, timeout_s: float = TIMEOUT_S) -> RunRecord:
        """Waits until the handler says something more and returns the record so far."""
        async with asyncio.timeout(timeout_s):
            await self._changed.wait()
        self._changed.clear()
        return self.record

    def _hear(self, said: list[Outgoing]) -> None:
        for _, _, frame in said:
            self._note(frame)
        self._changed.set()

    def _note(self, frame: session_pb2.AgentFrame) -> None:
        record = self.record
        kind = frame.WhichOneof("frame")
        if kind == "progress":
            self._note_progress(frame.progress)
        elif kind == "nack":
            name = session_pb2.Nack.Reason.Name(frame.nack.reason)
            record.declined = name.removeprefix("REASON_")
        elif kind == "need_input":
            record.question = payloads.decode(frame.need_input.question)
            record.usage.CopyFrom(frame.need_input.usage)
        elif kind == "result":
            self._note_result(frame.result)
        if kind in ("nack", "need_input", "result"):
            self._ended.set()

    def _note_progress(self, progress: session_pb2.Progress) -> None:
        if progress.HasField("partial"):
            self.record.partials.append(payloads.decode(progress.partial))
        if progress.checkpoint:
            saved = progress.checkpoint
            self.record.checkpoints.append(b"" if saved == CLEARED else saved)
        elif progress.message or not progress.HasField("partial"):
            self.record.progress.append(Report(progress.fraction, progress.message))

    def _note_result(self, result: session_pb2.Result) -> None:
        record = self.record
        record.usage.CopyFrom(result.usage)
        if result.HasField("confidence"):
            record.confidence = result.confidence
        if result.HasField("success"):
            record.result = payloads.decode(result.success)
        elif result.HasField("failure"):
            failure = result.failure
            record.error = TaskError(
                failure.message, reason=failure.reason, retryable=failure.retryable
            )
        else:
            record.canceled = True


def start_handler(
    agent: Agent,
    task_type: str,
    payload: Any = None,
    *,
    attempt: int = 1,
    checkpoint: Any = None,
    answer: Any = None,
    children: Replies | None = None,
    **options: Unpack[SubmitOptions],
) -> Run:
    """Returns an attempt to enter, for tests that act while it runs; see `run_handler`."""
    spec = specs.build(task_type, payload, options)
    date(spec, specs.timestamp(timedelta()).ToDatetime(tzinfo=UTC))
    assign = session_pb2.Assign(
        task_id=TASK_ID,
        lease_epoch=LEASE_EPOCH,
        attempt=attempt,
        spec=spec,
        traceparent=TRACEPARENT,
        checkpoint=payloads.encode(checkpoint).data,
    )
    if answer is not None:
        assign.input.CopyFrom(payloads.encode(answer))
    return Run(agent, assign, children or {})


async def run_handler(
    agent: Agent,
    task_type: str,
    payload: Any = None,
    *,
    attempt: int = 1,
    checkpoint: Any = None,
    answer: Any = None,
    children: Replies | None = None,
    timeout_s: float = TIMEOUT_S,
    **options: Unpack[SubmitOptions],
) -> RunRecord:
    """Runs the agent's handler of a task type once and returns what came of it.

    Args:
        agent: whose handler.
        task_type: the task's type.
        payload: as `Client.submit` takes it.
        attempt: number of the attempt, from 1.
        checkpoint: what an earlier attempt saved, as `Context.checkpoint` takes it.
        answer: what `Context.need_input` returns the first time; without one it parks the task.
        children: what child tasks return, by type: a value, an error such as TaskFailed, or a
            function of the child's payload, async or not.
        timeout_s: when to give up.
        **options: as `Client.submit`.

    Raises:
        TimeoutError: the handler has not ended within `timeout_s`.
    """
    run = start_handler(
        agent,
        task_type,
        payload,
        attempt=attempt,
        checkpoint=checkpoint,
        answer=answer,
        children=children,
        **options,
    )
    async with run:
        return await run.wait(timeout_s)
