"""Counts what the event log says about the job's tasks, while it runs and at its end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from examples.review.figures import Latency, mean
from podium.v1 import event_pb2

Type = event_pb2.Event.Type

ENDS = {
    event_pb2.Event.TYPE_COMPLETED: "completed",
    event_pb2.Event.TYPE_FAILED: "failed",
    event_pb2.Event.TYPE_CANCELED: "canceled",
    event_pb2.Event.TYPE_EXPIRED: "expired",
    event_pb2.Event.TYPE_REJECTED: "rejected",
}
# What the tally reads; the rest, payloads above all, need not be sent.
TYPES = (
    event_pb2.Event.TYPE_STARTED,
    event_pb2.Event.TYPE_ATTEMPT_FAILED,
    event_pb2.Event.TYPE_RETRYING,
    event_pb2.Event.TYPE_HANDED_BACK,
    *ENDS,
)
RATE_WINDOW_S = 5.0


@dataclass(slots=True)
class Attempt:
    """One try of a task.

    Attributes:
        waited_s: from the queue to the agent.
        policy: what chose the agent: formula or learned.
        failure: why it failed; empty when it did not.
    """

    agent_id: str
    waited_s: float
    policy: str = ""
    run_s: float = 0.0
    failure: str = ""
    ended: bool = False


@dataclass(slots=True)
class Record:
    """What became of one task."""

    task_id: str
    kind: str
    attempts: list[Attempt] = field(default_factory=list)
    end: str = ""
    ends_count: int = 0
    total_s: float = 0.0
    failure: str = ""


@dataclass(slots=True)
class AgentTally:
    """What one agent did."""

    agent_id: str
    running: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    runs_s: list[float] = field(default_factory=list)

    @property
    def mean_s(self) -> float:
        """Mean time of its successful attempts."""
        return mean(self.runs_s)


class Tally:
    """All tasks of the job and all agents, as far as the log has been read."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.agents: dict[str, AgentTally] = {}
        self.counts: Counter[str] = Counter()
        self.waits_s: deque[float] = deque(maxlen=1_000)
        self._ends_s: deque[float] = deque()

    def note(self, event: event_pb2.Event, now_s: float) -> None:
        """Takes the next event of the log.

        Args:
            event: of any task.
            now_s: when it was read, for rates; any clock that only goes forward.
        """
        record = self.records.get(event.task_id)
        if record is None:
            record = self.records[event.task_id] = Record(event.task_id, event.task_type)
        if event.type == event_pb2.Event.TYPE_STARTED:
            self._started(record, event)
        elif event.type == event_pb2.Event.TYPE_ATTEMPT_FAILED:
            self._attempt_failed(record, event)
        elif event.type == event_pb2.Event.TYPE_RETRYING:
            self.counts["retries"] += 1
        elif event.type == event_pb2.Event.TYPE_HANDED_BACK:
            self.counts["handed back"] += 1
            self._leave(record)
        elif event.type in ENDS:
            self._ended(record, event, now_s)

    def agent(self, agent_id: str) -> AgentTally:
        """Returns what an agent did; nothing, for one the log has not named yet."""
        tally = self.agents.get(agent_id)
        if tally is None:
            tally = self.agents[agent_id] = AgentTally(agent_id)
        return tally

    @property
    def running(self) -> int:
        """Attempts under way."""
        return sum(agent.running for agent in self.agents.values())

    @property
    def ended(self) -> int:
        """Tasks that have ended, in whichever way."""
        return sum(self.counts[end] for end in ENDS.values())

    def rate(self, now_s: float) -> float:
        """Returns tasks ended a second, lately."""
        while self._ends_s and self._ends_s[0] < now_s - RATE_WINDOW_S:
            self._ends_s.popleft()
        if len(self._ends_s) < 2:
            return 0.0
        return len(self._ends_s) / max(0.2, now_s - self._ends_s[0])

    def _started(self, record: Record, event: event_pb2.Event) -> None:
        waited = event.started.assignment_latency
        waited_s = waited.seconds + waited.nanos / 1e9
        policy = event.started.decision.policy
        record.attempts.append(Attempt(event.agent_id, waited_s, policy))
        self.waits_s.append(waited_s)
        agent = self.agent(event.agent_id)
        agent.started += 1
        agent.running += 1
        self.counts["attempts"] += 1

    def _attempt_failed(self, record: Record, event: event_pb2.Event) -> None:
        self.counts["failed attempts"] += 1
        attempt = self._leave(record)
        if attempt is not None:
            attempt.failure = event.failed.failure.reason
            attempt.run_s = _seconds(event.failed)
            self.agent(attempt.agent_id).failed += 1

    def _ended(self, record: Record, event: event_pb2.Event, now_s: float) -> None:
        record.ends_count += 1
        if record.end:
            return  # must not happen; `faults` tells
        record.end = ENDS[event.type]
        self.counts[record.end] += 1
        self._ends_s.append(now_s)
        attempt = self._leave(record)
        if event.type == event_pb2.Event.TYPE_COMPLETED:
            took = event.completed.total_duration
            record.total_s = took.seconds + took.nanos / 1e9
            if attempt is not None:
                ran = event.completed.run_duration
                attempt.run_s = ran.seconds + ran.nanos / 1e9
                agent = self.agent(attempt.agent_id)
                agent.completed += 1
                agent.runs_s.append(attempt.run_s)
        else:
            record.failure = event.failed.failure.reason

    def _leave(self, record: Record) -> Attempt | None:
        """Ends the attempt under way, if there is one."""
        if not record.attempts or record.attempts[-1].ended:
            return None
        attempt = record.attempts[-1]
        attempt.ended = True
        self.agent(attempt.agent_id).running -= 1
        return attempt


