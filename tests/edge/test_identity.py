from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.kernel.clock import SystemClock
from services.kernel.errors import FailedPrecondition
from tests.edge.conftest import Edge, Socket, Start
from tests.kernel.keys import make_key, publish, token
from tests.support.waiting import eventually

KEY = make_key()


def signed(lasts_s: int = 900, **claims: Any) -> str:
    now_s = SystemClock().now().wall_ms // 1_000
    return token(KEY, iat=now_s, exp=now_s + lasts_s, **claims)


@pytest.fixture
async def checked(start: Start, tmp_path: Path) -> Edge:
    """An edge that asks who comes."""
    publish(tmp_path, "k1", KEY)
    edge = await start(auth="jwt", auth_keys_dir=tmp_path)
    await eventually(lambda: edge.peers.routing.streams)
    return edge


async def enter(edge: Edge, shown: str) -> Socket:
    return await edge.connect(protocols=["podium.v1.json", f"podium.bearer.{shown}"])


@pytest.mark.parametrize("shown", ["", "nonsense", token(KEY), signed(aud="another")])
async def test_w3_without_a_good_token_nobody_comes_in_and_nobody_learns_why(
    checked: Edge, shown: str
) -> None:
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}

    async with checked.http.get(
        f"{checked.url}/ws",
        headers={
            **headers,
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "podium.v1.json",
        },
    ) as response:
        assert (response.status, await response.text()) == (401, "invalid token")


async def test_a_good_token_is_shown_to_the_services_behind(checked: Edge) -> None:
    shown = signed(roles=["submitter"])
    socket = await enter(checked, shown)

    await socket.ask({"ref": "1", "submit": {"tasks": [{"type": "a"}]}})

    assert ("authorization", f"Bearer {shown}") in checked.peers.scheduler.metadata


@pytest.mark.parametrize(
    ("claims", "agent_id", "reason"),
    [
        ({"roles": ["submitter"]}, "agent-7", "ROLE_REQUIRED"),
        ({}, "agent-8", "AGENT_NOT_YOURS"),
        ({"capabilities": ["text.translate"]}, "agent-7", "CAPABILITY_NOT_GRANTED"),
    ],
)
async def test_a_visitor_speaks_only_for_its_own_agents(
    checked: Edge, claims: dict[str, Any], agent_id: str, reason: str
) -> None:
    socket = await enter(checked, signed(**claims))

    refused = await socket.hello(agent_id)

    assert refused["error"]["code"] == "PERMISSION_DENIED"
    assert refused["error"]["reason"] == reason
    assert checked.peers.routing.frames == []


@pytest.mark.parametrize("frame", [{"heartbeat": {}}, {"goodbye": {}}, {"renew": {}}])
async def test_b29_acting_for_another_agent_is_refused_and_the_connection_lives(
    checked: Edge, frame: dict[str, Any]
) -> None:
    socket = await enter(checked, signed(capabilities=["text.count"]))
    await socket.hello("agent-7")
    passed = len(checked.peers.routing.frames)

    refused = await socket.ask({"ref": "2", "agent": {"frames": [{"agentId": "agent-8", **frame}]}})

    assert refused["error"]["code"] == "PERMISSION_DENIED"
    assert refused["error"]["reason"] == "AGENT_NOT_YOURS"
    assert len(checked.peers.routing.frames) == passed
    assert (await socket.ask({"ref": "3", "ping": {}}))["ref"] == "3"


@pytest.mark.parametrize("agent_id", ["agent-7", "agent-7-tab-2"])
async def test_the_agent_of_the_token_and_those_named_after_it_may_speak(
    checked: Edge, agent_id: str
) -> None:
    socket = await enter(checked, signed(capabilities=["text.count"]))

    assert "ready" in (await socket.hello(agent_id))["agent"]["frames"][0]


async def test_w19_a_connection_ends_with_its_token(checked: Edge) -> None:
    socket = await enter(checked, signed(lasts_s=1))

    assert await socket.closed() == 4401


async def test_w19_a_connection_ends_with_the_key_of_its_token(
    checked: Edge, tmp_path: Path
) -> None:
    other = make_key()
    publish(tmp_path, "k2", other)
    socket = await enter(checked, signed())
    (tmp_path / "k1.pem").unlink()

    assert await socket.closed() == 4401
    now_s = SystemClock().now().wall_ms // 1_000
    newer = await enter(checked, token(other, kid="k2", iat=now_s, exp=now_s + 900))
    assert (await newer.ask({"ref": "1", "ping": {}}))["ref"] == "1"


async def test_an_edge_that_could_verify_no_token_does_not_start(
    start: Start, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition, match="holds no public key"):
        await start(auth="jwt", auth_keys_dir=tmp_path)


async def test_where_nobody_is_checked_a_token_is_not_needed(edge: Edge) -> None:
    await eventually(lambda: edge.peers.routing.streams)
    socket = await edge.connect()

    assert "ready" in (await socket.hello("anybody"))["agent"]["frames"][0]
    assert isinstance(socket.socket, aiohttp.ClientWebSocketResponse)
