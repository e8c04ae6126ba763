"""Which tasks are taken in: idempotency, dependencies, limits; all of a batch or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PodiumError,
    ResourceExhausted,
    Violation,
)
from services.kernel.instant import Instant
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.catalog import lack
from services.task_scheduler.core.dependents import Dependents
from services.task_scheduler.core.event import FROM_CLIENT, Created, Origin, Terms
from services.task_scheduler.core.quotas import Quotas
from services.task_scheduler.core.room import Room
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task

_QUEUEING = Kind.QUEUED  # read once, as in `book`


class Draft(NamedTuple):
    """A task that is asked for."""

    created: Created
    fail_fast: bool = False


class Admitted(NamedTuple):
    """The answer to a draft."""

    task_id: str
    duplicate: bool


class Returning(NamedTuple):
    """What a dead letter that is revived takes room for."""

    head: bytes
    payload: bytes
    terms: Terms


class Admission:
    """Takes tasks in."""

    def __init__(self, book: Book, dependents: Dependents) -> None:
        self._book = book
        self._dependents = dependents
        self._quotas = Quotas(book.limits, book.queue.shares)
        self._room = Room(book)

    def submit(self, drafts: Sequence[Draft], now: Instant) -> list[Admitted]:
        """Take in all of `drafts`, or raise and take none.

        Raises:
            AlreadyExists: IDEMPOTENCY_KEY_REUSED.
            FailedPrecondition: UNSCHEDULABLE, PARENT_ENDED or TENANT_CLOSED.
            InvalidArgument: INVALID_FIELD, a deadline that has passed, or does before not_before;
                BATCH_TOO_LARGE, more than there could ever be room for.
            NotFound: DEPENDENCY_NOT_FOUND or PARENT_NOT_FOUND.
            ResourceExhausted: BACKLOG_FULL, RATE_KEYS_FULL, TENANT_BACKLOG_FULL, TENANT_RATE or
                LINEAGE_BUDGET.
        """
        within: dict[str, bytes] = {}
        known = [self._known(index, draft, within, now) for index, draft in enumerate(drafts)]
        new = [(i, draft) for i, draft in enumerate(drafts) if known[i] is None]
        all_created = [draft.created for _, draft in new]
        self._room.check(all_created, now)
        self._book.queue.keys.check(all_created)
        kin: dict[str, int] = {}
        for index, draft in new:
            created = draft.created
            terms = created.terms
            if terms.deadline_ms or terms.deadline_after_ms:
                _check_deadline(index, terms, now.wall_ms)
            if created.depends_on or draft.fail_fast:
                self._check(index, draft)
            if created.origin is not FROM_CLIENT and created.origin.parent_task_id:
                self._check_kin(index, created, kin)
        # Last, since it takes from what the tenant may do.
        self._quotas.check((created.tenant for created in all_created), now.mono_s)
        self._room.taken(len(new), now)
        # Only where an id comes twice may a task become known while its batch is taken in.
        twice = len(within) < sum([draft.created.request_id != "" for draft in drafts])
        return [
            Admitted(first, True) if first is not None else self._take(draft, now, twice)
            for first, draft in zip(known, drafts, strict=True)
        ]

    def made_of(self, created: Created, now: Instant) -> str | None:
        """Return the task that an earlier request made of the same, if there is one.

        Raises:
            AlreadyExists: IDEMPOTENCY_KEY_REUSED.
        """
        return self._known(0, Draft(created), {}, now)

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

    def _check(self, index: int, draft: Draft) -> None:
        created = draft.created
        for dependency_id in created.depends_on:
            dependency = self._book.tasks.get(dependency_id)
            if dependency is None or dependency.tenant != created.tenant:
                raise NotFound(
                    "DEPENDENCY_NOT_FOUND",
                    f"tasks[{index}] waits for task {dependency_id}, which is not there.",
                    metadata={"index": str(index), "task_id": dependency_id},
                )
        if draft.fail_fast and not self._book.queue.schedulable(frozenset(created.capabilities)):
            raise FailedPrecondition(
                "UNSCHEDULABLE",
                lack(self._book, created.capabilities),
                metadata={"index": str(index), "capabilities": ",".join(created.capabilities)},
            )

    def _check_kin(self, index: int, created: Created, kin: dict[str, int]) -> None:
        """Check that a child may be born; `kin` counts those of the batch by lineage."""
        book, limits = self._book, self._book.limits
        parent_id = created.origin.parent_task_id
        parent = book.tasks.get(parent_id)
        if parent is None or parent.tenant != created.tenant:
            raise NotFound(
                "PARENT_NOT_FOUND",
                f"tasks[{index}] names task {parent_id} as its parent, which is not there.",
                metadata={"index": str(index), "task_id": parent_id},
            )
        if parent.ended:
            raise FailedPrecondition(
                "PARENT_ENDED",
                f"tasks[{index}] names task {parent_id} as its parent, which has ended: it is "
                f"{parent.state.name}.",
                metadata={"index": str(index), "task_id": parent_id, "state": parent.state.name},
            )
        root_id = parent.origin.root_task_id or parent_id
        kin[root_id] = kin.get(root_id, 0) + 1
        depth, total = parent.origin.depth + 1, book.lineages.total(root_id) + kin[root_id]
        if depth > limits.lineage_depth_max or total > limits.lineage_tasks_max:
            raise ResourceExhausted(
                "LINEAGE_BUDGET",
                f"tasks[{index}] would be number {total} of at most {limits.lineage_tasks_max} "
                f"tasks that descend from {root_id}, in generation {depth} of at most "
                f"{limits.lineage_depth_max}.",
                metadata={
                    "index": str(index),
                    "root_task_id": root_id,
                    "tasks_max": str(limits.lineage_tasks_max),
                    "depth_max": str(limits.lineage_depth_max),
                },
            )

    def _take(self, draft: Draft, now: Instant, twice: bool) -> Admitted:
        book, created = self._book, draft.created
        terms = created.terms
        if terms.deadline_after_ms or terms.delay_ms:
            created = book.dated(created, now.wall_ms)
        if twice and created.request_id:
            seen = book.requests.find(created.principal, created.request_id, now.wall_ms)
            if seen is not None:
                return Admitted(seen.task_id, True)
        if created.origin is not FROM_CLIENT and created.origin.parent_task_id:
            created = created._replace(origin=self._descent(created.origin))
        task = book.create(created, now)
        if not task.open_dependencies:
            if not task.next_ms:
                book.record(_QUEUEING, task, now)
            return Admitted(task.task_id, False)
        for dependency_id in created.depends_on:
            dependency = book.tasks[dependency_id]
            if dependency.ended and dependency.state is not State.COMPLETED:
                self._dependents.fail(task, dependency_id, now)
                self._dependents.follow_up(now)
                break
        return Admitted(task.task_id, False)

    def _descent(self, origin: Origin) -> Origin:
        parent = self._book.tasks[origin.parent_task_id]
        root_id = parent.origin.root_task_id or parent.task_id
        return origin._replace(root_task_id=root_id, depth=parent.origin.depth + 1)

    def readmit(self, task: Task, payload: bytes | None, now: Instant) -> None:
        """Raise when there is no room for a task that is to be open again.

        How fast its tenant submits is of no account: it was submitted before.

        Raises:
            FailedPrecondition: TENANT_CLOSED.
            InvalidArgument: BATCH_TOO_LARGE.
            ResourceExhausted: BACKLOG_FULL or TENANT_BACKLOG_FULL.
        """
        load = Returning(task.head, task.payload if payload is None else payload, task.terms)
        self._room.check([load], now)
        self._quotas.check_open(task.tenant, 1)
        self._room.taken(1, now)

    def room_for(self, created: Created, now: Instant) -> bool:
        """Whether one more task has room, without regard to how fast its tenant submits."""
        try:
            self._room.check([created], now)
            self._book.queue.keys.check([created])
            self._quotas.check_open(created.tenant, 1)
        except PodiumError:
            return False
        return True


def _check_deadline(index: int, asked: Terms, wall_ms: int) -> None:
    terms = asked.dated(wall_ms)
    if terms.deadline_ms <= wall_ms:
        raise InvalidArgument(
            "INVALID_FIELD",
            f"tasks[{index}].deadline has passed.",
            violations=[Violation(f"tasks[{index}].deadline", "must lie ahead")],
        )
    if terms.not_before_ms >= terms.deadline_ms:
        begins = "delay" if asked.delay_ms else "not_before"
        rule = "must let it begin before the deadline"
        raise InvalidArgument(
            "INVALID_FIELD",
            f"tasks[{index}] could only expire: its {begins} {rule}.",
            violations=[Violation(f"tasks[{index}].{begins}", rule)],
        )


def _reused(index: int, request_id: str, task_id: str) -> AlreadyExists:
    return AlreadyExists(
        "IDEMPOTENCY_KEY_REUSED",
        f"tasks[{index}].request_id was used for another task: {task_id}.",
        metadata={"index": str(index), "request_id": request_id, "task_id": task_id},
    )
