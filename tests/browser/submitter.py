"""The Python client for tests that are not coroutines: it lives on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar

from podium.sdk.client import Client, TaskHandle
from podium.sdk.results import Outcome
from podium.sdk.settings import Settings

T = TypeVar("T")


class Submitter:
    """Submits tasks and waits for them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._client = Client(Settings.from_environment(environ))

    def __enter__(self) -> Submitter:
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._client.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, kind: str, payload: Any, **options: Any) -> TaskHandle:
        return self._run(self._client.submit(kind, payload, **options))

    def result(self, handle: TaskHandle) -> Any:
        return self._run(handle.result())

    def outcome(self, handle: TaskHandle) -> Outcome:
        return self._run(handle.outcome())

    def attempts(self, handle: TaskHandle) -> int:
        return self._run(self._client.get(handle.task_id)).attempt_count

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)
