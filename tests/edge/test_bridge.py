from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from podium.v1.event_pb2 import Event
from services.edge.servicer.handshake import frame_bytes_max
from services.kernel.errors import Unavailable
from tests.edge.conftest import Edge, Socket, Start
from tests.edge.raw import TEXT, masked, raw_socket
from tests.support.waiting import eventually

TASK = {"ref": "1", "submit": {"tasks": [{"type": "text.count"}]}}


async def test_a_submit_is_answered_under_its_ref(edge: Edge) -> None:
    socket = await edge.connect()

    answer = await socket.ask(TASK)

    assert answer == {"ref": "1", "submitted": {"taskIds": ["t-1"], "cursor": "7"}}
    assert edge.peers.scheduler.submitted[0].tasks[0].type == "text.count"


async def test_requests_reach_each_service_and_its_errors_come_back(edge: Edge) -> None:
    socket = await edge.connect()

    agents = await socket.ask({"ref": "1", "listAgents": {}})
    trace = await socket.ask({"ref": "2", "trace": {"taskId": "t-1"}})
    missing = await socket.ask({"ref": "3", "get": {"taskId": "missing"}})
    drained = await socket.ask({"ref": "4", "drainAgents": {"agentId": "a"}})

    assert agents["agentList"]["agents"][0]["status"] == "STATUS_IDLE"
    assert trace == {
        "ref": "2",
        "error": {
            "code": "UNAVAILABLE",
            "reason": "STARTING",
            "message": "Analytics starts.",
            "retryAfterMs": "500",
        },
    }
    assert missing["error"]["reason"] == "TASK_NOT_FOUND"
    assert drained["error"]["code"] == "UNIMPLEMENTED"


async def test_a_slow_answer_holds_up_no_other(edge: Edge) -> None:
    socket = await edge.connect()
    await socket.say({"ref": "slow", "get": {"taskId": "slow"}})

    assert (await socket.ask({"ref": "quick", "get": {"taskId": "t-1"}}))["ref"] == "quick"

    edge.peers.scheduler.release.set()
    assert (await socket.hear())["ref"] == "slow"


async def test_a_bad_message_is_answered_and_the_connection_lives(edge: Edge) -> None:
    socket = await edge.connect()

    refused = await socket.ask({"ref": "1", "submit": {"tasks": [{"priority": "7"}]}})

    assert refused["ref"] == "1"
    assert refused["error"]["code"] == "INVALID_ARGUMENT"
    assert refused["error"]["field"] == "submit.tasks[0].priority"
    assert (await socket.ask({"ref": "2", "ping": {}})) == {"ref": "2", "pong": {}}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"ping": {}}, "INVALID_FIELD"),
        ({"ref": "x" * 65, "ping": {}}, "INVALID_FIELD"),
        ({"ref": "1"}, "REQUEST_MISSING"),
        ({}, "REQUEST_MISSING"),
        ({"agent": {"frames": [{"agentId": "a-1"}]}}, "INVALID_FIELD"),
        ({"agent": {"frames": [{"agentId": "a-1", "heartbeat": {}}]}}, "HELLO_REQUIRED"),
        ({"agent": {"frames": [{"agentId": "a-1", "detached": {}}]}}, "INVALID_FIELD"),
        ({"agent": {"frames": [{"agentId": "A", "hello": {}}]}}, "INVALID_FIELD"),
    ],
)
async def test_a_message_that_asks_for_nothing_sensible_is_refused(
    edge: Edge, message: dict[str, Any], reason: str
) -> None:
    socket = await edge.connect()

    assert (await socket.ask(message))["error"]["reason"] == reason


async def test_five_bad_messages_end_the_connection_after_the_fifth_answer(edge: Edge) -> None:
    socket = await edge.connect()

    answers = [await socket.ask("{") for _ in range(5)]

    assert {answer["error"]["reason"] for answer in answers} == {"INVALID_JSON"}
    assert await socket.closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_errors_of_the_services_are_no_strikes(edge: Edge) -> None:
    socket = await edge.connect()

    for _ in range(12):
        await socket.ask({"ref": "1", "get": {"taskId": "missing"}})

    assert (await socket.ask({"ref": "2", "ping": {}}))["ref"] == "2"


