from __future__ import annotations

from services.agent_registry.core.blame import Blame, tasks_len_max


def test_the_first_agent_is_to_blame_and_acquitted_by_the_second() -> None:
    blame = Blame()

    assert blame.failed("t1", "echo", "a1") is None
    assert blame.failed("t1", "echo", "a1") is None, "twice on the same agent proves nothing"
    assert blame.failed("t1", "echo", "a2") == {"a1": "echo"}
    assert blame.failed("t1", "echo", "a3") == {}


def test_a_task_that_works_after_all_convicts_those_it_had_acquitted() -> None:
    blame = Blame()
    blame.failed("t1", "echo", "a1")
    blame.failed("t1", "echo", "a2")

    assert blame.succeeded("t1") == {"a1": "echo", "a2": "echo"}
    assert blame.succeeded("t1") == {}


def test_an_agent_that_was_blamed_already_is_not_blamed_again() -> None:
    blame = Blame()
    blame.failed("t1", "echo", "a1")

    assert blame.succeeded("t1") == {}


def test_the_oldest_task_is_forgotten_when_there_are_too_many() -> None:
    blame = Blame()
    for number in range(tasks_len_max + 1):
        blame.failed(f"t{number}", "echo", "a1")

    assert len(blame) == tasks_len_max
    assert blame.failed("t0", "echo", "a2") is None
