"""Waiting for a condition with a deadline, for what sends no signal a test could await."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    *,
    within_s: float = 30.0,
    every_s: float = 0.01,
    told: Callable[[], str] = lambda: "",
) -> T:
    """Returns the first true answer of a condition, sync or async.

    Args:
        condition: asked again and again; an AssertionError counts as "not yet".
        within_s: when to give up: late, which costs nothing when all is well, for the machine may
            be busy.
        every_s: the pause between two questions.
        told: what to say beside the condition's last answer when giving up.

    Raises:
        AssertionError: it never held; carries the last answer.
    """
    deadline = time.monotonic() + within_s
    while True:
        last: object
        try:
            answer = condition()
            last = await answer if inspect.isawaitable(answer) else answer
        except AssertionError as error:
            last = error
        else:
            if last:
                return last  # type: ignore[return-value]  # it is the T that was awaited
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; last answer: {last!r} {told()}")
        await asyncio.sleep(every_s)
