"""The state of all tasks: what replaying the log gives, and nothing else.

`record` writes an event and applies it; recovery only applies. Since `apply` is the one place that
changes a task, live state and replayed state cannot differ. Connected routers and renewals of
leases are no facts of the log and live in `dispatch`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from services.kernel.instant import Instant
from services.task_scheduler.core.event import (
    Completed,
    Created,
    Detail,
    Event,
    Failed,
    Input,
    Progress,
    Retrying,
    Started,
    Usage,
)
from services.task_scheduler.core.ids import Ids
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.core.requests import RequestIds, Seen
from services.task_scheduler.core.states import (
    LEASED,
    TERMINAL_KINDS,
    Kind,
    State,
    next_state,
)
from services.task_scheduler.core.task import ATTEMPTS_LEN_MAX, Attempt, Task
from services.task_scheduler.core.timers import Purpose, Timers, in_force

FAILURE_HASH = b"failure"
"""Stands for the hash of any failure: a repeated failure is a repeat whatever its words."""
QUESTION_HASH = b"question"
"""Likewise for a question."""


Recorded = tuple[Event, Task | None, float]
"""An event, its task, and when it happened on the monotonic clock."""


class Book:
    """All tasks in memory with their indexes."""

    def __init__(self, limits: Limits, partition: int = 0) -> None:
        self.limits = limits
        self.ids = Ids(partition)
        self.tasks: dict[str, Task] = {}
        self.catalog: list[str] = []
        """Ids of tasks in order; a few of them may be gone."""
        self.queue = ReadyQueue(limits.ageing_s)
        self.timers = Timers(in_force)
        self.requests = RequestIds(limits.request_ids_len_max)
        self.leases: OrderedDict[int, Task] = OrderedDict()
        """Live leases by epoch, the one renewed longest ago first."""
        self.dependents: dict[str, list[Task]] = {}
        self.resolved: list[tuple[Task, list[Task]]] = []
        """Tasks that ended while others waited for them, not yet followed up."""
        self.counts = [0] * (max(State) + 1)
        self.open_bytes = 0
        self.ended: deque[Task] = deque()
        self.ended_bytes = 0
        self.dead: OrderedDict[str, Task] = OrderedDict()
        self.sticky: OrderedDict[str, str] = OrderedDict()
        self.seq = 0
        self.lease_epoch = 0
        self.before_change: Callable[[Task], None] | None = None
        """Told of a task before an event changes it, while a snapshot is taken."""
        self.outbox: list[Recorded] = []
        """Events recorded and not yet taken by the shell."""

    @property
    def open_tasks(self) -> int:
        """Tasks that have not ended."""
        return len(self.tasks) - len(self.ended) - len(self.dead)

    def record(
        self,
        kind: Kind,
        task: Task,
        now: Instant,
        detail: Detail | None = None,
        *,
        lease_epoch: int = 0,
        attempt: int = 0,
        agent_id: str = "",
        router_id: str = "",
    ) -> None:
        """Write an event about a task and apply it."""
        event = Event(
            self.seq + 1,
            kind,
            task.task_id,
            now.wall_ms,
            lease_epoch,
            attempt,
            agent_id,
            router_id,
            detail,
        )
        self._change(task, event, now.mono_s)
        self.outbox.append((event, task, now.mono_s))

    def create(self, created: Created, now: Instant) -> Task:
        """Write the CREATED event of a new task and apply it."""
        event = Event(
            self.seq + 1, Kind.CREATED, self.ids.make(now.wall_ms), now.wall_ms, detail=created
        )
        task = self._add(event, created, now.mono_s)
        self._change(task, event, now.mono_s)
        self.outbox.append((event, task, now.mono_s))
        return task

    def begin_epoch(self, now: Instant) -> None:
        """Write that this process owns the log from here on."""
        self.seq += 1
        event = Event(self.seq, Kind.EPOCH_BEGUN, "", now.wall_ms)
        self.outbox.append((event, None, now.mono_s))

    def apply(self, event: Event, mono_s: float) -> None:
        """Change the state as `event` says; recovery calls it with the events of the log.

        Args:
            event: The next event of the log.
            mono_s: The event's time on the monotonic clock of this process.
        """
        assert event.seq == self.seq + 1, f"event {event.seq} follows {self.seq}"
        if event.kind is Kind.EPOCH_BEGUN:
            self.skip(event.seq)
            return
        if event.kind is Kind.CREATED:
            assert isinstance(event.detail, Created)
            self.ids.seen(event.task_id)
            self._change(self._add(event, event.detail, mono_s), event, mono_s)
            return
        task = self.tasks.get(event.task_id)
        assert task is not None, f"event {event.seq} is about an unknown task"
        self._change(task, event, mono_s)

    def skip(self, seq: int) -> None:
        """Pass over an event of the log that is about no task."""
        self.seq = seq

    def _change(self, task: Task, event: Event, mono_s: float) -> None:
        if self.before_change is not None:
            self.before_change(task)
        kind = event.kind
        before = task.state
        state = next_state(before, kind)
        self.seq = task.last_seq = event.seq
        if state is not before:
            self.counts[before] -= 1
            self.counts[state] += 1
            if before is State.QUEUED and task.place:
                self.queue.remove(task)
            elif before in LEASED and state not in LEASED:
                self._end_lease(task)
            task.state = state
        apply = _APPLY.get(kind)
        if apply is not None:
            apply(self, task, event, mono_s)
        if state is State.QUEUED:
            self.queue.push(task)
        elif kind in TERMINAL_KINDS:
            self._end(task, event)

    def _add(self, event: Event, created: Created, mono_s: float) -> Task:
        requirement = self.queue.require(created.capabilities)
        task = Task(
            event.task_id,
            created,
            requirement,
            seq=event.seq,
            wall_ms=event.wall_ms,
            mono_s=mono_s,
        )
        self.tasks[task.task_id] = task
        self.catalog.append(task.task_id)
        self.counts[State.NEW] += 1
        self.open_bytes += task.size_bytes
        return task

    def _created(self, task: Task, event: Event, mono_s: float) -> None:
        created = event.detail
        assert isinstance(created, Created)
        if created.request_id:
            seen = Seen(task.task_id, created.spec_hash)
            self.requests.add(created.principal, created.request_id, seen)
        terms = task.terms
        self._set_deadline(task, event, mono_s)
        if terms.not_before_ms > event.wall_ms:
            self._wait_until(task, terms.not_before_ms, event, mono_s)
        self.wait_for_others(task)

    def wait_for_others(self, task: Task) -> None:
        """Count the tasks that a task has to wait for, and let them know of it."""
        for other_id in task.depends_on:
            # One that is not in memory had completed when this task was accepted.
            other = self.tasks.get(other_id)
            if other is not None and other.state is not State.COMPLETED:
                self.dependents.setdefault(other_id, []).append(task)
                task.open_dependencies += 1

    def _set_deadline(self, task: Task, event: Event, mono_s: float) -> None:
        deadline_ms = task.terms.deadline_ms
        if deadline_ms:
            due_s = mono_s + (deadline_ms - event.wall_ms) / 1000
            self.timers.set(due_s, task, Purpose.DEADLINE, deadline_ms)

    def _wait_until(self, task: Task, wall_ms: int, event: Event, mono_s: float) -> None:
        task.next_ms = wall_ms
        due_s = mono_s + (wall_ms - event.wall_ms) / 1000
        self.timers.set(due_s, task, Purpose.QUEUE, wall_ms)

    def _queued(self, task: Task, event: Event, mono_s: float) -> None:
        task.next_ms = 0
        task.queued_seq = event.seq
        task.queued_ms = event.wall_ms
        task.queued_s = mono_s

    def _assigned(self, task: Task, event: Event, mono_s: float) -> None:
        self.lease_epoch = task.lease_epoch = event.lease_epoch
        task.router_id = event.router_id
        task.renewed_s = mono_s
        self.leases[event.lease_epoch] = task

    def _started(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Started)
        task.attempt = event.attempt
        task.attempt_s = mono_s
        task.agent_id = event.agent_id
        task.handbacks = 0
        task.fraction, task.message, task.report_seq = 0.0, "", 0
        task.start_ms = task.start_ms or event.wall_ms
        attempt = Attempt(
            event.attempt, event.lease_epoch, event.agent_id, event.wall_ms, event.detail.decision
        )
        if not task.attempts:
            task.attempts = [attempt]
        else:
            task.attempts = [*task.attempts[1 - ATTEMPTS_LEN_MAX :], attempt]
        if task.terms.attempt_timeout_ms:
            due_s = mono_s + task.terms.attempt_timeout_ms / 1000
            self.timers.set(due_s, task, Purpose.ATTEMPT, event.lease_epoch)

    def _progressed(self, task: Task, event: Event, mono_s: float) -> None:
        progress = event.detail
        assert isinstance(progress, Progress)
        task.fraction = progress.fraction
        task.message = progress.message
        task.report_seq = progress.report_seq
        if progress.checkpoint:
            self.open_bytes += len(progress.checkpoint) - len(task.checkpoint)
            task.checkpoint = progress.checkpoint

    def _asked(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Input)
        task.input_request = event.detail.payload
        self._settle(task, event, None, QUESTION_HASH)

    def _answered(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Input)
        task.input = event.detail.payload
        task.input_request = b""
        self._queued(task, event, mono_s)

    def _handed_back(self, task: Task, event: Event, mono_s: float) -> None:
        # It keeps its place in the queue: nobody has worked on it.
        if event.agent_id:
            task.excluded = task.exclude(event.agent_id)
            task.handbacks += 1

    def _attempt_failed(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Failed)
        task.failures += 1
        task.failure = event.detail.failure
        self._settle(task, event, event.detail.usage, FAILURE_HASH)
        task.last_attempt.failure = event.detail.failure
        task.excluded = task.exclude(event.agent_id)

    def _retrying(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Retrying)
        self._wait_until(task, event.detail.retry_ms, event, mono_s)

    def _completed(self, task: Task, event: Event, mono_s: float) -> None:
        completed = event.detail
        assert isinstance(completed, Completed)
        task.result = completed.result
        task.failure = None
        task.fraction = 1.0
        self._settle(task, event, completed.usage, completed.result_hash)
        key = task.terms.sticky_key
        if key:
            self.sticky[key] = event.agent_id
            self.sticky.move_to_end(key)
            if len(self.sticky) > self.limits.ended_len_max:
                self.sticky.popitem(last=False)

    def _settle(self, task: Task, event: Event, usage: Usage | None, result_hash: bytes) -> None:
        task.settled_epoch = event.lease_epoch
        task.settled_hash = result_hash
        attempt = task.last_attempt
        attempt.end_ms = event.wall_ms
        if usage is not None:
            attempt.usage = usage
            task.usage = usage if task.usage is None else task.usage.plus(usage)

    def _ended_without_result(self, task: Task, event: Event, mono_s: float) -> None:
        assert isinstance(event.detail, Failed)
        task.failure = event.detail.failure
        if task.attempts and not task.last_attempt.end_ms:
            task.last_attempt.end_ms = event.wall_ms

    def _requeued(self, task: Task, event: Event, mono_s: float) -> None:
        self.dead.pop(task.task_id, None)
        task.revive()
        if event.detail is not None:
            assert isinstance(event.detail, Input)
            task.payload = event.detail.payload
        self.open_bytes += task.size_bytes
        self._queued(task, event, mono_s)
        self._set_deadline(task, event, mono_s)

    def _end_lease(self, task: Task) -> None:
        self.leases.pop(task.lease_epoch, None)
        task.lease_epoch = 0
        if task.state is State.RUNNING and task.terms.attempt_timeout_ms:
            self.timers.dropped()

    def _end(self, task: Task, event: Event) -> None:
        size_bytes = task.size_bytes
        self.open_bytes -= size_bytes - len(task.result)
        task.end_ms = event.wall_ms
        if task.next_ms:
            task.next_ms = 0
            self.timers.dropped()
        if task.terms.deadline_ms:
            self.timers.dropped()
        if task.state is State.FAILED:
            self.dead[task.task_id] = task
        else:
            self.ended.append(task)
            self.ended_bytes += size_bytes
        waiting = self.dependents.pop(task.task_id, None) if self.dependents else None
        if waiting:
            if task.state is State.COMPLETED:
                for dependent in waiting:
                    dependent.open_dependencies -= 1
            self.resolved.append((task, waiting))

    def evict(self, *, dead: bool = True) -> None:
        """Forget the tasks that ended longest ago, beyond the limits.

        Args:
            dead: Dead letters too; recovery spares them until it knows which were revived.
        """
        limits = self.limits
        while self.ended and (
            len(self.ended) > limits.ended_len_max or self.ended_bytes > limits.ended_bytes_max
        ):
            task = self.ended.popleft()
            self.ended_bytes -= task.size_bytes
            self._forget(task)
        while dead and len(self.dead) > limits.dead_len_max:
            self._forget(self.dead.popitem(last=False)[1])
        if len(self.catalog) > 2 * len(self.tasks) + 1_024:
            self.catalog = [task_id for task_id in self.catalog if task_id in self.tasks]

    def _forget(self, task: Task) -> None:
        del self.tasks[task.task_id]
        self.counts[task.state] -= 1
        self.queue.release(task.requirement)


_APPLY = {
    Kind.CREATED: Book._created,
    Kind.QUEUED: Book._queued,
    Kind.ASSIGNED: Book._assigned,
    Kind.STARTED: Book._started,
    Kind.PROGRESS: Book._progressed,
    Kind.INPUT_REQUIRED: Book._asked,
    Kind.INPUT_PROVIDED: Book._answered,
    Kind.HANDED_BACK: Book._handed_back,
    Kind.ATTEMPT_FAILED: Book._attempt_failed,
    Kind.RETRYING: Book._retrying,
    Kind.COMPLETED: Book._completed,
    Kind.FAILED: Book._ended_without_result,
    Kind.CANCELED: Book._ended_without_result,
    Kind.EXPIRED: Book._ended_without_result,
    Kind.REJECTED: Book._ended_without_result,
    Kind.REQUEUED: Book._requeued,
}
