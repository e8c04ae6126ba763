"""The unary calls and watches of the services, by the field of BridgeRequest that asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import grpc.aio

from podium.v1 import (
    agent_registry_pb2_grpc,
    analytics_pb2_grpc,
    task_scheduler_pb2_grpc,
)
from podium.v1.bridge_pb2 import BridgeEvents, BridgeRequest, BridgeResponse
from podium.v1.event_pb2 import Event
from services.kernel import rpc
from services.kernel.errors import PodiumError, Unavailable

scheduler_name = "TaskScheduler"
registry_name = "AgentRegistry"
analytics_name = "Analytics"

unary_s_max = 30.0
wait_margin_s = 5.0

Metadata = tuple[tuple[str, str], ...]


class _Ask(NamedTuple):
    service: str
    call: Any
    answer: str
    """The field of BridgeResponse that holds the response."""


class _Watch(NamedTuple):
    service: str
    call: Any
    wrap: Callable[[Any], BridgeResponse]


class GrpcPeers:
    """TaskScheduler, AgentRegistry and Analytics over gRPC."""

    def __init__(
        self,
        scheduler: grpc.aio.Channel,
        registry: grpc.aio.Channel,
        analytics: grpc.aio.Channel,
    ) -> None:
        tasks: Any = task_scheduler_pb2_grpc.TaskSchedulerServiceStub(scheduler)
        agents: Any = agent_registry_pb2_grpc.AgentRegistryServiceStub(registry)
        windows: Any = analytics_pb2_grpc.AnalyticsServiceStub(analytics)
        self._asks = {
            "submit": _Ask(scheduler_name, tasks.SubmitTasks, "submitted"),
            "cancel": _Ask(scheduler_name, tasks.CancelTasks, "canceled"),
            "list": _Ask(scheduler_name, tasks.ListTasks, "tasks"),
            "get": _Ask(scheduler_name, tasks.GetTask, "task"),
            "explain": _Ask(scheduler_name, tasks.ExplainTask, "explanation"),
            "provide_input": _Ask(scheduler_name, tasks.ProvideInput, "input_provided"),
            "requeue": _Ask(scheduler_name, tasks.RequeueTasks, "requeued"),
            "queue_stats": _Ask(scheduler_name, tasks.GetQueueStats, "queue_stats"),
            "list_agents": _Ask(registry_name, agents.ListAgents, "agent_list"),
            "drain_agents": _Ask(registry_name, agents.DrainAgents, "draining"),
            "quarantine_agent": _Ask(registry_name, agents.QuarantineAgent, "quarantined"),
            "release_agent": _Ask(registry_name, agents.ReleaseAgent, "released"),
            "trace": _Ask(analytics_name, windows.GetTrace, "trace"),
        }
        self._watches = {
            "watch": _Watch(scheduler_name, tasks.WatchTasks, _events),
            "watch_events": _Watch(scheduler_name, tasks.WatchEvents, _events),
            "watch_agents": _Watch(registry_name, agents.WatchAgents, _agents),
            "watch_windows": _Watch(
                analytics_name,
                windows.WatchWindows,
                _windows,
            ),
        }

    def watches(self, arm: str) -> bool:
        """Tell whether requests of this kind are answered again and again."""
        return arm in self._watches

    async def ask(self, arm: str, request: BridgeRequest, token: str) -> BridgeResponse:
        """Return the answer of the peer."""
        asked = self._asks[arm]
        asking = getattr(request, arm)
        timeout_s = unary_s_max
        if arm == "get" and asking.HasField("wait"):
            timeout_s = max(timeout_s, asking.wait.seconds + wait_margin_s)
        try:
            message = await asked.call(asking, timeout=timeout_s, metadata=_metadata(token))
        except grpc.aio.AioRpcError as error:
            raise _told(error, asked.service) from None
        # One keyword of many, known only here: typed stubs cannot say that.
        answer: dict[str, Any] = {asked.answer: message}
        return BridgeResponse(**answer)

    async def watch(
        self, arm: str, request: BridgeRequest, token: str
    ) -> AsyncIterator[BridgeResponse]:
        """Yield what the peer streams."""
        watched = self._watches[arm]
        call = watched.call(getattr(request, arm), metadata=_metadata(token))
        try:
            async for response in call:
                yield watched.wrap(response)
        except grpc.aio.AioRpcError as error:
            raise _told(error, watched.service) from None
        finally:
            call.cancel()


def _told(error: grpc.aio.AioRpcError, service: str) -> PodiumError:
    """Return what the peer said; where the transport speaks in its place, say it for people."""
    told = rpc.from_rpc_error(error)
    if told.reason != "PEER_UNAVAILABLE":
        return told
    return Unavailable(
        "PEER_UNAVAILABLE",
        f"{service} cannot be reached; try again in a moment.",
        metadata={"service": service},
        retry_after_s=1.0,
    )


def _metadata(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),) if token else ()


_EVENT_NAMES = {
    value.number: "task:" + value.name.removeprefix("TYPE_").lower()
    for value in Event.Type.DESCRIPTOR.values
}


def _events(response: Any) -> BridgeResponse:
    """Return a batch with the names by which browsers tell events apart: `task:created`."""
    names = [_EVENT_NAMES.get(event.type, "task:unknown") for event in response.events]
    return BridgeResponse(
        events=BridgeEvents(events=response.events, names=names, cursor=response.cursor)
    )


def _agents(response: Any) -> BridgeResponse:
    return BridgeResponse(agents=response)


def _windows(response: Any) -> BridgeResponse:
    return BridgeResponse(windows=response)
