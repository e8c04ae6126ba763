from __future__ import annotations

from typing import Any

from podium.v1.session_pb2 import (
    Assign,
    LeaseRef,
    Refusal,
    RouterDrain,
    RouterFrame,
    Tune,
)
from services.kernel.errors import Unavailable
from tests.edge.conftest import Edge, Socket, Start
from tests.support.waiting import eventually


def frames(agent_id: str, **frame: Any) -> dict[str, Any]:
    return {"agent": {"frames": [{"agentId": agent_id, **frame}]}}


async def attached(edge: Edge) -> None:
    await eventually(lambda: edge.peers.routing.streams)


async def connect(edge: Edge, agent_id: str = "a-1", **fields: Any) -> Socket:
    """Connects an agent and returns its socket once it is ready."""
    await attached(edge)
    socket = await edge.connect()
    heard = await socket.hello(agent_id, **fields)
    assert "ready" in heard["agent"]["frames"][0], heard
    return socket


async def test_agents_of_all_connections_share_one_stream(edge: Edge) -> None:
    await connect(edge, "a-1")
    await connect(edge, "a-2")

    hellos = edge.peers.routing.said("hello")

    assert edge.peers.routing.streams == 1
    assert [frame.agent_id for frame in hellos] == ["a-1", "a-2"]
    assert {frame.hello.transport for frame in hellos} == {"websocket"}


async def test_frames_go_to_the_connection_that_speaks_for_the_agent(edge: Edge) -> None:
    first, second = await connect(edge, "a-1"), await connect(edge, "a-2")
    lease = LeaseRef(task_id="t-1", lease_epoch=2**53 + 1)

    edge.peers.routing.say.put_nowait(
        [
            RouterFrame(agent_id="a-2", seq=2, assign=Assign(task_id="t-1", lease_epoch=2**53 + 1)),
            RouterFrame(agent_id="a-9", seq=2, assign=Assign(task_id="t-9")),
        ]
    )
    heard = (await second.hear())["agent"]["frames"]
    await second.say(frames("a-2", ack={"lease": {"taskId": "t-1", "leaseEpoch": str(2**53 + 1)}}))

    assert [frame["assign"]["leaseEpoch"] for frame in heard] == [str(2**53 + 1)]
    await eventually(lambda: edge.peers.routing.said("ack"))
    assert edge.peers.routing.said("ack")[0].ack.lease == lease
    assert (await first.ask({"ref": "1", "ping": {}}))["ref"] == "1"


async def test_nobody_speaks_for_the_agent_of_another_connection(edge: Edge) -> None:
    await connect(edge, "a-1")
    other = await edge.connect()

    refused = await other.ask(frames("a-1", drain={"reason": "mischief"}))

    assert refused["error"]["reason"] == "HELLO_REQUIRED"
    assert edge.peers.routing.said("drain") == []


async def test_a_lost_connection_is_told_to_routing_agent_by_agent(edge: Edge) -> None:
    socket = await connect(edge, "a-1")
    await socket.hello("a-2")

    await socket.socket.close()

    await eventually(lambda: len(edge.peers.routing.said("detached")) == 2)
    assert {frame.agent_id for frame in edge.peers.routing.said("detached")} == {"a-1", "a-2"}


async def test_an_agent_that_said_goodbye_is_not_lost_as_well(edge: Edge) -> None:
    socket = await connect(edge, "a-1")
    await socket.hello("a-2")

    await socket.say(frames("a-1", goodbye={}))
    await socket.socket.close()

    await eventually(lambda: edge.peers.routing.said("detached"))
    assert [frame.agent_id for frame in edge.peers.routing.said("detached")] == ["a-2"]


async def test_a_newer_instance_takes_over_when_routing_says_so(edge: Edge) -> None:
    older = await connect(edge, "a-1", instanceId="i-1")

    newer = await connect(edge, "a-1", instanceId="i-2")

    told = (await older.hear())["agent"]["frames"][0]
    assert told == {"agentId": "a-1", "superseded": {"instanceId": "i-2"}}
    assert [frame.WhichOneof("frame") for frame in edge.peers.routing.frames] == ["hello", "hello"]
    edge.peers.routing.say.put_nowait([RouterFrame(agent_id="a-1", assign=Assign(task_id="t-1"))])
    heard = (await newer.hear())["agent"]["frames"]
    assert [frame["assign"]["taskId"] for frame in heard] == ["t-1"]
    assert (await older.ask(frames("a-1", goodbye={})))["error"]["reason"] == "HELLO_REQUIRED"
    await older.socket.close()
    assert (await newer.ask({"ref": "1", "ping": {}}))["ref"] == "1"
    assert edge.peers.routing.said("detached") == []


