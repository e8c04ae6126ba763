"""A core with a router in front, driven by hand; every event is kept so that it can be replayed."""

from __future__ import annotations

import random
from collections.abc import Iterable

from services.kernel.instant import Instant
from services.task_scheduler.core import catalog
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import (
    FROM_CLIENT,
    CatchUp,
    Created,
    Event,
    Failure,
    Origin,
    Overlap,
    Plan,
    Terms,
    Usage,
)
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Grant, Order, Settled, Settlement
from services.task_scheduler.core.rates import Rates
from services.task_scheduler.core.requests import Table
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Lease, Task

TRACEPARENT = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
START = Instant(1_000.0, 1_700_000_000_000)


def created(
    task_type: str = "work",
    *,
    needs: Iterable[str] = (),
    terms: Terms | None = None,
    depends_on: Iterable[str] = (),
    request_id: str = "",
    spec_hash: bytes = b"",
    payload: bytes = b"\x12\x04data",
    tenant: str = "default",
    submitter_id: str = "client",
    principal: str = "anonymous",
    parent: str = "",
) -> Created:
    return Created(
        task_type,
        tenant,
        tuple(sorted(needs)) or (task_type,),
        terms or Terms(),
        tuple(depends_on),
        b"\x0a\x04work",
        payload,
        TRACEPARENT,
        principal,
        submitter_id,
        request_id,
        spec_hash,
        Origin(parent) if parent else FROM_CLIENT,
    )


