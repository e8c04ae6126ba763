"""Repeats of a submit: the same task again, or another one under a key that is taken."""

from __future__ import annotations

from typing import Protocol, TypeVar

from podium.sdk.errors import AlreadyExists
from podium.v1 import task_pb2


class Known(Protocol):
    """A task that was submitted before."""

    @property
    def task_id(self) -> str:
        """Its id."""

    @property
    def asked(self) -> task_pb2.TaskSpec:
        """What was asked for."""


K = TypeVar("K", bound=Known)


def same(known: K, spec: task_pb2.TaskSpec) -> K:
    """Returns the task that has the key of `spec` already.

    Raises:
        AlreadyExists: IDEMPOTENCY_KEY_REUSED, it is another one.
    """
    if known.asked != spec:
        raise AlreadyExists(
            "IDEMPOTENCY_KEY_REUSED",
            f"request_id {spec.request_id} was used for another task: {known.task_id}",
        )
    return known
