"""Tasks and agents of a suite, as its ledger keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from podium.sdk.testing.times import START
from podium.sdk.versions import meets
from podium.v1 import session_pb2, task_pb2

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})


class Event(NamedTuple):
    """One fact about a task, named as in the event log."""

    type: str
    # On the suite's clock.
    at_s: float
    attempt: int = 0
    agent_id: str = ""
    reason: str = ""


@dataclass(eq=False)
class Entry:
    """A task of the ledger."""

    task_id: str
    spec: task_pb2.TaskSpec
    # What was asked for, without a trace and with spans where `spec` has times.
    asked: task_pb2.TaskSpec
    state: str = ""
    attempt: int = 0
    failures: int = 0
    lease_epoch: int = 0
    agent_id: str = ""
    excluded: set[str] = field(default_factory=set)
    checkpoint: bytes = b""
    question: task_pb2.Payload | None = None
    answer: task_pb2.Payload | None = None
    # By the lease under which it was asked.
    answers: dict[int, task_pb2.Payload] = field(default_factory=dict)
    # When its attempts were given to agents.
    starts_s: list[float] = field(default_factory=list)
    result: task_pb2.Payload = field(default_factory=task_pb2.Payload)
    failure: task_pb2.Failure = field(default_factory=task_pb2.Failure)
    usage: task_pb2.Usage = field(default_factory=task_pb2.Usage)
    progress: list[session_pb2.Progress] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    # When something becomes of it by itself: each with what.
    due: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that its agent must have."""
        return frozenset(self.spec.required_capabilities or (self.spec.type,))

    def assignment(self, now_s: float) -> session_pb2.RouterFrame:
        """Returns the frame that gives it to its agent."""
        assign = session_pb2.Assign(
            task_id=self.task_id,
            lease_epoch=self.lease_epoch,
            attempt=self.attempt + 1,
            spec=self.spec,
            traceparent=self.spec.traceparent,
            checkpoint=self.checkpoint,
            input=self.answer,
        )
        if limit := self.spec.attempt_timeout.ToTimedelta():
            assign.attempt_deadline.FromDatetime(START + timedelta(seconds=now_s) + limit)
        return session_pb2.RouterFrame(agent_id=self.agent_id, assign=assign)


@dataclass
class Slot:
    """An agent, as far as choosing one goes."""

    agent_id: str
    # Each with its version, "" where it names none.
    capabilities: Mapping[str, str]
    capacity: int
    connected: bool = True
    # Connected, yet nothing passes.
    frozen: bool = False
    load: int = 0

    def can(self, entry: Entry) -> bool:
        """Tells whether it could ever work on a task."""
        return self.connected and not self.frozen and meets(self.capabilities, entry.needs)


class Stop(NamedTuple):
    """Asks an agent to stop a task."""

    agent_id: str
    task_id: str
    lease_epoch: int
    reason: str

    def frame(self) -> session_pb2.RouterFrame:
        """Returns the frame that asks."""
        lease = session_pb2.LeaseRef(task_id=self.task_id, lease_epoch=self.lease_epoch)
        cancel = session_pb2.Cancel(lease=lease, reason=self.reason)
        return session_pb2.RouterFrame(agent_id=self.agent_id, cancel=cancel)
