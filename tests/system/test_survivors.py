from __future__ import annotations

from pathlib import Path

from tests.support.processes import Processes
from tests.system.survivors import Survivors
from tests.system.test_takeover import replicas


async def test_when_one_dies_in_the_middle_of_its_writing_another_goes_on_and_no_promise_is_broken(
    processes: Processes, postgres_url: str, tmp_path: Path
) -> None:
    async with replicas(processes, postgres_url, tmp_path, 2) as start:
        survivors = Survivors(start, 2)

        await survivors.run(["after_append"])

    assert survivors.settled
