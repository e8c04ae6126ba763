from __future__ import annotations

import pytest

from services.agent_registry.core.agent import Status
from services.agent_registry.core.filter import Filter
from services.kernel.errors import FailedPrecondition, NotFound, ResourceExhausted
from tests.agent_registry.hall import Hall, facts


def test_an_agent_is_idle_busy_suspect_and_offline_in_turn() -> None:
    hall = Hall(grace_s=60, suspect_s=30)
    agent = hall.agent("a1")
    assert agent.status is Status.IDLE

    hall.alive("a1", load=1)
    assert agent.status is Status.BUSY
    hall.sleep(30)
    assert agent.status is Status.SUSPECT
    hall.alive("a1", load=0)
    assert agent.status is Status.IDLE
    hall.sleep(59)
    assert agent.status is Status.SUSPECT
    hall.sleep(1)
    assert agent.status is Status.OFFLINE


def test_a_lost_stream_gives_the_agent_its_whole_grace() -> None:
    hall = Hall(grace_s=60)
    agent = hall.agent("a1")

    hall.registry.closed("a1", "r1", hall.time, orderly=False)
    assert agent.status is Status.SUSPECT
    hall.sleep(59)
    hall.agent("a1")
    assert agent.status is Status.IDLE


def test_an_agent_that_says_goodbye_is_offline_at_once() -> None:
    hall = Hall()
    agent = hall.agent("a1")

    hall.registry.closed("a1", "r1", hall.time, orderly=True)

    assert agent.status is Status.OFFLINE


def test_a_router_that_lost_an_agent_to_another_cannot_close_it() -> None:
    hall = Hall()
    agent = hall.agent("a1", router="r1")
    hall.agent("a1", router="r2")

    hall.registry.closed("a1", "r1", hall.time, orderly=False)
    hall.registry.alive("a1", "r1", 5, hall.time, draining=False)

    assert agent.router_id == "r2" and agent.in_flight == 0


def test_a_snapshot_drops_the_sessions_a_router_does_not_have_any_more() -> None:
    hall = Hall()
    gone, stayed = hall.agent("gone"), hall.agent("stayed")
    elsewhere = hall.agent("elsewhere", router="r2")

    hall.registry.snapshot("r1", ["stayed"], hall.time)

    assert gone.status is Status.SUSPECT
    assert stayed.status is elsewhere.status is Status.IDLE


def test_a_registry_that_starts_again_knows_its_agents_from_the_sessions() -> None:
    before, after = Hall(), Hall()
    for hall in (before, after):
        for number in range(5):
            hall.agent(f"a{number}", "read", f"c{number}")

    assert after.registry.index.capabilities() == before.registry.index.capabilities()


def test_a_drain_is_of_a_session_and_never_undone_in_it() -> None:
    hall = Hall()
    agent = hall.agent("a1")

    assert hall.registry.drain(["a1"], "update", hall.time) == ["a1"]
    hall.tell()
    assert hall.directives[-1][1].draining
    hall.alive("a1")
    hall.agent("a1")
    assert agent.status is Status.DRAINING and agent.reason == "update"
    hall.agent("a1", instance="i2")
    assert agent.status is Status.IDLE and agent.reason == ""


def test_a_quarantine_holds_until_it_is_released() -> None:
    hall = Hall()
    agent = hall.agent("a1")

    hall.registry.quarantine("a1", "odd answers", hall.time)
    hall.agent("a1", instance="i2")
    hall.tell()
    assert agent.status is Status.QUARANTINED and agent.reason == "odd answers"
    assert hall.directives[-1][1].quarantined
    hall.registry.release("a1", hall.time)
    hall.tell()

    assert agent.status is Status.IDLE
    assert not hall.directives[-1][1].quarantined
    with pytest.raises(FailedPrecondition, match="neither"):
        hall.registry.release("a1", hall.time)


