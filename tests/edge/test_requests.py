"""Every request of clients, in both spellings: it reaches its service, and so does its answer."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from podium.v1 import agent_registry_pb2 as agents
from podium.v1 import task_scheduler_pb2 as tasks
from podium.v1.event_pb2 import Event
from tests.edge.conftest import Edge, Socket
from tests.support.spelling import BINARY, JSON
from tests.support.waiting import eventually

FILTER = {"states": ["STATE_FAILED"], "type": "text.count", "labels": {"team": "a"}}
PAYLOAD = {"contentType": "text/plain", "data": "aGVsbG8="}

SCHEDULER: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "cancel": (
        "CancelTasks",
        {"taskIds": ["t-1", "t-2"], "reason": "enough"},
        "canceled",
        {"taskIds": ["t-1"], "descendantCount": "9007199254740993"},
    ),
    "list": (
        "ListTasks",
        {"filter": FILTER, "pageSize": 2, "pageToken": "p-1"},
        "tasks",
        {"tasks": [{"taskId": "t-1", "state": "STATE_FAILED"}], "nextPageToken": "p-2"},
    ),
    "explain": (
        "ExplainTask",
        {"taskId": "t-1"},
        "explanation",
        {
            "task": {"taskId": "t-1", "state": "STATE_COMPLETED"},
            "decisions": [{"attempt": 1, "decision": {"agentId": "a-1", "scores": [0.1]}}],
        },
    ),
    "provideInput": (
        "ProvideInput",
        {"taskId": "t-1", "input": PAYLOAD},
        "inputProvided",
        {},
    ),
    "requeue": (
        "RequeueTasks",
        {"filter": FILTER, "payload": PAYLOAD},
        "requeued",
        {"taskIds": ["t-1", "t-2"]},
    ),
    "queueStats": (
        "GetQueueStats",
        {},
        "queueStats",
        {"states": [{"state": "STATE_QUEUED", "count": "7"}], "durableSeq": "12"},
    ),
}
REGISTRY: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "drainAgents": (
        "DrainAgents",
        {"agentId": "a-1", "reason": "maintenance"},
        "draining",
        {"agentIds": ["a-1"]},
    ),
    "quarantineAgent": (
        "QuarantineAgent",
        {"agentId": "a-1", "reason": "wrong results"},
        "quarantined",
        {"agent": {"agentId": "a-1", "status": "STATUS_QUARANTINED"}},
    ),
    "releaseAgent": (
        "ReleaseAgent",
        {"agentId": "a-1"},
        "released",
        {"agent": {"agentId": "a-1", "status": "STATUS_IDLE"}},
    ),
}


@pytest.fixture(params=[JSON, BINARY], ids=lambda spelling: spelling.subprotocol)
async def socket(edge: Edge, request: pytest.FixtureRequest) -> Socket:
    return await edge.connect(request.param)


@pytest.mark.parametrize("arm", [*SCHEDULER, *REGISTRY])
async def test_a_request_reaches_its_service_whole_and_so_does_the_answer_its_client(
    edge: Edge, socket: Socket, arm: str
) -> None:
    ours = arm in SCHEDULER
    method, asking, answer_arm, answering = (SCHEDULER if ours else REGISTRY)[arm]
    service: Any = edge.peers.scheduler if ours else edge.peers.registry
    response: Any = getattr(tasks if ours else agents, f"{method}Response")()
    service.answers[method] = json_format.ParseDict(answering, response)

    answer = await socket.ask({"ref": "1", arm: asking})

    request: Any = getattr(tasks if ours else agents, f"{method}Request")()
    # The bridge asks for counts on its own, too.
    assert json_format.ParseDict(asking, request) in service.heard
    assert answer == {"ref": "1", answer_arm: answering}


async def test_a_batch_of_a_thousand_is_one_submit(edge: Edge, socket: Socket) -> None:
    batch = [{"type": "text.count", "labels": {"n": str(n)}} for n in range(1_000)]

    answer = await socket.ask({"ref": "1", "submit": {"tasks": batch}})

    assert answer["submitted"]["taskIds"] == [f"t-{n}" for n in range(1, 1_001)]
    (submitted,) = edge.peers.scheduler.submitted
    assert [task.labels["n"] for task in submitted.tasks] == [str(n) for n in range(1_000)]


async def test_agents_are_listed_and_one_task_is_got(edge: Edge, socket: Socket) -> None:
    listed = await socket.ask({"ref": "1", "listAgents": {"pageSize": 10}})
    got = await socket.ask({"ref": "2", "get": {"taskId": "t-1"}})

    assert listed["agentList"]["agents"] == [{"agentId": "a-1", "status": "STATUS_IDLE"}]
    assert got == {"ref": "2", "task": {"task": {"taskId": "t-1", "state": "STATE_RUNNING"}}}


async def test_a_watch_goes_on_from_its_cursor(edge: Edge, socket: Socket) -> None:
    await socket.say({"ref": "w", "watch": {"taskIds": ["t-1"], "cursor": "41"}})
    await eventually(lambda: edge.peers.scheduler.watching)

    event = Event(seq=42, type=Event.TYPE_ASSIGNED, task_id="t-1", agent_id="a-1")
    edge.peers.scheduler.events.put_nowait([event])

    told = (await socket.hear())["events"]
    assert edge.peers.scheduler.watching[0].cursor == "41"
    assert (told["names"], told["cursor"]) == (["task:assigned"], "42")


async def test_what_a_service_refuses_is_told_with_its_reason(edge: Edge, socket: Socket) -> None:
    refused = await socket.ask({"ref": "1", "get": {"taskId": "missing"}})

    assert refused["error"]["code"] == "NOT_FOUND"
    assert refused["error"]["reason"] == "TASK_NOT_FOUND"
