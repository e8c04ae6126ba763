"""Tasks in batches of which each is accepted as a whole, and errors that name places among all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from podium.sdk.errors import PodiumError, Violation
from podium.v1 import task_pb2

BATCH_LEN_MAX = 1_000
BATCH_BYTES_MAX = 2 * 1024 * 1024
"""Payloads of a batch, unless it is a single one."""

_PLACE = re.compile(r"\btasks\[(\d+)\]")


def batches(tasks: Iterable[task_pb2.TaskSpec]) -> Iterator[list[task_pb2.TaskSpec]]:
    """Yields tasks in order, as many at a time as a scheduler accepts as a whole."""
    batch: list[task_pb2.TaskSpec] = []
    size_bytes = 0
    for task in tasks:
        task_bytes = len(task.payload.data)
        if batch and (len(batch) == BATCH_LEN_MAX or size_bytes + task_bytes > BATCH_BYTES_MAX):
            yield batch
            batch, size_bytes = [], 0
        batch.append(task)
        size_bytes += task_bytes
    if batch:
        yield batch


def relocate(error: PodiumError, before_len: int) -> None:
    """Lets a batch's error name places among all tasks, of which so many were accepted before."""

    def moved(text: str) -> str:
        return _PLACE.sub(lambda found: f"tasks[{int(found[1]) + before_len}]", text)

    error.metadata["submitted_count"] = str(before_len)
    if not before_len:
        return
    index = error.metadata.get("index", "")
    if index.isdecimal():
        error.metadata["index"] = str(int(index) + before_len)
    error.message = moved(error.message)
    error.violations = tuple(
        Violation(moved(each.field), each.description) for each in error.violations
    )
