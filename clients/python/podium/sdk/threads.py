"""Threads for what blocks. They are daemons: one that never returns does not keep its program.

The standard library's pool joins its threads when the interpreter ends, however long they take.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Runs calls in at most `size` threads, in order, started when they are needed.

    Args:
        size: how many; may be changed at any time, and counts from the next call on.
        name: of the threads.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        # Calls that wait or run.
        self._open = 0
        self._closed = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Runs a call when a thread is free; until it begins, its future can be cancelled.

        Raises:
            RuntimeError: they are closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads are closed")
            self._open += 1
            self._calls.put((future, call))
            while self._started < min(self.size, self._open):
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Lets the threads end, each when its call has, and begins no other call."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            started = self._started
        while True:
            try:
                item = self._calls.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
        for _ in range(started):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            self._run(*item)
            del item  # else what it holds stays until the next one comes

    def _run(self, future: Future[Any], call: Callable[[], Any]) -> None:
        begun = future.set_running_or_notify_cancel()
        error: BaseException | None = None
        result = None
        try:
            if begun:
                result = call()
        except BaseException as raised:
            error = raised
        # Before anyone learns of the end: whoever does may have the next call for this thread.
        with self._lock:
            self._open -= 1
        if error is not None:
            future.set_exception(error)
            error = None  # else it and this frame would hold each other
        elif begun:
            future.set_result(result)


async def aside(call: Callable[[], T]) -> T:
    """Runs a call in a thread of its own, for which nothing else has to end first."""
    threads = Threads(1, "podium-aside")
    future = threads.submit(call)
    try:
        return await asyncio.wrap_future(future)
    finally:
        threads.close()
