"""The state of all tasks: what replaying the log gives, and nothing else.

`record` writes an event and applies it; recovery only applies. Since `apply` is the one place that
changes a task, live state and replayed state cannot differ. Connected routers and renewals of
leases are no facts of the log and live in `dispatch`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from services.kernel.instant import Instant
from services.task_scheduler.core.changes import CHANGES
from services.task_scheduler.core.event import (
    FROM_CLIENT,
    Completed,
    Created,
    Detail,
    Event,
    Failed,
    Input,
    LettersDropped,
    QueuePause,
    ScheduleChange,
)
from services.task_scheduler.core.ids import Ids
from services.task_scheduler.core.letters import DeadLetters
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.lineage import Lineages
from services.task_scheduler.core.pauses import Pause, Scope
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.core.requests import RequestIds
from services.task_scheduler.core.schedule import Schedules
from services.task_scheduler.core.states import (
    LEASED,
    RESIZING_KINDS,
    TABLE,
    TASKLESS,
    TERMINAL_KINDS,
    Kind,
    State,
    next_state,
)
from services.task_scheduler.core.sticky import StickyKeys
from services.task_scheduler.core.task import Lease, Task
from services.task_scheduler.core.timers import Timers, in_force
from services.task_scheduler.core.waits import Waits

Redate = Callable[[bytes, int, int], bytes]

Recorded = tuple[Event, Task | None, float]
"""An event, its task, and when it happened on the monotonic clock."""


# Read once: Python 3.11 takes longer to find a member of an enum than for all else of a comparison.
_NEW, _QUEUED, _RUNNING, _FAILED = State.NEW, State.QUEUED, State.RUNNING, State.FAILED
_CREATION, _COMPLETION, _FAILURE = Kind.CREATED, Kind.COMPLETED, Kind.ATTEMPT_FAILED

RUNS = (Completed, Failed, Input)
"""Details that tell how long an attempt ran."""


def as_it_is(head: bytes, deadline_ms: int, not_before_ms: int) -> bytes:
    """Return a head unchanged: for tests, whose heads tell no times."""
    return head


class Book:
    """All tasks in memory with their indexes."""

    def __init__(self, limits: Limits, partition: int = 0) -> None:
        self.limits = limits
        self.ids = Ids(partition)
        self.tasks: dict[str, Task] = {}
        self.catalog: list[str] = []
        """Ids of tasks in order; a few of them may be gone."""
        self.queue = ReadyQueue(limits)
        self.timers = Timers(in_force)
        self.requests = RequestIds(limits.request_ids_len_max, limits.retry_ids_len_max)
        self.leases: OrderedDict[int, Task] = OrderedDict()
        """Live leases by epoch, the one renewed longest ago first."""
        self.waits = Waits()
        self.counts = [0] * (max(State) + 1)
        self.resumed = 0
        """Tasks in state CREATED that wait for a retry: they were paused while they did so."""
        self.open_bytes = 0
        self.ended: deque[Task] = deque()
        self.ended_bytes = 0
        self.dead = DeadLetters()
        self.sticky = StickyKeys(limits.ended_len_max)
        self.lineages = Lineages()
        self.schedules = Schedules()
        self.seq = 0
        self.lease_epoch = 0
        self.redate: Redate = as_it_is
        """Gives a head another deadline, 0 = none, and another time to begin, 0 = the one it has;
        the core does not open heads."""
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
        lease_epoch: int = 0,
        attempt: int = 0,
        agent_id: str = "",
        router_id: str = "",
    ) -> None:
        """Write an event about a task and apply it."""
        mono_s, wall_ms = now
        event = Event(
            self.seq + 1,
            kind,
            task.task_id,
            wall_ms,
            lease_epoch,
            attempt,
            agent_id,
            router_id,
            detail,
        )
        self._change(task, event, mono_s)
        self.outbox.append((event, task, mono_s))

    def create(self, created: Created, now: Instant) -> Task:
        """Write the CREATED event of a new task and apply it."""
        mono_s, wall_ms = now
        task_id = self.ids.make(wall_ms)
        event = Event(self.seq + 1, _CREATION, task_id, wall_ms, 0, 0, "", "", created)
        task = self._add(event, created, mono_s)
        self._change(task, event, mono_s)
        self.outbox.append((event, task, mono_s))
        return task

    def dated(self, created: Created, wall_ms: int) -> Created:
        """Return a task with times instead of spans, counted from a wall time."""
        terms = created.terms.dated(wall_ms)
        if terms is created.terms:
            return created
        head = self.redate(created.head, terms.deadline_ms, terms.not_before_ms)
        return created._replace(terms=terms, head=head)

    def holder(self, lease: Lease) -> Task | None:
        """Return the task of a lease, while that is live."""
        task = self.leases.get(lease.epoch)
        return task if task is not None and task.task_id == lease.task_id else None

    def begin_epoch(self, now: Instant) -> None:
        """Write that this process owns the log from here on."""
        self.declare(Kind.EPOCH_BEGUN, None, now)

    def declare(self, kind: Kind, detail: Detail | None, now: Instant) -> None:
        """Write an event that is about no task and apply it."""
        event = Event(self.seq + 1, kind, "", now.wall_ms, detail=detail)
        self._declared(event)
        self.outbox.append((event, None, now.mono_s))

    def apply(self, event: Event, mono_s: float) -> None:
        """Change the state as `event` says; recovery calls it with the events of the log.

        Args:
            event: The next event of the log.
            mono_s: The event's time on the monotonic clock of this process.
        """
        assert event.seq == self.seq + 1, f"event {event.seq} follows {self.seq}"
        # What came of those that the event before affected is told by the events behind it.
        self.waits.affected.clear()
        if event.kind in TASKLESS:
            self._declared(event)
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
        """Pass over an event of the log that changes nothing."""
        self.seq = seq

    def _declared(self, event: Event) -> None:
        self.seq = event.seq
        detail = event.detail
        if isinstance(detail, ScheduleChange):
            if event.kind is Kind.SCHEDULE_DELETED:
                self._end_turns(detail)
            self.schedules.apply(event.kind, detail, event.wall_ms)
        elif isinstance(detail, QueuePause):
            scope = Scope(detail.tenant, detail.task_type)
            if event.kind is Kind.QUEUE_PAUSED:
                self.queue.pauses.add(Pause(scope, detail.reason, event.wall_ms))
            else:
                self.queue.pauses.remove(scope)
            self.queue.review_pauses(scope)
        elif isinstance(detail, LettersDropped):
            for letter in self.dead.drop(detail.through_seq):
                if letter.origin.parent_task_id:
                    self.lineages.forget(letter)
                self._forget(letter)

    def _change(self, task: Task, event: Event, mono_s: float) -> None:
        if self.before_change is not None:
            self.before_change(task)
        kind, before = event.kind, task.state
        state = TABLE.get((before, kind)) or next_state(before, kind)
        self.seq = event.seq
        if state is not before:
            self._leave(task, event, state)
            task.state = state
        task.last_seq = event.seq
        change = CHANGES.get(kind)
        if change is not None:
            change(self, task, event, mono_s)
        if kind in RESIZING_KINDS:
            self.open_bytes += task.weigh()
            if kind in TERMINAL_KINDS:
                self._end(task, event)
        if state is _QUEUED:
            self.queue.push(task)

    def _leave(self, task: Task, event: Event, state: State) -> None:
        """Take a task out of the indexes of the state that it leaves for `state`."""
        before = task.state
        self.counts[before] -= 1
        self.counts[state] += 1
        if before in LEASED:
            if state not in LEASED:
                self._end_lease(task, event)
        elif before is _QUEUED and task.place:
            self.queue.remove(task)
        elif before is _FAILED:
            self.dead.remove(task)
        elif task.open_dependencies:
            self.waits.blocked += (state is State.CREATED) - (before is State.CREATED)
        elif task.next_ms and task.awaits_retry:
            self.resumed += (state is State.CREATED) - (before is State.CREATED)

    def _add(self, event: Event, created: Created, mono_s: float) -> Task:
        task_id = event.task_id
        task = Task(task_id, created, event.seq, event.wall_ms, mono_s)
        self.tasks[task_id] = task
        self.catalog.append(task_id)
        self.counts[_NEW] += 1
        self.open_bytes += len(task.head) + len(task.payload)
        self.open(task, new=True)
        return task

    def open(self, task: Task, *, new: bool) -> None:
        """Take an open task into the indexes of open tasks."""
        task.lane = self.queue.enter(task.alike)
        if task.origin is not FROM_CLIENT:
            if task.origin.parent_task_id:
                self.lineages.add(task, new=new)
            if task.origin.schedule_id:
                self.schedules.made(task)

    def count(self, tasks: Iterable[Task]) -> None:
        """Count tasks of a snapshot by their states."""
        for task in tasks:
            self.counts[task.state] += 1
            self.resumed += task.state is State.CREATED and task.awaits_retry

    def wait_for_others(self, task: Task, *, ended: bool = True) -> None:
        """Count the tasks that a task has to wait for, and let them know of it.

        Args:
            task: Who waits.
            ended: Also for those that have ended without having completed.
        """
        if task.origin.schedule_id and self.schedules.holds_back(task):
            self.waits.await_turn(task)
        for other_id in task.depends_on:
            # One that is not in memory had completed when this task was accepted.
            other = self.tasks.get(other_id)
            if other is None or other.state is State.COMPLETED:
                continue
            if ended or not other.ended:
                self.waits.add(task, other_id)

    def _end_lease(self, task: Task, event: Event) -> None:
        self.leases.pop(task.lease_epoch, None)
        task.lease_epoch = 0
        if task.state is _RUNNING and task.terms.attempt_timeout_ms:
            self.timers.dropped()
        lane, detail = task.lane, event.detail
        assert lane is not None
        used_s = detail.run_us / 1e6 if isinstance(detail, RUNS) and detail.run_us > 0 else 0.0
        share = lane.share
        share.settle(task.charged_s, used_s)
        task.charged_s = 0.0
        if event.kind is _COMPLETION or event.kind is _FAILURE:
            self.queue.shares.learn(share.tenant, task.task_type, used_s)
        if lane.bounds:
            self.queue.free(lane)

    def _end(self, task: Task, event: Event) -> None:
        task.end_ms = event.wall_ms
        size_bytes = task.size_bytes
        self.open_bytes -= size_bytes
        if task.next_ms:
            task.next_ms = 0
            self.timers.dropped()
        if task.terms.deadline_ms:
            self.timers.dropped()
        if task.state is _FAILED:
            self.dead.add(task)
        else:
            self.ended.append(task)
            self.ended_bytes += size_bytes
        self._close(task)
        if task.open_dependencies:
            self.waits.drop(task)
        self.waits.end(task, self.before_change)

    def _close(self, task: Task) -> None:
        """Take a task that has ended out of the indexes of open tasks."""
        assert task.lane is not None
        self.queue.leave(task.lane)
        task.lane = None
        origin = task.origin
        if origin is not FROM_CLIENT:
            if origin.parent_task_id:
                root = self.tasks.get(origin.root_task_id)
                self.lineages.end(task, root_open=root is not None and not root.ended)
            if origin.schedule_id:
                next_id = self.schedules.ended(task)
                if next_id:
                    self.waits.take_turn(self.tasks[next_id], self.before_change)
        if self.lineages.counts and not origin.parent_task_id:
            self.lineages.end_root(task.task_id)

    def _end_turns(self, change: ScheduleChange) -> None:
        """Let the tasks of a schedule that is deleted wait for each other no more."""
        schedule = self.schedules.find(change.tenant, change.schedule_id)
        assert schedule is not None
        for task_id in schedule.open:
            self.waits.take_turn(self.tasks[task_id], self.before_change)

    def drop_letters(self, now: Instant) -> None:
        """Forget the oldest dead letters beyond the limits.

        Which those are depends on when others were revived, so it is written into the log: else
        replay would bring back some of them.
        """
        dropped = self.dead.excess(self.limits.dead_len_max, self.limits.dead_bytes_max)
        if dropped is not None:
            self.declare(Kind.DEAD_LETTERS_DROPPED, dropped, now)
            self.dead.dropped += dropped.dropped

    def evict(self) -> None:
        """Forget the tasks that ended longest ago, beyond the limits, but for dead letters."""
        limits = self.limits
        while self.ended and (
            len(self.ended) > limits.ended_len_max or self.ended_bytes > limits.ended_bytes_max
        ):
            task = self.ended.popleft()
            self.ended_bytes -= task.size_bytes
            self._forget(task)
        if len(self.catalog) > 2 * len(self.tasks) + 1_024:
            # In the same order, and a tenth of looking each one up.
            self.catalog = list(self.tasks)

    def _forget(self, task: Task) -> None:
        del self.tasks[task.task_id]
        self.counts[task.state] -= 1
