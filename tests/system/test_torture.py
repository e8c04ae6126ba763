from __future__ import annotations

from pathlib import Path

from tests.support.processes import Processes
from tests.system.torture import run
from tests.task_scheduler.test_recovery import Machine, shared


async def test_killed_again_and_again_under_load_no_promise_is_broken(
    processes: Processes, tmp_path: Path
) -> None:
    campaign = await run(Machine(processes, tmp_path / "data"), cycles=4, seed=3)

    assert sum(campaign.killed.values()) == 4
    assert campaign.settled


async def test_so_it_is_with_several_partitions_of_a_database(
    processes: Processes, postgres_url: str, tmp_path: Path
) -> None:
    machine = Machine(processes, tmp_path / "data", **shared(postgres_url, 4))

    campaign = await run(machine, cycles=2, seed=5)

    assert sum(campaign.killed.values()) == 2
    assert {task_id[:2] for task_id in campaign.acked.values()} == {"00", "01", "02", "03"}
    assert len({task_id[:2] for task_id in campaign.settled}) > 1
