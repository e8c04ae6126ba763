"""The state at one event from the parts of a snapshot: what recovery starts from.

Fields are named, so a later version reads what an earlier one wrote: a field that is new has its
first value then, and what can be derived is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

from services.kernel.errors import FailedPrecondition
from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import (
    FROM_CLIENT,
    CatchUp,
    Created,
    Failure,
    Origin,
    Overlap,
    Plan,
    RateLimit,
    Terms,
    Usage,
)
from services.task_scheduler.core.pauses import Pause, Scope
from services.task_scheduler.core.records import Plain, record
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.snapshot import DERIVED, STORED, VERSION
from services.task_scheduler.core.states import LEASED, State
from services.task_scheduler.core.task import Attempt, Task
from services.task_scheduler.core.timers import Purpose

Row = tuple[Any, ...]


class Restoring:
    """Fills an empty book from the parts of a snapshot."""

    def __init__(self, book: Book, now: Instant) -> None:
        assert not book.seq and not book.tasks
        self._book = book
        self._now = now
        # What a monotonic clock that had run all the time would have shown at wall time 0.
        self._zero_s = now.mono_s - now.wall_ms / 1000
        self._terms: dict[str, Terms] = {}
        self._attempt_setters: list[Callable[[Attempt, Any], None]] = []
        self._attempt_new: list[str] = []
        self._tasks: list[Task] = []
        self._expected = 0
        self._needs: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._shares: Plain | None = None
        self._lineages: dict[str, int] = {}
        self._links: dict[str, str] = {}
        self._sticky: Sequence[Row] | None = None

    def add(self, part: Plain) -> None:
        """Take the next part.

        Raises:
            FailedPrecondition: JOURNAL_TOO_NEW.
        """
        if "version" in part:
            self._begin(part)
        elif "requests" in part:
            requests = self._book.requests
            table = requests.retries if part.get("kind") else requests.chosen
            table.restore(part["requests"])
        else:
            self._add_tasks(part)

    def finish(self) -> None:
        """Derive the rest."""
        book, tasks = self._book, self._tasks
        assert len(tasks) == self._expected, "the snapshot is not whole"
        book.tasks = {task.task_id: task for task in tasks}
        book.catalog = list(book.tasks)
        book.count(tasks)
        self._ended([task for task in tasks if task.ended])
        live = [task for task in tasks if not task.ended]
        book.open_bytes = sum(task.size_bytes for task in live)
        for task in live:
            task.lane = book.queue.enter(task.alike)
        for task in sorted((t for t in live if t.state in LEASED), key=attrgetter("lease_epoch")):
            book.leases[task.lease_epoch] = task
            assert task.lane is not None
            book.queue.hold(task.lane)
        for task in sorted((t for t in live if t.state is State.QUEUED), key=_queued_seq):
            book.queue.push(task)
        if self._shares is not None:
            book.queue.shares.restore(self._shares)
        for task in live:
            self._wait(task)
        book.lineages.restore(self._lineages, self._links, book.tasks)
        book.sticky.restore(self._sticky, tasks)

    def _begin(self, head: Plain) -> None:
        if head["version"] > VERSION:
            raise FailedPrecondition(
                "JOURNAL_TOO_NEW",
                f"the snapshot was written by a newer Podium (version {head['version']}, this one "
                f"reads {VERSION}): run that version",
            )
        book = self._book
        book.seq = head["seq"]
        book.lease_epoch = head["lease_epoch"]
        book.ids.seen(head["last_id"])
        self._sticky = head.get("sticky_keys")
        self._links = head.get("links", {})
        if "shares" in head:
            self._shares = head["shares"]
            book.queue.shares.restore(head["shares"])
            for pause in head["pauses"]:
                scope = record(Scope, pause["scope"])
                book.queue.pauses.add(record(Pause, {**pause, "scope": scope}))
            self._lineages = head["lineages"]
            book.queue.keys.rates.restore(head.get("rates", ()), self._zero_s)
            book.schedules.restore(
                {**row, "plan": self._load_plan(row["plan"])} for row in head["schedules"]
            )
        self._expected = head["tasks"]
        self._attempt_setters = [_SET_ATTEMPT.get(name, _ignore) for name in head["attempt"]]
        self._attempt_new = [name for name in Attempt.__slots__ if name not in head["attempt"]]

    def _add_tasks(self, part: Plain) -> None:
        count = part["len"]
        tasks = list(map(Task.__new__, repeat(Task, count)))
        for name in STORED:
            _each(_SET[name], tasks, self._values(name, part))
        for name, value in _FRESH.items():
            _each(_SET[name], tasks, repeat(value))
        for name, source in (("created_s", "created_ms"), ("queued_s", "queued_ms")):
            _each(_SET[name], tasks, map(self._time, self._values(source, part)))
        for task in tasks:
            task.weigh()
            if task.attempts:
                task.attempt_s = self._zero_s + task.attempts[-1].start_ms / 1000
        self._tasks += tasks

    def _values(self, name: str, part: Plain) -> Iterable[Any]:
        load = getattr(self, f"_load_{name}", None)
        if name in part["same"]:
            value = part["same"][name]
            return repeat(load(value) if load is not None else value)
        if name not in part["each"]:
            return repeat(_FIRST[name])
        column: Iterable[Any] = part["each"][name]
        table = part["tables"].get(name)
        if table is not None:
            loaded = [load(value) for value in table] if load is not None else table
            return map(loaded.__getitem__, column)
        return column if load is None else map(load, column)

    _load_state = State

    def _load_needs(self, value: Sequence[str]) -> tuple[str, ...]:
        needs = tuple(value)
        return self._needs.setdefault(needs, needs)

    def _load_origin(self, value: Plain) -> Origin:
        origin: Origin = record(Origin, value)
        return FROM_CLIENT if origin == FROM_CLIENT else origin

    def _load_plan(self, value: Plain) -> Plan:
        task = dict(value["task"])
        task["terms"] = self._load_terms(task["terms"])
        task["origin"] = self._load_origin(task["origin"])
        overlap, catch_up = Overlap(value["overlap"]), CatchUp(value["catch_up"])
        changed = {"task": record(Created, task), "overlap": overlap, "catch_up": catch_up}
        plan: Plan = record(Plan, {**value, **changed})
        return plan

    def _load_failure(self, value: Plain | None) -> Failure | None:
        return None if value is None else record(Failure, value)

    def _load_usage(self, value: Plain | None) -> Usage | None:
        return None if value is None else record(Usage, value)

    _load_usage_before = _load_usage

    def _load_attempts(self, rows: Sequence[Row]) -> list[Attempt] | tuple[()]:
        attempts = []
        for row in rows:
            attempt = Attempt.__new__(Attempt)
            for set_one, value in zip(self._attempt_setters, row, strict=True):
                set_one(attempt, value)
            for name in self._attempt_new:
                setattr(attempt, name, getattr(_first_attempt, name))
            if attempt.failure is not None:
                attempt.failure = self._load_failure(attempt.failure)  # type: ignore[arg-type]  # plain
            attempt.usage = self._load_usage(attempt.usage)  # type: ignore[arg-type]  # plain
            attempts.append(attempt)
        return attempts or ()

    def _load_terms(self, value: Plain) -> Terms:
        key = repr(value)
        found = self._terms.get(key)
        if found is None:
            rates = tuple([record(RateLimit, one) for one in value.get("rate_limits", ())])
            policy = record(RetryPolicy, value["policy"])
            value = {**value, "policy": policy, "rate_limits": rates}
            found = self._terms[key] = record(Terms, value)
        return found

    def _time(self, wall_ms: int) -> float:
        return self._zero_s + wall_ms / 1000

    def _ended(self, tasks: list[Task]) -> None:
        book = self._book
        # Nothing follows the event that ended a task, so that event tells the order.
        for task in sorted(tasks, key=attrgetter("last_seq")):
            task.open_dependencies = 0  # earlier versions left the number at the end
            if task.state is State.FAILED:
                book.dead.add(task)
            else:
                book.ended.append(task)
                book.ended_bytes += task.size_bytes

    def _wait(self, task: Task) -> None:
        """Set the timers of a task that has not ended, and count the open ones it waits for."""
        book, zero_s, terms = self._book, self._zero_s, task.terms
        if task.next_ms:
            book.timers.set(zero_s + task.next_ms / 1000, task, Purpose.QUEUE, task.next_ms)
        if terms.deadline_ms:
            due_s = zero_s + terms.deadline_ms / 1000
            book.timers.set(due_s, task, Purpose.DEADLINE, terms.deadline_ms)
        if task.state is State.RUNNING and terms.attempt_timeout_ms:
            due_s = task.attempt_s + terms.attempt_timeout_ms / 1000
            book.timers.set(due_s, task, Purpose.ATTEMPT, task.lease_epoch)
        if task.open_dependencies:
            task.open_dependencies = 0
            book.wait_for_others(task, ended=False)


def _ignore(attempt: Attempt, value: Any) -> None:
    """Stands for a field that is no more."""


def _each(set_one: Callable[[Task, Any], None], tasks: Sequence[Task], values: Any) -> None:
    deque(map(set_one, tasks, values), maxlen=0)


_queued_seq = attrgetter("queued_seq")
_SET: dict[str, Callable[[Task, Any], None]] = {
    name: getattr(Task, name).__set__ for name in Task.__slots__
}
_SET_ATTEMPT: dict[str, Callable[[Attempt, Any], None]] = {
    name: getattr(Attempt, name).__set__ for name in Attempt.__slots__
}
_first_attempt = Attempt(0, 0, "", 0, b"")
_blank = Task(
    "",
    Created("", "", (), Terms(), (), b"", b"", "", "", "", "", b""),
    seq=0,
    wall_ms=0,
    mono_s=0.0,
)
_FIRST: Plain = {name: getattr(_blank, name) for name in STORED}
"""What a field has that a snapshot does not know."""
_FRESH: Plain = {name: getattr(_blank, name) for name in DERIVED - {"created_s", "queued_s"}}
