from __future__ import annotations

from collections import Counter

import pytest

from services.routing.core.effects import HandedBack, SendAssign
from services.routing.core.match import bypass_max
from tests.routing.floor import Floor, raw_model


def test_a_task_goes_to_the_agent_with_the_most_free_slots() -> None:
    floor = Floor()
    floor.agent("busy", slots=2)
    floor.running("t0")
    floor.agent("free", slots=2)

    floor.granted("t1")

    assert floor.assigned()[-1] == ("t1", "free")


def test_a_task_goes_only_to_agents_with_all_it_requires() -> None:
    floor = Floor()
    floor.agent("half", "read")
    floor.agent("whole", "read", "write")

    floor.granted("t1", "read", "write")

    decision = floor.last(SendAssign).lease.decision
    assert decision is not None
    assert decision.agent_id == "whole"
    assert decision.filtered == {"capability": 1}


def test_a_preferred_capability_breaks_a_tie() -> None:
    floor = Floor()
    floor.agent("plain", "read")
    floor.agent("expert", "read", "french")

    for number in range(5):
        lease = floor.granted(f"t{number}", "read", preferred=("french",))
        assert lease.agent_id == "expert"
        floor.work.nack(floor.board.sessions["expert"], lease.key, "NACK_INCAPABLE", floor.time)


def test_a_decision_records_every_part_of_every_score() -> None:
    floor = Floor()
    floor.agent("a1", slots=4)
    floor.agent("a2", slots=4)
    floor.running("t0")

    lease = floor.granted("t1", priority=7)

    decision = lease.decision
    assert decision is not None
    assert decision.policy == "formula"
    assert decision.eligible_count == 2
    assert decision.scores == [127.0, 102.0]
    assert decision.matches == [1.0, 1.0]
    assert decision.balances == [1.0, 0.75]
    assert decision.priority_bonus == 7.0
    for match, balance, score in zip(
        decision.matches, decision.balances, decision.scores, strict=True
    ):
        assert match * 20 + balance * 100 + decision.priority_bonus == score


def test_equal_agents_share_the_load() -> None:
    floor = Floor()
    for number in range(10):
        floor.agent(f"a{number}")

    counts: Counter[str] = Counter()
    for number in range(1_000):
        lease = floor.running(f"t{number}")
        counts[lease.agent_id] += 1
        assert lease.decision is not None and lease.decision.probability == pytest.approx(0.1)
        floor.finish(lease)

    jain = sum(counts.values()) ** 2 / (10 * sum(count**2 for count in counts.values()))
    assert jain >= 0.98


def test_a_more_urgent_task_comes_first_whatever_fits_better() -> None:
    floor = Floor()
    session = floor.agent("a1", "read", "french")
    first = floor.running("t0", "read", of=("french", "read"))
    floor.grant("fits-better", "read", preferred=("french",), of=("french", "read"), priority=5)
    floor.grant("urgent", "read", preferred=("german",), of=("french", "read"), priority=6)
    floor.turn()

    floor.finish(first)

    assert session.load == 1
    assert floor.assigned()[-1][0] == "urgent"


def test_tasks_of_one_priority_keep_their_order() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.running("t0")
    leases = [floor.grant(f"t{number}") for number in range(1, 6)]
    for waiting in leases:
        floor.finish(lease)
        lease = waiting
        assert lease.session is not None
        floor.work.ack(lease.session, lease.key, floor.time)

    assert [task for task, _ in floor.assigned()] == [f"t{number}" for number in range(6)]


def test_backlog_bypass_an_older_task_is_overtaken_at_most_so_often() -> None:
    floor = Floor()
    floor.agent("a1", "read", "french")
    lease = floor.running("t0", "read", of=("french", "read"))
    old = floor.grant("old", "read", preferred=("german",), of=("french", "read"))
    fresh = 0
    while old.session is None:
        floor.grant(f"n{fresh}", "read", preferred=("french",), of=("french", "read"))
        floor.finish(lease)
        [*_, (task_id, _)] = floor.assigned()
        lease = next(lease for lease in floor.board.leases if lease.task_id == task_id)
        assert lease.session is not None
        floor.work.ack(lease.session, lease.key, floor.time)
        fresh += 1
        assert fresh <= bypass_max + 1

    assert fresh == bypass_max + 1


