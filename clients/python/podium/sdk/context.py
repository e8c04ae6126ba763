"""What a handler knows and can do about the task it works on."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any, TypeVar, Unpack

import orjson

from podium.sdk import payloads
from podium.sdk.children import NO_CHILDREN, ChildHandle, Children
from podium.sdk.conversation import Outgoing
from podium.sdk.errors import FailedPrecondition, TaskError
from podium.sdk.spans import Value
from podium.sdk.specs import SubmitOptions
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2, task_pb2

T = TypeVar("T")

CHECKPOINT_BYTES_MAX = 65_536
CLEARED = b"null\n"
"""The checkpoint that says that there is none: an empty one would leave the last where it is."""
MESSAGE_LEN_MAX = 1_024
# Above this a router refuses what an attempt says that it used.
TOKENS_MAX = 1_000_000_000_000
COST_MAX = 1e12
PROGRESS_INTERVAL_S = 0.05


class Parked(BaseException):
    """Ends a handler whose task waits for input; not an Exception, so that handlers let it by."""


class Context:
    """One attempt at one task.

    Safe to use from the handler's own thread or asyncio task.
    """

    def __init__(
        self,
        agent_id: str,
        assign: session_pb2.Assign,
        say: Callable[[Outgoing], None],
        tracer: Tracer,
        children: Children = NO_CHILDREN,
    ) -> None:
        self.agent_id = agent_id
        self.key = (assign.task_id, assign.lease_epoch)
        # Why the task must stop: CANCELED, PAUSED, EXPIRED, ATTEMPT_TIMEOUT, BUDGET_EXCEEDED,
        # LEASE_EXPIRED, LEASE_LOST; empty while it may go on.
        self.cancel_reason = ""
        # W3C trace context of this execution, for calls to other systems.
        self.traceparent = ""
        self._assign = assign
        # All that the submitter asked for.
        self.spec = assign.spec
        self._say = say
        self._tracer = tracer
        self._usage: task_pb2.Usage | None = None
        self._confidence: float | None = None
        self._children = children
        self._fraction = 0.0
        self._report_seq = 0
        self._reported_s = 0.0
        self._answer_taken = not assign.HasField("input")

    @property
    def task_id(self) -> str:
        """The task."""
        return self._assign.task_id

    @property
    def type(self) -> str:
        """The task's type."""
        return self.spec.type

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._assign.attempt

    @property
    def lease(self) -> int:
        """The lease's epoch: never the same twice, so it fences writes to other systems."""
        return self._assign.lease_epoch

    @property
    def deadline(self) -> datetime | None:
        """When this attempt must have ended, if there is such a limit."""
        if not self._assign.HasField("attempt_deadline"):
            return None
        return self._assign.attempt_deadline.ToDatetime(tzinfo=UTC)

    @property
    def cancelled(self) -> bool:
        """Whether the work should stop; a handler in a thread must look itself."""
        return bool(self.cancel_reason)

    @property
    def reported(self) -> bool:
        """Whether anything was said of the task before it ended."""
        return self._report_seq > 0

    @property
    def confidence(self) -> float | None:
        """How sure the agent is of its result, 0 to 1; None = it does not say.

        Raises:
            ValueError: what it is set to is no number from 0 to 1.
        """
        return self._confidence

    @confidence.setter
    def confidence(self, share: float | None) -> None:
        if share is not None and not (isinstance(share, Real) and 0 <= share <= 1):
            raise ValueError(f"confidence is a number from 0 to 1, not {share!r}")
        self._confidence = share

    @property
    def last_checkpoint(self) -> bytes:
        """What an earlier attempt saved, as bytes; empty when none did."""
        saved = self._assign.checkpoint
        return b"" if saved == CLEARED else saved

    def progress(self, fraction: float, message: str = "", *, partial: Any = None) -> None:
        """Reports how far the work is.

        Reports without a partial result that follow within 50 ms are left out.

        Args:
            fraction: share done, 0 to 1.
            message: for people; what is beyond 1,024 characters is cut off.
            partial: a piece of the result, for example streamed text; as `Context.partial`.

        Raises:
            ValueError: the piece is larger than 256 KiB.
        """
        pieces = _pieces(partial) if partial is not None else []
        now_s = time.monotonic()
        if partial is None and fraction < 1.0 and now_s - self._reported_s < PROGRESS_INTERVAL_S:
            return
        self._reported_s = now_s
        self._fraction = min(1.0, max(0.0, fraction))
        report = session_pb2.Progress(message=payloads.plain(message, MESSAGE_LEN_MAX))
        for piece in pieces[:1]:
            report.partial.CopyFrom(piece)
        self._report("progress", report)
        for piece in pieces[1:]:
            self._report("progress", session_pb2.Progress(partial=piece))

    def partial(self, piece: Any) -> None:
        """Reports a piece of the result at once; a handler that yields its pieces need not.

        Args:
            piece: text and bytes of any size, which are split where they must be, or anything that
                JSON can hold, at most 256 KiB encoded.

        Raises:
            ValueError: it is larger than 256 KiB.
            TypeError: JSON cannot hold it.
        """
        for part in _pieces(piece):
            self._report("progress", session_pb2.Progress(partial=part))

    def checkpoint(self, state: Any) -> None:
        """Saves what the next attempt may continue from, by `resume_from`.

        Only the latest is kept. It is sent at once and may be lost with the agent's connection, so
        a later attempt may see an earlier one.

        Args:
            state: bytes, str, or anything that JSON can hold; at most 64 KiB encoded. None, and
                text or bytes that are empty, clear what was saved.

        Raises:
            ValueError: it is larger than 64 KiB.
            TypeError: JSON cannot hold it.
        """
        data = payloads.encode(state).data or CLEARED
        if len(data) > CHECKPOINT_BYTES_MAX:
            raise ValueError(f"a checkpoint has at most {CHECKPOINT_BYTES_MAX} bytes")
        # Not a mere report: it is never left out when the router does not keep up.
        self._report("checkpoint", session_pb2.Progress(checkpoint=data))

    def resume_from(self, kind: Any = None) -> Any:
        """Returns what an earlier attempt saved by `checkpoint`; None when none did.

        Args:
            kind: what it is: bytes, str, a dataclass, a pydantic model or another type as a
                handler's payload may have. Default: JSON data, and what is no JSON as text or
                bytes; a text that could be read as JSON needs `str` to come back as it was.

        Raises:
            TaskError: CHECKPOINT_INVALID, retryable: it is not of this kind.
        """
        if not self.last_checkpoint:
            return None
        saved = task_pb2.Payload(content_type=payloads.JSON, data=self.last_checkpoint)
        try:
            if kind is None:
                return _unpacked(saved.data)
            return payloads.decoder(kind)(saved)
        except TaskError as error:
            message = error.message.replace("the payload", "the checkpoint", 1)
            raise TaskError(message, reason="CHECKPOINT_INVALID") from None

    def usage(self, *, input_tokens: int = 0, output_tokens: int = 0, cost: float = 0.0) -> None:
        """Adds to what this attempt has consumed.

        Args:
            input_tokens: tokens read.
            output_tokens: tokens written.
            cost: money in the fleet's unit.

        Raises:
            ValueError: one of them is below 0 or no such number, or comes to more than 10^12.
        """
        used = self._usage or task_pb2.Usage()
        # First all, then none: what is refused must not count in part.
        read = _tokens("input_tokens", used.input_tokens, input_tokens)
        written = _tokens("output_tokens", used.output_tokens, output_tokens)
        if not (isinstance(cost, Real) and 0 <= cost < math.inf):
            raise ValueError(f"cost is a number from 0 up, not {cost!r}")
        if used.cost + cost > COST_MAX:
            raise ValueError(f"cost comes to {used.cost + cost}, more than can be counted")
        self._usage = task_pb2.Usage(
            input_tokens=read, output_tokens=written, cost=used.cost + cost
        )

    def need_input(self, question: Any) -> Any:
        """Asks whoever submitted the task, and returns the answer.

        The first time this parks the task: the handler ends here and its lease with it. When the
        answer comes the task is given to an agent again, maybe another one, and its handler begins
        anew; then this returns the answer. So save a checkpoint before, where the work up to here
        is dear.

        An answer is given once: a second call in the same run asks another question. A handler
        with several questions keeps what it was told in a checkpoint.

        Raises:
            Parked: the question is asked; it ends the handler and is not to be caught.
            TypeError: JSON cannot hold the question.
        """
        if not self._answer_taken:
            self._answer_taken = True
            return payloads.decode(self._assign.input)
        ask = session_pb2.NeedInput(lease=self._ref(), question=payloads.encode(question))
        if self._usage is not None:
            ask.usage.CopyFrom(self._usage)
        frame = session_pb2.AgentFrame(agent_id=self.agent_id, need_input=ask)
        self._say(("need_input", self.key, frame))
        raise Parked

    async def submit(
        self,
        task_type: str,
        payload: Any = None,
        *,
        once: str = "",
        **options: Unpack[SubmitOptions],
    ) -> ChildHandle:
        """Submits a child of this task: the same trace, and this task as its parent.

        The child is canceled with this task; when this task ends otherwise, it goes on. A handler
        that waits for a child keeps its slot: an agent whose slots all wait for children that only
        it can work on waits for ever.

        Args:
            task_type: as `Client.submit`.
            payload: as `Client.submit`.
            once: a name within this task; a later attempt that submits the same child under the
                same name gets the first one instead of a second.
            **options: as `Client.submit`.

        Raises:
            FailedPrecondition: STALE_LEASE, the attempt is over: another one has children of its
                own. What is to outlive this one can be submitted by a `Client`.
            PodiumError: as `Client.submit`.
            Unimplemented: the handler runs in another process.
        """
        if self.cancel_reason:
            message = f"This attempt is over ({self.cancel_reason}); it gets no children any more."
            raise FailedPrecondition("STALE_LEASE", message, metadata={"task_id": self.task_id})
        options.setdefault("parent_task_id", self.task_id)
        options.setdefault("tenant", self.spec.tenant)
        if once:
            options["request_id"] = child_key(self.task_id, once)
        return await self._children.submit(task_type, payload, options)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the host's loop, for handlers that run in a thread.

        For example ``child = task.wait_for(task.submit("text.count", text))``. It blocks for as
        long as the work takes, and raises what that raises; NO_CHILDREN_HERE in a process.
        """
        return self._children.wait_for(work)

    def span(self, name: str, **attributes: Value) -> AbstractContextManager[str]:
        """Times a block of the handler as a span of the task's trace."""
        return self._tracer.span(name, **attributes)

    def result(self) -> session_pb2.Result:
        """Returns a result without its outcome."""
        result = session_pb2.Result(lease=self._ref(), traceparent=self.traceparent)
        if self._usage is not None:
            result.usage.CopyFrom(self._usage)
        if self._confidence is not None:
            result.confidence = self._confidence
        return result

    def _report(self, kind: str, report: session_pb2.Progress) -> None:
        self._report_seq += 1
        report.fraction = self._fraction
        report.report_seq = self._report_seq
        report.lease.CopyFrom(self._ref())
        if self._usage is not None:
            report.usage.CopyFrom(self._usage)
        frame = session_pb2.AgentFrame(agent_id=self.agent_id, progress=report)
        self._say((kind, self.key, frame))

    def _ref(self) -> session_pb2.LeaseRef:
        return session_pb2.LeaseRef(task_id=self.key[0], lease_epoch=self.key[1])


