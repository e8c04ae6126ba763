"""A registry that has no place for an agent."""

from __future__ import annotations

from pathlib import Path

from podium.v1 import agent_registry_pb2 as pb
from tests.agent_registry.test_servicer import Router, agent, registry_at
from tests.support.waiting import eventually


async def test_an_agent_too_many_is_not_known_and_its_router_is_served_as_ever(
    tmp_path: Path,
) -> None:
    async with registry_at(tmp_path, agents_max=2) as stub:
        router = Router(stub)
        await router.tell(snapshot=True, opened=[agent("a1"), agent("a2"), agent("a3")], ask=1)
        await eventually(lambda: router.answers)

        await stub.QuarantineAgent(pb.QuarantineAgentRequest(agent_id="a2"))
        await eventually(lambda: router.directives)
        await router.close()

        listed = (await stub.ListAgents(pb.ListAgentsRequest())).agents
        assert [each.agent_id for each in listed] == ["a1", "a2"]