def _seconds(failed: event_pb2.TaskFailed) -> float:
    return failed.run_duration.seconds + failed.run_duration.nanos / 1e9


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of some tasks."""

    submitted: int
    ends: dict[str, int]
    attempts: int
    retried: int
    failures: dict[str, int]
    waited: Latency
    ran: Latency
    total: Latency
    policies: dict[str, int]

    @property
    def lost(self) -> int:
        """Tasks that never ended."""
        return self.submitted - sum(self.ends.values())


def outcome_of(tally: Tally, task_ids: Iterable[str]) -> Outcome:
    """Returns the figures of the given tasks alone: the log may hold others."""
    ids = list(task_ids)
    records = [tally.records.get(task_id) or Record(task_id, "") for task_id in ids]
    attempts = [attempt for record in records for attempt in record.attempts]
    return Outcome(
        submitted=len(ids),
        ends=dict(Counter(record.end for record in records if record.end)),
        attempts=len(attempts),
        retried=sum(len(record.attempts) > 1 for record in records),
        failures=dict(Counter(attempt.failure for attempt in attempts if attempt.failure)),
        waited=Latency.of([attempt.waited_s for attempt in attempts]),
        ran=Latency.of([a.run_s for a in attempts if a.ended and not a.failure]),
        total=Latency.of([record.total_s for record in records if record.end == "completed"]),
        policies=dict(Counter(attempt.policy for attempt in attempts if attempt.policy)),
    )


def first_waits(tally: Tally, task_ids: Iterable[str]) -> Latency:
    """Returns how long tasks waited for their first agent."""
    records = (tally.records[task_id] for task_id in task_ids if task_id in tally.records)
    return Latency.of([record.attempts[0].waited_s for record in records if record.attempts])


def faults(tally: Tally, task_ids: Iterable[str], reviewed: int) -> list[str]:
    """Returns in sentences what does not add up; nothing when all does.

    Args:
        tally: the log, as read.
        task_ids: the tasks that were submitted.
        reviewed: results that came back.
    """
    ids = list(task_ids)
    outcome = outcome_of(tally, ids)
    told = []
    if outcome.lost:
        told.append(f"{outcome.lost} of {outcome.submitted} tasks never ended.")
    twice = sum(tally.records[i].ends_count > 1 for i in ids if i in tally.records)
    if twice:
        told.append(f"{twice} tasks ended more than once.")
    completed = outcome.ends.get("completed", 0)
    if completed != reviewed:
        told.append(f"{completed} tasks were completed, but {reviewed} results came back.")
    if len(set(ids)) != len(ids):
        told.append("Some tasks share an id.")
    return told
