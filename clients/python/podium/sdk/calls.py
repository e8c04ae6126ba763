"""The suite's RPCs, called on the wire's loop from any other, with retries where they are safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import grpc.aio

from podium.sdk.backoff import Backoff
from podium.sdk.errors import Peer, PodiumError, from_rpc_error, is_transient
from podium.sdk.settings import Settings
from podium.sdk.wire import Wire, dial
from podium.v1 import (
    agent_registry_pb2_grpc,
    analytics_pb2_grpc,
    task_scheduler_pb2_grpc,
)

Q = TypeVar("Q")
R = TypeVar("R")

CALL_S_MAX = 20.0


class Stubs:
    """The services' stubs, each made when it is first used; only for the wire's loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channels: dict[str, grpc.aio.Channel] = {}

    def _channel(self, name: str) -> grpc.aio.Channel:
        channel = self._channels[name] = dial(getattr(self._settings, name))
        return channel

    @cached_property
    def scheduler(self) -> task_scheduler_pb2_grpc.TaskSchedulerServiceAsyncStub:
        """The TaskScheduler's."""
        return task_scheduler_pb2_grpc.TaskSchedulerServiceStub(self._channel("task_scheduler"))

    @cached_property
    def registry(self) -> agent_registry_pb2_grpc.AgentRegistryServiceAsyncStub:
        """The AgentRegistry's."""
        return agent_registry_pb2_grpc.AgentRegistryServiceStub(self._channel("agent_registry"))

    @cached_property
    def analytics(self) -> analytics_pb2_grpc.AnalyticsServiceAsyncStub:
        """Analytics' own."""
        return analytics_pb2_grpc.AnalyticsServiceStub(self._channel("analytics"))

    async def close(self) -> None:
        """Closes all channels."""
        for channel in self._channels.values():
            await channel.close()


class Calls:
    """Calls RPCs and turns their failures into the errors of the tree.

    Args:
        wire: where gRPC lives.
        settings: where the suite is.
        patience_s: how long a call is tried again while nobody answers.
    """

    def __init__(self, wire: Wire, settings: Settings, patience_s: float) -> None:
        self.wire = wire
        self.stubs = Stubs(settings)
        self.patience_s = patience_s
        self._settings = settings

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call that begins now carries."""
        return self._settings.metadata

    def peer(self, name: str) -> Peer:
        """Returns who a service is, for error messages."""
        return self._settings.peer(name)

    async def unary(
        self,
        name: str,
        pick: Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Q, R]],
        request: Q,
        *,
        timeout_s: float = CALL_S_MAX,
    ) -> R:
        """Calls a unary RPC; while nobody answers it is tried again for `patience_s`.

        Only UNAVAILABLE is repeated. The caller gives a request_id where a repeat must not act
        twice.

        Args:
            name: the service, as in `Settings`.
            pick: the method of it.
            request: the request.
            timeout_s: deadline of one try.

        Raises:
            PodiumError: what the service answered; Unavailable when nobody did.
        """
        return await self.wire.run(self.unary_here(name, pick, request, timeout_s=timeout_s))

    async def unary_here(
        self,
        name: str,
        pick: Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Q, R]],
        request: Q,
        *,
        timeout_s: float = CALL_S_MAX,
    ) -> R:
        """As `unary`, for who runs on the wire's loop.

        Raises:
            PodiumError: as `unary`.
        """
        patience = Patience(self.patience_s)
        while True:
            try:
                method = pick(self.stubs)
                return await method(request, timeout=timeout_s, metadata=self.metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, self.peer(name))
                if not is_transient(error):
                    raise failure from None
            await patience.wait(failure)

    async def close(self) -> None:
        """Closes the channels."""
        await self.wire.run(self.stubs.close())


class Patience:
    """Waits between tries until a bound on the whole is reached."""

    def __init__(self, patience_s: float) -> None:
        self._backoff = Backoff(cap_s=2.0)
        self._patience_s = patience_s
        self._until_s: float | None = None

    async def wait(self, failure: PodiumError) -> None:
        """Waits before the next try.

        Raises:
            PodiumError: the failure, when the bound would be passed.
        """
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + self._patience_s
        wait_s = max(self._backoff.next_s(), failure.retry_after_s or 0.0)
        if now_s + wait_s > self._until_s:
            raise failure
        await asyncio.sleep(wait_s)

    def reset(self) -> None:
        """Begins again: it worked."""
        self._backoff.reset()
        self._until_s = None
