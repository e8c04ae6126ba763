"""Routers' streams: their reports to the core, the core's orders back, both in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

from podium.v1 import session_pb2, task_pb2, task_scheduler_pb2
from services.kernel.coalesce import Outbox
from services.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    PodiumError,
    ResourceExhausted,
    Unavailable,
)
from services.kernel.instant import Instant
from services.kernel.rules import Checker
from services.task_scheduler.core.event import COST_MAX, TOKENS_MAX, Failure, Progress, Usage
from services.task_scheduler.core.orders import Grant, Settled, Welcome
from services.task_scheduler.core.outcome import AGENT_CANCELED
from services.task_scheduler.core.poison import AGENT_LOST
from services.task_scheduler.core.task import Lease
from services.task_scheduler.ports import Commit, Desk

QUEUE_LEN_MAX = 65_536
BATCH_LEN_MAX = 512
MESSAGE_BYTES_MAX = 1 << 20
REASON_LEN_MAX = 63
MESSAGE_LEN_MAX = 4_096

Report = task_scheduler_pb2.DispatchReport


class Link:
    """One router's stream."""

    __slots__ = ("error", "outbox", "router_id")

    def __init__(self) -> None:
        self.router_id = ""
        # Orders come commit by commit: under load these have gathered already.
        self.outbox: Outbox[bytes] = Outbox(
            queue_len_max=QUEUE_LEN_MAX, batch_len_max=BATCH_LEN_MAX, linger_s=0.0
        )
        self.error: PodiumError | None = None

    def end(self, error: PodiumError | None) -> None:
        """End the stream once what is queued has been sent."""
        self.error = self.error or error
        self.outbox.close()