def every(cron: str, time_zone: str, wall_ms: int) -> int:
    """A calendar whose expressions are numbers of seconds; 0 = never."""
    step_ms = int(cron) * 1000
    return (wall_ms // step_ms + 1) * step_ms if step_ms else 0


def plan(schedule_id: str = "nightly", cron: str = "60", **changed: object) -> Plan:
    task = changed.pop("task", None) or created(terms=Terms(policy=RetryPolicy(0)))
    base = Plan(
        schedule_id,
        cron,
        "UTC",
        Overlap.ALLOW,
        CatchUp.LAST,
        3_600_000,
        task._replace(traceparent=""),
    )
    return base._replace(**changed)


class Rig:
    """One core, its time, and what it has said."""

    def __init__(self, limits: Limits | None = None, *, seed: int = 1, router: str = "r1") -> None:
        self.limits = limits or Limits()
        self.core = Scheduler(self.limits, random.Random(seed).random, calendar=every)
        self.now = START
        self.events: list[Event] = []
        self.orders: list[tuple[str, Order]] = []
        self.router = router
        self.core.start(self.now)
        if router:
            self.core.dispatch.open(router, [], self.now)
        self.take()
        self.orders.clear()

    @property
    def book(self):
        return self.core.book

    def advance(self, seconds: float, *, step_s: float = 0.5) -> None:
        """Let time pass in ticks, as the shell does."""
        left = seconds
        while left > 1e-9:
            part = min(step_s, left)
            self.now = Instant(self.now.mono_s + part, self.now.wall_ms + round(part * 1000))
            self.core.tick(self.now)
            left -= part
        self.take()

    def take(self) -> list[tuple[str, Order]]:
        step = self.core.take(self.now)
        self.events += [event for event, _, _ in step.events]
        self.orders += step.orders
        return step.orders

    def submit(self, *drafts: Created, fail_fast: bool = False) -> list[str]:
        admitted = self.core.admission.submit(
            [Draft(draft, fail_fast) for draft in drafts], self.now
        )
        self.take()
        return [one.task_id for one in admitted]

    def submit_one(self, task_type: str = "work", **options: object) -> Task:
        return self.task(self.submit(created(task_type, **options))[0])

    def task(self, task_id: str) -> Task:
        return self.book.tasks[task_id]

    def credit(
        self,
        *needs: str,
        total: int = 1_000,
        class_id: int = 1,
        agents: int = 1,
        ahead: int = 0,
        router: str = "",
    ) -> None:
        self.core.dispatch.credit(
            router or self.router, class_id, needs or ("work",), total, agents, ahead
        )
        self.take()

    def granted_to(self) -> list[str]:
        """Take the grants that were made since the last call; return their routers."""
        self.take()
        found = [router for router, order in self.orders if isinstance(order, Grant)]
        self.orders = [pair for pair in self.orders if not isinstance(pair[1], Grant)]
        return found

    def grants(self) -> list[Grant]:
        """Take the grants that were made since the last call."""
        self.take()
        found = [order for _, order in self.orders if isinstance(order, Grant)]
        self.orders = [pair for pair in self.orders if not isinstance(pair[1], Grant)]
        return found

    def said(self, kind: type) -> list:
        return [order for _, order in self.orders if isinstance(order, kind)]

    def settlements(self) -> list[Settlement]:
        return [order.settlement for order in self.said(Settled)]

    def lease(self, task: Task) -> Lease:
        return Lease(task.task_id, task.lease_epoch)

    def granted(self, task_type: str = "work", **options: object) -> Task:
        """Submit a task and grant it."""
        self.credit(*(options.get("needs") or (task_type,)))
        task = self.submit_one(task_type, **options)
        self.grants()
        assert task.lease_epoch
        return task

    def running(self, agent_id: str = "a1", **options: object) -> Task:
        """Submit a task, grant it, and let an agent take it."""
        task = self.granted(**options)
        self.start(task, agent_id)
        return task

    def start(self, task: Task, agent_id: str = "a1") -> None:
        self.core.outcomes.started(self.router, self.lease(task), agent_id, b"", self.now)
        self.take()

    def complete(self, lease: Lease, agent_id: str = "a1", result: bytes = b"\x12\x02ok") -> None:
        self.core.outcomes.completed(self.router, lease, agent_id, result, None, None, self.now)
        self.take()

    def fail(
        self,
        lease: Lease,
        agent_id: str = "a1",
        *,
        retryable: bool = True,
        reason: str = "BROKEN",
        usage: Usage | None = None,
    ) -> None:
        self.core.outcomes.failed(
            self.router,
            lease,
            agent_id,
            Failure(reason, "It broke.", retryable),
            usage,
            self.now,
            agent_fault=retryable,
        )
        self.take()

    def kinds(self, task: Task | None = None) -> list[Kind]:
        """What happened to a task, in order."""
        return [e.kind for e in self.events if task is None or e.task_id == task.task_id]

    def restarted(self, *, down_s: float = 0.0) -> Rig:
        """Return a core that has replayed this one's log, as after a kill."""
        again = Rig(self.limits, router="")
        again.core = Scheduler(self.limits, random.Random(2).random, calendar=every)
        again.now = Instant(5.0, self.now.wall_ms + round(down_s * 1000))
        again.events = list(self.events)
        again.orders = []
        again.router = self.router
        for event in self.events:
            again.core.replay(event, again.now)
        again.forget_starts()
        return again

    def forget_starts(self) -> None:
        """Drop starts that do not count any more, as the next step does."""
        self.book.queue.keys.rates.advance(self.now.mono_s)


def facts(core: Scheduler) -> dict[str, object]:
    """Return all of a core's state that the log must give back."""
    book = core.book
    return {
        "seq": book.seq,
        "lease_epoch": book.lease_epoch,
        "counts": book.counts,
        "shown": catalog.counts(book),
        "open_bytes": book.open_bytes,
        "leases": sorted(book.leases),
        "dead": list(book.dead),
        "dead_bytes": book.dead.size_bytes,
        "ended_bytes": book.ended_bytes,
        "waits": {other_id: sorted(ids) for other_id, ids in book.waits.plain().items()},
        "blocked": book.waits.blocked,
        "ended": [task.task_id for task in book.ended],
        "requests": [rows(table) for table in book.requests],
        "sticky": book.sticky.plain(),
        "waiting": [task.task_id for task in book.queue.waiting()],
        "shares": book.queue.shares.plain(),
        "open_by_tenant": {t.name: (t.open_tasks, t.waiting) for t in book.queue.shares},
        "keys": {
            key: (found.running, found.waiting)
            for key, found in sorted(book.queue.keys.concurrency.items())
        },
        "rates": _rates(book.queue.keys.rates),
        "pauses": list(book.queue.pauses),
        "lineages": book.lineages.plain(),
        "links": book.lineages.links(),
        "descendants": {
            task_id: {task.task_id for task in book.lineages.descendants(task_id)}
            for task_id in book.tasks
        },
        "schedules": book.schedules.plain(),
        "next_id": book.ids.make(0),
        "tasks": {task_id: _task(task) for task_id, task in book.tasks.items()},
    }


def rows(table: Table) -> list[tuple[bytes, str, bytes]]:
    """Return the request ids of a table, oldest first."""
    return [row for stretch in table.stretches() for row in stretch.taken()]


def _rates(rates: Rates) -> dict[object, object]:
    """Return the starts that still count, and what waits."""
    return {
        name: (key.started(), key.starts(), key.waiting, key.limits)
        for name, key in sorted(rates.keys.items())
    }


_TRANSIENT = {
    # Clocks of one process, or caches: no facts of the log.
    *("renewed_s", "queued_s", "created_s", "attempt_s", "lane", "router_id"),
    "attempts",
}


def _task(task: Task) -> dict[str, object]:
    known = {name: getattr(task, name) for name in Task.__slots__ if name not in _TRANSIENT}
    known["lane"] = task.lane and task.lane.key
    known["attempts"] = [
        tuple(getattr(attempt, name) for name in attempt.__slots__) for attempt in task.attempts
    ]
    return known
