from __future__ import annotations

from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import WatchEventsResponse
from services.ml_router.adapters.decisions import DecisionLog
from services.ml_router.adapters.events import Reader
from services.ml_router.core.learner import Learner
from tests.ml_router.test_decisions import decision
from tests.ml_router.worlds import model_of, service_ms
from tests.support.eventlog import attempt_failed, completed, event


def read(*events: Event) -> tuple[Learner, DecisionLog]:
    learner, decisions = Learner(), DecisionLog()
    reader = Reader(learner, decisions)
    for seq, each in enumerate(events, 1):
        each.seq = each.seq or seq
        reader.take(WatchEventsResponse(events=[each]))
    return learner, decisions


def started(agent_id: str, task_id: str = "t-1") -> Event:
    made = event("STARTED", task_id, agent_id=agent_id)
    made.started.decision.CopyFrom(decision(agent_id))
    return made


def created(size_hint: float) -> Event:
    made = event("CREATED")
    made.created.spec.size_hint = size_hint
    return made


def test_a_completed_task_is_a_success_of_its_agent_with_its_time() -> None:
    learner, _ = read(*(completed("a", run_s=0.25) for _ in range(100)))

    assert learner.sums.agent_ids == ["a"]
    assert learner.sums.outcome_count == 100
    assert abs(service_ms(model_of(learner), "a") - 250.0) < 1.0


def test_the_time_is_divided_by_the_size_that_was_hinted_at() -> None:
    learner, _ = read(created(5.0), completed("a", run_s=1.0))

    assert learner.sums.cells["time_ms"][0] == 200.0
    assert learner.sums.sizes == {}


def test_only_the_agents_own_faults_count_against_it() -> None:
    learner, decisions = read(
        started("a"),
        attempt_failed("a", agent_fault=False),
        started("b"),
        attempt_failed("b"),
    )

    assert learner.sums.agent_ids == ["b"]
    assert learner.sums.cells["successes"][0] == 0.0
    assert [each.success for each in decisions.recent(10)] == [False]


def test_a_retried_task_keeps_its_size() -> None:
    learner, _ = read(created(4.0), started("a"), attempt_failed("a"), completed("b", run_s=2.0))

    assert learner.sums.cells["time_ms"][learner.sums.columns] == 500.0


def test_tasks_that_end_otherwise_are_forgotten() -> None:
    for kind in ("CANCELED", "EXPIRED", "REJECTED"):
        learner, decisions = read(created(4.0), started("a"), event(kind), completed("a"))

        assert learner.sums.sizes == {}
        assert decisions.recent(10) == []


def test_a_time_that_is_not_told_is_not_taken_for_none() -> None:
    learner, _ = read(event("COMPLETED", agent_id="a"))

    assert learner.sums.outcome_count == 1
    assert learner.sums.cells["times"][0] == 0.0


def test_an_event_that_comes_again_is_skipped() -> None:
    first, again = completed("a"), completed("a")
    first.seq = again.seq = 7

    learner, _ = read(first, again)

    assert learner.sums.outcome_count == 1
    assert learner.event_seq == 7


def test_kinds_that_are_not_known_are_skipped() -> None:
    learner, _ = read(Event(type=99, task_id="t-1"))  # type: ignore[arg-type]  # a newer one

    assert learner.event_seq == 1
