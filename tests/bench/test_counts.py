"""What a task costs, in numbers that no load and no machine changes.

They are what the throughput is made of: messages, commits, spans, calls. A bound is what was
measured and a little more; who has reason to exceed one measures with `make bench` what it costs.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from enum import EnumType
from pathlib import Path
from typing import Any, cast

import pytest

from podium.sdk.calls import Calls
from podium.sdk.settings import Settings
from podium.sdk.specs import build
from podium.sdk.submitter import Submitter
from podium.sdk.tracing import Tracer as ClientTracer
from podium.sdk.wire import Wire
from podium.v1 import session_pb2, task_pb2, task_scheduler_pb2
from services.kernel import names
from services.kernel.auth import ANONYMOUS
from services.kernel.coalesce import Outbox
from services.routing.adapters.reports import Reports
from services.routing.core.effects import ToScheduler
from services.routing.servicer.listener import Listener
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Lease
from tests.bench.counting import calls
from tests.routing.desks import desk
from tests.routing.floor import Floor
from tests.task_scheduler.rig import Rig, created
from tests.task_scheduler.serving import Report, in_process, lease, spec

TASKS = 500
SCHEDULER_CALLS = 296
"""Of the core and the codec, a task; 284 when this was written."""
GRANTS = 60
GRANT_CALLS = 47
"""Of the queue and the core, for a grant; 41 when this was written."""
CLIENT_CALLS = 72
"""Of a client, for a submit that shares its call with others; 63 when this was written."""
WAITING_BLOCKS = 12.5
"""Blocks of Python's allocator that the scheduler keeps for a waiting task; 11 when this was
written."""


def scheduled(rig: Rig, codec: ProtoCodec) -> tuple[int, int]:
    """Takes tasks through their life as the shell does; returns events and orders."""
    core = rig.core
    core.admission.submit([Draft(created()) for _ in range(TASKS)], rig.now)
    events = orders = 0

    def commit() -> list[Any]:
        nonlocal events, orders
        step = core.take(rig.now)
        events += len([codec.seal(*recorded) for recorded in step.events])
        orders += len([codec.order(order) for _, order in step.orders])
        return [order for _, order in step.orders]

    for grant in commit():
        held = Lease(grant.task.task_id, grant.lease_epoch)
        core.outcomes.started("r1", held, "a1", b"decision", rig.now)
        core.outcomes.completed("r1", held, "a1", b"result", None, None, rig.now)
    commit()
    return events, orders


def test_a_task_is_five_events_and_two_orders_of_the_scheduler() -> None:
    rig = Rig()
    rig.credit("work", total=TASKS)

    events, orders = scheduled(rig, ProtoCodec())

    assert (events, orders) == (5 * TASKS, 2 * TASKS)


def test_a_task_costs_the_scheduler_so_many_calls_and_no_more() -> None:
    rig, codec = Rig(), ProtoCodec()
    rig.credit("work", total=10 * TASKS)
    scheduled(rig, codec)

    with calls() as count:
        scheduled(rig, codec)

    assert count.calls / TASKS < SCHEDULER_CALLS


def test_a_task_finds_few_members_of_enums_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python 3.11 takes ten times as long for one as for any other attribute.
    rig, codec = Rig(), ProtoCodec()
    rig.credit("work", total=10 * TASKS)
    scheduled(rig, codec)
    found: Counter[str] = Counter()

    def getattribute(cls: type, name: str) -> object:
        found[name] += 1
        return type.__getattribute__(cls, name)

    monkeypatch.setattr(EnumType, "__getattribute__", getattribute, raising=False)
    scheduled(rig, codec)
    of_tasks = found.total()
    assert Kind.CREATED
    monkeypatch.undo()

    assert of_tasks < TASKS, found
    assert found.total() > of_tasks, "it counts"


def backlog(depth: int) -> Rig:
    """Returns a scheduler with so many tasks that wait, of all sorts, and no agent for them yet."""
    rig = Rig()
    for number in range(depth):
        terms = Terms(
            priority=1 + number % 2,
            deadline_ms=rig.now.wall_ms + 600_000 - number if number % 3 == 0 else 0,
            concurrency_keys=(f"key-{number % 7}",) if number % 5 == 0 else (),
            concurrency_limit=1_000_000,
        )
        tenant, task_type = f"tenant-{number % 3}", f"kind-{number % 4}"
        draft = Draft(created(task_type, tenant=tenant, terms=terms))
        rig.core.admission.submit([draft], rig.now)
    rig.take()
    assert len(rig.book.queue) == depth
    return rig


def granted(rig: Rig) -> float:
    """Returns the calls that a grant costs."""
    kinds = ("kind-0", "kind-1", "kind-2", "kind-3")
    rig.core.dispatch.credit(rig.router, 1, kinds, GRANTS, GRANTS)
    with calls() as count:
        rig.core.take(rig.now)
    assert rig.core.dispatch.grants == GRANTS
    return count.calls / GRANTS


def test_a_grant_costs_the_same_at_any_depth_of_the_backlog() -> None:
    shallow, deep = granted(backlog(100)), granted(backlog(10_000))

    assert deep < 1.05 * shallow
    assert deep < GRANT_CALLS


class Answering:
    """The calls of a client to a scheduler that takes everything, over streams alone."""

    patience_s = 30.0
    metadata = ()

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.streams = 0
        self.wire = Wire(asyncio.get_running_loop(), inline=True)
        self.stubs = self.scheduler = self
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    def OpenSubmission(self, metadata: object) -> Any:
        self.streams += 1
        return self

    async def write(self, message: Any) -> None:
        tasks = message.request.tasks
        self.batches.append(len(tasks))
        answer = task_scheduler_pb2.SubmissionAnswer(submission_id=message.submission_id)
        answer.accepted.task_ids.extend(spec.request_id for spec in tasks)
        self._answers.put_nowait(task_scheduler_pb2.OpenSubmissionResponse(answers=[answer]))

    async def read(self) -> Any:
        return await self._answers.get()

    def cancel(self) -> None:
        pass


def submitter_to(answering: Answering) -> Submitter[str]:
    return Submitter[str](
        cast(Calls, answering),
        ClientTracer("client", Settings()),
        "s",
        lambda pending, task_id, cursor: task_id,
    )


async def test_a_submit_costs_a_client_so_many_calls_and_no_more() -> None:
    answering = Answering()
    submitter = submitter_to(answering)

    async def submitted() -> None:
        specs = [build(f"kind-{number % 8}", b"x", {}) for number in range(TASKS)]
        await asyncio.gather(*map(submitter.add, specs))

    await submitted()
    with calls() as count:
        await submitted()

    assert answering.batches == [256, TASKS - 256] * 2, "full messages"
    assert count.calls / TASKS < CLIENT_CALLS
    await submitter.close()


async def test_a_thousand_submits_that_come_fifty_at_a_time_are_twenty_messages_of_a_stream() -> (
    None
):
    answering = Answering()
    submitter = submitter_to(answering)
    for _ in range(20):
        await asyncio.gather(*(submitter.add(build("work", b"x", {})) for _ in range(50)))

    assert answering.batches == [50] * 20
    assert answering.streams == 1
    await submitter.close()


def test_a_waiting_task_is_so_many_objects_of_the_scheduler_and_no_more() -> None:
    rig, codec = Rig(), ProtoCodec()

    def waiting() -> None:
        drafts = [Draft(created(request_id=f"r{next(numbers)}")) for _ in range(TASKS)]
        rig.core.admission.submit(drafts, rig.now)
        for recorded in rig.core.take(rig.now).events:
            codec.seal(*recorded)

    numbers = iter(range(1 << 30))
    waiting()
    gc.collect()
    before = sys.getallocatedblocks()
    waiting()
    gc.collect()

    assert (sys.getallocatedblocks() - before) / TASKS < WAITING_BLOCKS


async def test_a_thousand_tasks_at_once_are_two_commits_and_a_few_messages(
    tmp_path: Path,
) -> None:
    async with in_process(tmp_path) as served, served.router("work", router_id="r1") as router:
        registry = served.assembled.telemetry.registry

        def commits() -> float:
            return registry.get_sample_value(f"{names.metric_commit_events}_count") or 0.0

        before = commits()
        read, seen = router.call.read, Counter[str]()

        async def counted() -> Any:
            message = await read()
            seen["messages"] += 1
            return message

        router.call.read = counted
        await served.submit(*[spec() for _ in range(1_000)])
        grants = [await router.grant() for _ in range(1_000)]
        # The grants were made in the step of the submit, and share its commit.
        assert commits() - before == 1
        reports = []
        for grant in grants:
            started = task_scheduler_pb2.AttemptStarted(lease=lease(grant), agent_id="a1")
            success = task_pb2.Payload(data=b"ok")
            ended = task_scheduler_pb2.AttemptEnded(
                lease=lease(grant), agent_id="a1", success=success
            )
            reports += [Report(started=started), Report(ended=ended)]
        await router.say(*reports)
        for _ in grants:
            await router.next("settled")

        assert commits() - before == 2
        assert seen["messages"] <= 2 * (1_000 / 256 + 1)


async def test_a_hundred_results_that_come_together_leave_together() -> None:
    at, clock = desk()
    at.router.orders.welcome((), (), at.now())
    outbox = Outbox[ToScheduler]()
    at.connect(0, outbox)
    line = at.open_line()
    listener = Listener(at, line.number, ANONYMOUS)
    hello = session_pb2.Hello(instance_id="i1", max_concurrency=1)
    hello.capabilities.add(name="echo")
    agents = [f"agent-{number}" for number in range(100)]
    listener.take([session_pb2.AgentFrame(agent_id=name, hello=hello) for name in agents])
    floor = Floor(up=False)
    floor.router, floor.board, floor.orders = at.router, at.router.board, at.router.orders
    floor.time = at.now()
    for number in range(100):
        given = floor.grant(f"t{number}", "echo")
        given.body = task_scheduler_pb2.Grant()
    at.touch()
    await asyncio.sleep(0)
    written: list[Any] = []

    async def write(response: Any) -> None:
        written.append(response)

    sending = asyncio.create_task(line.send(write))
    await asyncio.sleep(0)
    [sent] = written
    assigned = [frame for frame in sent.frames if frame.HasField("assign")]
    assert len(assigned) == 100, "all in one message"

    frames = []
    for frame in assigned:
        held = session_pb2.LeaseRef(
            task_id=frame.assign.task_id, lease_epoch=frame.assign.lease_epoch
        )
        result = session_pb2.Result(lease=held, success=task_pb2.Payload(data=b"x"))
        frames.append(session_pb2.AgentFrame(agent_id=frame.agent_id, result=result))
    listener.take(frames)
    await asyncio.sleep(0)

    batches = outbox.batches()
    request = Reports("router-1", clock).request(await anext(batches))
    kinds = Counter(report.WhichOneof("report") for report in request.reports)
    told = (kinds["started"], kinds["ended"])
    assert told == (0, 100), "all in one message, and their starts with them"
    sending.cancel()
    await batches.aclose()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1_000])
async def test_items_that_wait_share_messages_of_256(count: int) -> None:
    outbox = Outbox[int](linger_s=0.0)
    outbox.extend(range(count))
    outbox.close()

    batches = [batch async for batch in outbox.batches()]

    assert len(batches) == -(-count // 256)
