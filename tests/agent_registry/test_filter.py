from __future__ import annotations

from typing import Any

import pytest

from services.agent_registry.core.agent import Facts, Skill, Status
from services.agent_registry.core.filter import Filter
from tests.agent_registry.hall import Hall


@pytest.mark.parametrize(
    ("wanted", "selected"),
    [
        ({}, True),
        ({"capabilities": ("read", "write")}, True),
        ({"capabilities": ("read", "fly")}, False),
        ({"statuses": frozenset({int(Status.IDLE)})}, True),
        ({"statuses": frozenset({int(Status.BUSY)})}, False),
        ({"labels": (("zone", "x"),)}, True),
        ({"labels": (("zone", "y"),)}, False),
        ({"idle_only": True, "labels": (("zone", "x"),), "capabilities": ("read",)}, True),
    ],
)
def test_all_given_parts_must_match(wanted: dict[str, Any], selected: bool) -> None:
    agent = Hall().agent("a", "read", "write", labels=(("zone", "x"),))

    assert Filter(**wanted).matches(agent) is selected


def test_who_is_full_takes_no_work_now() -> None:
    hall = Hall()
    agent = hall.agent("a")
    hall.alive("a", load=1)

    assert not Filter(idle_only=True).matches(agent)


@pytest.mark.parametrize(
    ("wanted", "selected"),
    [
        (("read@2",), True),
        (("read@2", "write"), True),
        (("read@2.2",), False),
        (("write@1",), False),
    ],
)
def test_a_version_asked_for_is_the_least(wanted: tuple[str, ...], selected: bool) -> None:
    skills = (Skill("read", 1.0, "v2.1"), Skill("write", 1.0, "latest"))
    hall = Hall()
    hall.registry.opened(Facts("a", "i1", skills=skills), "r1", 0, hall.time)

    assert (hall.registry.find(Filter(capabilities=wanted)) == {"a"}) is selected
