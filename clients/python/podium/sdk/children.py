"""Tasks that handlers submit while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar, overload

from podium.sdk.client import Client
from podium.sdk.errors import Unimplemented
from podium.sdk.handle import TaskHandle
from podium.sdk.settings import Settings
from podium.sdk.specs import SubmitOptions

T = TypeVar("T")


class ChildHandle(Protocol):
    """A child task, as `podium.sdk.handle.TaskHandle` is."""

    task_id: str

    @overload
    async def result(self, timeout_s: float | None = None) -> Any: ...

    @overload
    async def result(self, timeout_s: float | None = None, *, into: type[T]) -> T: ...

    async def result(self, timeout_s: float | None = None, *, into: Any = None) -> Any:
        """Waits for the result and returns it; as `TaskHandle.result`.

        Raises:
            TaskFailed: the child ended without one; TaskCanceled, TaskExpired, TaskRejected.
            ResultMisfit: the result is not what `into` says.
            TimeoutError: it has not ended within `timeout_s`, in seconds; it goes on.
        """

    async def cancel(self, reason: str = "") -> bool:
        """Cancels the child; False when it had ended before."""


class Children(Protocol):
    """Where handlers submit."""

    async def submit(self, task_type: str, payload: Any, options: SubmitOptions) -> ChildHandle:
        """Submits a task."""

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the host's loop while the calling thread waits."""


class NoChildren:
    """For handlers that run where no client can be."""

    async def submit(self, task_type: str, payload: Any, options: SubmitOptions) -> ChildHandle:
        """Refuses.

        Raises:
            Unimplemented: NO_CHILDREN_HERE.
        """
        raise self._refusal()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Refuses.

        Raises:
            Unimplemented: NO_CHILDREN_HERE.
        """
        work.close()
        raise self._refusal()

    @staticmethod
    def _refusal() -> Unimplemented:
        return Unimplemented(
            "NO_CHILDREN_HERE",
            "A handler in a process of its own cannot submit tasks: let it return what is needed"
            " to an async handler that can.",
        )


NO_CHILDREN = NoChildren()


class Submitting:
    """Submits by a client of the host's own, made when a handler first submits.

    Args:
        settings: where the suite is.
        inline: as `AgentHost`.
    """

    def __init__(self, settings: Settings, *, inline: bool) -> None:
        self._settings = settings
        self._inline = inline
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    async def submit(self, task_type: str, payload: Any, options: SubmitOptions) -> TaskHandle:
        """Submits a task; its span is below the handler's."""
        client = await self._opened()
        return await client.submit(task_type, payload, **options)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the host's loop while the calling thread waits."""
        # The coroutine runs in the caller's context, which carries the current span.
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def close(self) -> None:
        """Closes the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    async def _opened(self) -> Client:
        async with self._opening:
            if self._client is None:
                client = Client(self._settings, inline=self._inline)
                self._client = await client.__aenter__()
        return self._client