class Links:
    """All routers' streams."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._links: dict[str, Link] = {}
        # Welcomes by router that are ordered and not yet durable.
        self._welcomes_due: dict[str, int] = {}
        self._handlers: dict[str, Callable[[str, Report, Instant], None]] = {
            "credit": self._credit,
            "started": self._started,
            "renewed": self._renewed,
            "progressed": self._progressed,
            "needs_input": self._needs_input,
            "handed_back": self._handed_back,
            "ended": self._ended,
            "claimed": self._claimed,
        }

    def deliver(self, commit: Commit) -> None:
        """Send the orders of a commit."""
        for (router_id, order), encoded in zip(commit.orders, commit.encoded, strict=True):
            link = self._links.get(router_id)
            if self._welcomes_due and not self._is_current(router_id, type(order)):
                continue
            # An agent only keeps its result a little longer; its slot is free already.
            patient = type(order) is Settled
            if link is not None and not link.outbox.offer(encoded, patient=patient):
                link.end(
                    ResourceExhausted(
                        "ROUTER_TOO_SLOW",
                        f"{QUEUE_LEN_MAX} orders wait for the router: open the stream again.",
                        retry_after_s=1.0,
                    )
                )

    def _is_current(self, router_id: str, kind: type) -> bool:
        """Tell whether an order is for the stream that its router has now.

        What a commit held for the stream before is behind the times: the hello of the new one has
        had such grants handed back, so passing them on would put the tasks to work twice.
        """
        due = self._welcomes_due.get(router_id, 0)
        if kind is Welcome:
            due -= 1
            if due > 0:
                self._welcomes_due[router_id] = due
            else:
                self._welcomes_due.pop(router_id, None)
        return due <= 0 or kind not in (Grant, Welcome)

    def close(self) -> None:
        """End all streams once what is queued has been sent: the process stops."""
        for link in self._links.values():
            link.end(
                Unavailable("DRAINING", "The scheduler is stopping: come back.", retry_after_s=0.5)
            )

    async def serve(
        self, requests: AsyncIterator[task_scheduler_pb2.OpenDispatchRequest]
    ) -> AsyncGenerator[bytes, None]:
        """Serve one router until it goes."""
        link = Link()
        reading = asyncio.create_task(self._read(requests, link))
        try:
            async for batch in link.outbox.batches():
                for message in _messages(batch):
                    yield message
            if link.error is not None:
                raise link.error
        finally:
            # First of all: a call may be cancelled once more while this waits for the reader, and
            # a router that is not noted as gone would keep its grants.
            if self._links.get(link.router_id) is link:
                del self._links[link.router_id]
                self._desk.core.dispatch.close(link.router_id, self._desk.now())
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, requests: AsyncIterator[task_scheduler_pb2.OpenDispatchRequest], link: Link
    ) -> None:
        error: PodiumError | None = None
        try:
            async for request in requests:
                self._desk.check()
                now = self._desk.now()
                for report in request.reports:
                    self._take(link, report, now)
                self._desk.wake()
        except PodiumError as refused:
            error = refused
        finally:
            link.end(error)

    def _take(self, link: Link, report: Report, now: Instant) -> None:
        which = report.WhichOneof("report")
        if which is None:
            # A kind of report that a later router knows.
            return
        if which == "hello":
            self._hello(link, report.hello, now)
            return
        if not link.router_id:
            raise FailedPrecondition(
                "HELLO_REQUIRED", "The first report of a stream must be hello."
            )
        if self._links.get(link.router_id) is link:
            self._handlers[which](link.router_id, report, now)

    def _hello(self, link: Link, hello: task_scheduler_pb2.DispatchHello, now: Instant) -> None:
        if link.router_id:
            raise FailedPrecondition("HELLO_REPEATED", "hello may come once in a stream.")
        checker = Checker()
        checker.identifier("router_id", hello.router_id)
        checker.done()
        older = self._links.get(hello.router_id)
        if older is not None:
            # The router came back before we noticed that it had gone.
            older.end(None)
        link.router_id = hello.router_id
        self._links[hello.router_id] = link
        due = self._welcomes_due.get(hello.router_id, 0)
        self._welcomes_due[hello.router_id] = due + 1
        self._desk.core.dispatch.open(hello.router_id, _leases(hello.held), now)

    def _credit(self, router_id: str, report: Report, now: Instant) -> None:
        credit = report.credit
        checker = Checker()
        checker.capabilities("capabilities", credit.capabilities)
        checker.requirements("versions", credit.versions)
        checker.integer("agent_count", credit.agent_count, 0, 1_000_000)
        checker.integer("look_ahead", credit.look_ahead, 0, 1_000_000)
        checker.done()
        self._desk.core.dispatch.credit(
            router_id,
            credit.class_id,
            (*credit.capabilities, *credit.versions),
            credit.total,
            credit.agent_count,
            credit.look_ahead,
        )

    def _started(self, router_id: str, report: Report, now: Instant) -> None:
        started = report.started
        decision = started.decision.SerializeToString()
        self._desk.core.outcomes.started(
            router_id, _lease(started.lease), started.agent_id, decision, now
        )

    def _renewed(self, router_id: str, report: Report, now: Instant) -> None:
        self._desk.core.dispatch.renewed(router_id, _leases(report.renewed.leases), now)

    def _progressed(self, router_id: str, report: Report, now: Instant) -> None:
        progressed = report.progressed
        progress = progressed.progress
        self._desk.core.outcomes.progressed(
            router_id,
            _lease(progressed.lease),
            progressed.agent_id,
            Progress(
                min(1.0, max(0.0, progress.fraction)),
                progress.message,
                progress.partial.SerializeToString() if progress.HasField("partial") else b"",
                _usage(progress.usage) if progress.HasField("usage") else None,
                progress.checkpoint,
                progress.report_seq,
            ),
            now,
        )

    def _needs_input(self, router_id: str, report: Report, now: Instant) -> None:
        asked = report.needs_input
        question = asked.question.SerializeToString()
        usage = _usage(asked.usage) if asked.HasField("usage") else None
        self._desk.core.outcomes.asked(
            router_id, _lease(asked.lease), asked.agent_id, question, usage, now
        )

    def _handed_back(self, router_id: str, report: Report, now: Instant) -> None:
        back = report.handed_back
        self._desk.core.outcomes.handed_back(
            router_id,
            _lease(back.lease),
            back.reason[:REASON_LEN_MAX] or "HANDED_BACK",
            back.agent_id,
            now,
        )

    def _ended(self, router_id: str, report: Report, now: Instant) -> None:
        ended = report.ended
        outcomes = self._desk.core.outcomes
        lease, agent_id = _lease(ended.lease), ended.agent_id
        usage = _usage(ended.usage) if ended.HasField("usage") else None
        run_s = None
        if ended.HasField("run_duration"):
            ran = ended.run_duration
            run_s = max(0.0, ran.seconds + ran.nanos / 1e9)
        # An attempt that is over at once is reported once: its start is told with its end.
        decision = ended.decision.SerializeToString() if ended.HasField("decision") else b""
        which = ended.WhichOneof("outcome")
        if which == "success":
            confidence = ended.confidence if ended.HasField("confidence") else None
            result = ended.success.SerializeToString()
            outcomes.completed(
                router_id,
                lease,
                agent_id,
                result,
                usage,
                confidence,
                now,
                run_s=run_s,
                decision=decision,
            )
            return
        if which == "failure":
            failure = _failure(ended.failure)
            # A failure that no retry can mend is the task's, not the agent's.
            agent_fault = failure.retryable
        else:
            failure = AGENT_LOST if which == "lost" else AGENT_CANCELED
            agent_fault = which == "lost"
        outcomes.failed(
            router_id,
            lease,
            agent_id,
            failure,
            usage,
            now,
            agent_fault=agent_fault,
            run_s=run_s,
            decision=decision,
        )

    def _claimed(self, router_id: str, report: Report, now: Instant) -> None:
        claimed = report.claimed
        self._desk.core.dispatch.claimed(router_id, claimed.agent_id, _leases(claimed.leases), now)


def _messages(batch: list[bytes]) -> Iterable[bytes]:
    part: list[bytes] = []
    size_bytes = 0
    for frame in batch:
        if part and size_bytes + len(frame) > MESSAGE_BYTES_MAX:
            yield b"".join(part)
            part, size_bytes = [], 0
        part.append(frame)
        size_bytes += len(frame)
    yield b"".join(part)


def _lease(message: session_pb2.LeaseRef) -> Lease:
    """Return a lease that a router speaks of.

    Raises:
        InvalidArgument: INVALID_FIELD, there can be none such. It cannot be answered, since the
            answer would name it; and a router lets nothing like it through.
    """
    epoch = message.lease_epoch
    if epoch < 1:
        raise InvalidArgument("INVALID_FIELD", f"lease_epoch must be at least 1, not {epoch}.")
    return Lease(message.task_id, epoch)


def _leases(messages: Iterable[session_pb2.LeaseRef]) -> list[Lease]:
    return [_lease(message) for message in messages]


def _usage(message: task_pb2.Usage) -> Usage:
    """Return what was consumed, within what can be kept and added up."""
    cost = message.cost if message.cost >= 0.0 else 0.0  # NaN is not
    return Usage(
        min(TOKENS_MAX, max(0, message.input_tokens)),
        min(TOKENS_MAX, max(0, message.output_tokens)),
        min(COST_MAX, cost),
    )


def _failure(message: task_pb2.Failure) -> Failure:
    return Failure(
        message.reason[:REASON_LEN_MAX] or "FAILED",
        message.message[:MESSAGE_LEN_MAX],
        message.retryable,
    )
