"""Messages that are wrong, each with its one answer: the rows D of docs/bridge.md, real peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.kernel.clock import SystemClock
from services.kernel.options import dial
from tests.edge.conftest import Edge, Socket, Start
from tests.kernel.keys import make_key, publish, token
from tests.support.spelling import BINARY, JSON
from tests.task_scheduler.serving import Served, wire

KEY = make_key()
PRIORITY = "submit.tasks[0].priority"


def submit(fields: str) -> str:
    return '{"ref":"r-1","submit":{"tasks":[{"type":"a",' + fields + "}]}}"


BAD = {
    "d1 lists in lists": ("[" * 1_000 + "]" * 1_000, "JSON_TOO_DEEP", ""),
    "d1 more lists in lists": ("[" * 100_000, "JSON_TOO_DEEP", ""),
    "d1 objects in objects": ('{"a":' * 100_000, "JSON_TOO_DEEP", ""),
    "d2 NaN": (submit('"sizeHint":NaN'), "INVALID_JSON", ""),
    "d2 Infinity": (submit('"sizeHint":-Infinity'), "INVALID_JSON", ""),
    "d2 1e400": (submit('"sizeHint":1e400'), "INVALID_FIELD", "submit.tasks[0].sizeHint"),
    "d3 4,301 digits": (submit('"priority":' + "7" * 4_301), "INVALID_JSON", ""),
    "d4 a key twice": (submit('"priority":1,"priority":2'), "DUPLICATE_KEY", ""),
    "d4 spelled twice": (submit('"priority":1,"\\u0070riority":2'), "DUPLICATE_KEY", ""),
    "d5 half a surrogate pair": (
        submit('"tenant":"\\ud800"'),
        "INVALID_FIELD",
        "submit.tasks[0].tenant",
    ),
    "d6 a byte order mark": ('\ufeff{"ref":"r-1","ping":{}}', "INVALID_JSON", ""),
    "d6 UTF-16 read as text": (
        '{"ref":"r-1","ping":{}}'.encode("utf-16-le").decode(),
        "INVALID_JSON",
        "",
    ),
    "d6 something after the end": ('{"ref":"r-1","ping":{}} {}', "INVALID_JSON", ""),
    "d6 nothing": ("", "INVALID_JSON", ""),
    "d7 a number in quotes": (
        submit('"priority":"7"'),
        "INVALID_FIELD",
        PRIORITY,
    ),
    "d7 half a number": (submit('"priority":1.5'), "INVALID_FIELD", PRIORITY),
    "d7 a truth": (submit('"priority":true'), "INVALID_FIELD", PRIORITY),
    "d7 2^40": (submit(f'"priority":{2**40}'), "INVALID_FIELD", PRIORITY),
    "d7 a priority of 10": (submit('"priority":10'), "INVALID_FIELD", PRIORITY),
    "d7 no base64": (
        submit('"payload":{"data":"@@@@"}'),
        "INVALID_FIELD",
        "submit.tasks[0].payload.data",
    ),
    "d8 an unknown request": ('{"ref":"r-1","dance":{}}', "UNKNOWN_FIELD", "dance"),
    "d8 an unknown field": (submit('"prio":1'), "UNKNOWN_FIELD", "submit.tasks[0].prio"),
    "d8 no ref": ('{"ping":{}}', "INVALID_FIELD", ""),
    "d8 no request": ('{"ref":"r-1"}', "REQUEST_MISSING", ""),
    "d9 __proto__": (submit('"__proto__":{}'), "UNKNOWN_FIELD", "submit.tasks[0].__proto__"),
}
WITHOUT_REF = ("INVALID_JSON", "DUPLICATE_KEY", "JSON_TOO_DEEP")


@pytest.fixture
async def scheduler(tmp_path: Path) -> AsyncIterator[Served]:
    publish(tmp_path / "keys", "k1", KEY)
    async with wire(tmp_path, auth="jwt", auth_keys_dir=tmp_path / "keys") as served:
        yield served


@pytest.fixture
async def edge(start: Start, scheduler: Served, tmp_path: Path) -> Edge:
    """An edge before a scheduler that keeps tenants apart."""
    return await start(
        dial=dial,
        auth="jwt",
        auth_keys_dir=tmp_path / "keys",
        task_scheduler_address=scheduler.address,
    )


async def enter(edge: Edge, tenant: str = "acme", spelling: Any = JSON) -> Socket:
    now_s = SystemClock().now().wall_ms // 1_000
    shown = token(
        KEY,
        sub=f"operator-of-{tenant}",
        tenant=tenant,
        roles=["submitter", "reader"],
        capabilities=None,
        iat=now_s,
        exp=now_s + 900,
    )
    protocols = [spelling.subprotocol, f"podium.bearer.{shown}"]
    return await edge.connect(spelling, protocols=protocols)


@pytest.mark.parametrize(("text", "reason", "field"), BAD.values(), ids=BAD)
async def test_a_bad_message_is_answered_and_the_connection_lives(
    edge: Edge, text: str, reason: str, field: str
) -> None:
    socket = await enter(edge)

    refused = await socket.ask(text)

    error = refused["error"]
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", reason)
    assert error.get("field", "") == field
    known = '"r-1"' in text and reason not in WITHOUT_REF
    known = '"r-1"' in text and reason not in WITHOUT_REF
    assert refused.get("ref", "") == ("r-1" if known else "")
    assert (await socket.ask({"ref": "r-2", "ping": {}})) == {"ref": "r-2", "pong": {}}


async def test_d9_names_that_mean_something_to_javascript_are_data(edge: Edge) -> None:
    socket = await enter(edge)
    labels = {"constructor": "a", "tostring": "b"}
    spec = {"type": "a", "labels": labels, "tenant": None}

    answer = await socket.ask({"ref": "constructor", "submit": {"tasks": [spec]}})

    assert answer["ref"] == "constructor"
    task_id = answer["submitted"]["taskIds"][0]
    got = await socket.ask({"ref": "__proto__", "get": {"taskId": task_id}})
    assert got["ref"] == "__proto__"
    assert got["task"]["task"]["spec"]["labels"] == labels


@pytest.mark.parametrize("spelling", [JSON, BINARY], ids=lambda spelling: spelling.subprotocol)
async def test_d10_a_message_that_comes_again_has_the_same_answer_and_no_second_effect(
    edge: Edge, spelling: Any
) -> None:
    task = {"type": "text.count", "requestId": "7f9c2ba4-e88f-11ee-bd48-0242ac130003"}
    asking = {"ref": "1", "submit": {"tasks": [task]}}
    first, second = await enter(edge, spelling=spelling), await enter(edge, spelling=spelling)

    answers = [await socket.ask(asking) for socket in (first, first, second)]

    ids = [answer["submitted"]["taskIds"] for answer in answers]
    assert ids == [ids[0]] * 3
    listed = await first.ask({"ref": "2", "list": {}})
    assert [each["taskId"] for each in listed["tasks"]["tasks"]] == ids[0]


@pytest.mark.parametrize("spelling", [JSON, BINARY], ids=lambda spelling: spelling.subprotocol)
async def test_d11_nobody_sees_or_follows_tasks_of_another_tenant(
    edge: Edge, spelling: Any
) -> None:
    owner, other = await enter(edge), await enter(edge, "rival", spelling)
    theirs = {"ref": "1", "submit": {"tasks": [{"type": "text.count"}]}}
    task_id = (await owner.ask(theirs))["submitted"]["taskIds"][0]

    got = await other.ask({"ref": "1", "get": {"taskId": task_id}})
    listed = await other.ask({"ref": "2", "list": {}})
    canceled = await other.ask({"ref": "3", "cancel": {"taskIds": [task_id]}})
    await other.say({"ref": "w", "watch": {"taskIds": [task_id], "cursor": "0"}})
    await other.say({"ref": "e", "watchEvents": {"cursor": "0"}})
    own = await other.ask({"ref": "4", "submit": {"tasks": [{"type": "text.own"}]}})
    heard = [own]
    while not any("submitted" in each for each in heard) or not any(
        each.get("ref") == "e" for each in heard
    ):
        heard.append(await other.hear())

    assert got["error"]["reason"] == canceled["error"]["reason"] == "TASK_NOT_FOUND"
    assert listed["tasks"].get("tasks", []) == []
    assert task_id not in str(heard)


async def test_d11_the_text_of_a_failure_is_found_as_text_and_never_as_a_pattern(
    edge: Edge,
) -> None:
    socket = await enter(edge)
    await socket.ask(submit('"priority":1'))
    bomb = "(a+)+$" * 30

    listed = await socket.ask({"ref": "1", "list": {"filter": {"failureText": bomb}}})

    assert listed["tasks"].get("tasks", []) == []
