"""The bytes of the log: what is written faster is written the same."""

from __future__ import annotations

import hashlib

from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.core.event import (
    FROM_CLIENT,
    Completed,
    Created,
    Detail,
    Event,
    Failed,
    Failure,
    Origin,
    Progress,
    Retrying,
    Started,
    Terms,
    Usage,
)
from services.task_scheduler.core.orders import Grant, Settled, Settlement
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Lease, Task

LOG = "3663250472c72a6a"
ORDERS = "a0c8df4ac1ef5a6a"
"""What earlier versions wrote: the log is chained by hashes of its bytes, and read after years."""

WALL_MS = 1_700_000_000_000
ORIGINS = (FROM_CLIENT, Origin("parent", "root", 2), Origin(schedule_id="nightly", schedule_ms=9))


def written(number: int) -> Created:
    """Returns a task, of all sorts by its number."""
    return Created(
        f"kind-{number % 5}",
        "default",
        ("a", "b"),
        Terms(),
        (),
        b"\x0a\x04work" * (number % 9 + 1),
        b"\x12\x04data" * (number % 7 * number),
        f"00-{number + 1:032x}-{'2' * 16}-01" if number % 4 else "",
        "me" if number % 2 else "",
        "client" if number % 3 else "",
        f"request-{number}" if number % 2 else "",
        b"h" * 16 if number % 2 else b"",
        ORIGINS[number % 3],
    )


def life(number: int, created: Created) -> list[tuple[Kind, Detail | None]]:
    """Returns what happens to it: short and long, early and late."""
    used = Usage(number, 2, 3.5) if number % 3 == 0 else None
    failed = Failed(Failure("BROKEN", "x" * number, True), number**3, used, True)
    sure = 0.5 if number % 2 else None
    result = b"\x12\x03yes" * (number % 5 * number)
    done = Completed(result, used, number**3 * 11, number**4, sure, b"H" * 32)
    return [
        (Kind.CREATED, created),
        (Kind.QUEUED, None),
        (Kind.ASSIGNED, None),
        (Kind.STARTED, Started(b"why" * (number % 40), number**3)),
        (Kind.PROGRESS, Progress(0.5, "half", b"\x12\x01p", used, b"c" * number, 3)),
        (Kind.ATTEMPT_FAILED, failed),
        (Kind.RETRYING, Retrying(WALL_MS + number, ("agent-1",))),
        (Kind.STARTED, Started(b"", 0)),
        (Kind.COMPLETED, done),
    ]


def test_the_bytes_of_events_and_orders_are_what_they_were() -> None:
    log, orders = hashlib.sha256(), hashlib.sha256()
    for partition in (0, 3):
        codec = ProtoCodec(partition)
        for number in range(200):
            created, wall_ms = written(number), WALL_MS + number**3
            task = Task(f"{partition:02x}-{number:012x}-0", created, 1, wall_ms, 0.0)
            task.queued_ms, task.attempt = wall_ms - number, number % 3 * 70
            for place, (kind, detail) in enumerate(life(number, created)):
                leased = place > 1
                event = Event(
                    1 + 9 * number**4 + place,
                    kind,
                    task.task_id,
                    wall_ms,
                    number**3 * 13 if leased else 0,
                    number % 130 if leased else 0,
                    f"agent-{number % 3}" if place > 2 else "",
                    "router-1" if leased else "",
                    detail,
                )
                for frame in codec.seal(event, task, 0.0):
                    log.update(len(frame).to_bytes(4, "big") + frame)
            held = Lease(task.task_id, 1 + number**3)
            for order in (
                Grant(task, held.epoch, number, "agent-1" if number % 2 else ""),
                Settled(held, Settlement(1 + number % 6)),
            ):
                frame = codec.order(order)
                orders.update(len(frame).to_bytes(4, "big") + frame)

    assert (log.hexdigest()[:16], orders.hexdigest()[:16]) == (LOG, ORDERS)
