"""How many watches may be open at once: each costs a little of every commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.kernel.auth import current_principal
from services.kernel.errors import ResourceExhausted
from services.task_scheduler.servicer.choice import SERVICE

RESERVED_SHARE = 10
"""One of so many places is for other services, which the suite cannot do without."""
RETRY_AFTER_S = 5.0


class Places:
    """Places for watches of one kind.

    Args:
        what: What is watched, for people.
        len_max: How many there are.
    """

    def __init__(self, what: str, len_max: int) -> None:
        self.taken = 0
        self._what = what
        self._len_max = len_max

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the caller.

        Raises:
            ResourceExhausted: TOO_MANY_WATCHES.
        """
        most = self._len_max
        if not current_principal().may(SERVICE):
            most -= most // RESERVED_SHARE
        if self.taken >= most:
            raise ResourceExhausted(
                "TOO_MANY_WATCHES",
                f"{self.taken} watches of {self._what} are open, and there may be no more: "
                "try again later, or let several readers share one.",
                metadata={"watches_max": str(most)},
                retry_after_s=RETRY_AFTER_S,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
