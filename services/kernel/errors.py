"""The tree of errors a caller can meet, free of gRPC so that cores may raise them.

    PodiumError
    ├── InvalidArgument      the request can never be right: fix it
    ├── OutOfRange           a cursor or position that does not exist (any more)
    ├── NotFound             no such thing, or not yours
    ├── AlreadyExists        the id or request id is taken by something else
    ├── PermissionDenied     known, but not allowed
    ├── Unauthenticated      not known
    ├── FailedPrecondition   right request, wrong state: change the state first
    ├── Aborted              lost a race: read again, then retry
    ├── ResourceExhausted    a limit is reached: retry after the hint
    ├── Unavailable          try again, here or elsewhere
    ├── DeadlineExceeded     the time given was over
    ├── Unimplemented        not offered here
    ├── Cancelled            the caller gave up
    └── Internal             a fault of ours

Each carries a `reason` a program can test, and the message says what to do. A broken invariant is
not in the tree: it is an AssertionError, and the caller learns nothing but a reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

_REASON = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")


class Violation(NamedTuple):
    """One field that breaks a rule."""

    field: str
    """Path from the request, as `tasks[3].priority`."""
    description: str
    """What the field must be."""


class PodiumError(Exception):
    """Base of every expected error: a canonical code, a reason, and what to do about it."""

    code: ClassVar[str] = "UNKNOWN"
    """The canonical gRPC code by name."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        assert len(reason) <= 63 and _REASON.fullmatch(reason), reason
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class InvalidArgument(PodiumError):
    """The request can never be right, whatever the state."""

    code = "INVALID_ARGUMENT"


class OutOfRange(PodiumError):
    """A position that does not exist, or no longer."""

    code = "OUT_OF_RANGE"


class NotFound(PodiumError):
    """No such thing, or none this caller may know of."""

    code = "NOT_FOUND"


class AlreadyExists(PodiumError):
    """The name is taken by something else."""

    code = "ALREADY_EXISTS"


class PermissionDenied(PodiumError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(PodiumError):
    """The caller did not prove who it is."""

    code = "UNAUTHENTICATED"


class FailedPrecondition(PodiumError):
    """The state does not allow it now."""

    code = "FAILED_PRECONDITION"


class Aborted(PodiumError):
    """Somebody else was faster; read again and retry."""

    code = "ABORTED"


class ResourceExhausted(PodiumError):
    """A limit is reached; `retry_after_s` says when to come back."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(PodiumError):
    """Not here or not now; a retry may succeed."""

    code = "UNAVAILABLE"


class DeadlineExceeded(PodiumError):
    """The time given for it was over."""

    code = "DEADLINE_EXCEEDED"


class Unimplemented(PodiumError):
    """Not offered by this service."""

    code = "UNIMPLEMENTED"


class Cancelled(PodiumError):
    """The caller gave up."""

    code = "CANCELLED"


class Internal(PodiumError):
    """A fault on the serving side; the reference in the message finds it in the log."""

    code = "INTERNAL"


BY_CODE: Mapping[str, type[PodiumError]] = {
    kind.code: kind for kind in PodiumError.__subclasses__()
}
"""The class of each canonical code."""
