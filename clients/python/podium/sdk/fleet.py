"""What operators do to agents: drain, quarantine, release."""

from __future__ import annotations

from collections.abc import Sequence

from podium.sdk.calls import Calls
from podium.v1 import agent_pb2, agent_registry_pb2

SERVICE = "agent_registry"


class Fleet:
    """What `Client.fleet` offers; the token needs the role `operator`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def drain(
        self,
        agent_id: str = "",
        *,
        filter: agent_registry_pb2.AgentFilter | None = None,
        reason: str = "",
    ) -> Sequence[str]:
        """Lets agents finish what they have and gives them nothing new.

        It is never undone for their session: an agent that is to work again starts again.

        Args:
            agent_id: one agent; "" = those that `filter` selects.
            filter: all agents that match; give this or `agent_id`.
            reason: why, for people.

        Returns:
            The agents that drain; empty when none matches the filter.

        Raises:
            NotFound: AGENT_NOT_FOUND.
            InvalidArgument: neither or both of `agent_id` and `filter` were given.
            Unavailable: REGISTRY_STORE_UNREACHABLE, it holds and is not kept yet: ask again.
        """
        request = agent_registry_pb2.DrainAgentsRequest(
            agent_id=agent_id, filter=filter, reason=reason
        )
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.registry.DrainAgents, request
        )
        return response.agent_ids

    async def quarantine(self, agent_id: str, *, reason: str = "") -> agent_pb2.Agent:
        """Keeps an agent from new work until it is released, also when it starts again.

        Args:
            agent_id: the agent.
            reason: why, for people.

        Raises:
            NotFound: AGENT_NOT_FOUND.
            Unavailable: REGISTRY_STORE_UNREACHABLE, it holds and is not kept yet: ask again.
        """
        request = agent_registry_pb2.QuarantineAgentRequest(agent_id=agent_id, reason=reason)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.registry.QuarantineAgent, request
        )
        return response.agent

    async def release(self, agent_id: str) -> agent_pb2.Agent:
        """Ends a quarantine and closes the breaker.

        Raises:
            NotFound: AGENT_NOT_FOUND.
            FailedPrecondition: NOT_QUARANTINED, and its breaker is closed.
            Unavailable: REGISTRY_STORE_UNREACHABLE, it holds and is not kept yet: ask again.
        """
        request = agent_registry_pb2.ReleaseAgentRequest(agent_id=agent_id)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.registry.ReleaseAgent, request
        )
        return response.agent
