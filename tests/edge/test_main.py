from __future__ import annotations

import asyncio
import json
import urllib.request

import aiohttp

from tests.support.ports import free_port
from tests.support.processes import Processes

NOWHERE = {
    f"PODIUM_{name}_ADDRESS": "127.0.0.1:1"
    for name in ("TASK_SCHEDULER", "AGENT_REGISTRY", "ROUTING", "ANALYTICS")
}


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_an_edge_alone_serves_says_what_it_waits_for_and_drains_in_order(
    processes: Processes,
) -> None:
    port = free_port()
    environ = {**NOWHERE, "PODIUM_EDGE_PORT": str(port)}
    process = processes.python("-m", "services.edge", environ=environ)
    process.wait_for(rf"listening on 127.0.0.1:{port}")
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/readyz") == (
        503,
        "TaskScheduler is not reached: see PODIUM_TASK_SCHEDULER_ADDRESS\n",
    )
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{port}/ws", protocols=["podium.v1.json"]) as socket,
    ):
        await socket.receive(timeout=5)
        await socket.send_str('{"ref":"1","queueStats":{}}')
        refused = json.loads((await socket.receive(timeout=5)).data)
        assert refused["error"]["reason"] == "PEER_UNAVAILABLE"
        assert "TaskScheduler cannot be reached" in refused["error"]["message"]

        stopping = asyncio.create_task(asyncio.to_thread(process.stop))

        notice = json.loads((await socket.receive(timeout=5)).data)["notice"]
        assert notice["kind"] == "DRAINING"
        assert (await socket.receive(timeout=5)).data == aiohttp.WSCloseCode.SERVICE_RESTART
    assert await stopping == 0


def test_a_taken_port_is_one_sentence_that_names_the_setting(processes: Processes) -> None:
    port = free_port()
    environ = {**NOWHERE, "PODIUM_EDGE_PORT": str(port)}
    processes.python("-m", "services.edge", environ=environ).wait_for("listening")

    second = processes.python("-m", "services.edge", environ=environ)

    assert second.wait() == 1
    assert "PODIUM_EDGE_PORT" in second.output()
    assert "Traceback" not in second.output()
