"""The submitter: closed and open loops over the SDK's client, one callback a task and no more."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from podium.sdk.client import Client
from podium.sdk.errors import ResourceExhausted
from podium.sdk.handle import TaskHandle
from podium.sdk.results import Outcome
from podium.sdk.specs import build
from podium.v1 import task_pb2
from tests.bench.workload import PAYLOAD, TYPES

Accepted = asyncio.Future[TaskHandle]
SETTLE_LEN = 64
STEP_S = 0.001
PAUSE_S = 0.005
"""Between two tasks that come one at a time, so that each meets streams that are at rest."""


def spec_of(number: int, priority: int | None = None) -> task_pb2.TaskSpec:
    """Return the task of a number: types by turns."""
    options = {} if priority is None else {"priority": priority}
    return build(TYPES[number % len(TYPES)], PAYLOAD, options)  # type: ignore[arg-type]  # typed dict


async def closed(client: Client, tasks: int, window: int) -> None:
    """Submit `tasks` one by one, at most `window` unfinished; until all results are known."""
    finished = asyncio.get_running_loop().create_future()
    numbers = iter(range(tasks))
    left = tasks

    def submit() -> None:
        number = next(numbers, None)
        if number is not None:
            client.submit_soon(spec_of(number)).add_done_callback(accepted)

    def accepted(future: Accepted) -> None:
        if error := future.exception():
            if not finished.done():
                finished.set_exception(error)
        else:
            future.result().when_ended(ended)

    def ended(outcome: Outcome) -> None:
        nonlocal left
        outcome.payload()  # raises when the task failed
        left -= 1
        if left:
            submit()
        elif not finished.done():
            finished.set_result(None)

    for _ in range(min(window, tasks)):
        submit()
    await finished


@dataclass
class Samples:
    """What became of the tasks of an open loop; milliseconds from the instant each was due."""

    due_s: list[float] = field(default_factory=list)
    """Since the loop began, of the tasks that ended; the next two lists go with it."""
    end_to_end_ms: list[float] = field(default_factory=list)
    assignment_ms: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    """Since the loop began."""
    refused_ms: list[float] = field(default_factory=list)
    """By the scheduler."""
    held_back_ms: list[float] = field(default_factory=list)
    """Refused by the client itself, after a refusal of the scheduler."""
    hints_s: list[float] = field(default_factory=list)
    """When refused tasks may come again; NaN where that was not said."""
    offered: int = 0


class OpenLoop:
    """Offers tasks at a rate, whatever becomes of them.

    A task is due by the clock. Late or not, it was due then: that the loop was busy counts, and
    nothing is left out because something before it took long.
    """

    def __init__(
        self, client: Client, samples: Callable[[int], tuple[Samples, int | None]]
    ) -> None:
        """Begin with nothing.

        Args:
            client: Submits.
            samples: Tells where the task of a number is recorded, and its priority.
        """
        self._client = client
        self._samples = samples
        self._open = 0
        self._idle = asyncio.Event()
        self._began_s = 0.0
        self._began_ns = 0

    async def run(self, rate: float, seconds: float) -> float:
        """Offer `rate` tasks a second for `seconds`; return the seconds until all were answered."""
        self._began_s, self._began_ns = time.perf_counter(), time.time_ns()
        count, number = int(rate * seconds), 0
        self._open, self._idle = 1, asyncio.Event()
        while number < count:
            passed_s = time.perf_counter() - self._began_s
            while number < count and number <= passed_s * rate:
                self._submit(number, number / rate)
                number += 1
            ahead_s = self._began_s + number / rate - time.perf_counter()
            # A wake-up costs as much as several submits, so above 1,000/s tasks share one; what
            # they wait for it counts.
            await asyncio.sleep(max(STEP_S, ahead_s) if rate > 1 / STEP_S else max(0.0, ahead_s))
        self._closed()
        await self._idle.wait()
        return time.perf_counter() - self._began_s

    def _submit(self, number: int, due_s: float) -> None:
        samples, priority = self._samples(number)
        samples.offered += 1
        self._open += 1
        future = self._client.submit_soon(spec_of(number, priority))
        here = future.done()

        def accepted(future: Accepted) -> None:
            error = future.exception()
            if error is None:
                future.result().when_ended(ended)
                return
            if not isinstance(error, ResourceExhausted):
                raise error
            answered = samples.held_back_ms if here else samples.refused_ms
            answered.append((time.perf_counter() - self._began_s - due_s) * 1e3)
            samples.hints_s.append(error.retry_after_s or float("nan"))
            self._closed()

        def ended(outcome: Outcome) -> None:
            at_s = time.perf_counter() - self._began_s
            due_ns = self._began_ns + int(due_s * 1e9)
            samples.due_s.append(due_s)
            samples.ended_s.append(at_s)
            samples.end_to_end_ms.append((at_s - due_s) * 1e3)
            samples.assignment_ms.append((int(outcome.payload().data) - due_ns) / 1e6)
            self._closed()

        future.add_done_callback(accepted)

    def _closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()


async def quiet(client: Client, seconds: float) -> Samples:
    """One task at a time, each submitted when the one before has ended."""
    samples = Samples()
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        due_s, due_ns = time.perf_counter(), time.time_ns()
        handle = await client.submit_soon(spec_of(samples.offered))
        outcome = await handle.outcome()
        samples.end_to_end_ms.append((time.perf_counter() - due_s) * 1e3)
        samples.assignment_ms.append((int(outcome.payload().data) - due_ns) / 1e6)
        samples.offered += 1
        await asyncio.sleep(PAUSE_S)
    return samples


@contextmanager
def undisturbed() -> Iterator[None]:
    """Look for no garbage: a pause of the load generator would be charged to what it measures."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def settle(client: Client) -> None:
    """Pay for connections and for what is compiled on first use."""
    await closed(client, SETTLE_LEN, SETTLE_LEN)