def _pieces(value: Any) -> list[task_pb2.Payload]:
    """Returns a piece of a result as payloads that the router takes."""
    whole = payloads.encode(value)
    if len(whole.data) <= payloads.PAYLOAD_BYTES_MAX:
        return [whole]
    if not isinstance(value, str | bytes):
        limit = payloads.PAYLOAD_BYTES_MAX
        raise ValueError(f"a piece of a result has at most {limit} bytes, not {len(whole.data)}")
    parts, at = [], 0
    while at < len(whole.data):
        end = at + payloads.PAYLOAD_BYTES_MAX
        if isinstance(value, str):
            # Not within a character, all bytes of which but the first have the form 10xxxxxx.
            while end < len(whole.data) and whole.data[end] & 0xC0 == 0x80:
                end -= 1
        parts.append(task_pb2.Payload(content_type=whole.content_type, data=whole.data[at:end]))
        at = end
    return parts


def _unpacked(saved: bytes) -> Any:
    try:
        return orjson.loads(saved)
    except orjson.JSONDecodeError:
        try:
            return saved.decode()
        except UnicodeDecodeError:
            return saved


def _tokens(name: str, used: int, more: int) -> int:
    if not (isinstance(more, Integral) and more >= 0):
        raise ValueError(f"{name} is a whole number from 0 up, not {more!r}")
    if used + more > TOKENS_MAX:
        raise ValueError(f"{name} come to {used + more}, more than can be counted")
    return used + more


def child_key(task_id: str, name: str) -> str:
    """Returns the idempotency key of a task's child: the same for the same name, 64 characters."""
    return hashlib.sha256(f"{task_id}/{name}".encode()).hexdigest()
