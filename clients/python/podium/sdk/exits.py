"""How a program of agents ends: in order where its handlers let it, and in any case.

A handler may block its thread, hold up the program's loop or swallow its cancellation; none of this
may keep a process that was told to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("podium.sdk.agent")

HEAR_S_MAX = 1.0
CLOSE_S_MAX = 3.0
INTERRUPTED = 130


@contextmanager
def on_signal(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], None], leave: Callable[[], bool]
) -> Iterator[None]:
    """Obeys SIGTERM and Ctrl-C within the block; a second one ends the process at once.

    Args:
        loop: of the program.
        stop: lets it finish; called on the loop.
        leave: is called while the loop is held up; finishes in its stead, blocks meanwhile, and
            tells whether a handler does that. Then the process ends.
    """
    done = threading.Event()
    told = False

    def watch() -> None:
        while not done.is_set():
            answered = threading.Event()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # it is closed
                return
            if answered.wait(HEAR_S_MAX):
                done.wait(HEAR_S_MAX)
                continue
            if leave() and not (answered.is_set() or done.is_set()):
                _exit("a handler holds this program up", 0)
            done.wait(HEAR_S_MAX)

    # Not by the loop, which could not hear the second one while a handler holds it up.
    def take(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            os._exit(INTERRUPTED)
        told = True
        loop.call_soon_threadsafe(stop)
        threading.Thread(target=watch, name="podium-exit", daemon=True).start()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield
    finally:
        done.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def closing(runner: asyncio.Runner) -> Iterator[asyncio.Runner]:
    """Closes a runner after the block, and ends the process where that takes too long.

    asyncio waits without limit for tasks that do not stop and for threads of its own pool.
    """
    code = 1
    try:
        yield runner
        code = 0
    finally:
        error = sys.exception()
        closed = threading.Event()

        def watch() -> None:
            if not closed.wait(CLOSE_S_MAX):
                if error is not None:
                    log.error("the program has failed", exc_info=error)
                _exit("handlers do not stop", code)

        threading.Thread(target=watch, name="podium-exit", daemon=True).start()
        runner.close()
        closed.set()


def _exit(why: str, code: int) -> None:
    log.error("%s: this process ends all the same", why)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