def test_filters_select_by_all_their_parts() -> None:
    hall = Hall()
    hall.agent("reader", "read", labels=(("zone", "a"),))
    hall.agent("writer", "read", "write", labels=(("zone", "b"),))
    hall.agent("full", "read", labels=(("zone", "a"),))
    hall.alive("full", load=1)
    find = hall.registry.find

    assert find(Filter()) == {"reader", "writer", "full"}
    assert find(Filter(capabilities=("read", "write"))) == {"writer"}
    assert find(Filter(labels=(("zone", "a"),))) == {"reader", "full"}
    assert find(Filter(statuses=frozenset([Status.BUSY]))) == {"full"}
    assert find(Filter(capabilities=("read",), idle_only=True)) == {"reader", "writer"}
    assert find(Filter(capabilities=("fly",))) == set()


def test_what_an_operator_changes_holds_whatever_the_agent_says_later() -> None:
    hall = Hall()
    hall.agent("a1", labels=(("zone", "a"),), name="One", build_id="1")
    hall.registry.update("a1", {"labels": (("zone", "b"),), "cost_per_task": 2.0}, hall.time)

    again = hall.agent("a1", instance="i2", labels=(("zone", "a"),), name="Uno", build_id="2")

    assert again.facts.labels == (("zone", "b"),)
    assert again.facts.cost_per_task == 2.0
    assert (again.facts.name, again.facts.build_id) == ("Uno", "2"), (
        "what nobody changed is its own"
    )


def test_pages_go_on_by_id() -> None:
    hall = Hall()
    for number in range(7):
        hall.agent(f"a{number}")

    first, total, more = hall.registry.page(Filter(), "", 3)
    assert [agent.agent_id for agent in first] == ["a0", "a1", "a2"] and (total, more) == (7, True)
    last, _, more = hall.registry.page(Filter(), "a4", 3)
    assert [agent.agent_id for agent in last] == ["a5", "a6"] and not more


def test_only_an_agent_that_is_away_can_be_deregistered() -> None:
    hall = Hall()
    hall.agent("a1")
    with pytest.raises(FailedPrecondition) as refused:
        hall.registry.deregister("a1")
    assert refused.value.reason == "AGENT_CONNECTED"

    hall.registry.closed("a1", "r1", hall.time, orderly=True)
    hall.registry.deregister("a1")

    with pytest.raises(NotFound):
        hall.registry.get("a1")
    assert hall.registry.index.having(["echo"]) == set()


def test_those_offline_the_longest_make_room() -> None:
    hall = Hall(agents_max=3)
    for agent_id in ("old", "older", "here"):
        hall.agent(agent_id)
    hall.registry.closed("older", "r1", hall.time, orderly=True)
    hall.sleep(1)
    hall.alive("old", "here")
    hall.registry.closed("old", "r1", hall.time, orderly=True)

    hall.agent("new")
    assert set(hall.registry.agents) == {"old", "here", "new"}
    hall.agent("newer")
    with pytest.raises(ResourceExhausted) as refused:
        hall.registry.register(facts("one-too-many"), hall.time)
    assert refused.value.reason == "TOO_MANY_AGENTS"


def test_a_quarantined_agent_makes_no_room_however_long_it_is_gone() -> None:
    hall = Hall(agents_max=2)
    for agent_id in ("kept", "gone"):
        hall.agent(agent_id)
        hall.registry.closed(agent_id, "r1", hall.time, orderly=True)
        hall.sleep(1)
    hall.registry.quarantine("kept", "it lies", hall.time)

    hall.agent("new")

    assert set(hall.registry.agents) == {"kept", "new"}
    with pytest.raises(ResourceExhausted):
        hall.registry.register(facts("one-too-many"), hall.time)
    assert hall.registry.get("kept").quarantined


def test_agents_that_are_long_gone_are_forgotten_but_for_the_quarantined() -> None:
    hall = Hall(grace_s=10, suspect_s=5, forget_s=100)
    for agent_id in ("gone", "kept"):
        hall.agent(agent_id)
    hall.registry.quarantine("kept", "", hall.time)
    hall.sleep(80)
    hall.registry.sweep(hall.time)
    assert len(hall.registry.agents) == 2

    hall.sleep(40)
    hall.registry.sweep(hall.time)

    assert set(hall.registry.agents) == {"kept"}


def test_changes_are_told_once_whatever_happened_how_often() -> None:
    hall = Hall()
    hall.agent("a1")
    hall.alive("a1", load=1)
    hall.alive("a1", load=2)
    hall.agent("a2")

    assert hall.registry.take_changes() == ["a1", "a2"]
    assert hall.registry.take_changes() == []
    hall.alive("a1", load=2)
    assert hall.registry.take_changes() == [], "nothing changed but the time"


