"""Named points on the write path where tests make the process die, wait or fail.

`PODIUM_FAILPOINTS="after_sync=crash@20,before_reply=delay:50"`: the action, after how many passes
it happens (default 1), and for a delay its milliseconds. Without the variable they cost a call.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from services.task_scheduler.ports import FAILPOINTS, StorageFailed

log = logging.getLogger("podium.task_scheduler.failpoints")


class StorageFull(OSError):
    """There is no space; thrown by a failpoint in place of the disk."""


class _Armed(NamedTuple):
    action: str
    passes: int
    delay_ms: int


class Failpoints:
    """What happens where; called with the name of the point that is passed."""

    def __init__(self, text: str = "") -> None:
        self._armed = {name: armed for name, armed in map(_parse, filter(None, text.split(",")))}
        self._passed = dict.fromkeys(FAILPOINTS, 0)
        self._lock = threading.Lock()

    def __contains__(self, name: object) -> bool:
        """Tell whether something happens at the point `name`."""
        return name in self._armed

    def __call__(self, name: str) -> None:
        """Pass the point `name`."""
        armed = self._armed.get(name)
        if armed is None:
            return
        with self._lock:
            self._passed[name] += 1
            if self._passed[name] != armed.passes:
                return
        log.warning("failpoint %s: %s", name, armed.action)
        _ACT[armed.action](armed)


def _parse(text: str) -> tuple[str, _Armed]:
    # The settings have checked the form.
    name, _, what = text.strip().partition("=")
    what, _, passes = what.partition("@")
    action, _, delay_ms = what.partition(":")
    return name, _Armed(action, int(passes or 1), int(delay_ms or 100))


def _crash(armed: _Armed) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _delay(armed: _Armed) -> None:
    time.sleep(armed.delay_ms / 1000)


def _error(armed: _Armed) -> None:
    raise StorageFailed("a failpoint says so")


def _full(armed: _Armed) -> None:
    raise StorageFull("a failpoint says so")


_ACT: dict[str, Callable[[_Armed], None]] = {
    "crash": _crash,
    "delay": _delay,
    "error": _error,
    "full": _full,
}
