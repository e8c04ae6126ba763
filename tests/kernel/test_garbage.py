"""Garbage is looked for by the clock: among what is new, and rarely among everything."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from services.kernel import garbage
from services.kernel.garbage import (
    GROWN_BYTES,
    GROWN_S,
    QUIET_SHARE,
    WHOLE_S,
    WHOLE_S_MAX,
    Collector,
    resident_bytes,
)


class Node:
    """Refers to itself, so that counting references never frees it."""

    def __init__(self) -> None:
        self.itself: Node | None = self


class Process:
    """The clocks of a process."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.used_s = 0.0
        self.memory_bytes = 100 << 20
        self.collector = Collector(
            lambda: self.now_s, lambda: self.used_s, lambda: self.memory_bytes
        )

    def after(self, seconds: float, *, busy: bool = False) -> bool:
        self.now_s += seconds
        self.used_s += seconds * QUIET_SHARE * (2.0 if busy else 0.5)
        return self.collector.look()


@pytest.fixture
def process() -> Iterator[Process]:
    collects, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    yield Process()
    gc.unfreeze()
    if frozen:
        gc.freeze()
    if collects:
        gc.enable()
    else:
        gc.disable()


def test_a_cycle_that_is_garbage_when_it_is_new_goes_at_the_next_look(process: Process) -> None:
    gone = weakref.ref(Node())

    process.after(0.1, busy=True)

    assert gone() is None


def test_what_was_looked_at_once_is_not_looked_at_again(process: Process) -> None:
    kept = Node()
    process.after(0.1)

    assert not any(each is kept for each in gc.get_objects())
    gone = weakref.ref(kept)
    del kept
    process.after(0.1)
    assert gone() is not None


def test_garbage_of_what_lived_for_a_while_goes_at_a_quiet_moment(process: Process) -> None:
    kept = Node()
    process.after(0.1)
    gone = weakref.ref(kept)
    del kept

    assert not process.after(WHOLE_S, busy=True)
    assert gone() is not None
    assert process.after(0.1)
    assert gone() is None
    # And the next time it is not due so soon.
    assert not process.after(WHOLE_S - 1.0)


def test_who_is_never_quiet_looks_through_everything_once_an_hour(process: Process) -> None:
    kept = Node()
    process.after(0.1)
    gone = weakref.ref(kept)
    del kept

    assert process.after(WHOLE_S_MAX, busy=True)
    assert gone() is None


def test_who_has_doubled_looks_through_everything_within_a_minute(process: Process) -> None:
    kept = Node()
    process.after(0.1)
    gone = weakref.ref(kept)
    del kept
    process.memory_bytes = 2 * process.memory_bytes + GROWN_BYTES + 1

    assert not process.after(GROWN_S - 1.0, busy=True)
    assert gone() is not None
    assert process.after(1.0, busy=True)
    assert gone() is None
    # What is live is not looked through again and again for being much.
    assert not process.after(GROWN_S, busy=True)


def test_the_memory_of_a_process_is_told() -> None:
    assert resident_bytes() > 10 << 20


def test_what_is_freed_without_a_cycle_needs_no_look(process: Process) -> None:
    kept = Node()
    process.after(0.1)
    gone = weakref.ref(kept)

    kept.itself = None
    del kept

    assert gone() is None


async def test_python_s_own_looking_is_off_while_it_runs(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.0)
    gc.enable()
    looks = asyncio.Event()
    monkeypatch.setattr(process.collector, "look", looks.set)

    running = asyncio.create_task(process.collector.run())
    await looks.wait()

    assert not gc.isenabled()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert gc.isenabled()
