"""A replica dies at an edge of its write path, and another takes its partitions over under load."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from functools import partial

import grpc.aio

from podium.v1 import event_pb2
from podium.v1.task_pb2 import Task
from services.kernel.rpc import from_rpc_error
from services.task_scheduler.ports import FAILPOINTS
from tests.support.waiting import eventually
from tests.system.tenants import tenants_by_partition
from tests.system.test_takeover import Replica, Start
from tests.task_scheduler.serving import spec
from tests.task_scheduler.test_recovery import SNAPSHOTS, all_ids, is_commit, whole_log

AGAIN = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
WITHIN_S = 30.0
PASSES = 40
POINTS = [point for point in FAILPOINTS if "compaction" not in point]
"""Compaction comes too seldom to wait for it."""


def dead(replica: Replica) -> bool:
    return replica.process.popen.poll() is not None


class Survivors:
    """A replica that lives through all of it, and clients and routers who know all replicas."""

    def __init__(self, start: Start, count: int) -> None:
        self.acked: dict[str, str] = {}
        self.settled: set[str] = set()
        self._start = start
        self._tenants = tenants_by_partition(count)
        self._replicas: list[Replica] = []

    async def run(self, points: Sequence[str]) -> None:
        """Lets one replica after the other die at one of some failpoints.

        Raises:
            AssertionError: a promise was broken.
        """
        survivor = await self._start()
        self._replicas = [survivor]
        work = [asyncio.ensure_future(self._submit(n)) for n in range(len(self._tenants))]
        work += [asyncio.ensure_future(self._route(n)) for n in range(len(self._tenants))]
        try:
            for point in points:
                crash = f"{point}=crash@{PASSES if is_commit(point) else 1}"
                victim = await self._start(PODIUM_FAILPOINTS=crash, **SNAPSHOTS)
                self._replicas = [victim, survivor]
                await eventually(partial(dead, victim), within_s=WITHIN_S)
                self._replicas = [survivor]
                await self._more()
            for one in work:
                assert not one.done(), one.result()
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        await self._check(survivor)

    async def _more(self) -> None:
        """Waits until each partition has taken a good many more."""
        before = self._by_partition()
        await eventually(
            lambda: all(count >= before[n] + 20 for n, count in self._by_partition().items()),
            within_s=WITHIN_S,
        )

    def _by_partition(self) -> dict[int, int]:
        counts = Counter(int(task_id[:2], 16) for task_id in self.acked.values())
        return {number: counts[number] for number in range(len(self._tenants))}

    async def _submit(self, number: int) -> None:
        for count in itertools.count():
            request_id = f"q{number}-{count}"
            self.acked[request_id] = await self._answered(number, request_id)

    async def _answered(self, number: int, request_id: str) -> str:
        for turn in itertools.count():
            replica = self._replicas[turn % len(self._replicas)]
            try:
                asked = spec(tenant=self._tenants[number], request_id=request_id)
                return (await replica.submit(asked))[0]
            except grpc.aio.AioRpcError as error:
                assert from_rpc_error(error).code in AGAIN, error
                await asyncio.sleep(0.02)
        raise AssertionError

    async def _route(self, partition: int) -> None:
        for turn in itertools.count():
            replica = self._replicas[turn % len(self._replicas)]
            try:
                async with replica.router("work", partition=partition) as router:
                    while True:
                        grant = await router.grant()
                        if (await router.complete(grant)).verdict == 1:
                            self.settled.add(grant.task_id)
            except (grpc.aio.AioRpcError, AssertionError, asyncio.InvalidStateError):
                # The stream has ended with its partition's owner: the next one gets the rest.
                await asyncio.sleep(0.05)

    async def _check(self, survivor: Replica) -> None:
        ids = await all_ids(survivor)
        assert len(ids) == len(set(ids))
        assert set(self.acked.values()) <= set(ids)
        for request_id, task_id in self.acked.items():
            number = int(request_id[1:].partition("-")[0])
            assert await self._answered(number, request_id) == task_id
        for task_id in self.settled:
            assert (await survivor.get(task_id)).state == Task.STATE_COMPLETED
        events = await whole_log(survivor)
        logs: dict[int, list[event_pb2.Event]] = {}
        for event in events:
            logs.setdefault(event.partition, []).append(event)
        for log in logs.values():
            assert [event.seq for event in log] == list(range(1, len(log) + 1))
            epochs = [e.lease_epoch for e in log if e.type == event_pb2.Event.TYPE_ASSIGNED]
            assert epochs == sorted(set(epochs))
        asked = Counter(
            (event.tenant, event.created.spec.request_id)
            for event in events
            if event.type == event_pb2.Event.TYPE_CREATED
        )
        assert set(asked.values()) == {1}, "one request made two tasks"
        ends = Counter(
            event.task_id for event in events if event.type == event_pb2.Event.TYPE_COMPLETED
        )
        assert set(ends.values()) == {1}
