"""AgentRegistryService."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from podium.v1 import agent_pb2, agent_registry_pb2, agent_registry_pb2_grpc
from services.agent_registry.core.agent import Agent
from services.agent_registry.core.filter import Filter
from services.agent_registry.core.forecast import forecast
from services.agent_registry.ports import Desk
from services.agent_registry.servicer.forecasts import forecast_message, wanted_of
from services.agent_registry.servicer.messages import (
    check_agent,
    check_changeable,
    directive_of,
    facts_of,
    filter_of,
    message_of,
    told_of,
)
from services.kernel.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rules import Checker
from services.kernel.versions import plain

log = logging.getLogger("podium.agent_registry.agents")

SERVICE_NAME = "podium.v1.AgentRegistryService"

POLICY = {
    f"/{SERVICE_NAME}/{method}": role
    for method, role in {
        "RegisterAgent": "agent",
        "GetAgent": "reader",
        "ListAgents": "reader",
        "FindAgents": "reader",
        "UpdateAgent": "operator",
        "DrainAgents": "operator",
        "QuarantineAgent": "operator",
        "ReleaseAgent": "operator",
        "DeregisterAgent": "operator",
        "WatchAgents": "reader",
        "SyncSessions": "service",
    }.items()
}

min_interval_s_max = 60.0
changeable = ("name", "labels", "cost_hint")

Context = grpc.aio.ServicerContext[Any, Any]
pb = agent_registry_pb2

KINDS = {
    pb.AttemptOutcome.KIND_SUCCEEDED: "SUCCEEDED",
    pb.AttemptOutcome.KIND_FAILED: "FAILED",
    pb.AttemptOutcome.KIND_LOST: "LOST",
    pb.AttemptOutcome.KIND_CANCELED: "CANCELED",
    pb.AttemptOutcome.KIND_NOT_ACKED: "NOT_ACKED",
}


class AgentRegistryServicer(agent_registry_pb2_grpc.AgentRegistryServiceServicer):
    """Passes messages to the core and back."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._page_key = secrets.token_bytes(16)

    async def RegisterAgent(
        self, request: pb.RegisterAgentRequest, context: Context
    ) -> pb.RegisterAgentResponse:
        """Introduce an agent."""
        check_agent(request.agent)
        agent = self._desk.registry.register(facts_of(request.agent), self._desk.now())
        self._desk.touch()
        return pb.RegisterAgentResponse(agent=self._message(agent))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        """Return one agent."""
        agent = self._desk.registry.get(_checked(request.agent_id))
        return pb.GetAgentResponse(agent=self._message(agent))

    async def ListAgents(
        self, request: pb.ListAgentsRequest, context: Context
    ) -> pb.ListAgentsResponse:
        """List agents by id."""
        wanted = filter_of(request.filter)
        size = page_size(request.page_size)
        arguments = request.filter.SerializeToString(deterministic=True)
        after = decode_token(request.page_token, arguments, self._page_key)
        agents, total, more = self._desk.registry.page(wanted, after, size)
        token = encode_token(agents[-1].agent_id, arguments, self._page_key) if more else ""
        return pb.ListAgentsResponse(
            agents=[self._message(agent) for agent in agents],
            next_page_token=token,
            total_size=total,
        )

    async def FindAgents(
        self, request: pb.FindAgentsRequest, context: Context
    ) -> pb.FindAgentsResponse:
        """Tell who can do something now, and how long the others keep a task waiting."""
        wanted = wanted_of(request)
        registry = self._desk.registry
        able = [registry.agents[agent_id] for agent_id in registry.find(wanted)]
        task_type = request.task_type or plain(request.capabilities[0])
        found = forecast(able, task_type, request.ahead_count)
        size = page_size(request.page_size)
        return forecast_message(found, size, self._desk.now().mono_s)

    async def UpdateAgent(
        self, request: pb.UpdateAgentRequest, context: Context
    ) -> pb.UpdateAgentResponse:
        """Change name, labels or cost hint of an agent."""
        message = request.agent
        agent_id = _checked(message.agent_id, "agent.agent_id")
        check = Checker()
        check_changeable(check, message)
        check.done()
        said = facts_of(message)
        changes: dict[str, object] = {}
        for path in _paths(request):
            if path == "cost_hint":
                changes["cost_per_task"] = said.cost_per_task
                changes["cost_per_kilotoken"] = said.cost_per_kilotoken
            else:
                changes[path] = getattr(said, path)
        agent = self._desk.registry.update(agent_id, changes, self._desk.now())
        await self._desk.kept([agent_id])
        return pb.UpdateAgentResponse(agent=self._message(agent))

    async def DrainAgents(
        self, request: pb.DrainAgentsRequest, context: Context
    ) -> pb.DrainAgentsResponse:
        """Let agents finish what they have."""
        check = Checker()
        named, filtered = bool(request.agent_id), request.HasField("filter")
        check.require("agent_id", named != filtered, "or filter must be given, not both")
        check.text("reason", request.reason)
        check.done()
        registry = self._desk.registry
        if named:
            ids = {_checked(request.agent_id)}
        else:
            wanted = filter_of(request.filter)
            check.require("filter", wanted != Filter(), "must select: empty means all agents")
            check.done()
            ids = registry.find(wanted)
        drained = registry.drain(ids, request.reason, self._desk.now())
        await self._desk.kept(drained)
        return pb.DrainAgentsResponse(agent_ids=drained)

    async def QuarantineAgent(
        self, request: pb.QuarantineAgentRequest, context: Context
    ) -> pb.QuarantineAgentResponse:
        """Keep an agent from work."""
        check = Checker()
        check.text("reason", request.reason)
        check.done()
        agent = self._desk.registry.quarantine(
            _checked(request.agent_id), request.reason, self._desk.now()
        )
        await self._desk.kept([agent.agent_id])
        return pb.QuarantineAgentResponse(agent=self._message(agent))

    async def ReleaseAgent(
        self, request: pb.ReleaseAgentRequest, context: Context
    ) -> pb.ReleaseAgentResponse:
        """End a quarantine."""
        agent = self._desk.registry.release(_checked(request.agent_id), self._desk.now())
        await self._desk.kept([agent.agent_id])
        return pb.ReleaseAgentResponse(agent=self._message(agent))

    async def DeregisterAgent(
        self, request: pb.DeregisterAgentRequest, context: Context
    ) -> pb.DeregisterAgentResponse:
        """Forget an agent that is offline."""
        self._desk.registry.deregister(_checked(request.agent_id))
        await self._desk.kept([request.agent_id])
        return pb.DeregisterAgentResponse()

    async def WatchAgents(
        self, request: pb.WatchAgentsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAgentsResponse]:
        """Stream agents: all that match first, then each change."""
        wanted = filter_of(request.filter)
        check = Checker()
        check.duration("min_interval", request.min_interval, 0.0, min_interval_s_max)
        check.done()
        watcher = self._desk.watch(wanted, request.min_interval.ToNanoseconds() / 1e9)
        agents = self._desk.registry.agents
        try:
            async for changes in watcher.changes():
                yield pb.WatchAgentsResponse(
                    agents=[self._message(agents[agent_id]) for agent_id in changes.agent_ids],
                    removed_agent_ids=changes.removed,
                    caught_up=changes.caught_up,
                )
        finally:
            watcher.close()

    async def SyncSessions(
        self, request_iterator: AsyncIterator[pb.SyncSessionsRequest], context: Context
    ) -> AsyncIterator[pb.SyncSessionsResponse]:
        """Take a router's facts and give directives back."""
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            return
        router_id = first.router_id
        if not router_id:
            raise FailedPrecondition(
                "HELLO_REQUIRED", "The first message must name the router: router_id."
            )
        _checked(router_id, "router_id")
        line = self._desk.open_line(router_id)

        async def read() -> None:
            try:
                self._take(router_id, first)
                line.ask(first.ask)
                async for request in requests:
                    self._take(router_id, request)
                    line.ask(request.ask)
            finally:
                line.close()

        reader = asyncio.create_task(read())
        try:
            async for said in line.directives():
                yield pb.SyncSessionsResponse(
                    directives=map(directive_of, said.directives), answer=said.answer
                )
            if reader.done():
                reader.result()
        finally:
            # First of all: a call may be cancelled once more while this waits for the reader.
            self._desk.drop_line(router_id, line)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _take(self, router_id: str, request: pb.SyncSessionsRequest) -> None:
        """Take facts in the order of the message: opened, closed, alive, outcomes."""
        registry, now = self._desk.registry, self._desk.now()
        if request.snapshot:
            registry.snapshot(router_id, (agent.agent_id for agent in request.opened), now)
        for agent in request.opened:
            age_s = max(0.0, agent.session_age.ToNanoseconds() / 1e9)
            told, count = told_of(agent), agent.in_flight_count
            try:
                registry.opened(facts_of(agent), router_id, count, now, age_s, told)
            except ResourceExhausted as full:
                # The others of the router, and what it says later, are not to suffer from it.
                log.warning("An agent is not known here: %s", full.message)
        for closed in request.closed:
            registry.closed(closed.agent_id, router_id, now, orderly=closed.orderly)
        for alive in request.alive:
            registry.alive(
                alive.agent_id, router_id, alive.in_flight_count, now, draining=alive.draining
            )
        for outcome in request.outcomes:
            kind = KINDS.get(outcome.kind)
            if kind is not None:
                run_s = outcome.run_duration.ToNanoseconds() / 1e9
                registry.health.outcome(
                    outcome.agent_id, outcome.task_id, outcome.task_type, kind, run_s, now
                )
        self._desk.touch()

    def _message(self, agent: Agent) -> agent_pb2.Agent:
        return message_of(agent, self._desk.now().mono_s)


def _checked(agent_id: str, path: str = "agent_id") -> str:
    check = Checker()
    check.identifier(path, agent_id)
    check.done()
    return agent_id


def _paths(request: pb.UpdateAgentRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    paths = list(request.update_mask.paths)
    if paths == ["*"]:
        return list(changeable)
    if not paths:
        agent = request.agent
        given = {
            "name": bool(agent.name),
            "labels": bool(agent.labels),
            "cost_hint": agent.HasField("cost_hint"),
        }
        return [path for path, is_set in given.items() if is_set]
    unknown = [path for path in paths if path not in changeable]
    if unknown:
        raise InvalidArgument(
            "FIELD_MASK_INVALID",
            f"update_mask may name {', '.join(changeable)}; not {unknown[0][:64]!r}.",
            metadata={"path": unknown[0][:64]},
        )
    return paths
