"""Two registries that tell each other of their agents, by hand."""

from __future__ import annotations

import pytest

from services.agent_registry.core.agent import Status
from services.agent_registry.core.exchange import REPLICA_MARK, Exchange
from services.agent_registry.core.kept import kept_of
from services.agent_registry.core.registry import Registry
from tests.agent_registry.hall import Hall, facts


class Replica(Hall):
    def __init__(self, name: str, **limits: object) -> None:
        super().__init__(**limits)
        self.registry = Registry(self.registry.limits, name)
        self.exchange = Exchange(self.registry)

    def tell(self, *others: Replica, ago_s: float | None = 0.0) -> None:
        """Tells others of every agent that it has a say in, and its notes."""
        super().tell()
        for other in others:
            for agent in tuple(self.registry.agents.values()):
                if self.exchange.has_say(agent):
                    other.exchange.adopt(kept_of(agent, self.time), ago_s, other.time)
        for note in self.registry.take_notes() if others else ():
            for other in others:
                other.exchange.learn(note, other.time)

    def status(self, agent_id: str = "a") -> Status:
        return self.registry.agents[agent_id].status


@pytest.fixture
def one() -> Replica:
    return Replica("one")


@pytest.fixture
def other() -> Replica:
    return Replica("other")


def test_the_newer_session_is_right_whatever_comes_later(one: Replica, other: Replica) -> None:
    one.agent("a", router="r1")
    one.tell(other)
    other.agent("a", router="r2")

    one.tell(other)
    other.tell(one)

    assert one.registry.agents["a"].router_id == other.registry.agents["a"].router_id == "r2"
    assert not one.exchange.is_mine(one.registry.agents["a"])


def test_a_router_that_moved_closes_nothing_where_it_was(one: Replica, other: Replica) -> None:
    one.agent("a")
    one.tell(other)
    other.agent("a")
    other.tell(one)

    one.registry.router_gone("r1", one.time)

    assert one.status() is Status.IDLE


