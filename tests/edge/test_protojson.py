from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1.bridge_pb2 import BridgeError, BridgeEvents, BridgeRequest, BridgeResponse
from podium.v1.decision_pb2 import Decision
from podium.v1.event_pb2 import Event, TaskStarted
from podium.v1.task_pb2 import Payload, Task, TaskSpec
from podium.v1.task_scheduler_pb2 import GetTaskResponse
from services.edge.adapters.protojson import JsonCodec
from services.kernel.errors import InvalidArgument

CODEC = JsonCodec()


def submit(**task: Any) -> str:
    return json.dumps({"ref": "r-1", "submit": {"tasks": [{"type": "a"}, task]}})


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        # D1 to D8 of what people send by mistake and others on purpose.
        ("[" * 2_000 + "]" * 2_000, "JSON_TOO_DEEP", ""),
        (submit(depends_on=[[[[]]]]), "UNKNOWN_FIELD", "submit.tasks[1].depends_on"),
        ('{"ref":"r-1","submit":{"tasks":[{"sizeHint":NaN}]}}', "INVALID_JSON", ""),
        (
            '{"ref":"r-1","submit":{"tasks":[{"sizeHint":1e400}]}}',
            "INVALID_FIELD",
            "submit.tasks[0].sizeHint",
        ),
        (submit(sizeHint="NaN"), "INVALID_FIELD", "submit.tasks[1].sizeHint"),
        (submit(sizeHint=10**400), "INVALID_FIELD", "submit.tasks[1].sizeHint"),
        ('{"ref":"r-1","ref":"r-2"}', "DUPLICATE_KEY", ""),
        (submit(type="\ud800"), "INVALID_FIELD", "submit.tasks[1].type"),
        (submit(labels={"\ud800": "x"}), "INVALID_FIELD", 'submit.tasks[1].labels["?"]'),
        (submit(labels={"k": 1}), "INVALID_FIELD", 'submit.tasks[1].labels["k"]'),
        (submit(labels=[]), "INVALID_FIELD", "submit.tasks[1].labels"),
        (submit(priority="7"), "INVALID_FIELD", "submit.tasks[1].priority"),
        (submit(priority=1.5), "INVALID_FIELD", "submit.tasks[1].priority"),
        (submit(priority=1.0), "INVALID_FIELD", "submit.tasks[1].priority"),
        (submit(priority=True), "INVALID_FIELD", "submit.tasks[1].priority"),
        (submit(priority=2**40), "INVALID_FIELD", "submit.tasks[1].priority"),
        (submit(failFast=1), "INVALID_FIELD", "submit.tasks[1].failFast"),
        (submit(payload={"data": "@@@@"}), "INVALID_FIELD", "submit.tasks[1].payload.data"),
        (submit(payload="text"), "INVALID_FIELD", "submit.tasks[1].payload"),
        (submit(dependencyPolicy=1), "INVALID_FIELD", "submit.tasks[1].dependencyPolicy"),
        (submit(dependencyPolicy="FAIL"), "INVALID_FIELD", "submit.tasks[1].dependencyPolicy"),
        (submit(budget={"maxTokens": 2**63}), "INVALID_FIELD", "submit.tasks[1].budget.maxTokens"),
        (submit(budget={"maxTokens": "1e3"}), "INVALID_FIELD", "submit.tasks[1].budget.maxTokens"),
        (submit(dependsOn=["t-1", None]), "INVALID_FIELD", "submit.tasks[1].dependsOn[1]"),
        (
            submit(required_capabilities=[]),
            "UNKNOWN_FIELD",
            "submit.tasks[1].required_capabilities",
        ),
        (submit(__proto__={}), "UNKNOWN_FIELD", "submit.tasks[1].__proto__"),
        ('{"ref":"r-1","ping":{},"queueStats":{}}', "INVALID_FIELD", "queueStats"),
        ('{"ref":"r-1","dance":{}}', "UNKNOWN_FIELD", "dance"),
        ('{"ref":7,"ping":{}}', "INVALID_FIELD", "ref"),
        ("7", "INVALID_FIELD", ""),
        ("null", "INVALID_FIELD", ""),
    ],
)
def test_bad_json_is_refused_with_the_path_of_what_is_bad(
    text: str, reason: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        CODEC.decode(text)

    error = caught.value
    assert (error.reason, error.violations[0].field if error.violations else "") == (reason, field)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (submit(priority="7"), "r-1"),
        ('{"ref":"r-1","dance":{}}', "r-1"),
        ('{"ref":"' + "x" * 65 + '","dance":{}}', ""),
        ('{"ref":"a\\u0000","dance":{}}', ""),
        ('{"ref":7,"dance":{}}', ""),
        ("{", ""),
    ],
)
def test_a_refused_request_is_answered_under_its_ref_where_that_is_one(text: str, ref: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        CODEC.decode(text)

    assert caught.value.metadata["ref"] == ref


def test_a_request_means_what_json_format_says_it_means() -> None:
    message = {
        "ref": "r-1",
        "submit": {
            "submitterId": "me",
            "tasks": [
                {
                    "type": "text.summarize",
                    "payload": {"contentType": "application/json", "data": "eyJhIjoxfQ=="},
                    "priority": 0,
                    "labels": {"ключ": "😀"},
                    "deadline": "2026-01-31T08:00:00.5Z",
                    "attemptTimeout": "1.5s",
                    "retryPolicy": {"maxRetries": 0, "jitter": 0.25, "backoffMultiplier": 2},
                    "budget": {"maxTokens": "9007199254740993", "maxCost": 1},
                    "dependencyPolicy": "DEPENDENCY_POLICY_SKIP",
                    "failFast": True,
                    "tenant": None,
                }
            ],
        },
    }

    assert CODEC.decode(json.dumps(message)) == json_format.ParseDict(message, BridgeRequest())


def test_a_response_is_spelled_as_json_format_spells_it() -> None:
    moment = Timestamp(seconds=1_769_846_400, nanos=1_000)
    started = TaskStarted(decision=Decision(scores=[0.1, 120.33], filtered_counts={"busy": 2}))
    spec = TaskSpec(type="a", priority=0, labels={"k": "v"}, payload=Payload(data=b"\xff\x00"))
    responses = [
        BridgeResponse(ref="1", error=BridgeError(code="NOT_FOUND", retry_after_ms=2**40)),
        BridgeResponse(ref="2", task=GetTaskResponse(task=Task(task_id="t", spec=spec))),
        BridgeResponse(
            ref="3",
            events=BridgeEvents(
                events=[Event(seq=5, type=Event.TYPE_STARTED, event_time=moment, started=started)],
                names=["task:started"],
            ),
        ),
    ]

    for response in responses:
        assert json.loads(CODEC.encode(response)) == json_format.MessageToDict(response)


def test_a_state_of_a_newer_version_is_spelled_by_its_number() -> None:
    response = BridgeResponse(task=GetTaskResponse(task=Task(state=99)))  # type: ignore[arg-type]  # on purpose

    assert json.loads(CODEC.encode(response))["task"]["task"]["state"] == 99
