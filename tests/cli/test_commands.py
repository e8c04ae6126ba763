from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from podium.cli.__main__ import app
from podium.v1 import agent_registry_pb2_grpc, analytics_pb2_grpc, task_pb2
from tests.cli.fakes import FakeAnalytics, FakeRegistry, TellingScheduler
from tests.cli.shell import Shell
from tests.sdk.fakes import scheduler_of, serving
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.waiting import eventually


@pytest.fixture
async def podium() -> AsyncIterator[Shell]:
    scheduler = TellingScheduler()
    parts = (
        scheduler_of(scheduler),
        (agent_registry_pb2_grpc.add_AgentRegistryServiceServicer_to_server, FakeRegistry()),
        (analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server, FakeAnalytics()),
    )
    async with serving(*parts) as address:
        names = ("TASK_SCHEDULER", "AGENT_REGISTRY", "ANALYTICS")
        environ = {f"PODIUM_{name}_ADDRESS": address for name in names}
        yield Shell({**environ, "PODIUM_OTLP_ENDPOINT": "off"}, scheduler)


async def test_submit_prints_the_id_and_sends_what_was_said(podium: Shell) -> None:
    ran = await podium(
        "submit", "work", '{"a": 1}', "-p", "9", "-c", "x", "-c", "y", "-l", "k=v", "--retries", "2"
    )

    assert (ran.code, ran.out, ran.err) == (0, "task-0\n", "")
    spec = podium.scheduler.batches[0][0]
    assert (spec.priority, list(spec.required_capabilities)) == (9, ["x", "y"])
    assert (dict(spec.labels), spec.retry_policy.max_retries) == ({"k": "v"}, 2)
    assert spec.payload == task_pb2.Payload(content_type="application/json", data=b'{"a": 1}')


async def test_spans_and_rates_are_passed_on_as_they_were_said(podium: Shell) -> None:
    await podium("submit", "work", "--deadline", "90", "--delay", "1.5", "-r", "api=60/1m")
    wrong = await podium("submit", "work", "--rate", "api=60")

    spec = podium.scheduler.batches[0][0]
    assert (spec.deadline_after.seconds, spec.delay.ToMilliseconds()) == (90, 1_500)
    (rate,) = spec.rate_limits
    assert (rate.key, rate.limit, rate.period.seconds) == ("api", 60, 60)
    assert (wrong.code, "key=number/time" in wrong.err) == (2, True)


async def test_every_short_option_has_a_long_name(podium: Shell) -> None:
    long = ("--priority", "9", "--capability", "x", "--label", "k=v")
    submitted = await podium("submit", "work", *long)
    agents, listed = await asyncio.gather(
        podium("agents", "--capability", "fly"),
        podium("list", "--label", "k=v", "--limit", "3", "--key", "gpu"),
    )

    assert [submitted.code, agents.code, listed.code] == [0, 0, 0]
    assert podium.scheduler.lists[0].filter.concurrency_key == "gpu"
    assert podium.scheduler.batches[0][0].priority == 9


async def test_a_payload_comes_from_a_file_or_standard_input(podium: Shell, tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"\xff\xd8")

    await podium("submit", "work", f"@{file}")
    await podium("submit", "work", "-", stdin=b"from a pipe")

    first, second = (batch[0].payload for batch in podium.scheduler.batches)
    assert (first.content_type, first.data) == ("application/octet-stream", b"\xff\xd8")
    assert (second.content_type, second.data) == ("text/plain; charset=utf-8", b"from a pipe")


async def test_waiting_prints_the_result_and_a_failure_is_exit_code_1(podium: Shell) -> None:
    podium.scheduler.completing = True
    done = await podium("submit", "work", "--wait")
    told = await podium("submit", "work", "--wait", "--json")
    podium.scheduler.completing = False
    waiting = asyncio.create_task(podium("submit", "work", "--wait"))
    await eventually(lambda: len(podium.scheduler.tasks) == 3)
    await podium.scheduler.end("task-2", task_pb2.Task.STATE_FAILED, "NO_LUCK")
    failed = await waiting

    assert (done.code, done.out) == (0, "done\n")
    assert told.lines == [{"taskId": "task-1", "state": "completed", "result": "done"}]
    assert failed.code == 1
    assert "NO_LUCK" in failed.err and "said why" in failed.err


