from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.workers import Lanes, sendable

BROWSER = ["tests/browser/test_a.py::test_1", "tests/browser/test_b.py::test_1"]
SYSTEM = [f"tests/system/test_{name}.py::test_{n}" for name in "cde" for n in range(4)]
APART = [f"tests/task_scheduler/test_recovery.py::test_{n}" for n in range(5)]
QUICK = [f"tests/sdk/test_{name}.py::test_{n}[a::b]" for name in "fg" for n in range(4)]


class Worker:
    """Runs what it is given when a test says so."""

    shutting_down = False

    def __init__(self, lanes: Lanes, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.lanes = lanes
        self.given: list[int] = []
        self.ran: list[str] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def run(self, collection: list[str], count: int) -> None:
        for _ in range(count):
            self.ran.append(collection[self.given[0]])
            self.lanes.mark_test_complete(self, self.given.pop(0))  # type: ignore[arg-type]  # a fake


def workers(collection: list[str], count: int) -> list[Worker]:
    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(getvalue=lambda name: [f"{count}*popen"], option=option)
    lanes = Lanes(config)
    made = [Worker(lanes, f"gw{number}") for number in range(count)]
    for worker in made:
        lanes.add_node(worker)  # type: ignore[arg-type]  # a fake
    for worker in made:
        lanes.add_node_collection(worker, collection)  # type: ignore[arg-type]  # a fake
    lanes.schedule()
    return made


def finish(collection: list[str], made: list[Worker]) -> None:
    """Has the workers run all there is, in turn."""
    while any(worker.given for worker in made):
        for worker in made:
            worker.run(collection, min(1, len(worker.given)))


def folders(collection: list[str], worker: Worker) -> set[str]:
    return {collection[index].split("/")[1] for index in worker.given}


def test_every_test_is_run_once_and_a_module_by_one_worker_in_its_order() -> None:
    collection = QUICK + SYSTEM + BROWSER
    made = workers(collection, 3)
    finish(collection, made)

    assert sorted(name for worker in made for name in worker.ran) == sorted(collection)
    for worker in made:
        modules = [name.partition("::")[0] for name in worker.ran]
        for module in set(modules):
            mine = [name for name in worker.ran if name.startswith(module)]
            assert mine == [name for name in collection if name.startswith(module)]


def test_what_shares_a_browser_has_one_worker_and_begins_first() -> None:
    collection = QUICK + SYSTEM + BROWSER
    first = workers(collection, 3)[0]

    assert [collection[index] for index in first.given[:2]] == BROWSER


def test_one_worker_is_kept_from_what_waits_while_there_is_anything_else() -> None:
    collection = SYSTEM + QUICK
    made = workers(collection, 3)

    assert [folders(collection, worker) for worker in made] == [{"system"}, {"system"}, {"sdk"}]
    made[2].run(collection, 4)
    assert folders(collection, made[2]) == {"sdk"}
    made[2].run(collection, 4)
    assert folders(collection, made[2]) == {"system"}


def test_tests_that_share_nothing_are_shared_out_one_by_one() -> None:
    made = workers(APART, 2)
    finish(APART, made)

    assert [len(worker.ran) for worker in made] == [3, 2]


def test_one_worker_alone_has_all() -> None:
    collection = QUICK + SYSTEM
    made = workers(collection, 1)
    finish(collection, made)

    assert sorted(made[0].ran) == sorted(collection)


def test_a_report_can_be_sent_whatever_a_test_says() -> None:
    said = {
        "sections": [("Captured log", "lone \ud800, and \u00e9")],
        "outcome": "passed",
        "worker": 1,
    }

    assert sendable(said) == {**said, "sections": [("Captured log", "lone \\ud800, and \u00e9")]}
