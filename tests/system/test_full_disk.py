"""A real scheduler on a real disk that runs full."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from podium.v1.task_pb2 import Payload, Task
from services.kernel.rpc import from_rpc_error
from tests.support.processes import Processes
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, spec
from tests.task_scheduler.test_recovery import Machine

DISK_BYTES = 24 << 20
RESERVE_BYTES = 8 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left_bytes: int) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - left_bytes)
    return filler


async def refused_for_space(served: Served, acked: list[str]) -> bool:
    """Submit until there is no room; return whether it was said as it should be."""
    large = spec("large", payload=Payload(data=bytes(100_000)))
    for _ in range(1_000):
        try:
            acked += await served.submit(large)
        except grpc.aio.AioRpcError as error:
            refused = from_rpc_error(error)
            assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "STORAGE_FULL")
            assert refused.retry_after_s
            return True
    return False


async def test_a_full_disk_refuses_new_tasks_and_carries_out_the_old_ones(
    processes: Processes, disk: Path
) -> None:
    machine = Machine(processes, disk / "data")
    process = machine.start(PODIUM_STORAGE_RESERVE_BYTES=str(RESERVE_BYTES))
    acked: list[str] = []
    async with machine.served(process) as served, served.router("work") as router:
        for _ in range(5):
            acked += await served.submit(spec())
        grants = [await router.grant() for _ in range(5)]
        filler = fill(disk, 1 << 20)

        assert await refused_for_space(served, acked)
        # What was promised goes on, from the space that was set aside.
        for grant in grants:
            assert (await router.complete(grant, data=bytes(1_000))).verdict == 1
        assert (await served.get(grants[0].task_id)).state == Task.STATE_COMPLETED

        filler.unlink()

        async def accepted() -> bool:
            try:
                acked.extend(await served.submit(spec("after")))
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(accepted)
        assert (disk / "data" / "task_scheduler.reserve").stat().st_size == RESERVE_BYTES
        process.signal(signal.SIGKILL)

    process.wait()
    again = machine.start(PODIUM_STORAGE_RESERVE_BYTES=str(RESERVE_BYTES))
    async with machine.served(again) as served:
        for task_id in acked:
            assert (await served.get(task_id)).task_id == task_id
        for grant in grants:
            assert (await served.get(grant.task_id)).state == Task.STATE_COMPLETED