async def test_a_file_of_lines_becomes_a_task_each(podium: Shell, tmp_path: Path) -> None:
    podium.scheduler.completing = True
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n\nthree\n")

    ran = await podium("submit", "work", "--lines", str(lines), "--wait")

    assert (ran.code, ran.out) == (0, "3 completed, 0 failed\n")
    payloads = [s.payload.data for batch in podium.scheduler.batches for s in batch]
    assert payloads == [b"one", b"two", b"three"]


async def test_tasks_are_shown_listed_and_canceled(podium: Shell) -> None:
    await podium("submit", "text.summarize", '{"a": [1]}')
    shown, listed, told, canceled = await asyncio.gather(
        podium("get", "task-0"),
        podium("list"),
        podium("list", "--json"),
        podium("cancel", "task-0", "--json"),
    )

    assert "text.summarize" in shown.out and '"a": [' in shown.out
    assert listed.out.splitlines()[1].split()[:2] == ["task-0", "text.summarize"]
    assert told.lines[0]["taskId"] == "task-0"
    assert canceled.lines == [{"taskIds": ["task-0"], "descendantCount": 0}]
    assert podium.scheduler.tasks["task-0"].state == task_pb2.Task.STATE_CANCELED


async def test_what_is_piped_is_not_cut_to_the_width_of_a_terminal(podium: Shell) -> None:
    kind = "text." + "summarize-" * 12
    await podium("submit", kind)
    narrow = await podium("list")
    del podium.environ["COLUMNS"]
    piped = await podium("list")

    assert kind not in narrow.out and max(map(len, narrow.out.splitlines())) <= 120
    assert kind in piped.out
    assert not [line for line in piped.out.splitlines() if len(line) > 300]


async def test_a_watch_of_a_task_tells_all_of_it_and_ends_with_it(podium: Shell) -> None:
    podium.scheduler.completing = True
    await podium("submit", "work")

    ran, told = await asyncio.gather(podium("watch", "task-0"), podium("watch", "task-0", "--json"))

    assert "task:completed" in ran.out and ran.code == 0
    assert ran.out.rstrip().endswith("took 20.0 ms")
    assert told.lines[0]["type"] == "TYPE_COMPLETED"


async def test_a_watch_of_a_task_that_there_is_not_ends_at_once(podium: Shell) -> None:
    ran = await podium("watch", "task-7")

    assert (ran.code, "TASK_NOT_FOUND" in ran.err) == (4, True)


async def test_fleet_and_queue_are_told(podium: Shell) -> None:
    agents, stats, requeued = await asyncio.gather(
        podium("agents"), podium("stats"), podium("requeue", "--all")
    )

    assert agents.out.splitlines()[1].split()[:5] == ["a1", "busy", "3/4", "open", "75%"]
    assert "7 wait for an agent that can do: fly" in stats.out
    assert re.search(r"api .*acme .*60 of 60 in .*4", stats.out)
    assert requeued.out == "2 requeued\n"


async def test_what_could_not_be_requeued_is_told_and_is_a_failure(podium: Shell) -> None:
    ran = await podium("requeue", "--tenant", "acme", "--label", "a=1")

    assert (ran.code, ran.out) == (1, "0 requeued\n")
    assert "3 not requeued: TENANT_BACKLOG_FULL full" in ran.err
    (wanted,) = podium.scheduler.requeues
    assert (wanted.tenant, dict(wanted.labels)) == ("acme", {"a": "1"})


async def test_who_tells_who_can_do_something_and_what_a_task_would_wait(podium: Shell) -> None:
    flying, nobody, told = await asyncio.gather(
        podium("who", "fly"), podium("who", "text.sumarize"), podium("who", "fly", "--json")
    )

    row = flying.out.splitlines()[1].split()
    assert row[:7] == ["a1", "4/4", "2.0", "s", "unknown", "75%", "fly"]
    assert "0 of 1 have a free slot, 10 tasks wait; the next one waits 20.0 s." in flying.out
    assert nobody.out == (
        "No agent can do this:\n"
        "  text.sumarize: nobody has it; the nearest that is known: text.summarize\n"
    )
    assert told.lines[0]["capableCount"] == 1


async def test_why_names_the_candidates_and_their_scores(podium: Shell) -> None:
    await podium("submit", "work")
    ran = await podium("why", "task-0")

    assert "No connected agent has all of: fly.\n" in ran.out.splitlines(keepends=True)
    assert "2 eligible; left out: 3 busy" in ran.out
    assert "125.00" in ran.out
    # What agents call themselves is never markup.
    assert "a2[red]" in ran.out