def told(hall: Hall) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Returns what each router was told last: the instance that is right, and whom it follows."""
    hall.tell()
    heard = {router: (each.instance_id, each.superseded) for router, each in hall.directives}
    hall.directives.clear()
    return heard


def test_dup_agent_id_of_instances_on_two_routers_the_newer_stays_and_both_routers_know() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    assert told(hall) == {}

    agent = hall.agent("a", instance="two", router="r2")

    assert told(hall) == {"r1": ("two", ("one",)), "r2": ("two", ("one",))}
    assert (agent.router_id, agent.facts.instance_id) == ("r2", "two")


def test_an_instance_that_was_followed_never_takes_turns_however_often_it_comes_back() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    agent = hall.agent("a", instance="two", router="r2")
    told(hall)

    for router in ("r1", "r3"):
        hall.sleep(1.0)
        hall.agent("a", instance="one", router=router)

        assert told(hall)[router] == ("two", ("one",))
        assert (agent.router_id, agent.facts.instance_id) == ("r2", "two")

    # Neither while the newer one has only lost its stream.
    hall.registry.closed("a", "r2", hall.time, orderly=False)
    hall.agent("a", instance="one", router="r1")
    assert told(hall) == {"r1": ("two", ("one",))}
    assert agent.facts.instance_id == "two"


def test_an_instance_that_was_followed_may_come_back_once_the_newer_one_has_left() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    agent = hall.agent("a", instance="two", router="r2")
    hall.registry.closed("a", "r2", hall.time, orderly=True)
    told(hall)

    hall.agent("a", instance="one", router="r1")

    assert (agent.router_id, agent.superseded) == ("r1", ("two",))
    assert agent.status is Status.IDLE


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_registry_that_starts_again_settles_who_stays_in_whichever_order_it_hears(
    first: str,
) -> None:
    hall = Hall()
    sessions = {"one": ("r1", 60.0), "two": ("r2", 5.0)}
    for instance in (first, *(sessions.keys() - {first})):
        router, age_s = sessions[instance]
        hall.registry.snapshot(router, ["a"], hall.time)
        hall.registry.opened(facts("a", instance=instance), router, 0, hall.time, age_s)
    agent = hall.registry.agents["a"]

    assert (agent.router_id, agent.facts.instance_id) == ("r2", "two")
    assert told(hall) == {"r1": ("two", ("one",)), "r2": ("two", ("one",))}


def test_the_router_that_loses_is_told_even_if_it_speaks_last() -> None:
    hall = Hall()
    hall.registry.opened(facts("a", instance="two"), "r2", 0, hall.time, 5.0)
    hall.registry.opened(facts("a", instance="one"), "r1", 0, hall.time, 60.0)

    assert told(hall) == {"r1": ("two", ("one",)), "r2": ("two", ("one",))}


def test_a_router_decides_itself_between_instances_that_it_has() -> None:
    hall = Hall()
    hall.agent("a", instance="two", router="r1")

    agent = hall.agent("a", instance="one", router="r1")

    assert agent.facts.instance_id == "one"


def test_an_instance_that_moves_to_another_router_supersedes_nobody_and_keeps_its_age() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    began_ms = hall.registry.agents["a"].since_ms
    hall.sleep(10.0)

    agent = hall.agent("a", instance="one", router="r2")

    assert told(hall) == {}
    assert (agent.router_id, agent.since_ms) == ("r2", began_ms)


def test_the_next_router_of_an_instance_learns_whom_it_has_followed() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    hall.agent("a", instance="two", router="r2")
    told(hall)

    hall.agent("a", instance="two", router="r3")

    assert told(hall) == {"r3": ("two", ("one",))}


def test_registering_a_connected_agent_says_nothing_of_its_instance() -> None:
    hall = Hall()
    hall.agent("a", instance="one", router="r1")
    hall.registry.register(facts("a", instance="two"), hall.time)

    hall.agent("a", instance="two", router="r2")

    assert told(hall)["r1"] == ("two", ("one",))
