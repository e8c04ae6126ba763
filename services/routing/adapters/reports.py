"""Effects into reports to the scheduler, written straight into the message that carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from podium.v1 import decision_pb2, task_scheduler_pb2
from services.kernel.clock import Clock
from services.kernel.finetime import FineTime
from services.routing.adapters.frames import add_leases
from services.routing.core import effects
from services.routing.core.assignment import Lease
from services.routing.core.decision import Decision

Report = task_scheduler_pb2.DispatchReport
Fill = Callable[[Report, Any], None]

REFUSED_MESSAGES = {
    "RESULT_TOO_LARGE": "The result is larger than 256 KiB.",
    "RESULT_INVALID": "The result breaks the rules of its fields.",
    "QUESTION_TOO_LARGE": "The question is larger than 256 KiB.",
    "QUESTION_INVALID": "The question breaks the rules of its fields.",
}


class Reports:
    """Builds what a stream carries to the scheduler."""

    def __init__(self, router_id: str, clock: Clock) -> None:
        self._router_id = router_id
        self._clock = clock
        self._fine = FineTime()
        self._ahead_us = 0
        """How far the wall clock is ahead of the monotonic one: looked at for each message, since a
        machine that slept, or whose clock was set, is another time ahead."""
        self._fill: dict[type, Fill] = {
            effects.Started: self._started,
            effects.Progressed: _progressed,
            effects.Asked: _asked,
            effects.HandedBack: _handed_back,
            effects.Ended: self._ended,
            effects.Renewed: _renewed,
            effects.Claimed: _claimed,
            effects.Credited: _credited,
        }

    def request(
        self, batch: Iterable[effects.ToScheduler]
    ) -> task_scheduler_pb2.OpenDispatchRequest:
        """Return the message with the reports of a batch, in order."""
        now = self._clock.now()
        self._ahead_us = self._fine.wall_us(now.wall_ms, now.mono_s) - round(now.mono_s * 1e6)
        request = task_scheduler_pb2.OpenDispatchRequest()
        add = request.reports.add
        fill = self._fill
        for effect in batch:
            fill[type(effect)](add(), effect)
        return request

    def hello(
        self, held: Iterable[effects.LeaseKey], partition: int = 0
    ) -> task_scheduler_pb2.OpenDispatchRequest:
        """Return the first message of a stream."""
        request = task_scheduler_pb2.OpenDispatchRequest()
        hello = request.reports.add().hello
        hello.router_id = self._router_id
        hello.partition = partition
        add_leases(hello.held, held)
        return request

    def _started(self, report: Report, effect: effects.Started) -> None:
        lease = effect.lease
        started = report.started
        started.lease.task_id = lease.task_id
        started.lease.lease_epoch = lease.epoch
        started.agent_id = lease.agent_id
        self._choice(started, lease)

    def _ended(self, report: Report, effect: effects.Ended) -> None:
        lease = effect.lease
        ended = report.ended
        _end(ended, lease)
        if not lease.start_told:
            self._choice(ended, lease)

    def _choice(
        self,
        to: task_scheduler_pb2.AttemptStarted | task_scheduler_pb2.AttemptEnded,
        lease: Lease,
    ) -> None:
        if lease.decision is not None:
            self._decision(to.decision, lease.decision)
            self._times(to.decision, lease)

    def _times(self, to: decision_pb2.Decision, lease: Lease) -> None:
        if not lease.offered_s:
            return
        time = to.assign_time
        time.seconds, micros = divmod(round(lease.offered_s * 1e6) + self._ahead_us, 1_000_000)
        time.nanos = micros * 1_000
        _span(to.route_duration, lease.offered_s - lease.granted_s)
        _span(to.accept_duration, lease.acked_s - lease.offered_s)

    def _decision(self, to: decision_pb2.Decision, decision: Decision) -> None:
        to.agent_id = decision.agent_id
        to.policy = decision.policy
        to.probability = decision.probability
        to.eligible_count = decision.eligible_count
        to.router_id = self._router_id
        to.candidate_agent_ids.extend(decision.candidates)
        to.scores.extend(decision.scores)
        to.capability_matches.extend(decision.matches)
        to.load_balances.extend(decision.balances)
        to.priority_bonuses.extend([decision.priority_bonus] * len(decision.candidates))
        filtered_counts = to.filtered_counts
        for reason, count in decision.filtered.items():
            filtered_counts[reason] = count
        if decision.model_version:
            to.model_version = decision.model_version
            to.success_probabilities.extend(decision.successes)
            to.expected_delays_ms.extend(decision.delays_ms)
            to.shadow_agent_id = decision.shadow_agent_id
            to.explored = decision.explored


def _span(to: Duration, seconds: float) -> None:
    to.seconds, micros = divmod(max(0, round(seconds * 1e6)), 1_000_000)
    to.nanos = micros * 1_000


def _progressed(report: Report, effect: effects.Progressed) -> None:
    said: Any = effect.body
    progressed = report.progressed
    progressed.lease.task_id = effect.lease.task_id
    progressed.lease.lease_epoch = effect.lease.epoch
    progressed.agent_id = effect.lease.agent_id
    progress = progressed.progress
    progress.report_seq = said.report_seq
    progress.fraction = said.fraction
    progress.message = said.message
    progress.checkpoint = said.checkpoint
    if said.HasField("partial"):
        progress.partial.CopyFrom(said.partial)
    if said.HasField("usage"):
        progress.usage.CopyFrom(said.usage)


def _asked(report: Report, effect: effects.Asked) -> None:
    said: Any = effect.lease.outcome
    asked = report.needs_input
    asked.lease.task_id = effect.lease.task_id
    asked.lease.lease_epoch = effect.lease.epoch
    asked.agent_id = effect.lease.agent_id
    asked.question.CopyFrom(said.question)
    if said.HasField("usage"):
        asked.usage.CopyFrom(said.usage)


def _handed_back(report: Report, effect: effects.HandedBack) -> None:
    handed_back = report.handed_back
    handed_back.lease.task_id = effect.task_id
    handed_back.lease.lease_epoch = effect.epoch
    handed_back.reason = effect.reason
    handed_back.agent_id = effect.agent_id


def _end(ended: task_scheduler_pb2.AttemptEnded, lease: Lease) -> None:
    ended.lease.task_id = lease.task_id
    ended.lease.lease_epoch = lease.epoch
    ended.agent_id = lease.agent_id
    if lease.run_s:
        _span(ended.run_duration, lease.run_s)
    result: Any = lease.outcome
    if result is None:
        ended.lost.SetInParent()
        return
    if lease.refused:
        ended.failure.reason = lease.refused
        ended.failure.message = REFUSED_MESSAGES.get(lease.refused, "The result was refused.")
        return
    kind = result.WhichOneof("outcome")
    if kind == "success":
        ended.success.CopyFrom(result.success)
    elif kind == "failure":
        ended.failure.CopyFrom(result.failure)
    else:
        ended.canceled.SetInParent()
    if result.HasField("usage"):
        ended.usage.CopyFrom(result.usage)
    if result.HasField("confidence"):
        ended.confidence = result.confidence


def _renewed(report: Report, effect: effects.Renewed) -> None:
    add_leases(report.renewed.leases, effect.leases)


def _claimed(report: Report, effect: effects.Claimed) -> None:
    report.claimed.agent_id = effect.agent_id
    add_leases(report.claimed.leases, effect.leases)


def _credited(report: Report, effect: effects.Credited) -> None:
    credit = report.credit
    credit.class_id = effect.kind.class_id
    credit.capabilities.extend(effect.kind.names)
    credit.versions.extend(effect.kind.versions)
    credit.total = effect.total
    credit.agent_count = effect.kind.agent_count
    credit.look_ahead = effect.look_ahead
