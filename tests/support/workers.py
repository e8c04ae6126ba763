"""Which worker runs which tests, and when, where several processes share them (pytest-xdist)."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/browser/",)
"""Folders whose modules share what takes long to start: a suite with its agents, and Chromium."""
APART = ("tests/contracts/test_agent_session.py", "tests/task_scheduler/test_recovery.py")
"""Long modules whose tests share nothing."""
WAITING = ("tests/browser/", "tests/system/")
"""What starts real processes, and waits for them most of the time."""


class Lanes(LoadScopeScheduling):
    """Gives a worker a module at a time, for a module's tests may share a suite, in their order.

    While there is anything else, one worker is kept from what waits for real processes: so there
    is always something that computes while something waits, and never do all start processes at
    the same time, whose leases are short.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        if module in APART:
            return nodeid
        return next((folder for folder in TOGETHER if module.startswith(folder)), module)

    def _assign_work_unit(self, node: Any) -> None:
        waiting = sum(self._waits(each) for each in self.nodes if each is not node)
        wanted = waiting < max(1, len(self.nodes) - 1)
        # The longest first: else one worker would still be at it when the others are done.
        chosen = min(
            self.workqueue,
            key=lambda unit: (unit.startswith(WAITING) is not wanted, unit not in TOGETHER),
        )
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)

    def _waits(self, node: Any) -> bool:
        units = self.assigned_work[node].items()
        return any(unit.startswith(WAITING) and not all(ends.values()) for unit, ends in units)


def sendable(data: Any) -> Any:
    """Returns a worker's report as the wire to the others takes it: text that UTF-8 can hold."""
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: sendable(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(sendable, data))
    return data
