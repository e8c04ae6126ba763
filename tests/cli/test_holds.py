from __future__ import annotations

from podium.v1 import task_pb2
from tests.cli.shell import Shell
from tests.task_scheduler.serving import Served, spec

State = task_pb2.Task.State


async def test_tasks_are_paused_by_id_and_resumed_by_type(served: Served, shell: Shell) -> None:
    first, second = await served.submit(spec("a.b"), spec("a.b"))

    paused = await shell("pause", first, "--reason", "wait for the price list")
    assert (paused.code, paused.out) == (0, "1 paused\n")
    assert (await served.get(first)).state == State.STATE_PAUSED
    assert (await served.get(second)).state == State.STATE_QUEUED

    resumed = await shell("resume", "--type", "a.b", "--json")
    assert resumed.lines == [{"taskIds": [first]}]
    assert (await served.get(first)).state == State.STATE_QUEUED


async def test_what_cannot_be_paused_is_said(served: Served, shell: Shell) -> None:
    ran = await shell("resume", (await served.submit(spec()))[0])

    assert ran.code == 1
    assert "TASK_NOT_PAUSED" in ran.err
    assert (await shell("pause")).code == 2


async def test_a_type_of_a_tenant_is_paused_shown_and_resumed(served: Served, shell: Shell) -> None:
    ran = await shell("queue", "pause", "-t", "mail.send", "--tenant", "acme", "--reason", "spam")
    assert (ran.code, ran.out) == (0, "type mail.send of tenant acme: paused\n")

    assert (await shell("queue", "list")).out == "type mail.send of tenant acme spam\n"
    assert "paused: type mail.send of tenant acme" in (await shell("stats")).out

    assert (await shell("queue", "resume", "-t", "mail.send", "--tenant", "acme")).code == 0
    again = await shell("queue", "resume", "-t", "mail.send", "--tenant", "acme")
    assert (again.code, "PAUSE_NOT_FOUND" in again.err) == (4, True)
    assert (await shell("queue", "list")).out == "Nothing is paused.\n"
    assert (await shell("queue", "pause")).code == 2


async def test_tasks_are_canceled_by_label_and_tenant_with_those_below_them(
    served: Served, shell: Shell
) -> None:
    labels = {"batch": "7"}
    (one,) = await served.submit(spec(tenant="acme", labels=labels))
    await served.submit(spec(tenant="acme", parent_task_id=one))
    (other,) = await served.submit(spec(labels=labels))

    ran = await shell("cancel", "--label", "batch=7", "--tenant", "acme")

    assert (ran.code, ran.out) == (0, "1 canceled, and 1 below them\n")
    assert (await served.get(one)).state == State.STATE_CANCELED
    assert (await served.get(other)).state == State.STATE_QUEUED