def test_a_router_that_closes_a_session_is_believed_where_it_is_now(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.tell(other)

    other.registry.snapshot("r1", (), other.time)
    other.tell(one)

    assert one.status() is other.status() is Status.SUSPECT


def test_an_agent_that_nobody_has_heard_of_is_offline_however_it_was_kept(
    one: Replica, other: Replica
) -> None:
    one.agent("a")

    one.tell(other, ago_s=None)

    assert other.status() is Status.OFFLINE


def test_agents_of_others_live_as_long_as_they_are_heard_of_there(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.tell(other)
    for _ in range(8):
        other.sleep(10.0)
        assert other.exchange.heard({"a": 1.0}, other.time) == []
    assert other.status() is Status.IDLE

    other.sleep(60.0)
    assert other.status() is Status.OFFLINE
    # Whoever is heard of after that is to be read again, as is whoever was never known.
    assert other.exchange.heard({"a": 1.0, "new": 2.0, "old": 99.0}, other.time) == ["a", "new"]


def test_silence_is_not_held_against_those_who_cannot_be_heard(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.tell(other)
    other.agent("own", router="r2")
    for _ in range(8):
        other.sleep(10.0)
        other.exchange.excuse(other.time)

    assert other.status("a") is Status.IDLE
    assert other.status("own") is Status.OFFLINE


def test_what_an_operator_asks_of_one_is_done_by_all_and_asked_of_nobody_again(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.agent("b")
    one.tell(other)
    other.registry.quarantine("a", "odd answers", other.time)
    other.registry.drain(["b"], "", other.time)
    other.registry.update("b", {"name": "Ann"}, other.time)
    other.tell(one)

    assert one.status("a") is Status.QUARANTINED
    assert one.status("b") is Status.DRAINING
    assert one.registry.agents["b"].facts.name == "Ann"
    assert {d.agent_id for _, d in told(one)} == {"a", "b"}
    assert one.registry.take_notes() == []

    other.registry.release("a", other.time)
    other.tell(one)
    other.tell(one)
    assert one.status("a") is Status.IDLE


def told(replica: Replica) -> list[tuple[str, object]]:
    replica.tell()
    return list(replica.directives)


def test_a_drain_is_of_the_session_it_was_asked_for(one: Replica, other: Replica) -> None:
    one.agent("a")
    one.tell(other)
    other.registry.drain(["a"], "", other.time)
    one.agent("a", instance="i2")

    other.tell(one)

    assert one.status() is Status.IDLE


def test_a_quarantine_of_an_agent_that_is_away_is_kept_by_whoever_was_asked(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.registry.closed("a", "r1", one.time, orderly=True)
    one.tell(other)

    other.registry.quarantine("a", "odd answers", other.time)
    other.tell(one)

    assert other.exchange.is_mine(other.registry.agents["a"])
    assert one.registry.agents["a"].quarantined


def test_a_task_that_fails_on_agents_of_several_is_held_against_none(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    other.agent("b", router="r2")
    for number in range(6):
        one.outcome("a", "FAILED", f"t{number}")
    assert one.registry.agents["a"].breaker.state.name == "OPEN"
    one.tell(other)

    for number in range(6):
        other.outcome("b", "FAILED", f"t{number}")
    other.tell(one)

    assert other.registry.agents["b"].breaker.state.name == "CLOSED"
    assert one.registry.agents["a"].breaker.state.name == "CLOSED"


def test_agents_are_acquitted_no_more_once_the_task_works_anywhere(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    other.agent("b", router="r2")
    other.agent("c", router="r2")
    for number in range(6):
        one.outcome("a", "FAILED", f"t{number}")
        one.tell(other)
        other.outcome("b", "FAILED", f"t{number}")
        other.outcome("c", "SUCCEEDED", f"t{number}")
        other.tell(one)

    assert one.registry.agents["a"].breaker.state.name == "OPEN"
    assert other.registry.agents["b"].breaker.state.name == "OPEN"


def test_a_session_outbids_what_is_kept_and_nothing_else_does(one: Replica) -> None:
    one.agent("a")
    one.agent("gone")
    one.registry.closed("gone", "r1", one.time, orderly=True)

    assert one.exchange.outbid("a", 10**15)
    assert one.registry.agents["a"].term == 10**15 + 1
    assert not one.exchange.outbid("gone", 10**15)
    assert not one.exchange.outbid("never-known", 1)


def test_who_has_no_room_leaves_an_agent_to_the_others(one: Replica) -> None:
    full = Replica("full", agents_max=1)
    full.agent("own")
    one.agent("a")

    one.tell(full)

    assert full.registry.agents.keys() == {"own"}


def test_what_another_has_forgotten_is_forgotten_unless_it_has_a_session(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.registry.register(facts("b"), one.time)
    one.tell(other)

    for agent_id in ("a", "b", "never-known"):
        other.exchange.forget(agent_id)

    assert other.registry.agents.keys() == {"a"}


def ages(*living: str, dead: str = "") -> dict[str, float]:
    return {REPLICA_MARK + name: 0.0 for name in living} | {REPLICA_MARK + dead: 1_000.0}


def test_the_agents_of_a_registry_that_is_gone_are_spoken_for_by_one_of_those_left(
    one: Replica, other: Replica
) -> None:
    third = Replica("third")
    one.agent("a")
    one.tell(other, third)
    for each in (other, third):
        each.sleep(61.0)
        each.exchange.inherit(ages("other", "third", dead="one"))
    other.tell(third)

    assert other.status() is third.status() is Status.OFFLINE
    assert other.exchange.is_mine(other.registry.agents["a"])
    assert third.registry.agents["a"].home == "other"


def test_agents_that_are_here_or_whose_registry_lives_are_not_inherited(
    one: Replica, other: Replica
) -> None:
    two = Replica("two")
    one.agent("a")
    two.agent("b")
    one.tell(other)
    two.tell(other)
    other.registry.offline(other.registry.agents["b"])

    other.exchange.inherit(ages("other", "two", dead="one"))

    assert not other.exchange.is_mine(other.registry.agents["a"])
    assert not other.exchange.is_mine(other.registry.agents["b"])


def test_of_two_that_inherit_an_agent_at_once_one_keeps_it(one: Replica, other: Replica) -> None:
    third = Replica("third")
    one.agent("a")
    one.tell(other, third)
    for each in (other, third):
        each.registry.offline(each.registry.agents["a"])
        each.exchange.inherit(ages(each.registry.replica_id, dead="one"))
        each.registry.take_changes()
    # What the one that gives way has written last is what the other reads.
    third.tell(other, ago_s=None)
    assert other.registry.take_changes() == ["a"]
    other.tell(third, ago_s=None)

    assert other.registry.agents["a"].home == third.registry.agents["a"].home == "other"


def test_a_registry_that_was_taken_for_gone_says_that_its_agents_have_sessions(
    one: Replica, other: Replica
) -> None:
    one.agent("a")
    one.tell(other)
    other.sleep(61.0)
    other.exchange.inherit(ages("other", dead="one"))
    other.tell(one, ago_s=None)
    one.tell(other)

    assert one.status() is other.status() is Status.IDLE
    assert one.exchange.is_mine(one.registry.agents["a"])


def test_the_lease_of_a_registry_is_no_agents_and_is_forgotten_in_the_end(one: Replica) -> None:
    day_s = one.registry.limits.forget_s
    leases = {REPLICA_MARK + "one": 0.0, REPLICA_MARK + "old": day_s + 1, "a": day_s + 1}

    assert one.exchange.heard({REPLICA_MARK + "new": 0.0}, one.time) == []
    assert one.exchange.inherit(leases) == [REPLICA_MARK + "old"]


def superseding(replica: Replica) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Returns what the routers at a replica were told last of the instances of the agent."""
    replica.tell()
    return {router: (each.instance_id, each.superseded) for router, each in replica.directives}


def test_dup_agent_id_the_replica_of_the_older_instance_tells_its_router(
    one: Replica, other: Replica
) -> None:
    one.agent("a", router="r1", instance="one")
    one.tell(other)
    other.sleep(1.0)
    other.agent("a", router="r2", instance="two")

    other.tell(one)

    assert superseding(one) == {"r1": ("two", ("one",))}
    assert one.registry.agents["a"].router_id == "r2"
    assert other.registry.agents["a"].superseded == ("one",)


@pytest.mark.parametrize("first", ["one", "other"], ids=["older-first", "newer-first"])
def test_of_two_instances_that_came_at_once_the_same_one_stays_at_both_whoever_is_heard_first(
    one: Replica, other: Replica, first: str
) -> None:
    other.time = other.time._replace(wall_ms=other.time.wall_ms + 5)
    one.agent("a", router="r1", instance="one")
    other.agent("a", router="r2", instance="two")
    # The term alone would say otherwise.
    one.registry.agents["a"].term = other.registry.agents["a"].term + 7

    pair = (one, other) if first == "one" else (other, one)
    for _ in range(2):
        pair[0].tell(pair[1])
        pair[1].tell(pair[0])

    for replica in (one, other):
        agent = replica.registry.agents["a"]
        assert (agent.router_id, agent.facts.instance_id) == ("r2", "two")
    assert superseding(one)["r1"] == ("two", ("one",))
    assert all(instance == "two" for instance, _ in superseding(other).values())


def test_an_instance_that_another_replica_knows_as_superseded_cannot_come_back_here(
    one: Replica, other: Replica
) -> None:
    one.agent("a", router="r1", instance="one")
    one.tell(other)
    other.agent("a", router="r2", instance="two")
    other.tell(one)
    one.directives.clear()

    one.sleep(1.0)
    one.agent("a", router="r1", instance="one")

    assert superseding(one)["r1"] == ("two", ("one",))
    assert one.registry.agents["a"].router_id == "r2"


def test_an_instance_that_moved_between_routers_of_two_replicas_is_its_own_successor(
    one: Replica, other: Replica
) -> None:
    one.agent("a", router="r1", instance="one")
    one.tell(other)
    other.agent("a", router="r2", instance="one")

    other.tell(one)

    assert superseding(one) == {}
    assert one.registry.agents["a"].router_id == "r2"
