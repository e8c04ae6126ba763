"""What the core wants done: plain records, performed in order by the shell.

A stream is known by its number alone; the payloads of others (`body`) are passed on untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from services.routing.core.assignment import Lease
    from services.routing.core.fleet import CapabilityClass
    from services.routing.core.session import Session

# Numbers of the wire (LeaseVerdict.Verdict, ResultAck.Verdict), passed through as they come.
KEEP, CANCEL, LOST = 1, 2, 3
ACCEPTED, DUPLICATE, FENCED, REFUSED, CONFLICT, UNKNOWN = 1, 2, 3, 4, 5, 6

LEASE_BYTES = 64
"""What a lease takes in a frame that lists several."""

LeaseKey = tuple[str, int]
"""Task id and lease epoch."""
Verdict = tuple[str, int, int]
"""Task id, lease epoch and one of KEEP, CANCEL, LOST."""


def partition_in(task_id: str) -> int:
    """Return the partition that an id tells; 0 for an id that is none."""
    try:
        return int(task_id[:2], 16)
    except ValueError:
        return 0


class SendReady(NamedTuple):
    """Accepts an agent."""

    session: Session
    verdicts: tuple[Verdict, ...]
    resumed: bool
    lease_s: float


class SendAssign(NamedTuple):
    """Offers a task."""

    session: Session
    lease: Lease
    body: object
    """The grant; kept here since the lease lets it go."""


class SendRenewAck(NamedTuple):
    """Tells which leases are held."""

    session: Session
    held: tuple[LeaseKey, ...]
    lost: tuple[LeaseKey, ...]


class SendResultAck(NamedTuple):
    """Settles a result."""

    session: Session
    task_id: str
    epoch: int
    verdict: int


class SendCancel(NamedTuple):
    """Stops a task."""

    session: Session
    task_id: str
    epoch: int
    reason: str


class SendRecall(NamedTuple):
    """Takes offers back that were not acked."""

    session: Session
    leases: tuple[LeaseKey, ...]


class SendProbe(NamedTuple):
    """Asks for a sign of life."""

    session: Session
    nonce: int


class SendSuperseded(NamedTuple):
    """Ends the session of an older instance on the stream it had."""

    stream: int
    session: Session
    instance_id: str


class SendRefusal(NamedTuple):
    """Refuses a frame."""

    stream: int
    agent_id: str
    reason: str
    message: str
    task_id: str
    closing: bool
    retry_after_s: float = 0.0
    """How long to wait before the next Hello; 0 = as the agent chooses."""


class SendDrain(NamedTuple):
    """Asks all agents of a stream to move."""

    stream: int
    deadline_wall_ms: int


class SendTune(NamedTuple):
    """Changes how often all agents of a stream renew."""

    stream: int
    lease_s: float


class SendPace(NamedTuple):
    """Changes how often an agent sends heartbeats."""

    session: Session
    heartbeat_s: float


class CloseStream(NamedTuple):
    """Ends a stream with RESOURCE_EXHAUSTED."""

    stream: int
    reason: str
    message: str


class Started(NamedTuple):
    """An agent took a task."""

    lease: Lease


class Progressed(NamedTuple):
    """An agent reported progress."""

    lease: Lease
    body: object


class Asked(NamedTuple):
    """An attempt ended with a question; repeated until it is settled."""

    lease: Lease


class HandedBack(NamedTuple):
    """A lease ended without an attempt."""

    task_id: str
    epoch: int
    reason: str
    agent_id: str


class Ended(NamedTuple):
    """An attempt ended; repeated until it is settled."""

    lease: Lease


def ending(lease: Lease) -> Ended | Asked:
    """Tell how a lease ended: with an outcome or with a question."""
    return Asked(lease) if lease.asks else Ended(lease)


class Renewed(NamedTuple):
    """Agents keep leases alive."""

    leases: tuple[LeaseKey, ...]


class Claimed(NamedTuple):
    """An agent came with leases that are not known here."""

    agent_id: str
    leases: tuple[LeaseKey, ...]


class Credited(NamedTuple):
    """What a capability class accepts of a partition has changed."""

    kind: CapabilityClass
    total: int
    look_ahead: int
    """How many of them may have to wait for an agent."""
    partition: int = 0


def parted(effect: ToScheduler) -> Iterable[tuple[int, ToScheduler]]:
    """Return what of an effect concerns which partition."""
    if isinstance(effect, Renewed | Claimed):
        keys: dict[int, list[LeaseKey]] = {}
        for key in effect.leases:
            keys.setdefault(partition_in(key[0]), []).append(key)
        return [(number, effect._replace(leases=tuple(part))) for number, part in keys.items()]
    if isinstance(effect, Credited):
        return ((effect.partition, effect),)
    task_id = effect.task_id if isinstance(effect, HandedBack) else effect.lease.task_id
    return ((partition_in(task_id), effect),)


class Opened(NamedTuple):
    """An agent has a session."""

    session: Session
    ask: int = 0
    """The number under which the registry is asked what holds for it; 0 = it is not."""


class Closed(NamedTuple):
    """An agent's stream is gone."""

    agent_id: str
    orderly: bool


class Outcome(NamedTuple):
    """How an attempt went, for the registry."""

    agent_id: str
    task_id: str
    task_type: str
    kind: str
    run_s: float
    wall_ms: int


class Settled(NamedTuple):
    """The scheduler has settled a result, for whoever waits for it outside a stream."""

    task_id: str
    epoch: int
    verdict: int


ToAgent = (
    SendReady
    | SendAssign
    | SendRenewAck
    | SendResultAck
    | SendCancel
    | SendRecall
    | SendProbe
    | SendSuperseded
    | SendRefusal
    | SendDrain
    | SendTune
    | SendPace
)
ToScheduler = Started | Progressed | Asked | HandedBack | Ended | Renewed | Claimed | Credited
ToRegistry = Opened | Closed | Outcome
Effect = ToAgent | ToScheduler | ToRegistry | CloseStream | Settled


def bytes_of(effect: ToAgent) -> int:
    """Return about how many bytes a frame has, where that depends on what it carries; else 0."""
    if isinstance(effect, SendAssign):
        return effect.lease.size_bytes
    if isinstance(effect, SendRenewAck):
        return LEASE_BYTES * (len(effect.held) + len(effect.lost))
    return 0