async def test_an_instance_that_routing_turns_away_takes_nothing_from_the_one_that_stays(
    edge: Edge,
) -> None:
    staying = await connect(edge, "a-1", instanceId="i-2")
    edge.peers.routing.stays = "i-2"
    late = await edge.connect()

    told = await late.hello("a-1", instanceId="i-1")
    await late.socket.close()

    assert told["agent"]["frames"][0]["superseded"] == {"instanceId": "i-2"}
    edge.peers.routing.say.put_nowait([RouterFrame(agent_id="a-1", assign=Assign(task_id="t-1"))])
    assert "assign" in (await staying.hear())["agent"]["frames"][0]
    await staying.say(frames("a-1", heartbeat={}))
    await eventually(lambda: edge.peers.routing.said("heartbeat"))
    assert edge.peers.routing.said("detached") == []


async def test_a_refused_hello_does_not_cost_the_session_of_another_instance(edge: Edge) -> None:
    staying = await connect(edge, "a-1", instanceId="i-1")
    late = await edge.connect()
    refusal = Refusal(reason="TOO_MANY_AGENTS", code="RESOURCE_EXHAUSTED", closing=True)
    edge.peers.routing.refusal = refusal

    told = await late.hello("a-1", instanceId="i-2")

    assert told["agent"]["frames"][0]["refusal"]["reason"] == "TOO_MANY_AGENTS"
    assert (await staying.ask({"ref": "1", "ping": {}}))["ref"] == "1"
    await staying.say(frames("a-1", heartbeat={}))
    await eventually(lambda: edge.peers.routing.said("heartbeat"))


async def test_the_stream_on_which_a_newer_instance_came_is_lost_without_the_others(
    edge: Edge,
) -> None:
    bystander = await connect(edge, "a-2")
    await connect(edge, "a-1", instanceId="i-1")
    newer = await connect(edge, "a-1", instanceId="i-2")

    edge.peers.routing.say.of_agent["a-1"].put_nowait(Unavailable("STREAM_STALLED", "slow"))
    told = (await newer.hear())["agent"]["frames"][0]
    again = await newer.hello("a-1", instanceId="i-2")

    assert told["refusal"]["reason"] == "ROUTER_LOST"
    assert "ready" in again["agent"]["frames"][0]
    assert (await bystander.ask({"ref": "1", "ping": {}}))["ref"] == "1"


async def test_a_third_instance_waits_until_routing_has_said_which_of_two_stays(
    edge: Edge,
) -> None:
    await connect(edge, "a-1", instanceId="i-1")
    edge.peers.routing.welcoming = False
    second, third = await edge.connect(), await edge.connect()
    await second.say(frames("a-1", hello={"instanceId": "i-2", "capabilities": [{"name": "x"}]}))
    await eventually(lambda: len(edge.peers.routing.said("hello")) == 2)

    refused = await third.hello("a-1", instanceId="i-3")

    assert refused["error"]["reason"] == "HELLO_PENDING"
    assert int(refused["error"]["retryAfterMs"]) > 0
    await second.socket.close()
    await eventually(lambda: edge.peers.routing.said("detached"))
    edge.peers.routing.welcoming = True
    assert "ready" in (await third.hello("a-1", instanceId="i-3"))["agent"]["frames"][0]


async def test_a_process_that_connects_anew_leaves_its_older_connection_at_once(
    edge: Edge,
) -> None:
    older = await connect(edge, "a-1", instanceId="i-1")

    newer = await connect(edge, "a-1", instanceId="i-1")

    told = (await older.hear())["agent"]["frames"][0]
    assert told == {"agentId": "a-1", "superseded": {"instanceId": "i-1"}}
    assert [frame.WhichOneof("frame") for frame in edge.peers.routing.frames] == [
        "hello",
        "detached",
        "hello",
    ]
    assert edge.peers.routing.streams == 1
    await older.socket.close()
    assert (await newer.ask({"ref": "1", "ping": {}}))["ref"] == "1"
    assert len(edge.peers.routing.said("detached")) == 1


async def test_a_second_hello_is_refused_and_the_session_goes_on(edge: Edge) -> None:
    socket = await connect(edge, "a-1")

    assert (await socket.hello("a-1"))["error"]["reason"] == "HELLO_REPEATED"

    await socket.say(frames("a-1", heartbeat={}))
    await eventually(lambda: edge.peers.routing.said("heartbeat"))


async def test_a_hello_that_routing_would_refuse_does_not_reach_the_shared_stream(
    edge: Edge,
) -> None:
    await attached(edge)
    socket = await edge.connect()

    wrong = await socket.hello("a-1", maxConcurrency=2_000)
    assert wrong["error"]["agentId"] == "a-1"
    none = await socket.hello("a-1", capabilities=[])
    wild = await socket.hello("a-1", capabilities=[{"name": "*"}])

    assert wrong["error"]["field"] == "agent.frames[0].hello.maxConcurrency"
    assert none["error"]["field"] == "agent.frames[0].hello.capabilities"
    assert wild["error"]["field"] == "agent.frames[0].hello.capabilities[0].name"
    assert edge.peers.routing.frames == []


