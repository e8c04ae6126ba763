"""What a caller is told of a result that changed nothing: each verdict as the error of a call."""

from __future__ import annotations

from services.kernel.errors import AlreadyExists, FailedPrecondition, NotFound, PodiumError
from services.routing.core.effects import CONFLICT, FENCED, UNKNOWN, LeaseKey


def stale(key: LeaseKey) -> PodiumError:
    """Return the error for a result whose lease is over."""
    task_id, epoch = key
    message = f"Lease {epoch} of task {task_id} is over; forget the result."
    return FailedPrecondition("STALE_LEASE", message, metadata=_metadata(key))


def conflict(key: LeaseKey) -> PodiumError:
    """Return the error for a result that differs from the one that was given first."""
    task_id, epoch = key
    message = f"Task {task_id} has another result under lease {epoch}, which stays; forget this."
    return AlreadyExists("RESULT_CONFLICT", message, metadata=_metadata(key))


def check(key: LeaseKey, verdict: int) -> None:
    """Raise what a verdict means to a caller; nothing when the result counts.

    Raises:
        FailedPrecondition: STALE_LEASE, the lease was over.
        AlreadyExists: RESULT_CONFLICT, the task has another result.
        NotFound: LEASE_NOT_FOUND, the scheduler knows no such task or lease.
    """
    if verdict == FENCED:
        raise stale(key)
    if verdict == CONFLICT:
        raise conflict(key)
    if verdict == UNKNOWN:
        task_id, epoch = key
        message = f"There is no lease {epoch} of a task {task_id}; forget the result."
        raise NotFound("LEASE_NOT_FOUND", message, metadata=_metadata(key))


def _metadata(key: LeaseKey) -> dict[str, str]:
    return {"task_id": key[0], "lease_epoch": str(key[1])}
