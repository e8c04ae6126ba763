"""`make torture`: kill the scheduler again and again under load, and count what was promised.

Each cycle starts it on the data of the cycle before, kills it at a random edge of its write path or
at a random moment, and then compares every answer that was given with what the log holds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from services.task_scheduler.ports import FAILPOINTS
from tests.support.postgres import postgres
from tests.support.processes import Process, Processes
from tests.support.sync_faults import faulty
from tests.system.survivors import POINTS, Survivors
from tests.system.tenants import tenants_by_partition
from tests.system.test_database_faults import scheduler, survived
from tests.system.test_takeover import replicas
from tests.task_scheduler.serving import Served
from tests.task_scheduler.test_recovery import COMPACTION, Load, Machine, all_ids, shared

RATE_MIN = 50
"""Acknowledged submits a second below which a run proves nothing."""
SUBMITTERS = 4
SURVIVOR_PARTITIONS = 4


class Campaign:
    """Cycles of load and death on the same data."""

    def __init__(self, machine: Machine, draw: random.Random) -> None:
        self._machine = machine
        self._draw = draw
        # One of each partition.
        self._tenants = tenants_by_partition(machine.partitions)
        self.acked: dict[str, str] = {}
        self.settled: set[str] = set()
        self.seconds = 0.0
        self.killed: dict[str, int] = {}

    async def cycle(self, number: int) -> None:
        """Run once until death and check.

        Raises:
            AssertionError: A promise was broken.
        """
        how = self._draw.choice([*FAILPOINTS, "any moment", "any moment"])
        environ = dict(COMPACTION)
        if how in FAILPOINTS:
            environ["PODIUM_FAILPOINTS"] = f"{how}=crash@{self._draw.randint(1, 60)}"
        process = self._machine.start(**environ)
        load = Load(prefix=f"c{number}-", tenants=self._tenants)
        async with self._machine.served(process) as served:
            await self._check(served)
            killer = asyncio.ensure_future(self._kill(process))
            began = time.monotonic()
            await load.until_killed(served, process, submitters=SUBMITTERS)
            self.seconds += time.monotonic() - began
            killer.cancel()
        process.wait()
        self.killed[how] = self.killed.get(how, 0) + 1
        self.acked |= load.acked
        self.settled |= load.settled

    async def finish(self) -> None:
        """Check a last time, with nobody disturbing."""
        async with self._machine.served(self._machine.start(**COMPACTION)) as served:
            await self._check(served)
            ids = await all_ids(served)
            assert len(ids) == len(set(ids))
            assert set(self.acked.values()) <= set(ids)

    async def _kill(self, process: Process) -> None:
        # Also where a failpoint was not passed often enough.
        await asyncio.sleep(self._draw.uniform(0.3, 1.5))
        process.signal(signal.SIGKILL)

    async def _check(self, served: Served) -> None:
        """Look at some of what was promised in all cycles before."""
        for request_id in self._draw.sample(sorted(self.acked), min(200, len(self.acked))):
            task_id = self.acked[request_id]
            task = await served.get(task_id)
            assert task.task_id == task_id
            if task_id in self.settled:
                assert task.state == 8, f"{task_id} was settled and is in state {task.state}"


async def run(machine: Machine, cycles: int, seed: int) -> Campaign:
    """Run a campaign.

    Raises:
        AssertionError: A promise was broken, or there was too little load to tell.
    """
    campaign = Campaign(machine, random.Random(seed))
    for number in range(cycles):
        await campaign.cycle(number)
    await campaign.finish()
    rate = len(campaign.acked) / campaign.seconds
    assert rate >= RATE_MIN, f"only {rate:.0f} submits/s were acknowledged"
    return campaign


async def _with_sync_faults(cycles: int) -> int:
    with tempfile.TemporaryDirectory() as place, Processes(Path(place) / "logs") as processes:
        with faulty() as disk:
            async with scheduler(processes, disk, Path(place) / "data") as (_, served):
                acked = await survived(served, disk, cycles)
            print(f"{disk.panics} times the database died of a sync that failed;")
    print(f"{len(acked)} submits were acknowledged, none was lost.")
    return 0


async def _with_survivor(processes: Processes, place: Path, url: str, points: list[str]) -> None:
    async with replicas(processes, url, place, SURVIVOR_PARTITIONS) as start:
        survivors = Survivors(start, SURVIVOR_PARTITIONS)
        await survivors.run(points)
    print(
        f"{len(survivors.acked)} submits and {len(survivors.settled)} results were acknowledged "
        f"while a replica died {len(points)} times; none was lost."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign and print what it saw."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.torture", description=__doc__)
    parser.add_argument("--cycles", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--postgres", action="store_true", help="with the journal in PostgreSQL")
    parser.add_argument(
        "--partitions", type=int, default=1, help="of the database, each under load; 1 to 64"
    )
    parser.add_argument(
        "--sync-faults", action="store_true", help="a PostgreSQL whose syncs fail, once a cycle"
    )
    parser.add_argument(
        "--survivor", action="store_true", help="two replicas of a database, one of which dies"
    )
    chosen = parser.parse_args(arguments)
    if chosen.sync_faults:
        return asyncio.run(_with_sync_faults(chosen.cycles))
    print(f"{chosen.cycles} cycles, seed {chosen.seed}")
    with tempfile.TemporaryDirectory() as place, Processes(Path(place) / "logs") as processes:
        if chosen.survivor:
            draw = random.Random(chosen.seed)
            points = [draw.choice(POINTS) for _ in range(chosen.cycles)]
            with postgres() as server, server.database() as url:
                asyncio.run(_with_survivor(processes, Path(place), url, points))
            return 0
        if chosen.postgres:
            with postgres() as server, server.database() as url:
                machine = Machine(processes, Path(place) / "data", **shared(url, chosen.partitions))
                campaign = asyncio.run(run(machine, chosen.cycles, chosen.seed))
        else:
            machine = Machine(processes, Path(place) / "data")
            campaign = asyncio.run(run(machine, chosen.cycles, chosen.seed))
    print(
        f"{len(campaign.acked)} submits and {len(campaign.settled)} results were acknowledged, "
        f"{len(campaign.acked) / campaign.seconds:.0f} submits/s under load; none was lost."
    )
    for how, count in sorted(campaign.killed.items()):
        print(f"  killed at {how}: {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