def test_late_binding_takes_the_pair_that_fits_best() -> None:
    floor = Floor()
    floor.agent("generalist", "read")
    expert = floor.agent("expert", "read", "french")
    busy = [floor.running(f"t{n}", "read", preferred=("french",) * (n == 0)) for n in range(2)]
    floor.grant("plain", "read", preferred=("german",))
    floor.grant("in-french", "read", preferred=("french",))
    floor.turn()

    floor.finish(next(lease for lease in busy if lease.session is expert))

    assert floor.assigned()[-1] == ("in-french", "expert")


def test_an_agent_that_failed_a_task_gets_it_again_only_when_nobody_else_is_there() -> None:
    floor = Floor(pause_s=0.25)
    floor.agent("failed")
    other = floor.agent("other")
    blocker = floor.granted("t0", excluded=("failed",))
    assert blocker.session is other
    floor.work.ack(other, blocker.key, floor.time)

    retried = floor.granted("t1", excluded=("failed",))
    floor.sleep(1.0)
    assert retried.session is None, "the other agent is only busy"

    floor.attendance.drain_agent(other)
    floor.turn()
    assert retried.agent_id == "failed"


def test_the_only_agent_gets_what_it_declined_again_after_a_pause() -> None:
    floor = Floor(pause_s=0.25)
    floor.agent("only")

    lease = floor.granted("t1", excluded=("only",))
    assert lease.session is None

    floor.sleep(0.3)
    assert lease.agent_id == "only"


def test_excluded_agents_are_counted_in_the_decision() -> None:
    floor = Floor()
    floor.agent("failed")
    floor.agent("other")

    lease = floor.granted("t1", excluded=("failed", "unknown"))

    assert lease.decision is not None
    assert lease.decision.agent_id == "other"
    assert lease.decision.filtered == {"excluded": 1}


@pytest.mark.parametrize(
    ("reason", "breaker", "quarantined"),
    [("breaker", "OPEN", False), ("quarantined", "CLOSED", True)],
)
def test_what_the_registry_forbids_gets_no_work(
    reason: str, breaker: str, quarantined: bool
) -> None:
    floor = Floor()
    floor.agent("bad")
    floor.agent("good")
    floor.standings.directive("bad", breaker=breaker, draining=False, quarantined=quarantined)

    lease = floor.granted("t1")

    assert lease.decision is not None
    assert lease.decision.agent_id == "good"
    assert lease.decision.filtered == {reason: 1}


def test_a_half_open_agent_gets_one_task_at_a_time() -> None:
    floor = Floor()
    floor.agent("probed", slots=8)
    floor.standings.directive("probed", breaker="HALF_OPEN", draining=False, quarantined=False)

    first, second = floor.granted("t1"), floor.granted("t2")

    assert first.agent_id == "probed"
    assert second.session is None


def test_a_half_open_agent_is_tried_though_others_are_better() -> None:
    floor = Floor()
    for number in range(20):
        floor.agent(f"a{number}", slots=100)
    floor.agent("bad", slots=100)
    agents = [*(f"a{number}" for number in range(20)), "bad"]
    success = [*([0.99] for _ in range(20)), [0.01]]
    floor.router.learn(raw_model(agents, ["echo"], success=success), floor.time)
    floor.standings.directive("bad", breaker="HALF_OPEN", draining=False, quarantined=False)

    leases = [floor.running(f"t{number}") for number in range(50)]

    tried = [lease for lease in leases if lease.agent_id == "bad"]
    assert tried == leases[:1]
    assert tried[0].decision is not None and tried[0].decision.explored
    floor.finish(tried[0], "FAILED")
    assert floor.running("t50").agent_id != "bad", "once, until the registry has judged"


def test_sticky_work_prefers_the_agent_that_had_it() -> None:
    floor = Floor()
    for number in range(8):
        floor.agent(f"a{number}", slots=8)

    for number in range(3):
        lease = floor.granted(f"t{number}", sticky_agent_id="a3")
        assert lease.agent_id == "a3"


def test_sticky_work_does_not_wait_for_its_agent() -> None:
    floor = Floor()
    floor.agent("mine")
    floor.running("t0")
    floor.agent("other")

    assert floor.granted("t1", sticky_agent_id="mine").agent_id == "other"


