"""The life of a task as one table `(state, event) -> state`.

A missing key is an error, in production as in replay: nothing else decides what may follow what.
The numbers are those of the wire contract.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """Where a task stands."""

    NEW = 0
    CREATED = 1
    """Waits for its time (shown as DELAYED) or for other tasks (shown as BLOCKED)."""
    QUEUED = 3
    ASSIGNED = 4
    RUNNING = 5
    INPUT_REQUIRED = 6
    RETRY_WAIT = 7
    COMPLETED = 8
    FAILED = 9
    CANCELED = 10
    EXPIRED = 11
    REJECTED = 12
    PAUSED = 13


class Kind(IntEnum):
    """What an event says."""

    CREATED = 1
    QUEUED = 2
    ASSIGNED = 3
    STARTED = 4
    PROGRESS = 5
    INPUT_REQUIRED = 6
    INPUT_PROVIDED = 7
    HANDED_BACK = 8
    ATTEMPT_FAILED = 9
    RETRYING = 10
    COMPLETED = 11
    FAILED = 12
    CANCELED = 13
    EXPIRED = 14
    REJECTED = 15
    REQUEUED = 16
    EPOCH_BEGUN = 17
    PAUSED = 18
    RESUMED = 19
    QUEUE_PAUSED = 20
    QUEUE_RESUMED = 21
    SCHEDULE_CREATED = 22
    SCHEDULE_DELETED = 23
    SCHEDULE_PAUSED = 24
    SCHEDULE_RESUMED = 25
    SCHEDULE_FIRED = 26
    BLOCKED = 27
    SCHEDULE_UPDATED = 28
    SCHEDULE_TRIGGERED = 29
    DEAD_LETTERS_DROPPED = 30


TABLE: dict[tuple[State, Kind], State] = {
    (State.NEW, Kind.CREATED): State.CREATED,
    (State.CREATED, Kind.QUEUED): State.QUEUED,
    (State.CREATED, Kind.REJECTED): State.REJECTED,
    (State.CREATED, Kind.FAILED): State.FAILED,
    (State.CREATED, Kind.CANCELED): State.CANCELED,
    (State.CREATED, Kind.EXPIRED): State.EXPIRED,
    (State.QUEUED, Kind.ASSIGNED): State.ASSIGNED,
    (State.QUEUED, Kind.RETRYING): State.RETRY_WAIT,
    (State.QUEUED, Kind.BLOCKED): State.CREATED,
    (State.QUEUED, Kind.CANCELED): State.CANCELED,
    (State.QUEUED, Kind.EXPIRED): State.EXPIRED,
    (State.ASSIGNED, Kind.STARTED): State.RUNNING,
    (State.ASSIGNED, Kind.HANDED_BACK): State.QUEUED,
    (State.ASSIGNED, Kind.CANCELED): State.CANCELED,
    (State.ASSIGNED, Kind.EXPIRED): State.EXPIRED,
    (State.RUNNING, Kind.PROGRESS): State.RUNNING,
    (State.RUNNING, Kind.INPUT_REQUIRED): State.INPUT_REQUIRED,
    (State.RUNNING, Kind.COMPLETED): State.COMPLETED,
    (State.RUNNING, Kind.ATTEMPT_FAILED): State.RETRY_WAIT,
    (State.RUNNING, Kind.CANCELED): State.CANCELED,
    (State.RUNNING, Kind.EXPIRED): State.EXPIRED,
    (State.INPUT_REQUIRED, Kind.INPUT_PROVIDED): State.QUEUED,
    (State.INPUT_REQUIRED, Kind.CANCELED): State.CANCELED,
    (State.INPUT_REQUIRED, Kind.EXPIRED): State.EXPIRED,
    (State.RETRY_WAIT, Kind.RETRYING): State.RETRY_WAIT,
    (State.RETRY_WAIT, Kind.QUEUED): State.QUEUED,
    (State.RETRY_WAIT, Kind.FAILED): State.FAILED,
    (State.RETRY_WAIT, Kind.CANCELED): State.CANCELED,
    (State.RETRY_WAIT, Kind.EXPIRED): State.EXPIRED,
    (State.FAILED, Kind.REQUEUED): State.QUEUED,
    (State.CREATED, Kind.PAUSED): State.PAUSED,
    (State.QUEUED, Kind.PAUSED): State.PAUSED,
    (State.ASSIGNED, Kind.PAUSED): State.PAUSED,
    (State.RUNNING, Kind.PAUSED): State.PAUSED,
    (State.RETRY_WAIT, Kind.PAUSED): State.PAUSED,
    (State.PAUSED, Kind.RESUMED): State.CREATED,
    (State.PAUSED, Kind.FAILED): State.FAILED,
    (State.PAUSED, Kind.CANCELED): State.CANCELED,
    (State.PAUSED, Kind.EXPIRED): State.EXPIRED,
}

PAUSABLE = frozenset(state for state, kind in TABLE if kind is Kind.PAUSED)
"""States in which a task can be paused: all in which it waits for no answer and has not ended."""

TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELED, State.EXPIRED, State.REJECTED})
"""States without a future, but for a dead letter that is revived."""

TERMINAL_KINDS = frozenset(
    {Kind.COMPLETED, Kind.FAILED, Kind.CANCELED, Kind.EXPIRED, Kind.REJECTED}
)
"""Events that end a task."""

RESIZING_KINDS = TERMINAL_KINDS | {
    Kind.STARTED,
    Kind.PROGRESS,
    Kind.ATTEMPT_FAILED,
    Kind.INPUT_REQUIRED,
    Kind.INPUT_PROVIDED,
    Kind.PAUSED,
}
"""Events that change what an open task holds in memory."""

TASKLESS = frozenset(
    {
        Kind.EPOCH_BEGUN,
        Kind.QUEUE_PAUSED,
        Kind.QUEUE_RESUMED,
        Kind.SCHEDULE_CREATED,
        Kind.SCHEDULE_UPDATED,
        Kind.SCHEDULE_DELETED,
        Kind.SCHEDULE_PAUSED,
        Kind.SCHEDULE_RESUMED,
        Kind.SCHEDULE_FIRED,
        Kind.SCHEDULE_TRIGGERED,
        Kind.DEAD_LETTERS_DROPPED,
    }
)
"""Events about the log, the queue or a schedule: no state has them."""

SKIPPABLE = frozenset({Kind.SCHEDULE_TRIGGERED, Kind.DEAD_LETTERS_DROPPED})
"""Events that whoever does not know them may pass over: they are for people, or tell what he would
do again."""

LEASED = frozenset({State.ASSIGNED, State.RUNNING})
"""States in which a lease is live."""


class IllegalTransition(AssertionError):
    """An event that the table does not allow: a fault of ours or a damaged log."""

    def __init__(self, state: State, kind: Kind) -> None:
        super().__init__(f"{kind.name} is not possible in state {state.name}")


def next_state(state: State, kind: Kind) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: The table has no such pair.
    """
    following = TABLE.get((state, kind))
    if following is None:
        raise IllegalTransition(state, kind)
    return following


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, kind), following in TABLE.items():
        arrows.setdefault((state, following), []).append(kind.name.lower())
    lines = ["stateDiagram-v2", "    direction LR"]
    for (state, following), kinds in arrows.items():
        source = "[*]" if state is State.NEW else state.name
        lines.append(f"    {source} --> {following.name}: {', '.join(kinds)}")
    lines += [f"    {state.name} --> [*]" for state in sorted(TERMINAL)]
    return "\n".join(lines)
