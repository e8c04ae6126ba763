"""What can go wrong, as one tree; each error carries data, not only a sentence.

PodiumError                 reason, message, metadata, violations, retry_after_s
  InvalidArgument           a field is not valid; `violations` name it
  NotFound  AlreadyExists  FailedPrecondition  OutOfRange  Aborted
  Unauthenticated  PermissionDenied
  ResourceExhausted         a limit is reached; try again after `retry_after_s`
  Unavailable               nobody answers, or not yet
  DeadlineExceeded  Unimplemented  Internal
  TaskFailed                the task ended without a result; `task_id`
    TaskCanceled  TaskExpired  TaskRejected
  ResultMisfit              the task's result is not of the type asked for; `violations` say where
  AgentSuperseded           a newer instance of this agent has taken over
TaskError                   raised by handlers: how an attempt failed
  Retryable                 another attempt may help
  Final                     no other attempt can help: the task fails at once
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_TYPE_PREFIX = "type.googleapis.com/google.rpc."
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]")


class Violation(NamedTuple):
    """One field that is not valid, and why."""

    field: str
    description: str


class PodiumError(Exception):
    """Any refusal or failure of the suite."""

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        # The message of a single fault is that fault already.
        fields = [f"{field}: {text}" for field, text in self.violations if text not in self.message]
        return f"{self.message} ({'; '.join(fields)})" if fields else self.message


class InvalidArgument(PodiumError):
    """The request is wrong in itself."""

    code = "INVALID_ARGUMENT"


class NotFound(PodiumError):
    """There is no such thing."""

    code = "NOT_FOUND"


class AlreadyExists(PodiumError):
    """It is there already, and differs."""

    code = "ALREADY_EXISTS"


class PermissionDenied(PodiumError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(PodiumError):
    """The caller's token is missing or not valid."""

    code = "UNAUTHENTICATED"


class FailedPrecondition(PodiumError):
    """The thing is not in a state that allows it."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(PodiumError):
    """A limit is reached; `retry_after_s` says when to try again."""

    code = "RESOURCE_EXHAUSTED"


class Aborted(PodiumError):
    """Someone else changed it at the same time."""

    code = "ABORTED"


class OutOfRange(PodiumError):
    """The position is outside of what is kept."""

    code = "OUT_OF_RANGE"


class Unavailable(PodiumError):
    """Nobody answers; trying again may help."""

    code = "UNAVAILABLE"


class DeadlineExceeded(PodiumError):
    """No answer in time; whether it happened is not known."""

    code = "DEADLINE_EXCEEDED"


class Unimplemented(PodiumError):
    """The server does not know this call."""

    code = "UNIMPLEMENTED"


class Internal(PodiumError):
    """A fault of the server; its message carries a reference for its log."""

    code = "INTERNAL"


class TaskFailed(PodiumError):
    """A task ended without a result."""

    def __init__(self, task_id: str, reason: str, message: str) -> None:
        super().__init__(reason, message, metadata={"task_id": task_id})
        self.task_id = task_id

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.reason}: {self.message}"


class TaskCanceled(TaskFailed):
    """A task was canceled."""


class TaskExpired(TaskFailed):
    """A task did not end before its deadline."""


class TaskRejected(TaskFailed):
    """A task was not admitted."""


class ResultMisfit(PodiumError):
    """A task completed, and its result is not of the type that was asked for."""

    def __init__(self, task_id: str, violations: Sequence[Violation]) -> None:
        super().__init__(
            "RESULT_MISFIT",
            f"the result of task {task_id} does not fit",
            metadata={"task_id": task_id},
            violations=violations,
        )
        self.task_id = task_id


class AgentSuperseded(PodiumError):
    """A newer instance with the same agent id has taken over; this one must not reconnect."""

    code = "ABORTED"


class TaskError(Exception):
    """Raised by a handler to say how its attempt failed.

    Args:
        message: for people, at most 4 KiB.
        reason: for machines, `[A-Z][A-Z0-9_]+[A-Z0-9]`.
        retryable: whether another attempt may help; False ends the task at once.

    Raises:
        ValueError: `reason` has not this form.
    """

    def __init__(
        self, message: str, *, reason: str = "HANDLER_ERROR", retryable: bool = True
    ) -> None:
        super().__init__(message)
        if not _REASON.fullmatch(reason):
            raise ValueError(f"reason {reason!r} is not of [A-Z][A-Z0-9_]+[A-Z0-9], up to 63")
        self.message = message
        self.reason = reason
        self.retryable = retryable


class Retryable(TaskError):
    """Raised by a handler whose attempt failed for a cause that may pass."""

    def __init__(self, message: str, *, reason: str = "HANDLER_ERROR") -> None:
        super().__init__(message, reason=reason, retryable=True)


class Final(TaskError):
    """Raised by a handler when no attempt, by whichever agent, can succeed."""

    def __init__(self, message: str, *, reason: str = "HANDLER_ERROR") -> None:
        super().__init__(message, reason=reason, retryable=False)


_BY_CODE: dict[str, type[PodiumError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        Unauthenticated,
        FailedPrecondition,
        ResourceExhausted,
        Aborted,
        OutOfRange,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Internal,
    )
}


class Peer(NamedTuple):
    """Who was called, to say what to do when nobody answers."""

    service: str
    address: str
    setting: str

    def unreachable(self) -> Unavailable:
        """Returns the error for a peer that does not answer."""
        return Unavailable(
            "UNREACHABLE",
            f"Cannot reach {self.service} at {self.address}: start the suite with `make run`,"
            f" or set {self.setting}.",
            metadata={"address": self.address, "setting": self.setting},
        )


def kind_of(code: str) -> type[PodiumError]:
    """Returns the error of a canonical code, by its name."""
    return _BY_CODE.get(code, PodiumError)


def from_rpc_error(error: grpc.aio.AioRpcError, peer: Peer | None = None) -> PodiumError:
    """Returns the error of the tree that a failed call stands for."""
    code = error.code().name
    kind = kind_of(code)
    info, violations, retry_after_s = _details(error)
    if info is None:
        if is_transient(error) and peer is not None:
            return peer.unreachable()
        return kind(code, error.details() or code.lower().replace("_", " "))
    return kind(
        info.reason,
        error.details() or info.reason,
        metadata=dict(info.metadata),
        violations=violations,
        retry_after_s=retry_after_s,
    )


def _details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, list[Violation], float | None]:
    info: error_details_pb2.ErrorInfo | None = None
    violations: list[Violation] = []
    retry_after_s: float | None = None
    for any_detail in _status(error).details:
        kind = any_detail.type_url.removeprefix(_TYPE_PREFIX)
        if kind == "ErrorInfo":
            info = error_details_pb2.ErrorInfo.FromString(any_detail.value)
        elif kind == "BadRequest":
            request = error_details_pb2.BadRequest.FromString(any_detail.value)
            violations += [Violation(v.field, v.description) for v in request.field_violations]
        elif kind == "RetryInfo":
            delay = error_details_pb2.RetryInfo.FromString(any_detail.value).retry_delay
            retry_after_s = delay.seconds + delay.nanos / 1e9
    return info, violations, retry_after_s


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def is_transient(error: grpc.aio.AioRpcError) -> bool:
    """Returns whether the same call may be repeated as it is.

    AIP-194 allows UNAVAILABLE only. A server that stops may end a call by CANCELLED as well; where
    we ourselves cancel, no such error is raised.
    """
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
