"""What the scheduler needs of the world, and what its rooms need of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from podium.v1.event_pb2 import Event as EventMessage
from podium.v1.schedule_pb2 import Schedule as ScheduleMessage
from podium.v1.task_pb2 import TaskSpec
from services.kernel.instant import Instant
from services.task_scheduler.core.event import Created, Event, Plan
from services.task_scheduler.core.orders import Order
from services.task_scheduler.core.ownership import Sight
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.task import Task

FAILPOINTS = (
    *("before_append", "after_append", "after_sync", "before_reply", "before_dispatch"),
    *("before_snapshot_write", "before_snapshot_rename"),
    *("after_snapshot_rename", "after_snapshot_sync"),
    *("before_compaction", "after_compaction"),
)
"""Every edge. An error at a `before` point comes before the work; at an `after` point the work is
done and reported as failed."""
FAILPOINT_ACTIONS = ("crash", "delay", "error", "full")

Failpoint = Callable[[str], None]
"""Called with the name of an edge of the write path; tests make it crash, wait or raise there."""


class StorageFailed(Exception):
    """The journal cannot promise anything any more: stop, restart and read again."""


class LogLost(StorageFailed):
    """Another process may write the log now: it goes on there."""


class Group(NamedTuple):
    """Events that were committed together, as stored."""

    first_seq: int
    last_seq: int
    frames: bytes
    """Each event as field 1 of a message: joined, they are a message of repeated events."""
    wall_ms: int = 0
    """When they were committed."""


class Snapshot(NamedTuple):
    """The state at an event, packed."""

    seq: int
    parts: AsyncIterator[bytes]


class Journal(Protocol):
    """The durable log of one partition, written by one process at a time."""

    @property
    def compacted_seq(self) -> int:
        """The last event that is no longer kept; 0 when all are."""

    @property
    def owner_address(self) -> str:
        """Where the process is that may write, when another one has told; else empty."""

    @property
    def reachable(self) -> bool:
        """Whether this process may rely on being the only one that writes."""

    async def open(self) -> None:
        """Get ready; raises PodiumError with a sentence when that is not possible."""

    async def own(self) -> None:
        """Return when this process, and no other, may write."""

    async def lost(self) -> None:
        """Return when another process may write."""

    def replay(self, after_seq: int) -> AsyncIterator[Sequence[Group]]:
        """Yield all groups behind the event of a snapshot (or 0), checking their chain.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """

    async def append(self, group: Group) -> None:
        """Return when `group` is durable.

        Raises:
            StorageFailed: It is not, and nothing more can be appended.
        """

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return the groups behind `after_seq`, at least one if there is any."""

    def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield the groups within a range of events that contain `needle`.

        Each time some of the log is looked through, so that other readers get their turn between.
        """

    async def compact(self, before_ms: int, size_bytes_max: int) -> None:
        """Drop groups from before a time, and more while the log is larger than wanted.

        What recovery from any kept snapshot needs stays.
        """

    def short_of_space(self) -> bool:
        """Whether only what was set aside is left: nothing new should be taken in."""

    async def close(self) -> None:
        """Finish and let go of the log."""


class Replicas(Protocol):
    """The replicas that share the partitions of a database."""

    @property
    def me(self) -> str:
        """The name of this one."""

    async def sight(self) -> Sight | None:
        """Say that this one lives and return what it sees; None when nothing can be seen."""

    async def tell(self, partition: int) -> None:
        """Tell the others that a partition has an owner again."""

    async def news(self, within_s: float) -> None:
        """Return when something has changed, or after some time."""

    async def leave(self) -> None:
        """Say that this one takes no partition any more."""


class Places(Protocol):
    """Where partitions are served."""

    count: int
    """How many there are."""

    def servicer(self, partition: int) -> Any:
        """Return what answers in this process; None when it is elsewhere or nowhere."""

    def address(self, partition: int) -> str:
        """Return where another replica answers; empty when none is known."""

    def own_address(self) -> str:
        """Return where this process answers others."""

    async def known(self, partition: int, but: str = "") -> None:
        """Return when somebody answers for a partition who is not at `but`, or after a moment."""


class Snapshots(Protocol):
    """Where the snapshots of a journal are kept; mostly the journal itself."""

    async def latest(self) -> Snapshot | None:
        """Return the newest that is whole."""

    async def keep(self, seq: int, parts: AsyncIterator[bytes]) -> None:
        """Return when the snapshot is durable; event `seq` must be, and end a group.

        Raises:
            StorageFailed: It is not; earlier ones still are.
        """


class Checks(Protocol):
    """What proves that a log is still what was written."""

    async def verify(self, after_seq: int) -> int:
        """Follow the chain of hashes for some groups behind `after_seq`; return their last event.

        `after_seq` is what the call before returned, 0 at first; at the end of the log it is
        returned again.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED, with the position.
        """


class Store(Journal, Snapshots, Checks, Protocol):
    """A journal that keeps its snapshots and can be checked."""


@dataclass(slots=True)
class Sealed:
    """An event with its bytes, encoded once for the log, for watchers and for replay."""

    event: Event
    task: Task | None
    mono_s: float
    """When it happened, on the monotonic clock."""
    frame: bytes
    """As field 1 of a message."""
    lean: bytes
    """The same without payloads, results and partial output; often the same object."""


class Codec(Protocol):
    """Events and tasks of the core to bytes of the wire contract, and back."""

    def seal(self, event: Event, task: Task | None, mono_s: float) -> Sealed:
        """Encode an event."""

    def decode(self, message: EventMessage) -> Event | None:
        """Return the core's event; None when it may be skipped.

        Raises:
            FailedPrecondition: JOURNAL_TOO_NEW, it is of a type that may not be skipped.
        """

    def pack(self, part: dict[str, Any]) -> bytes:
        """Encode a part of a snapshot."""

    def unpack(self, packed: bytes) -> dict[str, Any]:
        """Return a part of a snapshot."""

    def created(
        self,
        spec: TaskSpec,
        *,
        principal: str = "",
        submitter_id: str = "",
        spec_hash: bytes = b"",
        root_task_id: str = "",
        depth: int = 0,
    ) -> Created:
        """Return the facts of a task whose defaults are filled in; `spec` is spoiled by it."""

    def order(self, order: Order) -> bytes:
        """Encode an order as field 1 of a message."""

    def fill_plan(self, message: ScheduleMessage, plan: Plan) -> None:
        """Write what a schedule does, its payload included."""


class Commit(NamedTuple):
    """A step whose events are durable: all of it may leave now."""

    sealed: Sequence[Sealed]
    orders: Sequence[tuple[str, Order]]
    encoded: Sequence[bytes]
    """The orders' bytes, each made before its task could change again."""
    began: Instant
    """When the step was taken."""
    now: Instant
    """When it became durable."""


