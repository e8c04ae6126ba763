"""What a handler knows and can do about the task it works on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from podium.sdk import payloads
from podium.sdk.conversation import Outgoing
from podium.sdk.spans import Value
from podium.sdk.tracing import Tracer
from podium.v1 import session_pb2, task_pb2

CHECKPOINT_BYTES_MAX = 65_536
MESSAGE_LEN_MAX = 1_024
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
    ) -> None:
        self.agent_id = agent_id
        self.key = (assign.task_id, assign.lease_epoch)
        # Why the task must stop: CANCELED, EXPIRED, ATTEMPT_TIMEOUT, LEASE_LOST; empty while it
        # may go on.
        self.cancel_reason = ""
        # How sure the agent is of its result, 0 to 1; None = it does not say.
        self.confidence: float | None = None
        # W3C trace context of this execution, for calls to other systems.
        self.traceparent = ""
        self._assign = assign
        self._say = say
        self._tracer = tracer
        self._usage: task_pb2.Usage | None = None
        self._report_seq = 0
        self._reported_s = 0.0

    @property
    def task_id(self) -> str:
        """The task."""
        return self._assign.task_id

    @property
    def type(self) -> str:
        """The task's type."""
        return self._assign.spec.type

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._assign.attempt

    @property
    def lease(self) -> int:
        """The lease's epoch: never the same twice, so it fences writes to other systems."""
        return self._assign.lease_epoch

    @property
    def spec(self) -> task_pb2.TaskSpec:
        """All that the submitter asked for."""
        return self._assign.spec

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
    def last_checkpoint(self) -> bytes:
        """What an earlier attempt saved; empty when none did."""
        return self._assign.checkpoint

    def progress(self, fraction: float, message: str = "", *, partial: Any = None) -> None:
        """Reports how far the work is.

        Reports without a partial result that follow within 50 ms are left out.

        Args:
            fraction: share done, 0 to 1.
            message: for people; what is beyond 1,024 characters is cut off.
            partial: a piece of the result, for example streamed text.
        """
        now_s = time.monotonic()
        if partial is None and fraction < 1.0 and now_s - self._reported_s < PROGRESS_INTERVAL_S:
            return
        self._reported_s = now_s
        report = session_pb2.Progress(
            fraction=min(1.0, max(0.0, fraction)), message=message[:MESSAGE_LEN_MAX]
        )
        if partial is not None:
            report.partial.CopyFrom(payloads.encode(partial))
        self._report(report)

    def checkpoint(self, state: bytes) -> None:
        """Saves what the next attempt may continue from, as `last_checkpoint`.

        Raises:
            ValueError: it is larger than 64 KiB.
        """
        if len(state) > CHECKPOINT_BYTES_MAX:
            raise ValueError(f"a checkpoint has at most {CHECKPOINT_BYTES_MAX} bytes")
        self._report(session_pb2.Progress(checkpoint=state))

    def usage(self, *, input_tokens: int = 0, output_tokens: int = 0, cost: float = 0.0) -> None:
        """Adds to what this attempt has consumed."""
        used = self._usage = self._usage or task_pb2.Usage()
        used.input_tokens += input_tokens
        used.output_tokens += output_tokens
        used.cost += cost

    def need_input(self, question: Any) -> Any:
        """Asks whoever submitted the task, and returns the answer.

        The first time this parks the task: the handler ends here and its lease with it. When the
        answer comes the task is given to an agent again and its handler begins anew; then this
        returns the answer. Save a checkpoint before, where the work up to here is dear.
        """
        if self._assign.HasField("input"):
            return payloads.decode(self._assign.input)
        ask = session_pb2.NeedInput(lease=self._ref(), question=payloads.encode(question))
        frame = session_pb2.AgentFrame(agent_id=self.agent_id, need_input=ask)
        self._say(("need_input", self.key, frame))
        raise Parked

    def span(self, name: str, **attributes: Value) -> AbstractContextManager[str]:
        """Times a block of the handler as a span of the task's trace."""
        return self._tracer.span(name, **attributes)

    def result(self) -> session_pb2.Result:
        """Returns a result without its outcome."""
        result = session_pb2.Result(lease=self._ref(), traceparent=self.traceparent)
        if self._usage is not None:
            result.usage.CopyFrom(self._usage)
        if self.confidence is not None:
            result.confidence = self.confidence
        return result

    def _report(self, report: session_pb2.Progress) -> None:
        self._report_seq += 1
        report.report_seq = self._report_seq
        report.lease.CopyFrom(self._ref())
        if self._usage is not None:
            report.usage.CopyFrom(self._usage)
        frame = session_pb2.AgentFrame(agent_id=self.agent_id, progress=report)
        self._say(("progress", self.key, frame))

    def _ref(self) -> session_pb2.LeaseRef:
        return session_pb2.LeaseRef(task_id=self.key[0], lease_epoch=self.key[1])
