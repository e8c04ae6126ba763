"""Anti-patterns that others have seen in the field, one test for each, under its name."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from podium.sdk import session as session_module
from podium.sdk.agent import Agent
from podium.sdk.backoff import Backoff
from podium.sdk.host import AgentHost
from podium.v1 import agent_registry_pb2, routing_pb2, session_pb2, task_scheduler_pb2
from podium.v1.session_pb2 import AgentFrame, LeaseRef
from services.kernel.rpc import from_rpc_error
from tests.routing.peers import FENCED, KEEP
from tests.support.proxy import proxied
from tests.support.waiting import eventually
from tests.system.stage import LEASE_S, PROBE_S, Stage, beating, network, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("suite")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def stage(suite: Stage) -> AsyncIterator[Stage]:
    yield suite
    await suite.leave()


def ref(assign: Any) -> LeaseRef:
    return LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)


async def test_zombie_stream(stage: Stage) -> None:
    """Who beats and does not read is SUSPECT soon, and work goes to others without a detour."""
    routing = stage.suite.addresses["routing"]
    zombie = stage.started("tests.system.stalled", routing, 1, "zombie")
    await eventually(lambda: "stalled" in zombie.output(), told=zombie.output)
    await stage.until_status("zombie-stalled-0", "SUSPECT")
    task_id = await stage.submit_one("zombie")
    healthy = stage.wire()
    await healthy.hello("healthy", "zombie")
    assign = (await healthy.until("healthy", "assign"))[0]
    await healthy.ack("healthy", assign)
    await healthy.result("healthy", assign)
    await stage.ended(task_id)
    assert await stage.story(task_id) == ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]
    assert zombie.popen.poll() is None


async def test_live_task_stolen(stage: Stage) -> None:
    """A stream that drops and comes back at once keeps its task, though another agent is idle."""
    wire = stage.wire()
    ready = await wire.hello("owner", "stolen")
    task_id = await stage.submit_one("stolen")
    assign = (await wire.until("owner", "assign"))[0]
    await wire.ack("owner", assign)
    await stage.until(task_id, "STARTED")
    thief = stage.wire()
    await thief.hello("thief", "stolen")
    for _ in range(3):
        await wire.drop()
        wire = stage.wire()
        ready = await wire.hello(
            "owner", "stolen", in_flight=[ref(assign)], resume_token=ready.resume_token
        )
        assert [verdict.verdict for verdict in ready.verdicts] == [KEEP]
        assert ready.resumed
    await wire.result("owner", assign)
    await stage.ended(task_id)

    assert not thief.of("thief", "assign")
    assert stage.of(task_id) == ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]


async def test_blocked_loop(stage: Stage) -> None:
    """A handler that holds its process's loop for thrice the lease time loses nothing."""
    await stage.worked("blocker", "blocked")
    task_id = await stage.submit_one("blocked", f"block {3 * LEASE_S}")
    await stage.ended(task_id)

    assert await stage.story(task_id) == ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]
    await stage.until_status("blocker", "IDLE")


async def test_drain_undo(stage: Stage) -> None:
    """Neither heartbeats nor a reconnect bring a draining agent back."""
    wire = stage.wire()
    ready = await wire.hello("leaving", "drained", max_concurrency=2)
    await wire.send(AgentFrame(agent_id="leaving", drain=session_pb2.AgentDrain()))
    await stage.until_status("leaving", "DRAINING")
    async with beating(wire, "leaving"):
        task_id = await stage.submit_one("drained")
        await asyncio.sleep(2 * PROBE_S)
    await wire.until("leaving", "probe")
    await wire.drop()
    wire = stage.wire()
    await wire.hello("leaving", "drained", resume_token=ready.resume_token)
    other = stage.wire()
    await other.hello("staying", "drained")
    await other.until("staying", "assign")

    assert not wire.of("leaving", "assign")
    assert (await stage.task(task_id)).task_id == task_id
    assert await stage.status("leaving") == "DRAINING"


async def test_renew_on_draining_socket(stage: Stage) -> None:
    """Renewals follow the replacement stream: a task outlives the router it began at."""
    leaving, address = await stage.another_router()
    async with proxied(address) as net:
        await stage.worked("mover", "moved", routing=net.address)
        task_id = await stage.submit_one("moved", f"sleep {3 * LEASE_S}")
        await stage.until(task_id, "STARTED")
        net.target = stage.suite.addresses["routing"]
        assert await asyncio.to_thread(leaving.stop) == 0
        await stage.ended(task_id)

    assert await stage.story(task_id) == ["CREATED", "QUEUED", "ASSIGNED", "STARTED", "COMPLETED"]


async def test_give_up_reconnect(stage: Stage) -> None:
    """However often it failed, an agent waits no longer than the cap, and it comes back."""
    backoff = Backoff()
    assert max(backoff.next_s() for _ in range(50_000)) <= 5.0
    worker = await stage.worked("patient", "given-up")
    await stage.kill("routing")
    await eventually(lambda: worker.output().count("no session with") >= 4, told=worker.output)
    await stage.start("routing")
    task_id = await stage.submit_one("given-up", "sleep 0")
    await stage.ended(task_id)

    assert worker.popen.poll() is None


