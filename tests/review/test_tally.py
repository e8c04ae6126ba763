from __future__ import annotations

import pytest

from examples.review.tally import TYPES, Tally, faults, first_waits, outcome_of
from podium.v1 import event_pb2

E = event_pb2.Event


class Log:
    """Events in order, as a scheduler would tell them."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.now_s = 0.0

    def started(self, task: str, agent: str, waited_s: float = 0.1, policy: str = "formula") -> Log:
        event = self._event(E.TYPE_STARTED, task, agent)
        event.started.assignment_latency.FromNanoseconds(round(waited_s * 1e9))
        event.started.decision.policy = policy
        return self._note(event)

    def failed_attempt(self, task: str, agent: str, reason: str = "FLAKY") -> Log:
        event = self._event(E.TYPE_ATTEMPT_FAILED, task, agent)
        event.failed.failure.reason = reason
        self._note(event)
        return self._note(self._event(E.TYPE_RETRYING, task))

    def completed(self, task: str, agent: str, run_s: float = 0.2, total_s: float = 0.5) -> Log:
        event = self._event(E.TYPE_COMPLETED, task, agent)
        event.completed.run_duration.FromNanoseconds(round(run_s * 1e9))
        event.completed.total_duration.FromNanoseconds(round(total_s * 1e9))
        return self._note(event)

    def told(self, kind: event_pb2.Event.Type, task: str, agent: str = "") -> Log:
        return self._note(self._event(kind, task, agent))

    def _event(self, kind: event_pb2.Event.Type, task: str, agent: str = "") -> event_pb2.Event:
        return E(type=kind, task_id=task, task_type="python.review", agent_id=agent)

    def _note(self, event: event_pb2.Event) -> Log:
        self.tally.note(event, self.now_s)
        return self


def test_a_task_is_followed_from_its_start_to_its_end() -> None:
    log = Log().started("t1", "ada", 0.25)
    assert (log.tally.running, log.tally.agent("ada").running) == (1, 1)

    log.completed("t1", "ada", 0.2, 0.45)

    ada = log.tally.agent("ada")
    assert (ada.started, ada.completed, ada.failed, ada.running) == (1, 1, 0, 0)
    assert ada.mean_s == pytest.approx(0.2)
    outcome = outcome_of(log.tally, ["t1"])
    assert (outcome.ends, outcome.attempts, outcome.retried) == ({"completed": 1}, 1, 0)
    assert outcome.waited.max_s == pytest.approx(0.25)
    assert outcome.ran.p50_s == pytest.approx(0.2)
    assert outcome.total.p99_s == pytest.approx(0.45)


def test_a_retry_is_held_against_the_agent_that_failed() -> None:
    log = Log().started("t1", "wobbly").failed_attempt("t1", "wobbly")
    log.started("t1", "ada", policy="learned").completed("t1", "ada")

    wobbly, ada = log.tally.agent("wobbly"), log.tally.agent("ada")
    assert (wobbly.failed, wobbly.completed, wobbly.running) == (1, 0, 0)
    assert (ada.failed, ada.completed) == (0, 1)
    outcome = outcome_of(log.tally, ["t1"])
    assert (outcome.attempts, outcome.retried) == (2, 1)
    assert outcome.failures == {"FLAKY": 1}
    assert outcome.policies == {"formula": 1, "learned": 1}
    assert log.tally.counts["retries"] == 1
    assert [a.agent_id for a in log.tally.records["t1"].attempts] == ["wobbly", "ada"]


def test_the_first_wait_of_a_task_is_that_before_any_retry() -> None:
    log = Log().started("t1", "wobbly", 0.003).failed_attempt("t1", "wobbly")
    log.started("t1", "ada", 9.0)

    waits = first_waits(log.tally, ["t1", "never started"])

    assert (waits.count, waits.max_s) == (1, pytest.approx(0.003))


def test_a_handed_back_task_frees_the_agent_without_a_failure() -> None:
    log = Log().started("t1", "ada").told(E.TYPE_HANDED_BACK, "t1", "ada")

    assert (log.tally.running, log.tally.agent("ada").failed) == (0, 0)


def test_other_tasks_of_the_log_are_not_in_the_figures() -> None:
    log = Log().started("t1", "ada").completed("t1", "ada").started("other", "ada", 99.0)

    outcome = outcome_of(log.tally, ["t1"])

    assert (outcome.submitted, outcome.attempts) == (1, 1)
    assert outcome.waited.max_s < 1


def test_all_is_well_when_each_task_ended_once_and_each_result_came_back() -> None:
    log = Log()
    for task in ("t1", "t2"):
        log.started(task, "ada").completed(task, "ada")
    log.started("t3", "ada").told(E.TYPE_FAILED, "t3", "ada")

    assert faults(log.tally, ["t1", "t2", "t3"], reviewed=2) == []


@pytest.mark.parametrize(
    ("ids", "reviewed", "fault"),
    [
        (["t1", "lost"], 1, "1 of 2 tasks never ended."),
        (["t1", "open"], 1, "1 of 2 tasks never ended."),
        (["t1", "twice"], 2, "1 tasks ended more than once."),
        (["t1"], 0, "1 tasks were completed, but 0 results came back."),
        (["t1", "t1"], 2, "Some tasks share an id."),
    ],
)
def test_what_does_not_add_up_is_told(ids: list[str], reviewed: int, fault: str) -> None:
    log = Log().started("t1", "ada").completed("t1", "ada").started("open", "ada")
    log.started("twice", "ada").completed("twice", "ada").told(E.TYPE_FAILED, "twice")

    assert faults(log.tally, ids, reviewed) == [fault]


def test_the_rate_is_that_of_the_last_seconds() -> None:
    log = Log()
    for number in range(100):
        log.now_s = number / 10
        log.started(f"t{number}", "ada").completed(f"t{number}", "ada")

    assert log.tally.rate(9.9) == pytest.approx(10, rel=0.05)
    assert log.tally.rate(60.0) == 0


def test_everything_the_tally_reads_is_asked_for() -> None:
    ends = {E.TYPE_COMPLETED, E.TYPE_FAILED, E.TYPE_CANCELED, E.TYPE_EXPIRED, E.TYPE_REJECTED}

    assert ends | {E.TYPE_STARTED, E.TYPE_ATTEMPT_FAILED, E.TYPE_HANDED_BACK} < set(TYPES)
    assert E.TYPE_CREATED not in TYPES
