"""Whose turn it is: agent-seconds by tenant, and the wait of the lowest class, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import FORGOTTEN, FORGOTTEN_SHARE
from tests.bench.rows import Row
from tests.task_scheduler.fleet import Fleet, jain, overtaken
from tests.task_scheduler.rig import Rig, created

MEAN_S = {"short": 0.5, "middle": 5.0, "long": 30.0}
SLOTS = 16
VIRTUAL_S = 3_600.0


def measure(scale: float) -> Sequence[Row]:
    """Measure both."""
    return [*shares(VIRTUAL_S * scale), *lowest(VIRTUAL_S * scale)]


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


def compete(limits: Limits, seconds: float) -> dict[str, float]:
    """Return the agent-seconds of each tenant while all of them wait all the time."""
    rig, draw = Rig(limits), random.Random(3)
    fleet = Fleet(rig, SLOTS, lambda task: draw.expovariate(1 / MEAN_S[task.tenant]))
    for name in MEAN_S:
        keep(rig, name, Terms())()
    rig.credit(total=SLOTS)
    fleet.take()
    refills = [keep(rig, name, Terms()) for name in MEAN_S]

    def refill() -> None:
        forget(rig)
        for each in refills:
            each()

    fleet.run(seconds, refill)
    return dict(fleet.used_s)


def keep(rig: Rig, tenant: str, terms: Terms, least: int = 20) -> Callable[[], None]:
    """Return what keeps a tenant's backlog from running out."""

    def refill() -> None:
        known = rig.book.queue.shares.find(tenant)
        if known is None or known.waiting < least:
            rig.submit(*[created(tenant=tenant, terms=terms) for _ in range(2 * least)])

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


def waiting(rig: Rig, tenant: str) -> int:
    """Return how many tasks of a tenant wait."""
    known = rig.book.queue.shares.find(tenant)
    return known.waiting if known is not None else 0
