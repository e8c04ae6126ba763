"""What each partition is asked of one call, so that the answer is the one of a single partition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.kernel import limits
from services.kernel.rules import Checker
from services.task_scheduler.core.ownership import partition_in


def like(request: Any, **changed: str) -> Any:
    """Return a copy of a request with some fields changed."""
    part = type(request)()
    part.CopyFrom(request)
    for name, value in changed.items():
        setattr(part, name, value)
    return part


def by_ids(request: Any, count: int) -> list[tuple[int, Any]]:
    """Return what each of the partitions is asked of a call that names tasks by ids.

    Raises:
        InvalidArgument: INVALID_FIELD, an id is none: no partition has done anything then.
    """
    ids: dict[int, list[str]] = {}
    for task_id in request.task_ids:
        ids.setdefault(partition_in(task_id, count), []).append(task_id)
    if len(ids) == 1 or _wrong_as_a_whole(request):
        # Who is asked for all of it refuses what is wrong with it.
        return [(min(ids), request)]
    checker = Checker()
    for task_id in request.task_ids:
        checker.identifier("task_id", task_id)
        checker.done()
    parts = []
    for number, task_ids in sorted(ids.items()):
        part = like(request)
        # Only of a call about one task its state is an error, and this is none: an id that is given
        # twice counts once, and says so to owners of every version.
        part.task_ids[:] = task_ids if len(task_ids) > 1 else task_ids * 2
        parts.append((number, part))
    return parts


def in_order_of(request: Any, task_ids: Iterable[str]) -> list[str]:
    """Return ids in the order in which a request names them."""
    left = set(task_ids)
    return [task_id for task_id in dict.fromkeys(request.task_ids) if task_id in left]


def _wrong_as_a_whole(request: Any) -> bool:
    """Whether a call breaks a rule that none of its parts would break."""
    if len(request.task_ids) > limits.batch_len_max:
        return True
    return "payload" in request.DESCRIPTOR.fields_by_name and request.HasField("payload")
