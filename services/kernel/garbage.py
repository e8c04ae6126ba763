"""When Python looks for garbage: often, and among what is new only.

Python counts what was made less what was freed. In a service that keeps its tasks for a while and
then frees as many as it makes that hardly grows, so by the time it says "look" there are hundreds
of thousands of objects to look through: measured 395 ms, in which nobody is answered. So the
looking is done here by the clock: each object is looked at once, when it is new, and is then left
to its reference count. What becomes garbage in cycles later (a stream that ended) is found by a
look through everything, which waits for a quiet moment, or until the memory has doubled.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

LOOK_S = 0.1
"""Between two looks at what is new: some milliseconds of them at 4,000 tasks a second."""
WHOLE_S = 300.0
"""Between two looks through everything, if there is a quiet moment."""
WHOLE_S_MAX = 3_600.0
"""The same, if there is none."""
GROWN_S = 60.0
"""The same, while the process takes twice the memory that it took after the last one."""
GROWN_BYTES = 64 << 20
"""On top of it: a small process doubles for nothing."""
QUIET_SHARE = 0.1
"""Of a core, taken by the process since the last look: below this it is quiet."""


def resident_bytes() -> int:
    """Return the memory that this process takes; 0 where the system does not tell it this way."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


class Collector:
    """Looks for garbage in place of Python's own counting.

    Args:
        now_s: The time in seconds, only ever growing.
        used_s: CPU time of this process in seconds.
        memory_bytes: What the process takes.
    """

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        used_s: Callable[[], float] = time.process_time,
        memory_bytes: Callable[[], int] = resident_bytes,
    ) -> None:
        self._now_s = now_s
        self._used_s = used_s
        self._memory_bytes = memory_bytes
        self._memory_before = memory_bytes()
        self._looked_s = self._whole_s = now_s()
        self._used_before_s = used_s()

    async def run(self) -> None:
        """Look until cancelled; Python's own way comes back then."""
        gc.disable()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.look()
        finally:
            gc.enable()

    def look(self) -> bool:
        """Look at what is new, or at everything when that is due; return which it was."""
        now_s, used_s = self._now_s(), self._used_s()
        passed_s = now_s - self._looked_s
        quiet = used_s - self._used_before_s < QUIET_SHARE * passed_s
        self._looked_s, self._used_before_s = now_s, used_s
        since_s = now_s - self._whole_s
        if since_s >= GROWN_S and (since_s >= (WHOLE_S if quiet else WHOLE_S_MAX) or self._grown()):
            self.whole()
            return True
        if gc.isenabled():  # whoever switched it off for a while has switched it on again
            gc.disable()
        gc.collect(0)
        gc.freeze()
        return False

    def whole(self) -> None:
        """Look through everything."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._whole_s = self._looked_s = self._now_s()
        self._used_before_s = self._used_s()
        self._memory_before = self._memory_bytes()

    def _grown(self) -> bool:
        return self._memory_bytes() > 2 * self._memory_before + GROWN_BYTES
