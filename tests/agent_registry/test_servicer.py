from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import pytest

from podium.v1 import agent_pb2, agent_registry_pb2, agent_registry_pb2_grpc
from services.agent_registry.__main__ import SERVICE
from services.agent_registry.config import Settings
from services.kernel.clock import SystemClock
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from services.kernel.serving import running
from tests.support.waiting import eventually

pb = agent_registry_pb2
Stub = agent_registry_pb2_grpc.AgentRegistryServiceStub


@asynccontextmanager
async def registry() -> AsyncIterator[Any]:
    with TemporaryDirectory() as folder:
        async with registry_at(Path(folder)) as stub:
            yield stub


@asynccontextmanager
async def registry_at(folder: Path, **given: Any) -> AsyncIterator[Any]:
    settings = Settings(otlp_endpoint="off", metrics_port_offset=0, data_dir=folder, **given)
    async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as service:
        channel = dial(f"127.0.0.1:{service.port}")
        try:
            yield Stub(channel)
        finally:
            await channel.close()


def agent(agent_id: str, *capabilities: str, **given: Any) -> agent_pb2.Agent:
    made = agent_pb2.Agent(agent_id=agent_id, instance_id="i1", **given)
    for name in capabilities or ("echo",):
        made.capabilities.add(name=name)
    return made


class Router:
    """A router's stream to the registry."""

    def __init__(self, stub: Any) -> None:
        self.call: Any = stub.SyncSessions()
        self.directives: list[pb.AgentDirective] = []
        self.answers: list[tuple[int, int]] = []
        """Each answer, and how many directives had come by then."""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for response in self.call:
            self.directives.extend(response.directives)
            if response.answer:
                self.answers.append((response.answer, len(self.directives)))

    async def tell(self, router_id: str = "r1", **facts: Any) -> None:
        await self.call.write(pb.SyncSessionsRequest(router_id=router_id, **facts))

    async def close(self) -> None:
        self.call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


async def refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


async def test_agents_of_a_router_are_listed_with_what_they_do() -> None:
    async with registry() as stub:
        router = Router(stub)
        await router.tell(
            snapshot=True,
            opened=[agent("a1", "read", max_concurrency=3, labels={"zone": "x"}), agent("a2")],
        )
        # A call may overtake what is said on a stream.
        await eventually(lambda: _count(stub, 2))
        await router.tell(alive=[pb.SessionAlive(agent_id="a1", in_flight_count=2)])

        async def busy() -> bool:
            answer = await stub.GetAgent(pb.GetAgentRequest(agent_id="a1"))
            return bool(answer.agent.status == agent_pb2.Agent.STATUS_BUSY)

        await eventually(busy)
        found = await stub.ListAgents(
            pb.ListAgentsRequest(filter=pb.AgentFilter(capabilities=["read"], idle_only=True))
        )
        await router.close()

        assert [each.agent_id for each in found.agents] == ["a1"]
        assert found.total_size == 1
        assert found.agents[0].labels["zone"] == "x"
        assert found.agents[0].router_id == "r1"
        assert found.agents[0].in_flight_count == 2


async def test_a_bad_agents_router_is_told_and_operators_can_release_it() -> None:
    async with registry() as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1")])
        outcomes = [
            pb.AttemptOutcome(
                agent_id="a1",
                task_id=f"t{number}",
                task_type="echo",
                kind=pb.AttemptOutcome.KIND_FAILED,
            )
            for number in range(6)
        ]
        await router.tell(outcomes=outcomes)
        await eventually(lambda: router.directives)
        assert router.directives[-1].breaker == agent_pb2.Agent.BREAKER_OPEN

        answer = await stub.ReleaseAgent(pb.ReleaseAgentRequest(agent_id="a1"))
        await eventually(lambda: len(router.directives) == 2)
        await router.close()

        assert answer.agent.breaker == agent_pb2.Agent.BREAKER_CLOSED
        assert answer.agent.statistics[0].failed_count == 6
        assert router.directives[-1].breaker == agent_pb2.Agent.BREAKER_CLOSED


async def test_a_router_that_asks_is_told_when_all_is_said_of_the_agents_it_opened() -> None:
    async with registry() as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1")], ask=1)
        await eventually(lambda: router.answers)
        assert router.answers == [(1, 0)], "nothing holds a1 back"

        await stub.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a1"))
        await router.tell(closed=[pb.SessionClosed(agent_id="a1", orderly=True)])
        await eventually(lambda: router.directives)
        await router.tell(opened=[agent("a1")], ask=2)
        await eventually(lambda: router.answers[-1][0] == 2)
        await router.close()

        assert router.answers[-1] == (2, 2), "what holds comes no later than the answer"
        assert router.directives[-1].quarantined


