from __future__ import annotations

from pathlib import Path

from tests.support.processes import Processes
from tests.system.torture import run
from tests.task_scheduler.test_recovery import Machine


async def test_killed_again_and_again_under_load_no_promise_is_broken(
    processes: Processes, tmp_path: Path
) -> None:
    campaign = await run(Machine(processes, tmp_path / "data"), cycles=4, seed=3)

    assert sum(campaign.killed.values()) == 4
    assert campaign.settled