def test_the_model_prefers_the_agent_that_is_expected_to_be_done_first() -> None:
    floor = Floor()
    floor.agent("slow", slots=10)
    floor.agent("fast", slots=2)
    floor.router.learn(raw_model(["slow", "fast"], ["echo"], service_ms=[[90], [30]]), floor.time)

    lease = floor.granted("t1")

    decision = lease.decision
    assert decision is not None
    assert (decision.agent_id, decision.policy, decision.model_version) == (
        "fast",
        "learned",
        "v1",
    )
    assert decision.candidates == ["fast", "slow"]
    assert decision.delays_ms == pytest.approx([30.0, 90.0])
    assert decision.successes == pytest.approx([0.9, 0.9])
    assert decision.probability == 1.0


def test_what_nothing_was_learned_about_is_decided_by_the_formula() -> None:
    floor = Floor()
    floor.agent("novice", proficiency=0.2)
    floor.agent("expert", proficiency=1.0)
    floor.router.learn(raw_model(["novice", "expert"], ["echo"], evidence=0.5), floor.time)

    decision = floor.granted("t1").decision

    assert decision is not None
    assert (decision.agent_id, decision.policy) == ("expert", "formula")


def test_the_model_prefers_success_to_speed_by_its_price() -> None:
    floor = Floor()
    floor.agent("hasty")
    floor.agent("careful")
    raw = raw_model(
        ["hasty", "careful"], ["echo"], service_ms=[[10], [60]], success=[[0.5], [0.99]]
    )
    floor.router.learn(raw, floor.time)

    assert floor.granted("t1").agent_id == "careful"


@pytest.mark.parametrize(
    ("mode", "policy", "agent", "shadow"),
    [(2, "formula", "spacious", "fast"), (4, "learned", "fast", "spacious")],
)
def test_the_other_policy_is_recorded_beside_the_choice(
    mode: int, policy: str, agent: str, shadow: str
) -> None:
    floor = Floor()
    floor.agent("fast", slots=2)
    floor.running("t0")
    floor.agent("spacious", slots=10)
    raw = raw_model(["spacious", "fast"], ["echo"], service_ms=[[90], [30]], mode=mode)
    floor.router.learn(raw, floor.time)

    decision = floor.granted("t1").decision

    assert decision is not None
    assert (decision.policy, decision.agent_id, decision.shadow_agent_id) == (
        policy,
        agent,
        shadow,
    )


def test_a_canary_decides_for_its_share_of_the_tasks_always_the_same() -> None:
    def policies() -> list[str]:
        floor = Floor()
        floor.agent("a1", slots=1_000)
        floor.router.learn(raw_model(["a1"], ["echo"], mode=3, canary_fraction=0.3), floor.time)
        leases = [floor.granted(f"task-{number}") for number in range(500)]
        return [lease.decision.policy for lease in leases if lease.decision is not None]

    first = policies()

    assert first == policies()
    assert 100 < first.count("learned") < 200


def test_exploration_is_bounded_and_its_probability_is_recorded() -> None:
    floor = Floor()
    for number in range(10):
        floor.agent(f"a{number}", slots=1_000)
    agents = [f"a{number}" for number in range(10)]
    service_ms = [[10.0 if agent == "a0" else 500.0] for agent in agents]
    floor.router.learn(
        raw_model(agents, ["echo"], service_ms=service_ms, exploration_fraction=0.1), floor.time
    )

    decisions = [floor.granted(f"t{number}").decision for number in range(1_000)]

    chosen = [d for d in decisions if d is not None and d.explored]
    assert 60 < len(chosen) < 140
    for decision in chosen:
        floor_p = 0.1 / 10
        expected = 0.9 + floor_p if decision.agent_id == "a0" else floor_p
        assert decision.probability == pytest.approx(expected)


def test_a_task_that_nobody_here_can_do_any_more_is_handed_back() -> None:
    floor = Floor()
    session = floor.agent("a1")
    floor.running("t0")
    lease = floor.granted("t1")

    floor.attendance.drain_agent(session)
    floor.turn()

    assert HandedBack("t1", lease.epoch, "NO_AGENT", "") in floor.done
    assert floor.board.leases.get(lease.key) is None


def test_who_has_it_in_too_old_a_version_is_told_apart_from_who_cannot_do_it() -> None:
    floor = Floor()
    floor.agent("other", "sing")
    floor.agent("old", "echo", versions=("echo@1.9",))
    floor.agent("unversioned", "echo")
    floor.agent("new", "echo", versions=("echo@2.0",))
    lease = floor.granted("t1", "echo@2", of=("echo", "echo@2.0"))

    assert floor.assigned() == [("t1", "new")]
    assert lease.decision is not None
    assert lease.decision.filtered == {"capability": 1, "version": 2}
