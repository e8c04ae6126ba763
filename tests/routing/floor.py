"""A router's core under test: agents and tasks in a line each, and what it wanted done."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import numpy as np

from services.kernel.instant import Instant
from services.routing.core import effects
from services.routing.core.assignment import Lease
from services.routing.core.effects import ACCEPTED, LeaseKey
from services.routing.core.model import RawModel
from services.routing.core.router import Router
from services.routing.core.session import Greeting, Limits, Session

E = TypeVar("E")

ANSWER = object()


class Floor:
    """Drives a router's core; time stands still until it is moved."""

    def __init__(self, *, up: bool = True, **limits: Any) -> None:
        given = Limits(**{"hellos_burst": 1e6, **limits})
        self.router = Router("router-1", given, np.random.default_rng(7))
        self.board = self.router.board
        self.attendance = self.router.attendance
        self.standings = self.router.standings
        self.work = self.router.work
        self.orders = self.router.orders
        self.time = Instant(1_000.0, 1_700_000_000_000)
        self.done: list[Any] = []
        self.attendance.open_stream(1)
        self._epochs = 0
        if up:
            self.orders.welcome((), (), self.time)

    def turn(self) -> list[Any]:
        made = self.router.turn(self.time)
        self.done.extend(made)
        return made

    def sleep(self, seconds: float, *, step_s: float = 0.1) -> None:
        """Lets time pass in ticks, as the shell does."""
        end_s = self.time.mono_s + seconds
        while self.time.mono_s < end_s - 1e-9:
            passed_s = min(step_s, end_s - self.time.mono_s)
            self.time = Instant(
                self.time.mono_s + passed_s, self.time.wall_ms + round(passed_s * 1e3)
            )
            self.router.tick(self.time)
            self.turn()

    def agent(
        self,
        agent_id: str,
        *capabilities: str,
        slots: int = 1,
        stream: int = 1,
        instance: str = "i1",
        in_flight: tuple[LeaseKey, ...] = (),
        token: str = "",
        cost: float = 0.0,
        proficiency: float = 1.0,
        versions: tuple[str, ...] = (),
        last_seq: int = 0,
        draining: bool = False,
    ) -> Session:
        greeting = Greeting(
            agent_id=agent_id,
            instance_id=instance,
            name="",
            capabilities=dict.fromkeys(capabilities or ("echo",), proficiency),
            max_concurrency=slots,
            cost_per_task=cost,
            in_flight=in_flight,
            resume_token=token,
            body=None,
            versions=versions,
            last_seq=last_seq,
            draining=draining,
        )
        self.router.admission.hello(stream, greeting, self.time)
        self.turn()
        return self.board.sessions[agent_id]

    def grant(
        self,
        task_id: str,
        *required: str,
        preferred: tuple[str, ...] = (),
        of: tuple[str, ...] = (),
        **given: Any,
    ) -> Lease:
        """Grants a task on the credit of the class `of`, or of what it requires."""
        self._epochs += 1
        lease = Lease(task_id, self._epochs, body=f"grant of {task_id}", **given)
        lease.task_type = lease.task_type or (required or ("echo",))[0]
        needed = required or ("echo",)
        kind = self.board.fleet.class_of(of or needed)
        self.orders.grant(lease, kind.class_id, needed, preferred, self.time)
        return lease

    def granted(self, task_id: str, *required: str, **given: Any) -> Lease:
        lease = self.grant(task_id, *required, **given)
        self.turn()
        return lease

    def running(self, task_id: str, *required: str, **given: Any) -> Lease:
        lease = self.granted(task_id, *required, **given)
        assert lease.session is not None, "no agent took it"
        self.work.ack(lease.session, lease.key, self.time)
        self.turn()
        return lease

    def finish(self, lease: Lease, kind: str = "SUCCEEDED") -> None:
        assert lease.session is not None
        self.work.result(lease.session, lease.key, ANSWER, kind, self.time)
        self.turn()

    def settle(self, lease: Lease, verdict: int = ACCEPTED) -> None:
        self.orders.settled(lease.key, verdict)
        self.turn()

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.done if isinstance(effect, kind)]

    def last(self, kind: type[E]) -> E:
        return self.of(kind)[-1]

    def assigned(self) -> list[tuple[str, str]]:
        """Pairs of task and agent, in the order in which they were made."""
        return [(e.lease.task_id, e.session.agent_id) for e in self.of(effects.SendAssign)]

    def credit(self, *capabilities: str) -> tuple[int, int]:
        """Credit and agents of a class, as told last."""
        kind = self.board.fleet.class_of(capabilities or ("echo",))
        return kind.parts[0].announced[:2]


def raw_model(
    agents: list[str],
    types: list[str],
    *,
    success: Any = 0.9,
    service_ms: Any = 50.0,
    deviation: Any = 0.0,
    evidence: Any = 10.0,
    **given: Any,
) -> RawModel:
    shape = (len(agents), len(types))

    def matrix(values: Any) -> bytes:
        return np.broadcast_to(np.asarray(values, "<f4"), shape).astype("<f4").tobytes()

    matrices = (matrix(success), matrix(deviation), matrix(service_ms), matrix(evidence))
    raw = RawModel(
        version="v1",
        mode=4,
        canary_fraction=0.0,
        agent_ids=agents,
        task_types=types,
        success_means=matrices[0],
        success_deviations=matrices[1],
        service_ms=matrices[2],
        evidence=matrices[3],
        fleet_success=[0.9] * len(types),
        fleet_service_ms=[50.0] * len(types),
        default_success=0.9,
        default_service_ms=50.0,
        retry_penalty_ms=1_000.0,
        cost_weight_ms=0.0,
        exploration_fraction=0.0,
        push_interval_s=1.0,
        checksum=hashlib.sha256(b"".join(matrices)).digest(),
    )
    return raw._replace(**given)
