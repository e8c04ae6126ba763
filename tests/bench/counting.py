"""Counts the calls that Python makes: the same in every run, however fast the machine is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Count:
    """Calls of functions, those of the interpreter included."""

    def __init__(self) -> None:
        self.calls = 0


@contextmanager
def calls() -> Iterator[Count]:
    """Count the calls made in the block."""
    count = Count()

    def profile(frame: object, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            count.calls += 1

    before = sys.getprofile()
    # A collection runs when it likes, and what it finalises is somebody else's.
    collects = gc.isenabled()
    gc.disable()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
        # The exit of the block itself.
        count.calls -= 1
