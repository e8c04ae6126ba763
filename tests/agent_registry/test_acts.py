"""What operators decide holds, whichever registry was asked and whichever was away."""

from __future__ import annotations

from services.agent_registry.core.acts import Act, by_matter, next_ms
from services.agent_registry.core.agent import Status
from services.agent_registry.core.kept import Kept, Note, kept_of
from tests.agent_registry.test_exchange import Replica

AGENTS = ("back", "bad", "leaving", "renamed")


def kept_by(replica: Replica) -> list[Kept]:
    return [kept_of(agent, replica.time) for agent in replica.registry.agents.values()]


def decided(replica: Replica) -> None:
    """An operator decides of each agent something else."""
    replica.registry.release("back", replica.time)
    replica.registry.quarantine("bad", "odd answers", replica.time)
    replica.registry.drain(["leaving"], "an update", replica.time)
    replica.registry.update("renamed", {"name": "Ann"}, replica.time)


def holds(replica: Replica) -> bool:
    there = replica.registry.agents
    stand = [replica.status(agent_id) for agent_id in AGENTS]
    wanted = [Status.IDLE, Status.QUARANTINED, Status.DRAINING, Status.IDLE]
    reasons = [there["bad"].reason, there["leaving"].reason]
    named = there["renamed"].facts.name
    return (stand, reasons, named) == (wanted, ["odd answers", "an update"], "Ann")


def before() -> tuple[Replica, list[Kept], Replica]:
    """Returns a registry with agents, what is kept of them, and another one that knows them."""
    one, other = Replica("one"), Replica("other")
    for agent_id in AGENTS:
        one.agent(agent_id)
    one.registry.quarantine("back", "", one.time)
    one.tell(other)
    other.sleep(1.0)
    return one, kept_by(one), other


def test_what_was_decided_while_the_home_of_an_agent_was_away_is_not_undone_by_its_return() -> None:
    _, kept, other = before()
    decided(other)
    assert all(other.exchange.has_say(agent) for agent in other.registry.agents.values())

    # It begins from what is kept, without having heard a note, and its sessions outbid all.
    again = Replica("one")
    for each in kept:
        again.exchange.adopt(each, 0.0, other.time)
    for agent_id in AGENTS:
        again.agent(agent_id)
    other.registry.take_notes()
    again.tell(other)
    assert holds(other)
    other.tell(again)

    assert holds(again)
    again.tell()
    assert {d.agent_id for _, d in again.directives} >= {"back", "bad", "leaving"}
    assert again.exchange.is_mine(again.registry.agents["bad"])


def test_a_decision_is_taken_over_with_what_is_kept_although_a_session_is_newer() -> None:
    _, _, other = before()
    decided(other)
    again = Replica("one")
    for agent_id in AGENTS:
        again.agent(agent_id)

    for each in kept_by(other):
        again.exchange.adopt(each, 0.0, again.time)

    assert holds(again)


def test_once_a_decision_is_kept_its_agent_is_left_to_the_replica_that_speaks_for_it() -> None:
    one, _, other = before()
    decided(other)
    other.tell(one)

    one.tell(other)

    assert holds(one)
    assert not any(other.exchange.has_say(agent) for agent in other.registry.agents.values())


def test_who_learns_of_a_decision_leaves_keeping_it_to_whoever_was_asked() -> None:
    one, _, other = before()
    third = Replica("third")
    one.tell(third)
    decided(other)

    for note in other.registry.take_notes():
        third.exchange.learn(note, third.time)

    assert holds(third)
    assert not any(third.exchange.has_say(agent) for agent in third.registry.agents.values())


def test_what_is_kept_by_another_that_was_asked_is_said_again_by_who_knows_the_agent() -> None:
    one, kept, _ = before()
    one.registry.take_changes()

    one.exchange.adopt(kept[0], 0.0, one.time)

    assert one.registry.take_changes() == [kept[0].facts.agent_id]


def test_of_two_decisions_the_newer_one_holds_at_both_in_whatever_order_they_come() -> None:
    one, _, other = before()
    one.registry.quarantine("bad", "before", one.time)
    other.registry.quarantine("bad", "odd answers", other.time)
    other.registry.release("bad", other.time)
    late, early = other.registry.take_notes(), one.registry.take_notes()
    for note in reversed(late):
        one.exchange.learn(note, one.time)
    for note in early:
        other.exchange.learn(note, other.time)

    assert one.status("bad") is other.status("bad") is Status.IDLE


def test_a_decision_outdoes_those_known_where_it_was_made_however_clocks_differ() -> None:
    known = by_matter([Act("quarantine", 9_000, "fast")])

    assert next_ms(known, 5_000) == 9_001
    assert next_ms(known, 9_500) == 9_500
    assert next_ms({}, 5_000) == 5_000
    assert Act("release", 9_001).matter == "quarantine"
    # Two at once: the same one at all replicas.
    assert Act("release", 9_000, "b").outdoes(Act("quarantine", 9_000, "a"))
    assert not Act("quarantine", 9_000, "a").outdoes(Act("release", 9_000, "b"))


def test_a_decision_of_a_version_that_tells_no_time_is_made_when_it_is_heard() -> None:
    one, _, _ = before()

    one.exchange.learn(Note("release", "back"), one.time)
    one.exchange.learn(Note("quarantine", "bad", reason="odd answers"), one.time)

    assert one.status("back") is Status.IDLE
    assert one.status("bad") is Status.QUARANTINED


def test_a_release_outlives_the_breaker_that_an_older_record_has() -> None:
    one = Replica("one")
    one.agent("back")
    for _ in range(6):
        one.outcome("back", "FAILED")
    other, kept = Replica("other"), kept_by(one)
    one.tell(other)
    other.registry.release("back", other.time)

    other.exchange.adopt(kept[0]._replace(term=kept[0].term + 1), 0.0, other.time)

    assert other.registry.agents["back"].breaker.state.name == "CLOSED"
    assert not other.registry.health.open