async def test_w11_what_is_too_large_closes_and_the_largest_payload_is_not(edge: Edge) -> None:
    socket = await edge.connect()
    largest = {"tasks": [{"type": "a", "payload": {"data": "A" * (256 * 1024 * 4 // 3 // 4 * 4)}}]}

    assert "submitted" in await socket.ask({"ref": "1", "submit": largest})
    await socket.say('{"ref":"' + "x" * frame_bytes_max + '"}')

    assert await socket.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("flood", ["messages", "empty messages", "pings", "pongs"])
async def test_w14_a_flood_is_cut_off(start: Start, flood: str) -> None:
    edge = await start(messages_per_s=5)
    socket = await edge.connect()

    for number in range(40):
        if flood == "pings":
            await socket.socket.ping()
        elif flood == "pongs":
            await socket.socket.pong()
        elif flood == "empty messages":
            await socket.say("")
        else:
            await socket.say({"ref": str(number), "ping": {}})

    assert await socket.closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def watch(edge: Edge, socket: Socket, ref: str = "w") -> None:
    await socket.say({"ref": ref, "watch": {"taskIds": ["t-1"], "cursor": "3"}})
    await eventually(lambda: edge.peers.scheduler.watching)


async def test_a_watch_brings_events_with_their_names_and_a_cursor(edge: Edge) -> None:
    socket = await edge.connect()
    await watch(edge, socket)

    created, completed = Event.TYPE_CREATED, Event.TYPE_COMPLETED
    edge.peers.scheduler.events.put_nowait(
        [Event(seq=4, type=created, task_id="t-1"), Event(seq=5, type=completed, task_id="t-1")]
    )

    told = await socket.hear()
    assert told["ref"] == "w"
    assert told["events"]["names"] == ["task:created", "task:completed"]
    assert told["events"]["events"][1]["seq"] == "5"
    assert told["events"]["cursor"] == "5"
    assert edge.peers.scheduler.watching[0].cursor == "3"


async def test_an_ended_watch_is_told_and_its_ref_is_free_again(edge: Edge) -> None:
    socket = await edge.connect()
    await watch(edge, socket)
    assert (await socket.ask({"ref": "w", "watch": {}}))["error"]["reason"] == "WATCH_REPEATED"

    ended = await socket.ask({"ref": "2", "unwatch": {"watchRef": "w"}})
    await watch(edge, socket)
    edge.peers.scheduler.events.put_nowait(Unavailable("DRAINING", "The scheduler drains."))
    failed = await socket.hear()

    assert ended == {"ref": "2", "unwatched": {"watchRef": "w"}}
    assert (failed["ref"], failed["error"]["reason"]) == ("w", "DRAINING")
    assert len(edge.peers.scheduler.watching) == 2


async def test_d11_a_connection_has_so_many_watches_and_not_one_more(edge: Edge) -> None:
    socket = await edge.connect()
    for number in range(32):
        await socket.say({"ref": f"w-{number}", "watch": {"taskIds": ["t-1"]}})

    refused = await socket.ask({"ref": "w-32", "watch": {"taskIds": ["t-1"]}})

    assert refused["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert refused["error"]["reason"] == "TOO_MANY_WATCHES"


async def test_w19_the_longest_idle_connection_goes_when_one_more_comes(start: Start) -> None:
    edge = await start(connections_max=2)
    idle, busy = await edge.connect(), await edge.connect()
    await busy.ask({"ref": "1", "ping": {}})
    await idle.socket.ping()  # proves life, not use

    newest = await edge.connect()

    assert await idle.closed() == aiohttp.WSCloseCode.TRY_AGAIN_LATER
    assert (await busy.ask({"ref": "2", "ping": {}}))["ref"] == "2"
    assert (await newest.ask({"ref": "3", "ping": {}}))["ref"] == "3"


async def test_w19_draining_tells_everybody_to_go_elsewhere_and_lets_nobody_in(edge: Edge) -> None:
    sockets = [await edge.connect() for _ in range(3)]

    draining = asyncio.ensure_future(edge.drain())

    for socket in sockets:
        assert (await socket.hear())["notice"]["kind"] == "DRAINING"
        closed = await socket.socket.receive(timeout=5)
        assert (closed.data, closed.extra) == (
            aiohttp.WSCloseCode.SERVICE_RESTART,
            "draining; retry-after=1",
        )
    await asyncio.wait_for(draining, 5)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await edge.connect()
    assert caught.value.status == 503


async def test_a_dead_connection_is_found_by_pings_and_a_quiet_one_lives(start: Start) -> None:
    edge = await start(ping_s=0.2)
    quiet = await edge.connect(autoping=False)
    async with raw_socket(edge):
        await eventually(lambda: connections(edge, 2))

        for _ in range(2):
            message = await quiet.socket.receive(timeout=10)
            assert message.type is aiohttp.WSMsgType.PING
            await quiet.socket.pong(message.data)

        await eventually(lambda: connections(edge, 1))
    assert (await quiet.ask({"ref": "1", "queueStats": {}}))["ref"] == "1"


async def connections(edge: Edge, count: int) -> bool:
    return await metric(edge, "podium_edge_connections") == count


async def metric(edge: Edge, name: str) -> float:
    async with edge.http.get(f"{edge.url}/metrics") as response:
        text = await response.text()
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


async def test_w17_a_reader_that_stands_still_is_cut_off_and_the_others_feel_nothing(
    start: Start,
) -> None:
    edge = await start(write_deadline_s=0.3)
    other = await edge.connect()
    large = Event(seq=1, type=Event.TYPE_PROGRESS, task_id="t-1", traceparent="x" * 200_000)

    async def cut() -> bool:
        # More than the kernel's buffers hold, bit by bit so that nothing merges into one.
        edge.peers.scheduler.events.put_nowait([large])
        answer = await other.ask({"ref": "1", "ping": {}})
        assert answer["ref"] == "1"
        return await metric(edge, "podium_edge_connections_slow_consumers_total") == 1

    async with raw_socket(edge) as socket:
        socket.writer.write(masked(TEXT, b'{"ref":"w","watch":{"taskIds":["t-1"]}}'))
        await eventually(lambda: edge.peers.scheduler.watching)
        await eventually(cut, within_s=15)

    assert await metric(edge, "podium_edge_connections") == 1