async def test_a_trace_is_a_tree_with_times(podium: Shell) -> None:
    ran = await podium("trace", "task-0")

    lines = ran.out.splitlines()
    assert [line.strip("│└├─ ").split()[0] for line in lines[1:]] == [
        "submit",
        "route",
        "assign",
        "execute",
    ]
    indents = [len(line) - len(line.lstrip("│└├─ ")) for line in lines[1:]]
    assert indents == [4, 8, 12, 16]
    assert "10.0 ms" in lines[1]
    assert "ada attempt 2" in lines[3]
    assert "[bold]not[/] this time" in lines[4]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--state", "sleepy"], "there are delayed"),
        (["cancel"], "give task ids, or a filter"),
        (["cancel", "t1", "--type", "work"], "not both"),
        (["cancel", "--state", "queued", "--state", "failed"], "are failed have ended"),
        (["submit", "work", "-l", "nolabel"], "a label is key=value"),
        (["submit", "work", "@/no/such/file"], "cannot read /no/such/file: No such file"),
        (["agent", "run", "nomodule"], "not MODULE:AGENT"),
        (["agent", "run", "no_such_module:agent"], "cannot import no_such_module"),
        (["agent", "run", "podium.sdk.agent:agent"], "no agent called 'agent'"),
        (["agent", "run", "tests.cli.agents:agnt"], "no agent called 'agnt'; it has agent, idle"),
        (["agent", "run", "tests.cli.agents:idle"], "handles nothing"),
        (["agent", "run", "tests.cli.agents:agent", "tests.cli.agents:agent"], "of its own"),
        (["agent", "run", "no_such_module:agent", "--reload"], "cannot import no_such_module"),
        (["sim", "fleet", "--profile", "lazy"], "no profile is called 'lazy'"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_code_2_and_says_what_would_be_right(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ran = CliRunner().invoke(app, arguments)

    assert ran.exit_code == 2
    # Boxes break lines where they like.
    assert told in " ".join(ran.stderr.replace("│", " ").split())
    assert not ran.stdout


async def test_what_the_suite_refuses_has_the_exit_code_of_its_kind(podium: Shell) -> None:
    missing, refused = await asyncio.gather(podium("get", "nobody"), podium("submit", "bad"))

    assert (missing.code, refused.code) == (4, 1)
    assert "TASK_NOT_FOUND" in missing.err and "INVALID_FIELD" in refused.err
    assert not missing.out + refused.out
    assert "Traceback" not in missing.err + refused.err


async def test_a_suite_that_is_not_there_is_told_with_what_to_do(podium: Shell) -> None:
    address = f"127.0.0.1:{free_port()}"
    podium.environ["PODIUM_TASK_SCHEDULER_ADDRESS"] = address

    ran, told = await asyncio.gather(podium("stats"), podium("stats", "--json"))

    assert (ran.code, told.code) == (3, 3)
    assert f"Cannot reach TaskScheduler at {address}: start the suite with `make run`" in ran.err
    error = orjson.loads(told.err)["error"]
    assert (error["code"], error["reason"]) == ("UNAVAILABLE", "UNREACHABLE")
    assert error["metadata"]["setting"] == "PODIUM_TASK_SCHEDULER_ADDRESS"


async def test_help_and_version_need_neither_grpc_nor_tables(podium: Shell) -> None:
    helped, version = await asyncio.gather(podium("--help"), podium("--version"))
    program = "import sys, podium.cli.__main__; print('grpc' in sys.modules, 'rich' in sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python")},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    for command in ("submit", "watch", "why", "trace", "agent", "sim"):
        assert command in helped.out
    assert "Exit codes" in helped.out
    assert version.out.startswith("podium ")
    assert out.decode().split()[0] == "False"


async def test_completion_can_be_installed_and_knows_the_commands(podium: Shell) -> None:
    podium.environ.update({"_PODIUM_COMPLETE": "complete_bash", "COMP_WORDS": "podium su"})
    podium.environ["COMP_CWORD"] = "1"
    program = "import sys; sys.argv[0] = 'podium'; from podium.cli.__main__ import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={**os.environ, **podium.environ, "PYTHONPATH": str(ROOT / "clients" / "python")},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert out.decode().split() == ["submit"]
