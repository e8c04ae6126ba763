from __future__ import annotations

from tests.cli.shell import Shell


async def test_a_schedule_is_made_shown_paused_resumed_and_deleted(shell: Shell) -> None:
    made = await shell(
        *("schedule", "create", "nightly", "30 2 * * *", "report.make", '{"depth": 2}'),
        *("--time-zone", "Europe/Berlin", "--overlap", "queue", "--catch-up", "all"),
        *("--catch-up-window", "600", "-p", "7", "-l", "team=blue", "--json"),
    )
    (schedule,) = made.lines
    assert (made.code, schedule["overlap"], schedule["catchUp"]) == (
        0,
        "OVERLAP_QUEUE",
        "CATCH_UP_ALL",
    )
    assert (schedule["timeZone"], schedule["catchUpWindow"]) == ("Europe/Berlin", "600s")
    assert (schedule["spec"]["priority"], schedule["spec"]["labels"]) == (7, {"team": "blue"})
    assert schedule["spec"]["payload"]["contentType"] == "application/json"

    assert "30 2 * * * Europe/Berlin" in (await shell("schedule", "list")).out
    assert "next" in (await shell("schedule", "get", "nightly")).out

    assert "paused" in (await shell("schedule", "pause", "nightly")).out
    assert "paused" in (await shell("schedule", "list")).out
    assert "paused" not in (await shell("schedule", "resume", "nightly")).out

    assert (await shell("schedule", "delete", "nightly")).out == "nightly is deleted\n"
    gone = await shell("schedule", "get", "nightly")
    assert (gone.code, "SCHEDULE_NOT_FOUND" in gone.err) == (4, True)


async def test_a_wrong_schedule_is_refused_by_field(shell: Shell) -> None:
    refused = await shell("schedule", "create", "s", "every day", "report.make")
    assert (refused.code, "cron" in refused.err) == (1, True)

    assert (await shell("schedule", "create", "s", "@daily", "t", "--overlap", "pile")).code == 2


async def test_a_schedule_is_changed_and_makes_a_task_on_request(shell: Shell) -> None:
    await shell("schedule", "create", "nightly", "@daily", "report.make", '{"depth": 2}', "-p", "7")

    changed = await shell(
        *("schedule", "update", "nightly", "--cron", "@weekly", "--overlap", "allow"),
        *("--payload", '{"depth": 3}', "-l", "team=blue", "--json"),
    )
    (schedule,) = changed.lines
    assert (schedule["cron"], schedule["overlap"]) == ("@weekly", "OVERLAP_ALLOW")
    assert (schedule["spec"]["priority"], schedule["spec"]["labels"]) == (7, {"team": "blue"})

    made = await shell("schedule", "trigger", "nightly")
    assert "nightly" in (await shell("get", made.out.strip(), "--json")).out
    assert "made 1," in " ".join((await shell("schedule", "get", "nightly")).out.split())
    assert (await shell("schedule", "update", "nightly", "--overlap", "pile")).code == 2
    assert (await shell("schedule", "trigger", "other")).code == 4
