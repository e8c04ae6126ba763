"""What routers may suffer, and what agents must not notice of it; numbered as in the matrix."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from podium.sdk.agent import Agent
from podium.sdk.host import AgentHost
from podium.v1 import session_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef
from podium.v1.task_pb2 import RetryPolicy
from tests.support.waiting import eventually
from tests.system.stage import Stage, short, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDS = ("ATTEMPT_FAILED", "COMPLETED", "FAILED")
TURNS = ("STARTED", *ENDS)
WHOLE = ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]


@pytest_asyncio.fixture(loop_scope="module")
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    # Leases outlive the restart of a router: what is requeued here is requeued by mistake.
    times = {"PODIUM_LEASE_TTL_S": 15, "PODIUM_ROUTER_GRACE_S": 15, "PODIUM_DETACH_GRACE_S": 5}
    async with staged(tmp_path, environ=times) as made:
        yield made


class Crew:
    """Agents of the SDK, so many on each stream, whose work goes on until it is let go."""

    def __init__(
        self,
        stage: Stage,
        count: int,
        addresses: Sequence[str] = (),
        name: str = "crew",
        on_a_stream: int = 1,
    ) -> None:
        self.go_on = asyncio.Event()
        self.working = 0
        names = [f"{name}-{number}" for number in range(count)]
        agents = [Agent(each, agent_id=each) for each in names]
        for agent in agents:

            @agent.handles("crewed")
            async def work(text: str) -> None:
                self.working += 1
                await self.go_on.wait()

        settings = stage.settings(",".join(addresses))
        self.hosts = [
            AgentHost(agents[first : first + on_a_stream], settings=settings, inline=True)
            for first in range(0, count, on_a_stream)
        ]

    @property
    def connected(self) -> bool:
        return all(host.connected for host in self.hosts)


@asynccontextmanager
async def crewed(
    stage: Stage,
    count: int,
    addresses: Sequence[str] = (),
    name: str = "crew",
    on_a_stream: int = 1,
) -> AsyncIterator[Crew]:
    crew = Crew(stage, count, addresses, name, on_a_stream)
    async with AsyncExitStack() as stack:
        for host in crew.hosts:
            await stack.enter_async_context(host)
        try:
            yield crew
        finally:
            crew.go_on.set()


async def test_f11_of_completion_and_expiry_one_wins(tmp_path: Path) -> None:
    async with staged(tmp_path, environ={"PODIUM_LEASE_TTL_S": 1}) as stage:
        wire = stage.wire()
        await wire.hello("f11", "f11", max_concurrency=100)
        once = RetryPolicy(max_retries=0)
        task_ids = await stage.submit("f11", count=100, retry_policy=once)
        assigns = await wire.until("f11", "assign", 100)
        await wire.send(*[AgentFrame(agent_id="f11", ack={"lease": ref(each)}) for each in assigns])
        for task_id in task_ids:
            await stage.until(task_id, "STARTED")
        # All leases end within one moment; results arrive before, in and after it.
        for each in assigns:
            result = session_pb2.Result(lease=ref(each), success={})
            await asyncio.sleep(0.02)
            await wire.send(AgentFrame(agent_id="f11", result=result))
        acks = await wire.until("f11", "result_ack", 100)
        stories = [await stage.story(task_id) for task_id in task_ids]

    ends = Counter(tuple(kind for kind in story if kind in ENDS) for story in stories)
    assert set(ends) == {("COMPLETED",), ("ATTEMPT_FAILED", "FAILED")}
    accepted = session_pb2.ResultAck.VERDICT_ACCEPTED
    assert ends["COMPLETED",] == sum(ack.verdict == accepted for ack in acks)


def ref(assign: session_pb2.Assign) -> LeaseRef:
    return LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)


async def test_f24_a_router_that_is_killed_costs_no_lease_and_no_submit(stage: Stage) -> None:
    async with crewed(stage, 40) as crew:
        held = await stage.submit("crewed", count=40)
        for task_id in held:
            await stage.until(task_id, "STARTED")
        await stage.kill("routing")
        await eventually(lambda: not any(host.connected for host in crew.hosts))
        meanwhile = await stage.submit("crewed", count=40)
        await stage.start("routing")
        await eventually(lambda: crew.connected)
        crew.go_on.set()
        await stage.ended(*held, *meanwhile)

        for task_id in (*held, *meanwhile):
            assert await stage.story(task_id) == WHOLE


async def test_f24_a_thousand_agents_at_work_come_back_to_a_killed_router_with_all_their_leases(
    stage: Stage,
) -> None:
    async with crewed(stage, 1_000, on_a_stream=50) as crew:
        held = await stage.submit("crewed", count=1_000)
        await eventually(lambda: crew.working == 1_000, within_s=40.0, every_s=0.1)
        await stage.restart("routing", signal.SIGKILL)
        await eventually(lambda: crew.connected, within_s=30.0, every_s=0.1)
        crew.go_on.set()

        def stories() -> Counter[tuple[str, ...]]:
            told: dict[str, tuple[str, ...]] = dict.fromkeys(held, ())
            for event in stage.events:
                if event.task_id in told:
                    told[event.task_id] += (short(event),)
            return Counter(told.values())

        # None was requeued, where one in a thousand might be.
        await eventually(lambda: stories() == {tuple(WHOLE): 1_000}, within_s=40.0, every_s=0.5)


async def test_f25_routers_are_restarted_in_turn_and_nothing_is_lost_repeated_or_refused(
    stage: Stage,
) -> None:
    other, address = await stage.another_router()
    submitted: list[str] = []

    async def submit() -> None:
        while True:
            submitted.append(await stage.submit_one("crewed"))
            await asyncio.sleep(0.02)

    both = (stage.suite.addresses["routing"], address)
    async with crewed(stage, 12, both) as crew:
        held = await stage.submit("crewed", count=12)
        for task_id in held:
            await stage.until(task_id, "STARTED")
        submitting = asyncio.create_task(submit())
        await stage.restart("routing", signal.SIGTERM)
        await eventually(lambda: crew.connected)
        assert await asyncio.to_thread(other.stop) == 0
        await stage.another_router(int(address.rpartition(":")[2]))
        await eventually(lambda: crew.connected)
        crew.go_on.set()
        await eventually(lambda: len(submitted) >= 100)
        assert not submitting.done(), "a submit was refused"
        submitting.cancel()
        await stage.ended(*held, *submitted)

        for task_id in (*held, *submitted):
            story = await stage.story(task_id)
            # What no agent had begun may have been handed back, which costs no attempt.
            assert [kind for kind in story if kind in TURNS] == ["STARTED", "COMPLETED"]


async def test_no_long_task_waits_at_a_busy_router_while_another_has_a_free_agent(
    stage: Stage,
) -> None:
    _, address = await stage.another_router()
    async with crewed(stage, 1, [stage.suite.addresses["routing"]], "busy") as busy:
        await eventually(lambda: busy.connected)
        # One runs, two wait at the router that is the only one with agents; none of them ends.
        task_ids = await stage.submit("crewed", count=3)
        await eventually(lambda: busy.working)
        async with crewed(stage, 4, [address], "free") as free:
            for task_id in task_ids:
                await stage.until(task_id, "STARTED")
            # What comes now has free slots at the other router alone.
            later = await stage.submit("crewed", count=2)
            for task_id in later:
                await stage.until(task_id, "STARTED")
            busy.go_on.set()
            free.go_on.set()
            await stage.ended(*task_ids, *later)

            for task_id in (*task_ids, *later):
                story = await stage.story(task_id)
                assert [kind for kind in story if kind in TURNS] == ["STARTED", "COMPLETED"]
