"""Which tasks are taken in: idempotency, dependencies, limits; all of a batch or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Violation,
)
from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.event import Created
from services.task_scheduler.core.outcome import Outcomes
from services.task_scheduler.core.states import Kind, State

RETRY_AFTER_S = 1.0


class Draft(NamedTuple):
    """A task that is asked for."""

    created: Created
    fail_fast: bool = False


class Admitted(NamedTuple):
    """The answer to a draft."""

    task_id: str
    duplicate: bool


class Admission:
    """Takes tasks in."""

    def __init__(self, book: Book, outcomes: Outcomes) -> None:
        self._book = book
        self._outcomes = outcomes

    def submit(self, drafts: Sequence[Draft], now: Instant) -> list[Admitted]:
        """Take in all of `drafts`, or raise and take none.

        Raises:
            AlreadyExists: REQUEST_ID_REUSED.
            FailedPrecondition: UNSCHEDULABLE.
            InvalidArgument: INVALID_FIELD, a deadline that has passed.
            NotFound: DEPENDENCY_NOT_FOUND.
            ResourceExhausted: BACKLOG_FULL.
        """
        within: dict[str, bytes] = {}
        known = [self._known(index, draft, within, now) for index, draft in enumerate(drafts)]
        new = [(i, draft) for i, draft in enumerate(drafts) if known[i] is None]
        self._check_room([draft for _, draft in new])
        for index, draft in new:
            self._check(index, draft, now)
        # Only where an id comes twice may a task become known while its batch is taken in.
        twice = len(within) < sum(1 for draft in drafts if draft.created.request_id)
        return [
            Admitted(first, True) if first is not None else self._take(draft, now, twice=twice)
            for first, draft in zip(known, drafts, strict=True)
        ]

    def _known(
        self, index: int, draft: Draft, within: dict[str, bytes], now: Instant
    ) -> str | None:
        """Return the task that an earlier request made of the same draft, if there is one."""
        created = draft.created
        if not created.request_id:
            return None
        if within.setdefault(created.request_id, created.spec_hash) != created.spec_hash:
            raise _reused(index, created.request_id, "one of the same batch")
        seen = self._book.requests.find(created.principal, created.request_id, now.wall_ms)
        if seen is None:
            return None
        if seen.spec_hash != created.spec_hash:
            raise _reused(index, created.request_id, seen.task_id)
        return seen.task_id

    def _check_room(self, drafts: Sequence[Draft]) -> None:
        book, limits = self._book, self._book.limits
        size_bytes = sum(len(d.created.head) + len(d.created.payload) for d in drafts)
        if (
            book.open_tasks + len(drafts) > limits.open_tasks_max
            or book.open_bytes + size_bytes > limits.open_bytes_max
        ):
            raise ResourceExhausted(
                "BACKLOG_FULL",
                f"{book.open_tasks} tasks of at most {limits.open_tasks_max} wait or run, with "
                f"{book.open_bytes} of at most {limits.open_bytes_max} bytes: submit again later.",
                metadata={
                    "open_tasks": str(book.open_tasks),
                    "open_tasks_max": str(limits.open_tasks_max),
                },
                retry_after_s=RETRY_AFTER_S,
            )

    def _check(self, index: int, draft: Draft, now: Instant) -> None:
        created = draft.created
        deadline_ms = created.terms.deadline_ms
        if deadline_ms and deadline_ms <= now.wall_ms:
            raise InvalidArgument(
                "INVALID_FIELD",
                f"tasks[{index}].deadline has passed.",
                violations=[Violation(f"tasks[{index}].deadline", "must lie ahead")],
            )
        for dependency_id in created.depends_on:
            if dependency_id not in self._book.tasks:
                raise NotFound(
                    "DEPENDENCY_NOT_FOUND",
                    f"tasks[{index}] waits for task {dependency_id}, which is not there.",
                    metadata={"index": str(index), "task_id": dependency_id},
                )
        if draft.fail_fast and not self._book.queue.schedulable(frozenset(created.capabilities)):
            raise FailedPrecondition(
                "UNSCHEDULABLE",
                f"No connected agent has all of: {', '.join(created.capabilities)}.",
                metadata={"index": str(index), "capabilities": ",".join(created.capabilities)},
            )

    def _take(self, draft: Draft, now: Instant, *, twice: bool) -> Admitted:
        book, created = self._book, draft.created
        if twice and created.request_id:
            seen = book.requests.find(created.principal, created.request_id, now.wall_ms)
            if seen is not None:
                return Admitted(seen.task_id, True)
        task = book.create(created, now)
        if not task.open_dependencies:
            if not task.next_ms:
                book.record(Kind.QUEUED, task, now)
            return Admitted(task.task_id, False)
        for dependency_id in created.depends_on:
            dependency = book.tasks[dependency_id]
            if dependency.ended and dependency.state is not State.COMPLETED:
                self._outcomes.fail_dependent(task, dependency_id, now)
                self._outcomes.follow_up(now)
                break
        return Admitted(task.task_id, False)


def _reused(index: int, request_id: str, task_id: str) -> AlreadyExists:
    return AlreadyExists(
        "REQUEST_ID_REUSED",
        f"tasks[{index}].request_id was used for another task: {task_id}.",
        metadata={"index": str(index), "request_id": request_id, "task_id": task_id},
    )
