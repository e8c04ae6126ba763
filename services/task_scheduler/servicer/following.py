"""Watches over several partitions: their streams side by side, under one cursor.

A cursor is one position for each partition that is followed. Every message holds events of one
partition and the cursor behind it, so that what follows is each event once, and in order within a
partition, also over a takeover: then the stream ends, and goes on from its cursor elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from services.kernel.errors import InvalidArgument, PodiumError

BEGIN = ""
NOW = "now"
_POSITION = re.compile(r"([0-9a-f]{2})-[0-9]{1,18}").fullmatch
_CURSOR_KEYS = ("cursor", "oldest_cursor")

Open = Callable[[int, str], AsyncGenerator[bytes, None]]
"""Opens the stream of one partition from a position on."""


def positions_of(cursor: str, count: int) -> dict[int, str]:
    """Return the position in each partition that a cursor names; nothing for one that names none.

    Raises:
        InvalidArgument: CURSOR_INVALID.
    """
    if cursor in (BEGIN, NOW):
        return {}
    positions: dict[int, str] = {}
    for part in cursor.split("."):
        found = _POSITION(part)
        partition = int(found[1], 16) if found is not None else count
        if partition >= count or partition in positions:
            raise InvalidArgument(
                "CURSOR_INVALID",
                "The cursor is not from this log: begin without one, or with one you were given.",
                metadata={"cursor": cursor[:64]},
            )
        positions[partition] = part
    return positions


def joined(positions: Iterable[str]) -> str:
    """Return the cursor of several positions."""
    return ".".join(sorted(positions))


class Merged:
    """Some partitions followed as one.

    Args:
        response: The type of message.
        open_one: Opens the stream of a partition.
        positions: Where the stream of each begins, and with that which are followed.
        whole: Whether messages tell that their reader has seen everything.
    """

    def __init__(
        self, response: Any, open_one: Open, positions: dict[int, str], *, whole: bool
    ) -> None:
        self._response = response
        self._open = open_one
        self._positions = positions
        self._whole = whole
        self._behind = set(positions)
        """Partitions of which not everything was seen."""
        # One message each: who does not read stops the streams, as with one alone.
        self._queue: asyncio.Queue[tuple[int, bytes | Exception | None]] = asyncio.Queue(1)

    async def messages(self, begin: dict[int, str]) -> AsyncGenerator[bytes, None]:
        """Yield the messages of all partitions as they come, until one of them ends.

        Args:
            begin: What each stream is asked to begin at.
        """
        reading = [
            asyncio.create_task(self._read(partition, begin[partition]))
            for partition in self._positions
        ]
        try:
            while True:
                partition, message = await self._queue.get()
                if message is None:
                    return
                if isinstance(message, Exception):
                    raise self._told(partition, message)
                yield self._under_one_cursor(partition, message)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _read(self, partition: int, cursor: str) -> None:
        try:
            async with aclosing(self._open(partition, cursor)) as messages:
                async for message in messages:
                    await self._queue.put((partition, message))
            await self._queue.put((partition, None))
        except Exception as error:
            await self._queue.put((partition, error))

    def _under_one_cursor(self, partition: int, message: bytes) -> bytes:
        """Return a message with the cursor of all: of a field that comes twice the last counts."""
        response = self._response.FromString(message)
        if response.cursor:
            self._positions[partition] = response.cursor
        over = self._response(cursor=joined(self._positions.values()))
        if not self._whole:
            return message + bytes(over.SerializeToString())
        # An empty message of an idle partition says nothing about what it has not seen.
        (self._behind.discard if response.caught_up else self._behind.add)(partition)
        over.caught_up = True
        told = bytes(over.SerializeToString())
        return message + (told[:-1] + b"\x00" if self._behind else told)

    def _told(self, partition: int, error: Exception) -> Exception:
        """Return an error that names positions as the reader knows them."""
        if isinstance(error, PodiumError):
            for key in _CURSOR_KEYS:
                position = error.metadata.get(key, "")
                if _POSITION(position):
                    whole = joined((self._positions | {partition: position}).values())
                    error.metadata = {**error.metadata, key: whole}
        return error
