from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.shell import Shell
from tests.task_scheduler.serving import Served, spec


async def test_the_log_is_exported_as_lines_of_json(served: Served, shell: Shell) -> None:
    (task_id,) = await served.submit(spec())

    ran = await shell("log", "export")
    assert ran.code == 0
    assert [event["seq"] for event in ran.lines] == [str(n + 1) for n in range(len(ran.lines))]
    made = next(event for event in ran.lines if event["type"] == "TYPE_CREATED")
    assert (made["taskId"], made["created"]["spec"]["payload"]["data"]) == (task_id, "ZGF0YQ==")

    behind = await shell("log", "export", "--cursor", f"00-{made['seq']}")
    assert [event["type"] for event in behind.lines] == ["TYPE_QUEUED"]


async def test_a_log_is_checked_and_a_changed_event_is_found(
    served: Served, shell: Shell, tmp_path: Path
) -> None:
    await served.submit(spec())
    whole = await shell("log", "verify")
    assert (whole.code, whole.out) == (0, "events 1 to 3 are what was written\n")

    with closing(sqlite3.connect(tmp_path / "task_scheduler.db")) as connection:
        connection.execute("UPDATE groups SET frames = zeroblob(9) WHERE first_seq = 2")
        connection.commit()

    damaged = await shell("log", "verify")
    assert damaged.code == 1
    assert "damaged at event 2" in damaged.err


async def test_partitions_are_listed_with_their_owners(served: Served, shell: Shell) -> None:
    await served.submit(spec())

    ran = await shell("partitions", "--json")
    assert (ran.code, ran.lines) == (0, [{"durableSeq": "3"}])
    assert "owner" in (await shell("partitions")).out