Listener = Callable[[Commit], None]


class Desk(Protocol):
    """What servicers need of the loop that commits."""

    @property
    def owner_address(self) -> str:
        """Where calls go while this process is not the one that writes; empty = nowhere else."""

    core: Scheduler
    durable_seq: int
    """Last event that is durable."""
    first_seq: int
    """Last event of the log before this process took it over."""
    commits: int
    """Commits since then."""
    checked_seq: int
    """The last event that the check in the background has come to."""
    damage: str
    """What it found wrong; empty = nothing."""

    @property
    def compacted_seq(self) -> int:
        """The last event that is no longer kept."""

    def now(self) -> Instant:
        """Return the time."""

    def check(self, *, submitting: bool = False) -> None:
        """Raise Unavailable while tasks cannot be read or changed, or not be taken in."""

    def wake(self, urgent_len: int = 0) -> None:
        """Say that the core was given something to do, so many urgent tasks among it."""

    async def settled(self) -> None:
        """Return when everything that has happened so far is durable."""

    def read(self, after_seq: int, size_bytes_max: int) -> Awaitable[Sequence[Group]]:
        """Return groups of the journal."""

    def verify(self, after_seq: int) -> Awaitable[int]:
        """Check the next groups of the journal, and return the last event of them."""

    def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield groups of the journal that contain `needle`, some at a time."""
