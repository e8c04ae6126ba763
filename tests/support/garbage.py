"""When the tests' process looks for garbage: between tests, and never inside of anything.

Left to itself Python looks for garbage wherever enough objects have been made, in the midst of
parsing too: of a module whose assertions pytest rewrites, or of a line that a traceback shows.
If what is found there tells of an error as it goes (a task whose exception nobody took), then its
traceback is parsed inside of the other, and before 3.11.8 and 3.12.2 the outer one fails: "AST
constructor recursion depth mismatch" (CPython issue 106905), which ends a whole run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

WHOLE_S = 5.0
"""Between two looks through everything, which take a tenth of a second."""


class Looks:
    """Looks for garbage in place of Python's own counting; a plugin of pytest.

    Args:
        now_s: The time in seconds, only ever growing.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._whole_s = now_s()

    def pytest_configure(self) -> None:
        gc.disable()

    def pytest_collection_finish(self) -> None:
        # Modules are no garbage, and most of what there is to look through.
        gc.collect()
        gc.freeze()

    # The first to be set up is the last to be torn down: what a test has left is told as its own.
    @pytest.fixture(autouse=True)
    def between_tests(self) -> Iterator[None]:
        yield
        self.look()

    def pytest_sessionfinish(self) -> None:
        gc.unfreeze()

    def look(self) -> None:
        """Look at what the test has made, or at everything when that is due."""
        gc.disable()  # whoever switched it off for a while may have switched it on again
        now_s = self._now_s()
        if now_s - self._whole_s < WHOLE_S:
            gc.collect(1)
            return
        gc.collect()
        self._whole_s = now_s
