from __future__ import annotations

from typing import Any

from podium.v1.agent_pb2 import Agent
from podium.v1.agent_registry_pb2 import WatchAgentsResponse
from podium.v1.analytics_pb2 import WatchWindowsRequest, Window
from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse
from services.edge.servicer.feeds import Reader, WindowFold
from services.edge.servicer.merging import Update
from services.kernel.errors import Unavailable
from tests.edge.conftest import Edge, Socket
from tests.support.waiting import eventually

WATCH = {"ref": "w", "watchAgents": {"minInterval": "1s"}}


def change(*agent_ids: str, removed: tuple[str, ...] = (), caught_up: bool = True) -> Any:
    return WatchAgentsResponse(
        agents=[Agent(agent_id=each) for each in agent_ids],
        removed_agent_ids=removed,
        caught_up=caught_up,
    )


async def following(edge: Edge, ref: str = "w") -> Socket:
    socket = await edge.connect()
    await socket.say({**WATCH, "ref": ref})
    return socket


def ids(heard: dict[str, Any]) -> list[str]:
    return [agent["agentId"] for agent in heard["agents"].get("agents", [])]


async def test_many_who_watch_the_same_are_one_watch_of_the_service(edge: Edge) -> None:
    sockets = [await following(edge, f"w-{number}") for number in range(5)]
    await eventually(lambda: edge.peers.registry.watching)

    edge.peers.registry.agents.put_nowait(change("a-1"))
    heard = [await socket.hear() for socket in sockets]

    assert [each["ref"] for each in heard] == [f"w-{number}" for number in range(5)]
    assert all(ids(each) == ["a-1"] for each in heard)
    assert edge.peers.registry.watching == 1


async def test_who_comes_later_begins_with_all_that_was_told(edge: Edge) -> None:
    first = await following(edge)
    for told in (change("a-1", "a-2"), change("a-3", removed=("a-1",))):
        edge.peers.registry.agents.put_nowait(told)
        await first.hear()

    later = await (await following(edge)).hear()

    assert ids(later) == ["a-2", "a-3"]
    assert later["agents"]["caughtUp"]


async def test_the_watch_ends_with_its_last_reader_and_begins_anew(edge: Edge) -> None:
    first, second = await following(edge), await following(edge)
    await eventually(lambda: edge.peers.registry.watching == 1)

    await first.ask({"ref": "u", "unwatch": {"watchRef": "w"}})
    edge.peers.registry.agents.put_nowait(change("a-1"))
    assert ids(await second.hear()) == ["a-1"]
    await second.socket.close()
    await eventually(lambda: edge.peers.registry.watching == 0)

    third = await following(edge)
    edge.peers.registry.agents.put_nowait(change("a-9"))
    assert ids(await third.hear()) == ["a-9"]


async def test_all_readers_are_told_when_the_service_ends_the_watch(edge: Edge) -> None:
    sockets = [await following(edge)]
    edge.peers.registry.agents.put_nowait(change("a-1"))
    await sockets[0].hear()
    sockets.append(await following(edge))
    await sockets[1].hear()

    edge.peers.registry.agents.put_nowait(Unavailable("DRAINING", "The registry drains."))

    for socket in sockets:
        assert (await socket.hear())["error"]["reason"] == "DRAINING"


async def test_other_tokens_and_other_questions_share_nothing(edge: Edge) -> None:
    await following(edge)
    await (await edge.connect()).say({"ref": "w", "watchAgents": {"minInterval": "2s"}})
    shown = await edge.connect(protocols=["podium.v1.json", "podium.bearer.abc"])
    await shown.say(WATCH)

    await eventually(lambda: edge.peers.registry.watching == 3)


async def test_a_reader_that_lags_gets_one_update_and_changes_none_of_the_others() -> None:
    slow, quick = Reader(), Reader()
    first, second = (Update(BridgeResponse(agents=change(each))) for each in ("a-1", "a-2"))
    for update in (first, second):
        slow.give(update)
        quick.give(update)
        assert await quick.next() is update

    merged = (await slow.next()).response

    assert [agent.agent_id for agent in merged.agents.agents] == ["a-1", "a-2"]
    assert [agent.agent_id for agent in first.response.agents.agents] == ["a-1"]


def test_as_many_windows_are_kept_as_were_asked_for_and_the_open_one() -> None:
    fold = WindowFold(BridgeRequest(watch_windows=WatchWindowsRequest(count=2)))
    for start in (10, 20, 30, 40):
        window = Window()
        window.start_time.seconds = start
        response = BridgeResponse()
        response.windows.windows.append(window)
        fold.take(response)

    told = fold.told()

    assert told is not None
    assert [window.start_time.seconds for window in told.windows.windows] == [20, 30, 40]
