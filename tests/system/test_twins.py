"""Two processes under one agent id, on two routers: the newer one works and the older one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.contracts.session_script import bridged
from tests.support.waiting import eventually
from tests.system.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stage, str]]:
    async with staged(tmp_path_factory.mktemp("twins")) as made:
        _, address = await made.another_router()
        yield made, address


@pytest_asyncio.fixture(loop_scope="module")
async def twins(suite: tuple[Stage, str]) -> AsyncIterator[tuple[Stage, str]]:
    """A suite with two routers, and the address of the second."""
    yield suite
    await suite[0].leave()


async def test_dup_agent_id_over_two_routers(twins: tuple[Stage, str]) -> None:
    """A newer instance takes over; a lease never has two owners; the older one stays out."""
    stage, address = twins
    first, second, third = stage.wire(), stage.wire(address), stage.wire(address)
    await first.hello("twin", "doubled", instance_id="one")
    task_id = await stage.submit_one("doubled")
    assign = (await first.until("twin", "assign"))[0]
    await first.ack("twin", assign)
    await stage.until(task_id, "STARTED")

    await second.hello("twin", "doubled", instance_id="two")
    superseded = await first.until("twin", "superseded")
    await first.result("twin", assign, b"from the older one")
    again = (await second.until("twin", "assign"))[0]
    assert again.lease_epoch > assign.lease_epoch
    # It does not heed the word, and comes to the router of the newer one.
    await third.say_hello("twin", "doubled", instance_id="one")
    refused = await third.until("twin", "superseded")
    await second.ack("twin", again)
    await second.result("twin", again, b"from the newer one")
    task = await stage.ended(task_id)

    assert (superseded[0].instance_id, refused[0].instance_id) == ("two", "two")
    assert task.result.data == b"from the newer one"
    assert (await stage.story(task_id)).count("COMPLETED") == 1
    assert second.of("twin", "superseded") == []
    assert (await stage.agent("twin")).instance_id == "two"


async def test_f8_of_two_processes_on_two_routers_the_newer_works_and_the_older_ends(
    twins: tuple[Stage, str],
) -> None:
    stage, address = twins
    older = await stage.worked("f8", "f8")
    task_id = await stage.submit_one("f8", "first 60")
    await stage.until(task_id, "STARTED")
    newer = await stage.worked("f8", "f8", routing=address)
    code = await asyncio.to_thread(older.wait)
    await stage.ended(task_id)

    assert code != 0
    assert "started again elsewhere" in older.output()
    assert newer.popen.poll() is None
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_f8_two_that_came_while_there_was_no_registry_are_told_apart_once_it_is_back(
    twins: tuple[Stage, str],
) -> None:
    stage, address = twins
    await stage.kill("agent_registry")
    older = await stage.worked("f8-late", "f8-late")
    newer = await stage.worked("f8-late", "f8-late", routing=address)
    await stage.start("agent_registry")
    code = await asyncio.to_thread(older.wait)
    task_id = await stage.submit_one("f8-late", "sleep 0")
    await stage.ended(task_id)

    assert code != 0
    assert "started again elsewhere" in older.output()
    assert newer.popen.poll() is None


class Tab:
    """A page with an agent: answers probes, and remembers what else it hears."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._hello: dict[str, Any] = {}
        self.heard: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._listen())

    async def say(self, **frame: Any) -> None:
        await self._socket.send_json({"agent": {"frames": [{"agentId": "tab", **frame}]}})

    async def hello(self, instance_id: str) -> None:
        self._hello = {"instanceId": instance_id, "capabilities": [{"name": "tabbed"}]}
        await self.say(hello=self._hello)

    def of(self, kind: str) -> list[Any]:
        return [frame[kind] for frame in self.heard if kind in frame]

    async def until(self, kind: str) -> Any:
        return (await eventually(lambda: self.of(kind)))[0]

    async def close(self) -> None:
        await self._socket.close()
        await self._task

    async def _listen(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "error" in said:  # the bridge has not reached Routing yet
                await asyncio.sleep(0.05)
                await self.say(hello=self._hello)
            for frame in said.get("agent", {}).get("frames", ()):
                self.heard.append(frame)
                if "probe" in frame:
                    await self.say(probeReply=frame["probe"])


async def test_a_tab_that_wakes_up_after_it_was_superseded_leaves_the_newer_one_at_work(
    twins: tuple[Stage, str],
) -> None:
    stage, address = twins
    async with bridged(address) as edge, aiohttp.ClientSession() as http:
        tabs = [
            Tab(await http.ws_connect(f"http://{edge}/ws", protocols=["podium.v1.json"]))
            for _ in range(3)
        ]
        older, newer, awake = tabs
        await older.hello("one")
        await older.until("ready")
        await newer.hello("two")
        await older.until("superseded")

        await awake.hello("one")

        assert await awake.until("superseded") == {"instanceId": "two"}
        task_id = await stage.submit_one("tabbed")
        assign = await newer.until("assign")
        lease = {"taskId": assign["taskId"], "leaseEpoch": assign["leaseEpoch"]}
        await newer.say(result={"lease": lease, "success": {"data": "aGk="}})
        assert (await stage.ended(task_id)).result.data == b"hi"
        assert newer.of("superseded") == []
        for tab in tabs:
            await tab.close()
