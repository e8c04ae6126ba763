"""Effects into facts for the registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from podium.v1 import agent_pb2, agent_registry_pb2
from services.kernel.clock import Clock
from services.routing.core.effects import Closed, Opened, Outcome, ToRegistry
from services.routing.core.session import Session

Request = agent_registry_pb2.SyncSessionsRequest

KINDS = {
    "SUCCEEDED": agent_registry_pb2.AttemptOutcome.KIND_SUCCEEDED,
    "FAILED": agent_registry_pb2.AttemptOutcome.KIND_FAILED,
    "LOST": agent_registry_pb2.AttemptOutcome.KIND_LOST,
    "CANCELED": agent_registry_pb2.AttemptOutcome.KIND_CANCELED,
    "NOT_ACKED": agent_registry_pb2.AttemptOutcome.KIND_NOT_ACKED,
}

Fact = ToRegistry | Session
"""A session among the facts says that its agent was heard of."""

_RANKS: dict[type, int] = {Opened: 0, Closed: 1, Session: 2, Outcome: 3}


class Facts:
    """Builds what a stream carries to the registry."""

    def __init__(self, router_id: str, clock: Clock) -> None:
        self._router_id = router_id
        self._clock = clock

    def snapshot(self, sessions: Iterable[Session], ask: int = 0) -> Request:
        """Return the first message of a stream: every session there is, all asked about."""
        request = Request(router_id=self._router_id, snapshot=True, ask=ask)
        for session in sessions:
            if session.stream is not None:
                self._opened(request.opened.add(), session)
        return request

    def requests(self, batch: Iterable[Fact]) -> Iterator[Request]:
        """Yield messages with the facts of a batch.

        A message lists its facts by kind, so what must stay in order goes into the next one.
        """
        request, last = Request(router_id=self._router_id), 0
        for fact in batch:
            rank = _RANKS[type(fact)]
            if rank < last:
                yield request
                request = Request(router_id=self._router_id)
            last = rank
            self._add(request, fact)
        yield request

    def _add(self, request: Request, fact: Fact) -> None:
        if isinstance(fact, Outcome):
            outcome = request.outcomes.add()
            outcome.agent_id = fact.agent_id
            outcome.task_id = fact.task_id
            outcome.task_type = fact.task_type
            outcome.kind = KINDS[fact.kind]
            run, end = outcome.run_duration, outcome.end_time
            run.seconds, run.nanos = divmod(round(fact.run_s * 1e9), 1_000_000_000)
            end.seconds, millis = divmod(fact.wall_ms, 1_000)
            end.nanos = millis * 1_000_000
        elif isinstance(fact, Session):
            alive = request.alive.add()
            alive.agent_id = fact.agent_id
            alive.in_flight_count = fact.load
            alive.draining = fact.draining
        elif isinstance(fact, Opened):
            self._opened(request.opened.add(), fact.session)
            request.ask = fact.ask
        else:
            closed = request.closed.add()
            closed.agent_id = fact.agent_id
            closed.orderly = fact.orderly

    def _opened(self, agent: agent_pb2.Agent, session: Session) -> None:
        hello: Any = session.body
        agent.agent_id = session.agent_id
        agent.instance_id = session.instance_id
        agent.name = session.name
        agent.capabilities.extend(hello.capabilities)
        agent.labels.update(hello.labels)
        agent.max_concurrency = session.max_concurrency
        agent.cost_hint.CopyFrom(hello.cost_hint)
        agent.build_id = hello.build_id
        agent.router_id = self._router_id
        agent.transport = hello.transport or "grpc"
        agent.in_flight_count = session.load
        agent.breaker = _breaker(session)
        if session.quarantined:
            agent.status = agent_pb2.Agent.STATUS_QUARANTINED
        elif session.draining:
            agent.status = agent_pb2.Agent.STATUS_DRAINING
        agent.status_reason = session.told_reason
        age_s = self._clock.now().mono_s - session.since_s
        agent.session_age.FromNanoseconds(round(age_s * 1e9))


def _breaker(session: Session) -> agent_pb2.Agent.Breaker:
    if session.half_open:
        return agent_pb2.Agent.BREAKER_HALF_OPEN
    closed, opened = agent_pb2.Agent.BREAKER_CLOSED, agent_pb2.Agent.BREAKER_OPEN
    return opened if session.breaker_open else closed
