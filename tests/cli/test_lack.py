from __future__ import annotations

from typing import Any

import pytest

from podium.cli.lack import AGENTS_LEN_MAX, reasons
from podium.v1 import agent_pb2

Agent = agent_pb2.Agent


def agent(agent_id: str, *names: str, status: Any = Agent.STATUS_IDLE, **given: Any) -> Agent:
    made = Agent(agent_id=agent_id, status=status, **given)
    for name in names:
        made.capabilities.add(name=name)
    return made


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"status": Agent.STATUS_OFFLINE}, "offline"),
        ({"status": Agent.STATUS_SUSPECT}, "not heard of for a while"),
        ({"status": Agent.STATUS_DRAINING, "status_reason": "[b]update"}, r"draining (\[b]update)"),
        ({"status": Agent.STATUS_QUARANTINED}, "quarantined"),
        (
            {"breaker": Agent.BREAKER_OPEN},
            "kept from work after failures, until its breaker closes",
        ),
    ],
)
def test_whoever_could_do_it_is_named_with_what_keeps_it(given: dict[str, Any], told: str) -> None:
    lines = list(reasons(["fly"], [agent("a1", "fly", **given), agent("a2", "swim")]))

    assert lines == ["No agent takes such work now. Who can do it:", f"  a1: {told}"]


def test_of_very_many_the_first_are_named() -> None:
    many = [agent(f"a{n}", "fly", status=Agent.STATUS_OFFLINE) for n in range(AGENTS_LEN_MAX + 2)]

    assert list(reasons(["fly"], many))[-1] == "  and 2 more"


def test_a_capability_that_nobody_has_is_told_with_the_nearest_that_is_known() -> None:
    agents = [agent("a1", "text.summarize"), agent("a2", "image.resize")]

    assert list(reasons(["text.sumarise"], agents)) == [
        "No agent can do this:",
        "  text.sumarise: nobody has it; the nearest that is known: text.summarize",
    ]


def test_of_several_capabilities_each_is_told_by_itself() -> None:
    agents = [agent("a1", "fly"), agent("a2", "fly"), agent("a3", "swim")]

    assert list(reasons(["fly", "swim", "xyz"], agents)) == [
        "No agent can do all of this:",
        "  fly: 2 agents have it",
        "  swim: 1 agent has it",
        "  xyz: nobody has it",
    ]


def test_without_any_agent_it_says_how_to_start_one() -> None:
    *_, last = reasons(["fly"], [])

    assert last == "No agent is known yet. `podium agent run MODULE:AGENT` starts one."


def test_a_version_that_nobody_has_is_told_with_those_there_are() -> None:
    made = [agent("a1", "fly"), agent("a2", "fly"), agent("a3", "fly")]
    made[0].capabilities[0].version = "1.9"
    made[1].capabilities[0].version = "2.1"

    assert list(reasons(["fly@3"], made)) == [
        "No agent can do this:",
        "  fly@3: nobody has it; the versions there are: 1.9, 2.1, none",
    ]
    assert list(reasons(["fly@2", "fly@3"], made))[1] == "  fly@2: 1 agent has it"
