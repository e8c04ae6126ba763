"""Golden traces of the scheduler's core: commands, and below the line everything it said.

`PODIUM_TEST_REWRITE=1 pytest tests/scenarios` writes what it says now; read the difference.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from services.kernel.instant import Instant
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import Event, Failed, Failure, Retrying, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Grant, Order, Revoke, Settled, Verdicts, Welcome
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.task import Lease, Task
from tests.task_scheduler.rig import START, created

TRACES = sorted(Path(__file__).parent.glob("scheduler_*.txt"))
RULE = "----"


class Stage:
    """Plays commands to a core and writes down what it says."""

    def __init__(self) -> None:
        self.core = Scheduler(Limits(), random.Random(1).random)
        self.now = START
        self.log: list[Event] = []
        self.said: list[str] = []
        self.tasks: dict[str, str] = {}
        self.core.start(self.now)

    def play(self, line: str) -> None:
        word, *rest = line.split()
        words = [one for one in rest if "=" not in one]
        options = dict(one.split("=", 1) for one in rest if "=" in one)
        command: Callable[[list[str], dict[str, str]], None] = getattr(self, f"do_{word}")
        command(words, options)
        self._take()

    def do_router(self, words: list[str], options: dict[str, str]) -> None:
        held = [self._lease(name, {}) for name in options.get("held", "").split(",") if name]
        self.core.dispatch.open(words[0], held, self.now)

    def do_credit(self, words: list[str], options: dict[str, str]) -> None:
        needs = options.get("can", "work").split(",")
        total = int(options.get("total", 100))
        self.core.dispatch.credit(words[0], int(options.get("class", 1)), needs, total, 1)

    def do_close(self, words: list[str], options: dict[str, str]) -> None:
        self.core.dispatch.close(words[0], self.now)

    def do_submit(self, words: list[str], options: dict[str, str]) -> None:
        def at_ms(name: str) -> int:
            return self.now.wall_ms + int(options[name]) * 1000 if name in options else 0

        terms = Terms(
            priority=int(options.get("priority", 5)),
            policy=RetryPolicy(
                int(options.get("retries", 3)), int(options.get("backoff_ms", 1000)), jitter=0.0
            ),
            attempt_timeout_ms=int(options.get("timeout_s", 0)) * 1000,
            deadline_ms=at_ms("deadline_s"),
            not_before_ms=at_ms("delay_s"),
        )
        after = [self.tasks[name] for name in options.get("after", "").split(",") if name]
        drafts = [
            Draft(
                created(
                    needs=options.get("needs", "work").split(","), terms=terms, depends_on=after
                )
            )
            for _ in words
        ]
        admitted = self.core.admission.submit(drafts, self.now)
        self.tasks |= {name: one.task_id for name, one in zip(words, admitted, strict=True)}

    def do_start(self, words: list[str], options: dict[str, str]) -> None:
        name, agent_id = words
        lease = self._lease(name, options)
        self.core.outcomes.started(self._router(options), lease, agent_id, b"", self.now)

    def do_complete(self, words: list[str], options: dict[str, str]) -> None:
        name, agent_id = words
        self.core.outcomes.completed(
            self._router(options), self._lease(name, options), agent_id, b"ok", None, None, self.now
        )

    def do_fail(self, words: list[str], options: dict[str, str]) -> None:
        name, agent_id, *final = words
        failure = Failure("BROKEN", "", not final)
        self.core.outcomes.failed(
            self._router(options),
            self._lease(name, options),
            agent_id,
            failure,
            None,
            self.now,
            agent_fault=not final,
        )

    def do_back(self, words: list[str], options: dict[str, str]) -> None:
        name, agent_id = words
        self.core.outcomes.handed_back(
            self._router(options), self._lease(name, options), "NACK_BUSY", agent_id, self.now
        )

    def do_claim(self, words: list[str], options: dict[str, str]) -> None:
        router_id, agent_id, *names = words
        leases = [self._lease(name, options) for name in names]
        self.core.dispatch.claimed(router_id, agent_id, leases, self.now)

    def do_renew(self, words: list[str], options: dict[str, str]) -> None:
        leases = [self._lease(name, options) for name in words]
        self.core.dispatch.renewed(self._router(options), leases, self.now)

    def do_ask(self, words: list[str], options: dict[str, str]) -> None:
        name, agent_id = words
        self.core.outcomes.asked(
            self._router(options), self._lease(name, options), agent_id, b"?", None, self.now
        )

    def do_answer(self, words: list[str], options: dict[str, str]) -> None:
        self.core.control.answer(self._task(words[0]), b"!", self.now)

    def do_cancel(self, words: list[str], options: dict[str, str]) -> None:
        self.core.control.cancel(self._task(words[0]), "", self.now)

    def do_requeue(self, words: list[str], options: dict[str, str]) -> None:
        self.core.control.requeue(self._task(words[0]), None, self.now)

    def do_wait(self, words: list[str], options: dict[str, str]) -> None:
        left = float(words[0])
        while left > 1e-9:
            part = min(0.5, left)
            left -= part
            self.now = Instant(self.now.mono_s + part, self.now.wall_ms + round(part * 1000))
            self.core.tick(self.now)
            self._take()

    def do_restart(self, words: list[str], options: dict[str, str]) -> None:
        self.core = Scheduler(Limits(), random.Random(1).random)
        for event in self.log:
            self.core.replay(event, self.now)
        self.core.start(self.now)

    def _take(self) -> None:
        step = self.core.take(self.now)
        for event, _, _ in step.events:
            self.log.append(event)
            if event.task_id:
                self.said.append(self._event(event))
        self.said += [f"{router_id} <- {self._order(order)}" for router_id, order in step.orders]

    def _task(self, name: str) -> Task:
        return self.core.book.tasks[self.tasks[name]]

    def _lease(self, name: str, options: dict[str, str]) -> Lease:
        task = self._task(name)
        return Lease(task.task_id, int(options.get("lease", task.lease_epoch)))

    def _router(self, options: dict[str, str]) -> str:
        return options.get("by", "r1")

    def _name(self, task_id: str) -> str:
        return next((name for name, one in self.tasks.items() if one == task_id), task_id)

    def _event(self, event: Event) -> str:
        parts = [event.kind.name.lower(), self._name(event.task_id)]
        if event.lease_epoch:
            parts.append(f"lease={event.lease_epoch}")
        if event.attempt:
            parts.append(f"attempt={event.attempt}")
        if event.agent_id:
            parts.append(f"agent={event.agent_id}")
        if isinstance(event.detail, Failed):
            parts.append(f"reason={event.detail.failure.reason}")
        if isinstance(event.detail, Retrying):
            parts.append(f"in_ms={event.detail.retry_ms - event.wall_ms}")
            parts.append(f"avoid={','.join(event.detail.excluded)}")
        return " ".join(parts)

    def _order(self, order: Order) -> str:
        if isinstance(order, Grant):
            avoid = f" avoid={','.join(order.task.excluded)}" if order.task.excluded else ""
            name = self._name(order.task.task_id)
            return f"grant {name} lease={order.lease_epoch} class={order.class_id}{avoid}"
        if isinstance(order, Settled):
            return f"settled {self._ref(order.lease)} {order.settlement.name.lower()}"
        if isinstance(order, Revoke):
            return f"revoke {self._ref(order.lease)} {order.reason}"
        assert isinstance(order, (Welcome, Verdicts))
        word = "welcome" if isinstance(order, Welcome) else "verdicts"
        told = [f"{self._ref(lease)}={verdict.name.lower()}" for lease, verdict in order.verdicts]
        return " ".join([word, *told])

    def _ref(self, lease: Lease) -> str:
        return f"{self._name(lease.task_id)}/{lease.epoch}"


def played(text: str) -> str:
    """Return the text with what the core says below each rule."""
    stage = Stage()
    blocks = []
    for block in text.strip().split("\n\n"):
        commands = block.split(f"\n{RULE}")[0].splitlines()
        stage.said = []
        for line in commands:
            if not line.startswith("#"):
                # A task's name is known when its CREATED event is written down.
                stage.play(line)
        blocks.append("\n".join([*commands, RULE, *stage.said]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_the_core_says_what_it_said(path: Path) -> None:
    text = path.read_text("utf-8")
    now = played(text)
    if os.environ.get("PODIUM_TEST_REWRITE"):
        path.write_text(now, "utf-8")

    assert now == text


def test_there_are_traces() -> None:
    assert len(TRACES) >= 6
