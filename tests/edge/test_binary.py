from __future__ import annotations

import aiohttp
import pytest

from podium.v1.bridge_pb2 import AgentFrames, BridgeRequest, BridgeResponse, Ping
from podium.v1.session_pb2 import AgentFrame, Hello
from podium.v1.task_pb2 import Payload, TaskSpec
from podium.v1.task_scheduler_pb2 import SubmitTasksRequest
from services.edge.adapters.binary import ProtoCodec
from services.kernel.errors import InvalidArgument
from tests.edge.conftest import Edge
from tests.support.waiting import eventually

CODEC = ProtoCodec()
PING = BridgeRequest(ref="p", ping=Ping())


class Binary:
    """A client that was made from the stubs alone."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def hear(self) -> BridgeResponse:
        return BridgeResponse.FromString(await self.socket.receive_bytes(timeout=5))

    async def ask(self, request: BridgeRequest) -> BridgeResponse:
        await self.socket.send_bytes(request.SerializeToString())
        return await self.hear()


@pytest.fixture
async def client(edge: Edge) -> Binary:
    socket = await edge.http.ws_connect(f"{edge.url}/ws", protocols=["podium.v1.proto"])
    assert socket.protocol == "podium.v1.proto"
    client = Binary(socket)
    assert (await client.hear()).notice.kind == "WELCOME"
    return client


def test_what_goes_to_many_readers_is_the_same_bytes_under_each_ref() -> None:
    response = BridgeResponse()
    response.events.cursor = "7"
    body = CODEC.encode(response)

    found = BridgeResponse.FromString(CODEC.address("w-1", body))

    assert (found.ref, found.events.cursor) == ("w-1", "7")


@pytest.mark.parametrize("wrong", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28"])
def test_malformed_bytes_are_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        CODEC.decode(wrong)

    assert caught.value.reason == "MALFORMED_REQUEST"


async def test_a_client_submits_in_binary(edge: Edge, client: Binary) -> None:
    spec = TaskSpec(type="text.count", payload=Payload(data=b"\x00\xff"))

    answer = await client.ask(BridgeRequest(ref="1", submit=SubmitTasksRequest(tasks=[spec])))

    assert (answer.ref, list(answer.submitted.task_ids)) == ("1", ["t-1"])
    assert edge.peers.scheduler.submitted[0].tasks[0].payload.data == b"\x00\xff"


async def test_an_agent_has_its_session_in_binary(edge: Edge, client: Binary) -> None:
    await eventually(lambda: edge.peers.routing.streams)
    hello = Hello(instance_id="i-1", capabilities=[{"name": "text.count"}])
    frames = AgentFrames(frames=[AgentFrame(agent_id="a-1", hello=hello)])

    answer = await client.ask(BridgeRequest(agent=frames))

    assert answer.agent.frames[0].ready.resume_token == "r-1"
    assert edge.peers.routing.said("hello")[0].hello.transport == "websocket"


async def test_bad_bytes_are_answered_and_the_connection_lives(client: Binary) -> None:
    await client.socket.send_bytes(b"\xff\xff")

    assert (await client.hear()).error.reason == "MALFORMED_REQUEST"
    assert (await client.ask(PING)).HasField("pong")


async def test_text_does_not_belong_to_this_protocol(client: Binary) -> None:
    await client.socket.send_str('{"ref":"1","ping":{}}')

    message = await client.socket.receive(timeout=5)

    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.data == aiohttp.WSCloseCode.UNSUPPORTED_DATA


async def test_the_first_protocol_that_both_know_is_spoken(edge: Edge) -> None:
    offered = ["graphql-ws", "podium.v1.proto", "podium.v1.json"]
    socket = await edge.http.ws_connect(f"{edge.url}/ws", protocols=offered)

    assert socket.protocol == "podium.v1.proto"
