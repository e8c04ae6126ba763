"""Reading the book: pages of tasks, what waits for what, and counts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from services.kernel import versions
from services.kernel.errors import InvalidArgument, Violation
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.lane import ConcurrencyKey
from services.task_scheduler.core.rates import RateKey
from services.task_scheduler.core.shares import Tenant
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import SHOWN_BLOCKED, Task

SCANNED_LEN_MAX = 5_000
"""Tasks looked at for one page, a few milliseconds: a rare match must not hold up all else."""


class Filter(NamedTuple):
    """Which tasks are meant; all given parts must match."""

    states: frozenset[int] = frozenset()
    """As shown, see `Task.shown_state`."""
    task_type: str = ""
    tenant: str = ""
    agent_id: str = ""
    failure_text: str = ""
    concurrency_key: str = ""
    also: Callable[[Task], bool] | None = None
    """What the core cannot see: labels, and what the caller may see."""

    def matches(self, task: Task) -> bool:
        """Whether a task is meant."""
        return (
            (not self.states or task.shown_state in self.states)
            and (not self.task_type or task.task_type == self.task_type)
            and (not self.tenant or task.tenant == self.tenant)
            and (not self.agent_id or task.agent_id == self.agent_id)
            and (not self.failure_text or self._failed_with(task))
            and (not self.concurrency_key or self.concurrency_key in task.terms.concurrency_keys)
            and (self.also is None or self.also(task))
        )

    def _failed_with(self, task: Task) -> bool:
        failure = task.failure
        text = self.failure_text.lower()
        return failure is not None and (
            text in failure.reason.lower() or text in failure.message.lower()
        )


class Page(NamedTuple):
    """Some tasks, newest first."""

    tasks: list[Task]
    before: str
    """Where to go on; empty at the end. It stays a position when tasks of this page change."""


class PriorityDepth(NamedTuple):
    """What waits at one priority."""

    priority: int
    depth: int
    oldest_age_s: float


class RequirementDepth(NamedTuple):
    """What waits for one set of capabilities."""

    capabilities: tuple[str, ...]
    depth: int
    schedulable: bool
    granted: int
    """Those that a router has and no agent has begun."""


def page(book: Book, wanted: Filter, before: str, size: int) -> Page:
    """Return the tasks that match and come after the position `before`; all when it is empty.

    Of dead letters alone it gives the last ones to die first, of others the last ones made.

    A page may hold fewer tasks than asked for, or none, and yet not be the last.
    """
    if wanted.states == {State.FAILED}:
        # In the order in which they died, so that none has to be looked for among other tasks.
        return _page(book.dead.before(_seq(before)), wanted, size, lambda task: str(task.last_seq))
    end = bisect_left(book.catalog, before) if before else len(book.catalog)
    known = (book.tasks.get(book.catalog[i]) for i in range(end - 1, -1, -1))
    return _page(filter(None, known), wanted, size, lambda task: task.task_id)


def _page(
    tasks: Iterator[Task], wanted: Filter, size: int, position_of: Callable[[Task], str]
) -> Page:
    found: list[Task] = []
    for scanned, task in enumerate(tasks):
        if wanted.matches(task):
            found.append(task)
        if len(found) == size or scanned + 1 == SCANNED_LEN_MAX:
            return Page(found, position_of(task))
    return Page(found, "")


def _seq(before: str) -> int:
    try:
        return int(before or 0)
    except ValueError:
        # An earlier version named a place by a task, which may have been requeued since.
        raise InvalidArgument(
            "PAGE_TOKEN_INVALID",
            "page_token is of an earlier version; begin again without one.",
            violations=[Violation("page_token", "must be the next_page_token of the same list")],
        ) from None


def dead_page(book: Book, wanted: Filter, after: str, size: int) -> Page:
    """Return dead letters that match, in the order in which they were submitted.

    So a task comes before those that depend on it. Those that die after the first page was asked
    for come in none: who revives what he gets would meet his own tasks again and again.
    """
    created, _, until = after.partition("-")
    created_seq, until_seq = int(created or 0), int(until or book.seq)
    left = [
        task
        for task in book.dead.tasks()
        if task.created_seq > created_seq and task.last_seq <= until_seq
    ]
    # Most died in the same order, so this takes hardly longer than to look at them.
    left.sort(key=attrgetter("created_seq"))
    return _page(iter(left), wanted, size, lambda task: f"{task.created_seq}-{until_seq}")


def unschedulable(task: Task) -> str:
    """Return why no connected agent can run a queued task; empty when one can."""
    lane = task.lane
    if task.state is not State.QUEUED or lane is None:
        return ""
    if any(pool.members for pool in lane.requirement.pools):
        return ""
    return f"No connected agent has all of: {', '.join(task.needs)}."


def lack(book: Book, needs: Iterable[str]) -> str:
    """Return in a sentence what no connected agent has, and which versions there are of it."""
    told = [f"{each}{_versions(book, each)}" for each in needs]
    return f"No connected agent has all of: {', '.join(told)}."


def _versions(book: Book, wanted: str) -> str:
    if versions.mark not in wanted or book.queue.schedulable(frozenset((wanted,))):
        return ""
    found = book.queue.versions(wanted)
    return f" (there is {', '.join(found[:3])})" if found else ""


def waiting_for(book: Book, task: Task) -> str:
    """Return in a sentence what a task waits for; empty when it has ended."""
    if task.shown_state == SHOWN_BLOCKED:
        if task.depends_on:
            return f"It waits for {task.open_dependencies} of the tasks it depends on."
        made_by = f"schedule {task.origin.schedule_id}"
        return f"It waits until the tasks that {made_by} made before it have ended."
    lane = task.lane
    if task.state is State.PAUSED:
        return f"It is paused. {task.pause_reason}".rstrip()
    if task.state is not State.QUEUED or lane is None:
        return _WAITING.get(task.shown_state, "")
    pause = book.queue.pauses.find(task.tenant, task.task_type)
    if pause is not None:
        named = [f"type {pause.scope.task_type}", f"tenant {pause.scope.tenant}"]
        what = " of ".join(name for name in named if not name.endswith(" "))
        return f"It is held by a pause of {what}. {pause.reason}".rstrip()
    key = lane.full()
    if isinstance(key, ConcurrencyKey):
        return f"It waits for one of the {key.running} tasks that run under the key {key.name}."
    if isinstance(key, RateKey):
        return _waiting_for_rate(book, key)
    if unschedulable(task):
        return lack(book, task.needs)
    return "It waits for a free agent."


_WAITING: dict[int, str] = {
    State.CREATED: "It waits for its not_before time.",
    State.ASSIGNED: "It was granted to a router, which picks an agent.",
    State.RUNNING: "An agent works on it.",
    State.INPUT_REQUIRED: "It waits for an answer to its question.",
    State.RETRY_WAIT: "Its last attempt failed; it waits for the next.",
}


def _waiting_for_rate(book: Book, key: RateKey) -> str:
    next_s = key.next_s()
    wait_s = max(0.0, next_s - book.queue.keys.rates.now_s) if next_s is not None else 0.0
    return (
        f"It waits for the rate of the key {key.name}, under which {key.started()} tasks have "
        f"started in {key.period_s:g} s: the next may in {wait_s:.3g} s."
    )


def counts(book: Book) -> list[tuple[int, int]]:
    """Return (state as shown, number of tasks) for states that have any."""
    shown = {int(state): book.counts[state] for state in State if book.counts[state]}
    if State.CREATED in shown:
        blocked = shown[SHOWN_BLOCKED] = book.waits.blocked
        shown[State.CREATED] -= blocked + book.resumed
        shown[State.RETRY_WAIT] = shown.get(State.RETRY_WAIT, 0) + book.resumed
    return sorted((state, count) for state, count in shown.items() if count)


def priorities(book: Book, now_s: float) -> list[PriorityDepth]:
    """Return what waits, by priority, most urgent first."""
    found = book.queue.ages(now_s)
    return [PriorityDepth(priority, *found[priority]) for priority in sorted(found, reverse=True)]


def requirements(book: Book, limit: int) -> list[RequirementDepth]:
    """Return what waits, by required capabilities, most first."""
    granted = Counter(task.needs for task in book.leases.values() if task.state is State.ASSIGNED)
    depths = [
        RequirementDepth(
            need.key, need.waiting, any(pool.members for pool in need.pools), granted[need.key]
        )
        for need in book.queue.requirements()
        if need.waiting or granted[need.key]
    ]
    depths.sort(key=lambda need: (-need.depth, need.capabilities))
    return depths[:limit]


def tenants(book: Book, limit: int, only: str | None = None) -> list[Tenant]:
    """Return the tenants, those with most open tasks first; or `only` one."""
    shares = book.queue.shares
    if only is not None:
        found = shares.find(only)
        return [found] if found is not None else []
    return nsmallest(limit, shares, key=lambda tenant: (-tenant.open_tasks, tenant.name))


def concurrency_keys(book: Book, limit: int, only: str | None = None) -> list[ConcurrencyKey]:
    """Return the concurrency keys of open tasks, those with most waiting first.

    Args:
        book: Where they are.
        limit: How many, at most.
        only: Only what concerns this tenant: its own keys, and those that all share.
    """
    keys = book.queue.keys.concurrency.values()
    seen = (key for key in keys if only is None or key.tenant in ("", only))
    return nsmallest(limit, seen, key=lambda key: (-key.waiting, key.tenant, key.name))


def rate_keys(book: Book, limit: int, only: str | None = None) -> list[RateKey]:
    """Return the rate keys of open tasks, as `concurrency_keys`."""
    keys = (key for key in book.queue.keys.rates if key.limits)
    seen = (key for key in keys if only is None or key.tenant in ("", only))
    return nsmallest(
        limit, seen, key=lambda key: (-key.waiting, key.tenant, key.name, key.period_ms)
    )
