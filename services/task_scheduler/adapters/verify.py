"""Following the chain of a log that is in use, some of it at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from services.kernel.errors import FailedPrecondition, InvalidArgument
from services.task_scheduler.adapters.chain import Chain
from services.task_scheduler.adapters.snapshots import Facts

VERIFY_LEN = 256
"""Groups that are checked at once."""

Fetch = Callable[..., Awaitable[list[Any]]]


async def verify(where: str, fetch: Fetch, after_seq: int) -> int:
    """Check the next groups behind an event, and return the last event of them.

    Args:
        where: What is read, for people.
        fetch: Returns the rows of a named statement.
        after_seq: What the call before returned; 0 begins with the first event that is kept.

    Raises:
        FailedPrecondition: JOURNAL_DAMAGED, with the position.
        InvalidArgument: CURSOR_INVALID, `after_seq` is not what a call returned.
    """
    while True:
        base = Facts(*(await fetch("base"))[0])
        try:
            return await _follow(where, fetch, base, after_seq)
        except FailedPrecondition:
            # What was dropped while it was read is missing, and not damaged.
            if Facts(*(await fetch("base"))[0]).seq == base.seq:
                raise


async def _follow(where: str, fetch: Fetch, base: Facts, after_seq: int) -> int:
    chain = Chain(where, *base)
    if after_seq > base.seq:
        rows = await fetch("hash_at", after_seq)
        if not rows:
            raise InvalidArgument(
                "CURSOR_INVALID",
                f"No commit ends with event {after_seq}: begin without a cursor.",
                metadata={"cursor": str(after_seq)},
            )
        chain = Chain(where, after_seq, rows[0][0])
    for first_seq, last_seq, frames, _, stored in await fetch(
        "groups_after", chain.last_seq, VERIFY_LEN
    ):
        chain.follow(first_seq, last_seq, frames, stored)
    return chain.last_seq
