from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.edge.conftest import Edge, Start
from tests.edge.raw import handshake, status_line
from tests.support.waiting import eventually


async def status(edge: Edge, origin: str | None = None, **options: Any) -> int:
    """Returns the status of a handshake."""
    options.setdefault("protocols", ["podium.v1.json"])
    if origin is not None:
        options["origin"] = origin
    try:
        async with edge.http.ws_connect(f"{edge.url}/ws", **options):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def test_w1_only_pages_of_the_same_host_and_programs_connect(edge: Edge) -> None:
    assert await status(edge) == 101
    assert await status(edge, f"http://127.0.0.1:{edge.port}") == 101
    assert await status(edge, "http://evil.example") == 403
    assert await status(edge, "null") == 403
    assert await status(edge, f"http://127.0.0.1.evil.example:{edge.port}") == 403
    assert await status(edge, f"https://127.0.0.1:{edge.port + 1}") == 403
    assert await status(edge, f"HTTP://127.0.0.1:{edge.port}") == 403
    assert await status(edge, "") == 403


async def test_w1_programs_without_an_origin_are_kept_out_where_that_is_asked_for(
    start: Start,
) -> None:
    edge = await start(origins=("https://podium.example",))

    assert await status(edge) == 403
    assert await status(edge, f"http://127.0.0.1:{edge.port}") == 403
    assert await status(edge, "https://podium.example") == 101


async def test_a_name_made_to_point_at_this_machine_is_not_the_bridge(edge: Edge) -> None:
    # Its pages are "same host" as the bridge, and still somebody else's.
    headers = {"Host": f"rebound.example:{edge.port}"}

    assert await status(edge, f"http://rebound.example:{edge.port}", headers=headers) == 421


async def test_w5_the_subprotocol_must_be_offered(edge: Edge) -> None:
    assert await status(edge, protocols=[]) == 400
    assert await status(edge, protocols=["graphql-ws"]) == 400
    assert await status(edge, protocols=["graphql-ws", "podium.v1.json"]) == 101


async def test_w2_a_token_in_the_address_is_refused_and_logged_without_it(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await edge.http.ws_connect(f"{edge.url}/ws?token=secret", protocols=["podium.v1.json"])

    assert caught.value.status == 400
    assert "A token in an address was refused." in caplog.text
    assert "secret" not in caplog.text


async def test_one_token_is_shown_to_the_services_behind(edge: Edge) -> None:
    socket = await edge.connect(protocols=["podium.v1.json", "podium.bearer.abc"])

    await socket.ask({"ref": "1", "submit": {"tasks": [{"type": "a"}]}})

    assert ("authorization", "Bearer abc") in edge.peers.scheduler.metadata


async def test_two_tokens_are_one_too_many(edge: Edge) -> None:
    protocols = ["podium.v1.json", "podium.bearer.abc"]

    assert await status(edge, protocols=protocols, headers={"Authorization": "Bearer abc"}) == 401
    assert await status(edge, headers={"Authorization": "Basic abc"}) == 401
    assert await status(edge, headers={"Authorization": "Bearer abc"}) == 101


RIGHT = "GET /ws HTTP/1.1"
LONG_PATH = f"GET /ws?{'x' * 10_000} HTTP/1.1"


@pytest.mark.parametrize(
    ("line", "change", "expected"),
    [
        pytest.param(RIGHT, {}, "101", id="right"),
        pytest.param(RIGHT, {"Upgrade": None}, "426", id="w4 no upgrade"),
        pytest.param(RIGHT, {"Sec-WebSocket-Version": "8"}, "400", id="w4 version 8"),
        pytest.param(RIGHT, {"Sec-WebSocket-Version": None}, "400", id="w4 no version"),
        pytest.param(RIGHT, {"Sec-WebSocket-Key": "short"}, "400", id="w4 bad key"),
        pytest.param(RIGHT, {"Sec-WebSocket-Key": None}, "400", id="w4 no key"),
        pytest.param("POST /ws HTTP/1.1", {"Content-Length": "0"}, "405", id="w4 post"),
        pytest.param("GET /ws HTTP/1.0", {}, "505", id="w4 http 1.0"),
        pytest.param(RIGHT, {"Host": None}, "400", id="no host"),
        pytest.param(RIGHT, {"Host": "a.example"}, "421", id="another host"),
        pytest.param(
            RIGHT,
            {"Origin": "http://a.example\r\nOrigin: http://b.example"},
            "400",
            id="w1 two origins",
        ),
        pytest.param(RIGHT, {"X-Long": "x" * 9_000}, "431", id="w6 long header"),
        pytest.param(RIGHT, {"x" * 9_000: "1"}, "431", id="w6 long name"),
        pytest.param(
            RIGHT,
            {f"X-{number}": "1" for number in range(300)},
            "431",
            id="w6 300 headers",
        ),
        pytest.param(LONG_PATH, {}, "414", id="w6 long path"),
        pytest.param("\x16\x03\x01 hello", {}, "400", id="no http"),
    ],
)
async def test_a_handshake_that_is_none_is_answered_in_plain_http(
    edge: Edge, line: str, change: dict[str, str | None], expected: str
) -> None:
    assert (await status_line(edge, handshake(line, **change))).startswith(expected)


async def test_what_cannot_be_read_is_not_repeated_in_the_answer(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(handshake(**{"X-Long": "<script>" * 2_000}))

    answer = await asyncio.wait_for(reader.read(), 5)

    writer.close()
    assert answer.endswith(b"Send at most 128 headers of at most 8190 bytes.\n")


async def test_bytes_that_are_not_http_leave_no_traceback_in_the_log(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await status_line(edge, b"\x16\x03\x01 hello\r\n\r\n")).startswith("400")

    assert "Traceback" not in caplog.text


async def test_w8_compression_is_never_negotiated(edge: Edge) -> None:
    socket = await edge.connect(compress=15)

    assert socket.socket.compress == 0


async def test_w18_a_caller_has_so_many_connections_and_gets_another_when_one_ends(
    start: Start,
) -> None:
    edge = await start(connections_per_caller_max=2)
    first, _ = await edge.connect(), await edge.connect()
    assert await status(edge) == 429

    await first.socket.close()

    async def entered() -> bool:
        return await status(edge) == 101

    await eventually(entered)


@pytest.mark.parametrize("said", [b"", b"GET /ws HTTP/1.1\r\nHost: a", b"GET"])
async def test_w7_who_does_not_finish_a_request_in_time_is_turned_away(
    start: Start, said: bytes
) -> None:
    edge = await start(handshake_s=0.2)
    other = await edge.connect()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(said)

    assert await asyncio.wait_for(reader.read(), 10) == b""

    assert (await other.ask({"ref": "1", "ping": {}}))["ref"] == "1"
    writer.close()
