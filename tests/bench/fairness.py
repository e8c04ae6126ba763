"""Whose turn it is: agent-seconds by tenant, and the wait of the lowest class, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import FORGOTTEN, FORGOTTEN_SHARE
from services.task_scheduler.core.task import Task
from tests.bench.rows import Row
from tests.task_scheduler.fleet import Fleet, jain, overtaken
from tests.task_scheduler.rig import Rig, created

MEAN_S = {"short": 0.5, "middle": 5.0, "long": 30.0}
OTHER_S = 30.0
SLOTS = 16
MANY_SLOTS = 64
"""Of agents that pass far in a short time."""
OWN = "own"
"""What only the agents of another tenant can do."""
VIRTUAL_S = 3_600.0


def measure(scale: float) -> Sequence[Row]:
    """Measure all."""
    seconds = VIRTUAL_S * scale
    return [*shares(seconds), *beside(seconds / 8), *lowest(seconds)]


def shares(seconds: float) -> Sequence[Row]:
    """Let tenants with tasks of unequal length compete, equal ones and weighted ones."""
    equal = compete(Limits(), seconds)
    weights = {"short": 1.0, "middle": 2.0, "long": 3.0}
    weighted = compete(Limits(tenant_weights=weights), seconds)
    lengths = ", ".join(f"{name} {mean:g} s" for name, mean in MEAN_S.items())
    return [
        Row(
            "Jain's index of agent-seconds, equal weights",
            jain(list(equal.values())),
            least=0.98,
            note=f"tasks last on average: {lengths}",
        ),
        Row(
            "Jain's index of agent-seconds over weight",
            jain([used / weights[name] for name, used in weighted.items()]),
            least=0.98,
            note="weights 1, 2, 3",
        ),
    ]


class Other(NamedTuple):
    """A tenant beside them that always waits too."""

    label: str
    wants: Sequence[str] = ("work",)
    """Types of its tasks, some of each."""
    own: int = 0
    """Agents that it alone can use."""
    paused: bool = False
    key: str = ""
    """Of its tasks, one runs at a time under this key."""


OTHERS = (
    Other("whose task no agent can do", ("nobody-can",)),
    Other("that is paused", paused=True),
    Other("whose concurrency key is full", key="one"),
    Other("with 1 agent of its own", (OWN,), own=1),
    Other("with 200 agents of its own", (OWN,), own=200),
    Other("with 200 of its own that wants theirs too", (OWN, "work"), own=200),
)


def beside(seconds: float) -> Sequence[Row]:
    """Let the same tenants compete beside one that is hardly served, or served elsewhere."""
    rows = []
    for other in OTHERS:
        used_s = compete(Limits(), seconds, other, slots=MANY_SLOTS, alike=True)
        label = f"Jain's index of the three beside one {other.label}"
        rows.append(Row(label, jain(list(used_s.values())), least=0.98))
    return rows


def compete(
    limits: Limits,
    seconds: float,
    other: Other | None = None,
    *,
    slots: int = SLOTS,
    mean_s: Mapping[str, float] = MEAN_S,
    alike: bool = False,
) -> dict[str, float]:
    """Return the agent-seconds of each tenant while all of them wait all the time.

    Args:
        limits: The limits of the scheduler, with the weights of tenants.
        seconds: How long.
        other: Waits beside them.
        slots: Agents that they share.
        mean_s: How long tasks take, by tenant.
        alike: Each takes just as long, so that no chance hides what is not shared.
    """
    rig, draw = Rig(limits), random.Random(3)
    refills = [keep(rig, name, Terms(), slots) for name in mean_s]
    if other is not None:
        if other.paused:
            rig.core.control.pause_queue("other", "", "", rig.now)
        terms = Terms(concurrency_keys=(other.key,) if other.key else ())
        least = max(20, 2 * other.own)
        refills += [keep(rig, "other", terms, least, wanted) for wanted in other.wants]
    for each in refills:
        each()

    def length_s(task: Task) -> float:
        length_s = mean_s.get(task.tenant, OTHER_S)
        return length_s if alike else draw.expovariate(1 / length_s)

    own = {OWN: other.own} if other is not None and other.own else {}
    fleet = Fleet(rig, slots, length_s, apart=own)

    def refill() -> None:
        forget(rig)
        for each in refills:
            each()

    fleet.run(seconds, refill)
    return {name: fleet.used_s[name] for name in mean_s}


def keep(
    rig: Rig, tenant: str, terms: Terms, least: int = 20, task_type: str = "work"
) -> Callable[[], None]:
    """Return what keeps a tenant's backlog of a type from running out."""

    def refill() -> None:
        if waiting(rig, tenant, task_type) < least:
            draft = created(task_type, tenant=tenant, terms=terms)
            rig.submit(*[draft for _ in range(2 * least)])

    return refill


def lowest(seconds: float) -> Sequence[Row]:
    """Let two unequal tenants share the lowest class, under a load of the highest without end.

    One of them always has work waiting there. The other has a long task now and then, so that it
    has always used more and its turn would not come.
    """
    rig = Rig(Limits(ageing_s=60.0))
    refills = [
        keep(rig, "urgent", Terms(priority=9), SLOTS),
        keep(rig, "patient", Terms(priority=0), SLOTS),
    ]
    ahead: dict[str, int] = {}
    due_s = rig.now.mono_s

    def refill() -> None:
        nonlocal due_s
        forget(rig)
        for each in refills:
            each()
        while rig.now.mono_s >= due_s:
            due_s += 50.0
            task = rig.submit_one(tenant="long", terms=Terms(priority=0))
            ahead[task.task_id] = waiting(rig, "patient") + waiting(rig, "long")

    refill()
    fleet = Fleet(rig, SLOTS, lambda task: 100.0 if task.tenant == "long" else 1.0)
    fleet.run(seconds, refill)
    passed = overtaken(fleet, FORGOTTEN * rig.limits.ageing_s)
    waits = [(task.task_id, wait_s) for task, wait_s in fleet.waits_s if task.tenant == "long"]
    used = [passed[task_id] / (FORGOTTEN_SHARE * ahead[task_id]) for task_id, _ in waits]
    return [
        Row(
            "worst wait of priority 0 under endless priority 9",
            max(wait_s for _, wait_s in waits),
            "s",
            note=f"ageing {rig.limits.ageing_s:g} s; tasks of 100 s, of a tenant that has used "
            f"more than another there; {len(waits):,} tasks",
        ),
        Row(
            "more urgent grants before one of these, over the stated bound",
            max(used),
            most=1.0,
            note=f"after {FORGOTTEN} x ageing, {FORGOTTEN_SHARE} for it and each before it",
        ),
    ]


def forget(rig: Rig) -> None:
    """Drop what the rig keeps for tests: looking through all of it would take most of the time."""
    rig.events.clear()
    rig.orders.clear()


def waiting(rig: Rig, tenant: str, task_type: str = "work") -> int:
    """Return how many tasks of a tenant and a type wait."""
    alike = (tenant, task_type)
    lanes = rig.book.queue.lanes()
    return sum(e.waiting for e in lanes if (e.key.tenant, e.key.task_type) == alike)
