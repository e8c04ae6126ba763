from __future__ import annotations

from examples.review.asked import most_retried, told
from examples.review.tally import Attempt, Record, Tally


def record(task_id: str, agents: list[str], end: str = "completed", total_s: float = 1.0) -> Record:
    attempts = [Attempt(agent, 0.1, failure="FLAKY", ended=True) for agent in agents[:-1]]
    attempts.append(Attempt(agents[-1], 0.1, ended=True))
    return Record(task_id, "python.review", attempts, end, 1, total_s)


def test_the_task_to_show_took_most_attempts_and_least_time() -> None:
    tally = Tally()
    for each in (
        record("once", ["ada"]),
        record("failed", ["a", "b", "c", "d"], end="failed"),
        record("slow", ["a", "b", "c"], total_s=9.0),
        record("quick", ["a", "b", "c"], total_s=0.3),
        record("twice", ["a", "b"], total_s=0.1),
        record("of another", ["a", "b", "c", "d"]),
    ):
        tally.records[each.task_id] = each

    assert most_retried(tally, ["once", "failed", "slow", "quick", "twice", "gone"]) == "quick"
    assert most_retried(tally, ["once"]) is None


def test_the_story_of_a_task_names_who_failed_it_and_who_did_not() -> None:
    assert told(record("t", ["wobbly", "ada"]).attempts) == [
        "wobbly failed it (FLAKY)",
        "ada completed it",
    ]
