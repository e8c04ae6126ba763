"""When Python looks for garbage: often, and among what is new only.

Python counts what was made less what was freed. In a service that keeps its tasks for a while and
then frees as many as it makes that hardly grows, so by the time it says "look" there are hundreds
of thousands of objects to look through: measured 395 ms, in which nobody is answered. So the
looking is done here by the clock: each object is looked at once, when it is new, and is then left
to its reference count. What becomes garbage in cycles later (a stream that ended) is found by a
look through everything, which waits for a quiet moment.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

LOOK_S = 0.1
"""Between two looks at what is new: some milliseconds of them at 4,000 tasks a second."""
WHOLE_S = 300.0
"""Between two looks through everything, if there is a quiet moment."""
WHOLE_S_MAX = 3_600.0
"""The same, if there is none."""
QUIET_SHARE = 0.1
"""Of a core, taken by the process since the last look: below this it is quiet."""


class Collector:
    """Looks for garbage in place of Python's own counting.

    Args:
        now_s: The time in seconds, only ever growing.
        used_s: CPU time of this process in seconds.
    """

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        used_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._now_s = now_s
        self._used_s = used_s
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
        if now_s - self._whole_s >= (WHOLE_S if quiet else WHOLE_S_MAX):
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
