"""The reference skeleton: the same hops and group commit over bare grpc.aio, nothing else.

It shows what the wire and the disk allow on the machine at hand: no queue order, leases, fencing,
scoring, retries, validation, history by task, metrics or traces. Podium's figures are told as a
ratio to it, measured in the same run. The roles are processes:

    client <-> scheduler (SQLite WAL, synchronous=FULL, group commit) <-> router <-> agent hosts
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from podium.v1 import routing_pb2, session_pb2, task_pb2, task_scheduler_pb2

SUBMIT = "/skeleton.Scheduler/Submit"
DISPATCH = "/skeleton.Scheduler/Dispatch"
SESSION = "/skeleton.Router/Session"


class Outlet:
    """What is to be written to one stream: everything at hand goes into one message."""

    def __init__(self, wrap: Callable[[list[Any]], Any], write: Callable[[Any], Any]) -> None:
        self._items: list[Any] = []
        self._wake = asyncio.Event()
        self._wrap = wrap
        self._write = write

    def put(self, items: list[Any]) -> None:
        """Add items; they leave with the next message."""
        self._items += items
        self._wake.set()

    async def pump(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            items, self._items = self._items, []
            if items:
                await self._write(self._wrap(items))


class Scheduler:
    """Keeps tasks and outcomes, each synced before it is told to anybody."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.execute("create table log (seq integer primary key, record blob)")
        self._writer = ThreadPoolExecutor(1)
        self._records: list[tuple[bytes]] = []
        self._after: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._client: Outlet | None = None
        self._router: Outlet | None = None
        self._count = 0

    def _append(self, records: list[tuple[bytes]], after: Callable[[], None]) -> None:
        self._records += records
        self._after.append(after)
        self._wake.set()

    async def commit(self) -> None:
        """Write everything at hand in one transaction, then let out what waited for it."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            records, self._records = self._records, []
            after, self._after = self._after, []
            await loop.run_in_executor(self._writer, self._write, records)
            for release in after:
                release()

    def _write(self, records: list[tuple[bytes]]) -> None:
        self._database.execute("begin")
        self._database.executemany("insert into log (record) values (?)", records)
        self._database.execute("commit")

    async def submit(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Serve the client."""
        self._client = Outlet(
            lambda ids: task_scheduler_pb2.SubmitTasksResponse(task_ids=ids), context.write
        )
        pump = asyncio.create_task(self._client.pump())
        async for request in requests:
            grants, records = [], []
            for spec in request.tasks:
                self._count += 1
                grant = task_scheduler_pb2.Grant(
                    task_id=spec.request_id, lease_epoch=self._count, attempt=1, spec=spec
                )
                grants.append(task_scheduler_pb2.DispatchOrder(grant=grant))
                records.append((grant.SerializeToString(),))
            self._append(records, lambda grants=grants: self._grant(grants))
        pump.cancel()

    def _grant(self, grants: list[Any]) -> None:
        if self._router is not None:
            self._router.put(grants)

    async def dispatch(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Serve the router."""
        self._router = Outlet(
            lambda orders: task_scheduler_pb2.OpenDispatchResponse(orders=orders), context.write
        )
        pump = asyncio.create_task(self._router.pump())
        async for request in requests:
            ended = [report.ended for report in request.reports]
            ids = [f"{one.lease.task_id}:{one.success.data.decode()}" for one in ended]
            records = [(report.SerializeToString(),) for report in request.reports]
            self._append(records, lambda ids=ids: self._done(ids))
        pump.cancel()

    def _done(self, ids: list[str]) -> None:
        if self._client is not None:
            self._client.put(ids)


class Router:
    """Passes each task to the next free agent, and its result back.

    An agent has one slot, as in the workload: it gets its next task when it has answered.
    """

    def __init__(self) -> None:
        self._free: deque[tuple[str, Outlet]] = deque()
        self._waiting: deque[Any] = deque()
        self._reports: Outlet | None = None

    async def follow(self, scheduler: str) -> None:
        """Keep the stream to the scheduler."""
        channel = grpc.aio.insecure_channel(scheduler)
        await channel.channel_ready()
        call = channel.stream_stream(
            DISPATCH,
            request_serializer=task_scheduler_pb2.OpenDispatchRequest.SerializeToString,
            response_deserializer=task_scheduler_pb2.OpenDispatchResponse.FromString,
        )()
        self._reports = Outlet(
            lambda reports: task_scheduler_pb2.OpenDispatchRequest(reports=reports), call.write
        )
        pump = asyncio.create_task(self._reports.pump())
        _say_ready()
        while (response := await call.read()) is not grpc.aio.EOF:
            self._waiting.extend(order.grant for order in response.orders)
            self._assign()
        pump.cancel()

    def _assign(self) -> None:
        batches: dict[Outlet, list[Any]] = {}
        while self._waiting and self._free:
            grant = self._waiting.popleft()
            agent_id, outlet = self._free.popleft()
            assign = session_pb2.Assign(
                task_id=grant.task_id,
                lease_epoch=grant.lease_epoch,
                attempt=grant.attempt,
                spec=grant.spec,
            )
            frame = session_pb2.RouterFrame(agent_id=agent_id, assign=assign)
            batches.setdefault(outlet, []).append(frame)
        for outlet, frames in batches.items():
            outlet.put(frames)

    async def session(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Serve a host of agents."""
        outlet = Outlet(
            lambda frames: routing_pb2.OpenSessionResponse(frames=frames), context.write
        )
        pump = asyncio.create_task(outlet.pump())
        async for request in requests:
            reports = []
            for frame in request.frames:
                self._free.append((frame.agent_id, outlet))
                if frame.HasField("hello"):
                    ready = session_pb2.RouterFrame(ready=session_pb2.Ready())
                    outlet.put([ready])
                    continue
                ended = task_scheduler_pb2.AttemptEnded(
                    lease=frame.result.lease,
                    agent_id=frame.agent_id,
                    success=frame.result.success,
                )
                reports.append(task_scheduler_pb2.DispatchReport(ended=ended))
            self._assign()
            if reports and self._reports is not None:
                self._reports.put(reports)
        pump.cancel()


async def host(router: str, agents: int, streams: int) -> None:
    """Run agents that answer at once."""
    ready = asyncio.Semaphore(0)
    names = [[f"a{n}-{s}" for n in range(agents // streams)] for s in range(streams)]
    running = [asyncio.create_task(_stream(router, ids, ready)) for ids in names]
    for _ in running:
        await ready.acquire()
    _say_ready()
    await asyncio.gather(*running)


async def _stream(router: str, agent_ids: list[str], ready: asyncio.Semaphore) -> None:
    # Own connections, as separate agents have them.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.insecure_channel(router, options=options)
    await channel.channel_ready()
    call = channel.stream_stream(
        SESSION,
        request_serializer=routing_pb2.OpenSessionRequest.SerializeToString,
        response_deserializer=routing_pb2.OpenSessionResponse.FromString,
    )()
    hellos = [session_pb2.AgentFrame(agent_id=a, hello=session_pb2.Hello()) for a in agent_ids]
    await call.write(routing_pb2.OpenSessionRequest(frames=hellos))
    await call.read()
    ready.release()
    while (response := await call.read()) is not grpc.aio.EOF:
        frames = []
        for frame in response.frames:
            if not frame.HasField("assign"):
                continue
            assign = frame.assign
            lease = session_pb2.LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)
            # As Podium's agents in this bench answer: when they had it.
            began = task_pb2.Payload(data=str(time.time_ns()).encode())
            result = session_pb2.Result(lease=lease, success=began)
            frames.append(session_pb2.AgentFrame(agent_id=frame.agent_id, result=result))
        if frames:
            await call.write(routing_pb2.OpenSessionRequest(frames=frames))


def _say_ready() -> None:
    print("ready", flush=True)


def _handler(method: Any, request: Any, response: Any) -> grpc.RpcMethodHandler:
    return grpc.stream_stream_rpc_method_handler(
        method, request.FromString, response.SerializeToString
    )


async def _serve(port: int, handlers: dict[str, grpc.RpcMethodHandler]) -> grpc.aio.Server:
    server = grpc.aio.server()
    for path, handler in handlers.items():
        service, method = path[1:].split("/")
        generic = grpc.method_handlers_generic_handler(service, {method: handler})
        server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server  # a server nobody holds is collected, and stops


async def _run(arguments: argparse.Namespace) -> None:
    if arguments.role == "scheduler":
        scheduler = Scheduler(arguments.path)
        handlers = {
            SUBMIT: _handler(
                scheduler.submit,
                task_scheduler_pb2.SubmitTasksRequest,
                task_scheduler_pb2.SubmitTasksResponse,
            ),
            DISPATCH: _handler(
                scheduler.dispatch,
                task_scheduler_pb2.OpenDispatchRequest,
                task_scheduler_pb2.OpenDispatchResponse,
            ),
        }
        server = await _serve(arguments.port, handlers)
        _say_ready()
        await scheduler.commit()
        await server.stop(0)
    elif arguments.role == "router":
        router = Router()
        handler = _handler(
            router.session, routing_pb2.OpenSessionRequest, routing_pb2.OpenSessionResponse
        )
        server = await _serve(arguments.port, {SESSION: handler})
        await router.follow(arguments.peer)
        await server.stop(0)
    else:
        await host(arguments.peer, arguments.agents, arguments.streams)


def main() -> int:
    """Run one role until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["scheduler", "router", "host"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--peer", default="", help="host:port of the role before")
    parser.add_argument("--path", type=Path, help="the scheduler's database")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--streams", type=int, default=1)
    uvloop.run(_run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