async def test_a_watcher_sees_all_that_is_there_and_then_each_change() -> None:
    async with registry() as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1"), agent("a2", "read")])
        await eventually(lambda: _count(stub, 2))
        wanted = pb.AgentFilter(capabilities=["echo"])
        watch = stub.WatchAgents(pb.WatchAgentsRequest(filter=wanted))
        seen = []

        async def follow() -> None:
            async for response in watch:
                seen.append(response)

        follower = asyncio.create_task(follow())
        await eventually(lambda: seen and seen[-1].caught_up)
        assert [each.agent_id for each in seen[0].agents] == ["a1"]

        await router.tell(opened=[agent("a3")])
        await eventually(lambda: [a.agent_id for r in seen for a in r.agents][-1] == "a3")
        await router.tell(closed=[pb.SessionClosed(agent_id="a3", orderly=True)])
        await eventually(
            lambda: seen[-1].agents and seen[-1].agents[0].status == agent_pb2.Agent.STATUS_OFFLINE
        )
        await stub.DeregisterAgent(pb.DeregisterAgentRequest(agent_id="a3"))
        await eventually(lambda: list(seen[-1].removed_agent_ids) == ["a3"])
        watch.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await router.close()


async def _count(stub: Any, count: int) -> bool:
    answer = await stub.ListAgents(pb.ListAgentsRequest())
    return bool(answer.total_size == count)


async def test_agents_of_a_router_that_is_gone_are_suspect() -> None:
    async with registry() as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1")])
        await eventually(lambda: _count(stub, 1))
        await router.close()

        async def suspect() -> bool:
            answer = await stub.GetAgent(pb.GetAgentRequest(agent_id="a1"))
            return bool(answer.agent.status == agent_pb2.Agent.STATUS_SUSPECT)

        await eventually(suspect)


async def test_agents_are_registered_changed_drained_and_kept_from_work() -> None:
    async with registry() as stub:
        made = await stub.RegisterAgent(pb.RegisterAgentRequest(agent=agent("a1", name="One")))
        assert made.agent.status == agent_pb2.Agent.STATUS_OFFLINE

        changed = await stub.UpdateAgent(
            pb.UpdateAgentRequest(agent=agent_pb2.Agent(agent_id="a1", labels={"zone": "x"}))
        )
        assert (changed.agent.name, changed.agent.labels["zone"]) == ("One", "x")
        drained = await stub.DrainAgents(
            pb.DrainAgentsRequest(filter=pb.AgentFilter(labels={"zone": "x"}), reason="update")
        )
        assert list(drained.agent_ids) == ["a1"]
        held = await stub.QuarantineAgent(
            pb.QuarantineAgentRequest(agent_id="a1", reason="odd answers")
        )
        assert held.agent.status_reason == "odd answers"


async def test_an_empty_filter_drains_nobody() -> None:
    async with registry() as stub:
        await stub.RegisterAgent(pb.RegisterAgentRequest(agent=agent("a1")))

        error = await refused(stub.DrainAgents(pb.DrainAgentsRequest(filter=pb.AgentFilter())))

        assert error.reason == "INVALID_FIELD"
        held = await stub.GetAgent(pb.GetAgentRequest(agent_id="a1"))
        assert not held.agent.status_reason


async def test_it_tells_who_can_do_something_now_and_how_long_the_others_keep_one_waiting() -> None:
    done = pb.AttemptOutcome(
        agent_id="full", task_id="t", task_type="echo", kind=pb.AttemptOutcome.KIND_SUCCEEDED
    )
    done.run_duration.seconds = 4
    async with registry() as stub:
        router = Router(stub)
        skilled = agent("full", "echo", "read", max_concurrency=2, labels={"zone": "x"})
        skilled.in_flight_count = 2
        await router.tell(opened=[skilled, agent("free"), agent("deaf", "read")], outcomes=[done])
        await eventually(lambda: holds(stub, "free"))
        ask = stub.FindAgents
        anyone = await ask(pb.FindAgentsRequest(capabilities=["echo"], ahead_count=3))
        one = await ask(pb.FindAgentsRequest(capabilities=["echo", "read"], page_size=1))
        nobody = await ask(pb.FindAgentsRequest(capabilities=["echo"], labels={"zone": "y"}))
        await router.close()

    assert {each.agent.agent_id for each in anyone.candidates} == {"free", "full"}
    assert (anyone.capable_count, anyone.ready_count, anyone.free_slot_count) == (2, 1, 1)
    # One slot is free and three tasks come first: three of three slots of 4 s must become free.
    assert anyone.expected_wait.seconds == 4
    assert [each.agent.agent_id for each in one.candidates] == ["full"]
    assert one.candidates[0].expected_wait.seconds == one.expected_wait.seconds == 2
    assert one.candidates[0].expected_run_duration.seconds == 4
    assert (nobody.capable_count, nobody.HasField("expected_wait")) == (0, False)


