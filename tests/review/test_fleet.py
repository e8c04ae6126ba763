from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest

from examples.review.checks.review import Source
from examples.review.fleet import AGENTS_MIN, PROFILES, profiles, shared_out
from examples.review.host import FLAKY_SHARE, SKILLS, agent_of
from examples.review.payloads import pack
from examples.review.pieces import PRIORITIES
from podium.sdk.errors import TaskError
from podium.v1 import task_pb2

SAMPLES = {
    "python.review": Source("a.py", b"def f(a=[]): ...\n"),
    "text.analyze": Source("a.txt", b"caf\xe9\n"),
    "table.profile": Source("a.csv", b"a,b\n1\n"),
    "config.check": Source("a.toml", b"a = \n"),
    "secrets.scan": Source("a.txt", b"AKIA" + b"Q7RT4WX9ZLMN2P5V"),
    "duplicates.digest": Source("a.py", b"x = 1\n"),
}


def work(agent_id: str, kind: str, source: Source) -> tuple[dict[str, Any], SimpleNamespace]:
    """Gives one task to an agent's handler, as the SDK does."""
    [profile] = [each for each in PROFILES if each.agent_id == agent_id]
    content_type, data, labels = pack([source])
    payload = task_pb2.Payload(content_type=content_type, data=data)
    spec = task_pb2.TaskSpec(type=kind, payload=payload, labels=labels)
    handler = agent_of(profile).handler_for(spec)
    assert handler is not None
    task = SimpleNamespace(type=kind, spec=spec, confidence=None, cancelled=False, reports=[])
    task.progress = lambda *report: task.reports.append(report)
    return handler.function(payload, task), task


@pytest.mark.parametrize("count", [AGENTS_MIN, 7, 10, 23])
def test_any_fleet_can_do_everything_there_is_to_do(count: int) -> None:
    fleet = profiles(count)

    assert len({profile.agent_id for profile in fleet}) == count
    assert {kind for profile in fleet for kind in profile.skills} == set(PRIORITIES) == set(SKILLS)
    # Somebody else can do whatever the flaky one fails.
    flaky = {kind for p in fleet if p.temper == "flaky" for kind in p.skills}
    assert flaky <= {kind for p in fleet if p.temper != "flaky" for kind in p.skills}


def test_everybody_lives_in_one_of_the_processes() -> None:
    hosts = shared_out(profiles(10), 3)

    assert sorted(len(host) for host in hosts) == [3, 3, 4]
    assert len({profile.agent_id for host in hosts for profile in host}) == 10
    assert len(shared_out(profiles(4)[:2], 3)) == 2


@pytest.mark.parametrize(
    ("agent_id", "kind"),
    [(p.agent_id, kind) for p in PROFILES if p.temper != "flaky" for kind in p.skills],
)
def test_every_agent_does_what_it_says_it_can_do(agent_id: str, kind: str) -> None:
    result, task = work(agent_id, kind, SAMPLES[kind])

    expected = {"duplicates.digest": 0}.get(kind, 1)
    assert len(result["findings"]) == expected
    assert task.confidence is not None


def test_the_slow_one_reports_how_far_it_is_and_asks_the_compiler() -> None:
    result, task = work("sage", "python.review", Source("a.py", b"x = '\\d'\n"))

    assert result["counts"] == {"compiler-warning": 1}
    assert [report[0] for report in task.reports] == [0.5]


def test_the_flaky_one_fails_first_and_in_a_way_that_may_be_tried_again() -> None:
    [profile] = [each for each in PROFILES if each.temper == "flaky"]
    agent = agent_of(profile)
    payload = task_pb2.Payload(content_type="text/plain", data=b"x = 1\n")
    spec = task_pb2.TaskSpec(type="python.review", payload=payload, labels={"path": "a.py"})
    handler = agent.handler_for(spec)
    assert handler is not None
    failures = 0
    for number in range(200):
        task = SimpleNamespace(type="python.review", spec=spec, confidence=None, cancelled=False)
        try:
            handler.function(payload, task)
        except TaskError as error:
            failures += 1
            assert (error.reason, error.retryable) == ("FLAKY", True)
        else:
            assert number >= 6  # enough in a row to open its breaker

    assert 0.6 < failures / 200 < 0.8
    assert FLAKY_SHARE == 0.7


def test_a_payload_that_cannot_be_read_ends_the_task_at_once() -> None:
    payload = task_pb2.Payload(content_type="application/zip", data=b"no archive")
    spec = task_pb2.TaskSpec(type="secrets.scan", payload=payload)
    handler = agent_of(PROFILES[3]).handler_for(spec)
    assert handler is not None
    task = SimpleNamespace(type="secrets.scan", spec=spec, confidence=None, cancelled=False)

    with pytest.raises(TaskError, match="not a readable archive") as raised:
        handler.function(payload, task)

    assert raised.value.retryable is False


def test_agents_know_nothing_of_the_job() -> None:
    import examples.review.host as host  # noqa: PLC0415 - only its source is of interest

    assert host.__file__ is not None
    with open(host.__file__, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not {name for name in imported if name and name.startswith("services")}
