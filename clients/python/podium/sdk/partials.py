"""Results that come piece by piece: each piece is reported, all together are the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

INTERVAL_S = 0.05
PIECE_LEN_MAX = 16_384


class Return(Generic[T]):
    """Yielded last by a streaming handler whose result is not its pieces joined."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Partials:
    """Gathers the pieces of one result and reports them.

    Text and bytes are reported at most every 50 ms, joined; what waits is reported by a timer where
    there is a loop to keep one.

    Args:
        report: is given a piece to send.
        loop: of an async handler.
    """

    def __init__(
        self, report: Callable[[Any], None], loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._report = report
        self._loop = loop
        self._pieces: list[Any] = []
        self._unsent_from = 0
        self._unsent_len = 0
        self._sent_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def add(self, piece: Any) -> None:
        """Takes the next piece."""
        self._pieces.append(piece)
        if not isinstance(piece, str | bytes):
            self.flush()
            return
        self._unsent_len += len(piece)
        due_s = self._sent_s + INTERVAL_S - time.monotonic()
        if due_s <= 0 or self._unsent_len >= PIECE_LEN_MAX:
            self.flush()
        elif self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(due_s, self.flush)

    def flush(self) -> None:
        """Reports what waits."""
        self.stop()
        unsent = self._pieces[self._unsent_from :]
        self._unsent_from = len(self._pieces)
        self._unsent_len = 0
        if unsent:
            self._sent_s = time.monotonic()
        for joined in _joined(unsent):
            self._report(joined)

    def stop(self) -> None:
        """Leaves what waits unreported."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def whole(self) -> Any:
        """Returns all pieces: text or bytes joined, anything else as a list."""
        joined = _joined(self._pieces)
        if len(joined) == 1 and isinstance(joined[0], str | bytes):
            return joined[0]
        return list(self._pieces)


def _joined(pieces: list[Any]) -> list[Any]:
    """Joins text with text and bytes with bytes; a mixture stays as it is."""
    if pieces and all(isinstance(piece, str) for piece in pieces):
        return ["".join(pieces)]
    if pieces and all(isinstance(piece, bytes) for piece in pieces):
        return [b"".join(pieces)]
    return pieces


async def gathered(
    pieces: AsyncIterator[Any], report: Callable[[Any], None], check: Callable[[Any], Any]
) -> Any:
    """Reports what an async generator yields, each piece checked, and returns the result."""
    partials = Partials(report, asyncio.get_running_loop())
    try:
        async for piece in pieces:
            if isinstance(piece, Return):
                partials.flush()
                return piece.value
            partials.add(check(piece))
        partials.flush()
    finally:
        partials.stop()
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    return partials.whole()


def gathered_plainly(
    pieces: Iterator[Any], report: Callable[[Any], None], check: Callable[[Any], Any]
) -> Any:
    """Reports what a plain generator yields and returns the result, or what it returns."""
    partials = Partials(report)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            partials.flush()
            return partials.whole() if end.value is None else end.value
        if isinstance(piece, Return):
            partials.flush()
            return piece.value
        partials.add(check(piece))