async def test_half_open_hello(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hello into a black hole ends within its deadline, and the next one is tried."""
    monkeypatch.setattr(session_module, "READY_S_MAX", 0.5)
    agent = Agent("half", agent_id="half", capacity=1)

    @agent.handles("half-open")
    async def work(text: str) -> str:
        return text

    async with network(stage) as net:
        net.freeze("down")
        host = AgentHost([agent], settings=stage.settings(net.address), inline=True)
        running = asyncio.create_task(host.run())
        try:
            await eventually(lambda: net.accepted >= 2)
            assert not host.connected
            net.heal()
            await eventually(lambda: host.connected)
        finally:
            host.stop()
            await running


async def test_push_spiral(stage: Stage) -> None:
    """Overload and a worker that is killed and started again: nothing is run over and over."""
    worker = await stage.worked("spiral", "pushed", capacity=4)
    task_ids = await stage.submit("pushed", *["sleep 0.01"] * 200)
    await eventually(lambda: worker.output().count("ended") >= 20)
    worker.kill()
    again = await stage.worked("spiral", "pushed", capacity=4)
    await stage.ended(*task_ids)

    began = worker.output().count("began") + again.output().count("began")
    assert began <= 200 + 4
    for task_id in task_ids:
        assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_backlog_bypass(stage: Stage) -> None:
    """What waits is not overtaken by fresh work of the same priority, beyond what fits a window."""
    wire = stage.wire()
    old = await stage.submit("bypassed", count=40)
    await wire.hello("slow", "bypassed")
    fresh = await stage.submit("bypassed", count=40)
    order: list[str] = []
    for number in range(80):
        assign = (await wire.until("slow", "assign", number + 1))[number]
        order.append(assign.task_id)
        await wire.ack("slow", assign)
        await wire.result("slow", assign)
    await stage.ended(*fresh)

    assert sorted(order) == sorted(old + fresh)
    assert max(abs(order.index(task) - place) for place, task in enumerate(old + fresh)) <= 16


async def test_late_ack(stage: Stage) -> None:
    """A result under a lease that is over is refused, and the task has exactly one result."""
    frozen, other = stage.wire(), stage.wire()
    await frozen.hello("frozen", "late")
    task_id = await stage.submit_one("late")
    stale = (await frozen.until("frozen", "assign"))[0]
    await frozen.ack("frozen", stale)
    await stage.until(task_id, "ATTEMPT_FAILED")
    await other.hello("other", "late")
    assign = (await other.until("other", "assign"))[0]
    await other.ack("other", assign)
    await frozen.result("frozen", stale, b"too late")
    settled = await frozen.until("frozen", "result_ack")
    await other.result("other", assign, b"in time")
    task = await stage.ended(task_id)

    assert [ack.verdict for ack in settled] == [FENCED]
    assert task.result.data == b"in time"
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_results_by_call_are_refused_for_what_they_are(stage: Stage) -> None:
    """F9 and B36: another result of the same lease, and one of a task that never was."""
    wire = stage.wire()
    await wire.hello("caller", "called")
    task_id = await stage.submit_one("called")
    assign = (await wire.until("caller", "assign"))[0]
    await wire.result("caller", assign, b"first")
    task = await stage.ended(task_id)
    report = routing_pb2.ReportResultRequest(agent_id="caller")
    report.result.lease.CopyFrom(ref(assign))
    report.result.success.data = b"second"
    refused = []
    for named in (task_id, "00-never-was"):
        report.result.lease.task_id = named
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stage.routing.ReportResult(report)
        refused.append(from_rpc_error(raised.value))

    assert [(error.code, error.reason) for error in refused] == [
        ("ALREADY_EXISTS", "RESULT_CONFLICT"),
        ("NOT_FOUND", "LEASE_NOT_FOUND"),
    ]
    assert task.result.data == b"first"
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_size_trap(stage: Stage) -> None:
    """What is too large fails the task with a reason, in both directions; the session stays."""
    await stage.worked("sized", "sized")
    task_id = await stage.submit_one("sized", "large 300000")
    task = await stage.ended(task_id)
    assert (task.failure.reason, task.failure.retryable) == ("RESULT_TOO_LARGE", False)
    wire = stage.wire()
    await wire.hello("raw", "sized-raw")
    raw_id = await stage.submit_one("sized-raw")
    assign = (await wire.until("raw", "assign"))[0]
    await wire.ack("raw", assign)
    await wire.result("raw", assign, bytes(300_000))
    assert (await stage.ended(raw_id)).failure.reason == "RESULT_TOO_LARGE"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.submit_one("sized", "x" * 300_000)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    largest = await stage.submit("sized", *["x" * 250_000] * 3, count=3)
    await stage.ended(*largest)

    again = await stage.submit("sized-raw", count=1)
    assert (await wire.until("raw", "assign", 2))[1].task_id == again[0]


async def test_dup_agent_id(stage: Stage) -> None:
    """A newer instance takes over at once; a lease never has two owners."""
    first, second = stage.wire(), stage.wire()
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
    await second.ack("twin", again)
    await second.result("twin", again, b"from the newer one")
    task = await stage.ended(task_id)

    assert superseded[0].instance_id == "two"
    assert task.result.data == b"from the newer one"
    assert (await stage.story(task_id)).count("COMPLETED") == 1


async def test_many_replicas_one_type(stage: Stage) -> None:
    """Agents with the same capability share the load (Jain's index)."""
    agents = []
    for number in range(8):
        agent = Agent(f"replica-{number}", agent_id=f"replica-{number}", capacity=2)

        @agent.handles("shared")
        async def work(text: str) -> None:
            await asyncio.sleep(0.005)

        agents.append(agent)
    async with AgentHost(agents, settings=stage.settings(), inline=True):
        task_ids = await stage.submit("shared", count=400)
        await stage.ended(*task_ids)
        await eventually(lambda: all(stage.all_of(each, "COMPLETED") for each in task_ids))

    shares = Counter(stage.all_of(task_id, "COMPLETED")[0].agent_id for task_id in task_ids)
    jain = sum(shares.values()) ** 2 / (8 * sum(share**2 for share in shares.values()))
    assert jain >= 0.9, shares


async def test_unknown_capability(stage: Stage) -> None:
    """A task that nobody can do waits visibly; one that would not wait is refused."""
    task_id = await stage.submit_one("unheard-of")
    request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
    why = (await stage.scheduler.ExplainTask(request)).waiting_for
    assert "unheard-of" in why
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.submit_one("unheard-of", fail_fast=True)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    wire = stage.wire()
    await wire.hello("pioneer", "unheard-of")

    assert (await wire.until("pioneer", "assign"))[0].task_id == task_id


async def test_reconnect_herd(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a router is killed all agents are back, and each has waited a time of its own."""
    count = 1_000
    first_waits_s: list[float] = []
    later_waits_s: list[float] = []

    class Noted(Backoff):
        def next_s(self, cap_s: float = math.inf) -> float:
            waits_s = later_waits_s if self.failures else first_waits_s
            waits_s.append(super().next_s(cap_s))
            return waits_s[-1]

    monkeypatch.setattr(session_module, "Backoff", Noted)
    agents = []
    for number in range(count):
        agent = Agent(f"herd-{number}", agent_id=f"herd-{number}")

        @agent.handles("herd")
        async def work(text: str) -> None: ...

        agents.append(agent)
    hosts = [AgentHost([agent], settings=stage.settings(), inline=True) for agent in agents]
    running = [asyncio.create_task(host.run()) for host in hosts]
    try:
        await eventually(lambda: all(host.connected for host in hosts), within_s=50.0)
        first_waits_s.clear()
        await stage.kill("routing")
        await eventually(lambda: len(first_waits_s) >= count)
        await stage.start("routing")
        await eventually(lambda: all(host.connected for host in hosts), within_s=50.0)
    finally:
        for host in hosts:
            host.stop()
        await asyncio.gather(*running)

    # The moments they really came at are the machine's; that they chose different ones is ours.
    tenths = Counter(int(wait_s / 0.01) for wait_s in first_waits_s[:count])
    assert max(later_waits_s, default=0.0) <= 1.0, "they would be late when it is back"
    assert len(tenths) == 10 and max(tenths.values()) < count / 4, "they would come as a herd"


async def test_a_task_goes_only_to_who_has_the_version_that_it_asks_for(stage: Stage) -> None:
    wire = stage.wire()
    for agent_id, version in (("stale", "1.9"), ("fresh", "2.1")):
        skill = {"name": "dub", "version": version}
        hello = session_pb2.Hello(instance_id="i", capabilities=[skill], max_concurrency=2)
        await wire.send(AgentFrame(agent_id=agent_id, hello=hello))
        await wire.until(agent_id, "ready")
    needs = {"required_capabilities": ["dub@2"]}

    task_ids = [await stage.submit_one("dub", **needs) for _ in range(2)]
    assigns = await wire.until("fresh", "assign", 2)
    too_new = await stage.submit_one("dub", required_capabilities=["dub@3"])

    assert {each.task_id for each in assigns} == set(task_ids)
    assert wire.of("stale", "assign") == []
    await wire.ack("fresh", assigns[0])
    await stage.until(assigns[0].task_id, "STARTED")
    explain = task_scheduler_pb2.ExplainTaskRequest
    told = await stage.scheduler.ExplainTask(explain(task_id=assigns[0].task_id))
    assert told.decisions[0].decision.filtered_counts["version"] == 1
    told = await stage.scheduler.ExplainTask(explain(task_id=too_new))
    assert told.waiting_for == "No connected agent has all of: dub@3 (there is 2.1, 1.9)."
    find = agent_registry_pb2.FindAgentsRequest(capabilities=["dub@2"])
    found = (await stage.registry.FindAgents(find)).candidates
    assert [each.agent.agent_id for each in found] == ["fresh"]