async def holds(stub: Any, agent_id: str) -> bool:
    listed = await stub.ListAgents(pb.ListAgentsRequest())
    return agent_id in {each.agent_id for each in listed.agents}


async def test_pages_carry_a_token_that_fits_only_their_own_list() -> None:
    async with registry() as stub:
        for number in range(5):
            await stub.RegisterAgent(pb.RegisterAgentRequest(agent=agent(f"a{number}")))

        first = await stub.ListAgents(pb.ListAgentsRequest(page_size=3))
        second = await stub.ListAgents(
            pb.ListAgentsRequest(page_size=3, page_token=first.next_page_token)
        )
        stolen = pb.ListAgentsRequest(
            filter=pb.AgentFilter(capabilities=["echo"]), page_token=first.next_page_token
        )

        assert [a.agent_id for a in (*first.agents, *second.agents)] == [
            f"a{number}" for number in range(5)
        ]
        assert second.next_page_token == ""
        assert (await refused(stub.ListAgents(stolen))).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("GetAgent", pb.GetAgentRequest(agent_id="nobody"), "NOT_FOUND", "AGENT_NOT_FOUND"),
        ("GetAgent", pb.GetAgentRequest(agent_id="../x"), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            "RegisterAgent",
            pb.RegisterAgentRequest(agent=agent_pb2.Agent(agent_id="a1")),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        (
            "RegisterAgent",
            pb.RegisterAgentRequest(agent=agent("a1", "*")),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        (
            "RegisterAgent",
            pb.RegisterAgentRequest(agent=agent("a1", max_concurrency=-1)),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        (
            "RegisterAgent",
            pb.RegisterAgentRequest(
                agent=agent("a1", cost_hint=agent_pb2.CostHint(cost_per_task=float("nan")))
            ),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        ("ListAgents", pb.ListAgentsRequest(page_size=-1), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            "ListAgents",
            pb.ListAgentsRequest(filter=pb.AgentFilter(statuses=[77])),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        ("FindAgents", pb.FindAgentsRequest(), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            "FindAgents",
            pb.FindAgentsRequest(capabilities=["echo"], ahead_count=-1),
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        ("DrainAgents", pb.DrainAgentsRequest(), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            "DrainAgents",
            pb.DrainAgentsRequest(agent_id="nobody"),
            "NOT_FOUND",
            "AGENT_NOT_FOUND",
        ),
        (
            "UpdateAgent",
            pb.UpdateAgentRequest(agent=agent("a1"), update_mask={"paths": ["status"]}),
            "INVALID_ARGUMENT",
            "FIELD_MASK_INVALID",
        ),
    ],
)
async def test_bad_requests_get_their_code_and_reason(
    method: str, request_: Any, code: str, reason: str
) -> None:
    async with registry() as stub:
        error = await refused(getattr(stub, method)(request_))

        assert (error.code, error.reason) == (code, reason)


async def test_a_router_that_does_not_say_who_it_is_is_refused() -> None:
    async with registry() as stub:
        call = stub.SyncSessions()
        await call.write(pb.SyncSessionsRequest(snapshot=True))
        error = await refused(call.read())

        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HELLO_REQUIRED")


async def test_dup_agent_id_the_router_of_the_older_instance_is_told_whatever_comes_first() -> None:
    async with registry() as stub:
        routers = {"r1": Router(stub), "r2": Router(stub)}
        older, newer = agent("a1"), agent("a1")
        older.session_age.FromSeconds(60)
        newer.instance_id = "i2"
        newer.session_age.FromSeconds(5)
        await routers["r2"].tell("r2", snapshot=True, opened=[newer])
        await eventually(lambda: listed(stub, "a1"))
        await routers["r1"].tell("r1", snapshot=True, opened=[older])

        directives = [
            (await eventually(lambda r=router: r.directives))[-1] for router in routers.values()
        ]
        for router in routers.values():
            await router.close()

        for directive in directives:
            assert (directive.instance_id, list(directive.superseded_instance_ids)) == (
                "i2",
                ["i1"],
            )


async def listed(stub: Any, agent_id: str) -> bool:
    answer = await stub.ListAgents(pb.ListAgentsRequest())
    return agent_id in [each.agent_id for each in answer.agents]