async def test_what_is_not_an_agents_fault_is_not_held_against_its_connection(edge: Edge) -> None:
    socket = await connect(edge, "a-1")
    refusal = Refusal(reason="HELLO_RATE", code="RESOURCE_EXHAUSTED", closing=True)
    refusal.retry_after.FromMilliseconds(1_500)

    for _ in range(6):  # one more than a connection may have of its own faults
        edge.peers.routing.say.put_nowait([RouterFrame(agent_id="a-1", refusal=refusal)])
        told = (await socket.hear())["agent"]["frames"][0]["refusal"]
        assert (told["closing"], told["retryAfter"]) == (True, "1.500s")
        await socket.hello("a-1")

    assert (await socket.ask({"ref": "1", "ping": {}}))["ref"] == "1"


async def test_when_routing_is_lost_agents_say_hello_again_on_the_same_connection(
    edge: Edge,
) -> None:
    socket = await connect(edge, "a-1")

    edge.peers.routing.say.put_nowait(Unavailable("DRAINING", "Routing drains."))

    told = (await socket.hear())["agent"]["frames"][0]
    assert told["refusal"]["reason"] == "ROUTER_LOST"
    assert told["refusal"]["closing"] is True
    await eventually(lambda: edge.peers.routing.streams == 2)
    again = await socket.hello("a-1", inFlight=[{"taskId": "t-1", "leaseEpoch": "7"}])
    assert "ready" in again["agent"]["frames"][0]
    assert edge.peers.routing.said("hello")[1].hello.in_flight[0].lease_epoch == 7


async def test_while_routing_is_away_agents_are_told_when_to_try_again(edge: Edge) -> None:
    await attached(edge)
    edge.peers.routing.say.put_nowait(Unavailable("DRAINING", "Routing drains."))
    socket = await edge.connect()

    async def told() -> dict[str, Any]:
        heard = await socket.hello("a-1")
        if "agent" in heard:  # the stream was there still, or again
            await socket.say(frames("a-1", goodbye={}))
            edge.peers.routing.say.put_nowait(Unavailable("DRAINING", "Routing drains."))
            return {}
        return heard

    refused = await eventually(told)

    assert refused["error"]["code"] == "UNAVAILABLE"
    assert refused["error"]["reason"] == "ROUTING_UNREACHABLE"
    assert int(refused["error"]["retryAfterMs"]) > 0


async def test_what_routing_says_to_the_whole_stream_reaches_every_agent(edge: Edge) -> None:
    first, second = await connect(edge, "a-1"), await connect(edge, "a-2")

    edge.peers.routing.say.put_nowait([RouterFrame(tune=Tune())])

    for socket in (first, second):
        assert "tune" in (await socket.hear())["agent"]["frames"][0]


async def test_agents_are_spread_over_all_routings_with_one_stream_to_each(start: Start) -> None:
    edge = await start(routings=2)
    for routing in edge.peers.routings:
        await eventually(lambda routing=routing: routing.streams)
    names = [f"a-{number}" for number in range(12)]
    for name in names:
        await connect(edge, name)

    spoken = [{frame.agent_id for frame in each.said("hello")} for each in edge.peers.routings]

    assert [each.streams for each in edge.peers.routings] == [1, 1]
    assert all(spoken)
    assert sorted(spoken[0] | spoken[1]) == sorted(names)
    assert spoken[0] & spoken[1] == set()


async def test_the_agents_of_a_draining_routing_move_to_another_with_their_leases(
    start: Start,
) -> None:
    edge = await start(routings=2)
    for routing in edge.peers.routings:
        await eventually(lambda routing=routing: routing.streams)
    socket = await connect(edge, "a-1")
    old, new = sorted(edge.peers.routings, key=lambda routing: not routing.said("hello"))
    held = [{"taskId": "t-1", "leaseEpoch": "7"}]

    old.say.put_nowait([RouterFrame(drain=RouterDrain())])
    told = (await socket.hear())["agent"]["frames"][0]
    again = await socket.hello("a-1", inFlight=held)

    assert told["refusal"]["reason"] == "ROUTER_LOST"
    assert told["refusal"]["closing"]
    assert "ready" in again["agent"]["frames"][0]
    assert [lease.lease_epoch for lease in new.said("hello")[0].hello.in_flight] == [7]
    await eventually(lambda: old.said("detached"))


async def test_where_there_is_no_other_routing_agents_wait_until_it_is_back(edge: Edge) -> None:
    socket = await connect(edge, "a-1")

    edge.peers.routing.say.put_nowait([RouterFrame(drain=RouterDrain())])
    await socket.hear()
    refused = await socket.hello("a-1")
    edge.peers.routing.say.put_nowait(Unavailable("DRAINING", "gone"))
    await eventually(lambda: edge.peers.routing.streams == 2)

    assert refused["error"]["reason"] == "ROUTING_UNREACHABLE"
    assert "ready" in (await socket.hello("a-1"))["agent"]["frames"][0]


async def test_frames_that_routing_refuses_count_against_their_own_connection(edge: Edge) -> None:
    clumsy, careful = await connect(edge, "a-1"), await connect(edge, "a-2")
    refusal = Refusal(reason="INVALID_FIELD", message="wrong")

    for _ in range(5):
        edge.peers.routing.say.put_nowait([RouterFrame(agent_id="a-1", refusal=refusal)])

    assert await clumsy.closed() == 1008
    assert (await careful.ask({"ref": "1", "ping": {}}))["ref"] == "1"
