from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest

from podium.sdk import wire
from podium.sdk.agent import Agent
from podium.sdk.context import Context
from podium.sdk.errors import AgentSuperseded, InvalidArgument, TaskError
from podium.sdk.host import AgentHost
from podium.v1 import session_pb2
from podium.v1.session_pb2 import LeaseRef, RouterFrame
from tests.sdk.fakes import FakeRouter, results, settings, spec
from tests.support.waiting import eventually


def hosting(router: FakeRouter, *agents: Agent, grace_s: float = 5.0) -> AgentHost:
    address: str = router.address  # type: ignore[attr-defined]  # set by the fixture
    return AgentHost(list(agents), settings=settings(routing=address), grace_s=grace_s)


def worker(agent_id: str = "a1", capacity: int = 2) -> Agent:
    return Agent("worker", agent_id=agent_id, capacity=capacity)


async def test_a_handlers_return_value_is_the_result(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(text: str) -> dict[str, int]:
        return {"length": len(text)}

    async with hosting(router, agent):
        router.assign("a1", spec=spec(data=b"four"))
        await eventually(lambda: router.frames("result"))

    result = router.frames("result")[0].result
    assert result.success.data == b'{"length":4}'
    assert result.lease == LeaseRef(task_id="t1", lease_epoch=1)


async def test_hello_says_who_the_agent_is(router: FakeRouter) -> None:
    agent = Agent("worker", agent_id="a1", capacity=3, labels={"zone": "x"}, cost_per_task=0.5)

    @agent.handles("work", proficiency=0.25, version="2")
    async def work(text: str) -> None: ...

    async with hosting(router, agent):
        pass

    hello = router.frames("hello")[0].hello
    assert (hello.name, hello.max_concurrency, dict(hello.labels)) == ("worker", 3, {"zone": "x"})
    assert hello.capabilities[0].proficiency == 0.25
    assert hello.cost_hint.cost_per_task == 0.5
    assert [frame.WhichOneof("frame") for frame in router.frames()][-2:] == ["drain", "goodbye"]


async def test_plain_functions_run_in_threads_and_may_report_progress(router: FakeRouter) -> None:
    agent = worker()
    threads = []

    @agent.handles("work")
    def work(payload: bytes, task: Context) -> bytes:
        threads.append(threading.current_thread().name)
        task.progress(0.5, "half way", partial="so far")
        task.usage(input_tokens=3)
        return payload * 2

    async with hosting(router, agent):
        router.assign("a1", spec=spec(data=b"ab"))
        await eventually(lambda: router.frames("result"))

    progress = router.frames("progress")[0].progress
    assert (progress.fraction, progress.message, progress.partial.data) == (
        0.5,
        "half way",
        b"so far",
    )
    result = router.frames("result")[0].result
    assert (result.success.data, result.usage.input_tokens) == (b"abab", 3)
    assert threads[0].startswith("podium-handler")


@pytest.mark.parametrize(
    ("raised", "reason", "message", "retryable"),
    [
        (ValueError("no good"), "HANDLER_ERROR", "no good", True),
        (TaskError("never", reason="BAD_INPUT", retryable=False), "BAD_INPUT", "never", False),
        (KeyError(), "HANDLER_ERROR", "see the log of the agent", True),
    ],
)
async def test_what_a_handler_raises_becomes_the_failure(
    router: FakeRouter, raised: Exception, reason: str, message: str, retryable: bool
) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        raise raised

    async with hosting(router, agent):
        router.assign("a1")
        await eventually(lambda: router.frames("result"))

    failure = router.frames("result")[0].result.failure
    assert (failure.reason, failure.message, failure.retryable) == (reason, message, retryable)


async def test_a_result_that_is_too_large_fails_the_task_not_the_session(
    router: FakeRouter,
) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> bytes:
        return bytes(300_000)

    async with hosting(router, agent) as host:
        router.assign("a1")
        await eventually(lambda: router.frames("result"))
        assert host.connected

    assert router.frames("result")[0].result.failure.reason == "RESULT_TOO_LARGE"


async def test_a_task_without_a_handler_is_declined(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    async with hosting(router, agent):
        router.assign("a1", spec=spec("else"))
        await eventually(lambda: router.frames("nack"))

    assert router.frames("nack")[0].nack.reason == session_pb2.Nack.REASON_INCAPABLE
    assert not router.frames("ack")


async def test_cancel_reaches_the_handler_and_is_answered(router: FakeRouter) -> None:
    agent = worker()
    cancelled = asyncio.Event()

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with hosting(router, agent):
        router.assign("a1")
        await eventually(lambda: router.frames("ack"))
        lease = LeaseRef(task_id="t1", lease_epoch=1)
        cancel = session_pb2.Cancel(lease=lease, reason="CANCELED")
        router.say(RouterFrame(agent_id="a1", cancel=cancel))
        await asyncio.wait_for(cancelled.wait(), 5)
        await eventually(lambda: results(router.frames("result")) == [("t1", "canceled")])


async def test_a_thread_sees_that_it_is_cancelled(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    def work(payload: bytes, task: Context) -> str:
        while not task.cancelled:
            time.sleep(0.001)
        return "too late"

    async with hosting(router, agent):
        router.assign("a1")
        await eventually(lambda: router.frames("ack"))
        lease = LeaseRef(task_id="t1", lease_epoch=1)
        cancel = session_pb2.Cancel(lease=lease, reason="EXPIRED")
        router.say(RouterFrame(agent_id="a1", cancel=cancel))
        await eventually(lambda: results(router.frames("result")) == [("t1", "canceled")])


async def test_a_lost_lease_stops_the_work_and_no_result_is_sent(router: FakeRouter) -> None:
    agent = worker()
    ended = []

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with hosting(router, agent):
        router.assign("a1")
        await eventually(lambda: router.frames("ack"))
        lost = session_pb2.RenewAck(lost=[LeaseRef(task_id="t1", lease_epoch=1)])
        router.say(RouterFrame(agent_id="a1", renew_ack=lost))
        await eventually(lambda: ended)

    assert not router.frames("result")


async def test_a_blocked_loop_loses_neither_session_nor_lease(router: FakeRouter) -> None:
    agent = worker()
    router.heartbeat_ms = router.renew_ms = 80
    blocked = threading.Event()
    release = threading.Event()

    @agent.handles("work")
    async def work(payload: bytes) -> str:
        blocked.set()
        release.wait(10)
        return "done"

    async def released() -> None:
        await eventually(lambda: len(router.frames("renew")) >= 3)
        await eventually(lambda: len(router.frames("probe_reply")) == 1)

    async with hosting(router, agent):
        shared = wire.acquire()
        router.assign("a1")
        # The watcher of this test lives on the wire's loop too: this loop is about to stand still.
        watching = asyncio.run_coroutine_threadsafe(released(), shared.loop)
        probe = RouterFrame(agent_id="a1", probe=session_pb2.Probe(nonce=7))
        watching.add_done_callback(lambda _: release.set())
        router.loop.call_later(0.2, router.say, probe)
        await eventually(lambda: router.frames("result"))
        watching.result(1)
        await wire.release(shared)

    assert blocked.is_set()
    assert len(router.streams) == 1


async def test_a_parked_task_gets_its_answer_in_the_next_run(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes, task: Context) -> str:
        task.checkpoint(b"so far")
        return f"{task.need_input('which?')} after {task.last_checkpoint.decode()}"

    async with hosting(router, agent, grace_s=0.1):
        router.assign("a1")
        await eventually(lambda: router.frames("need_input"))
        assert router.frames("progress")[0].progress.checkpoint == b"so far"
        answer = spec(data=b"that one").payload
        router.assign("a1", lease_epoch=2, input=answer, checkpoint=b"so far")
        await eventually(lambda: router.frames("result"))

    assert router.frames("result")[0].result.success.data == b"that one after so far"
    assert router.frames("need_input")[0].need_input.question.data == b"which?"


async def test_many_agents_share_one_stream(router: FakeRouter) -> None:
    agents = [worker(f"a{n}") for n in range(20)]
    for agent in agents:

        @agent.handles("work")
        async def work(payload: bytes) -> None: ...

    async with hosting(router, *agents):
        for n in range(20):
            router.assign(f"a{n}", f"t{n}")
        await eventually(lambda: len(router.frames("result")) == 20)

    assert len(router.streams) == 1
    assert {frame.agent_id for frame in router.frames("result")} == {f"a{n}" for n in range(20)}


async def test_a_superseded_agent_stops_with_a_clear_error(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    host = hosting(router, agent)
    running = asyncio.create_task(host.run())
    await eventually(lambda: router.streams and router.streams[0].agents)
    taken = session_pb2.Superseded(instance_id="new")
    router.say(RouterFrame(agent_id="a1", superseded=taken))

    with pytest.raises(AgentSuperseded, match=r"a1 was started again .* agent_id of its own"):
        await asyncio.wait_for(running, 5)


async def test_each_host_that_begins_is_an_instance_of_its_own(router: FakeRouter) -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    # The same object, as where a program forks after it has made its agents.
    async with hosting(router, agent), hosting(router, agent):
        pass

    hellos = [frame.hello.instance_id for frame in router.frames("hello")]
    assert len(hellos) == len(set(hellos)) == 2


async def test_a_refused_hello_is_an_error_and_not_a_reconnect_for_ever(
    router: FakeRouter,
) -> None:
    router.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    with pytest.raises(InvalidArgument) as caught:
        async with hosting(router, agent):
            pass
    assert caught.value.reason == "INVALID_FIELD"


async def test_stopping_waits_for_running_tasks(router: FakeRouter) -> None:
    agent = worker()
    proceed = asyncio.Event()

    @agent.handles("work")
    async def work(payload: bytes) -> str:
        await proceed.wait()
        return "finished"

    host = hosting(router, agent)
    running = asyncio.create_task(host.run())
    await eventually(lambda: router.streams and router.streams[0].agents)
    router.assign("a1")
    await eventually(lambda: router.frames("ack"))
    host.stop()
    await eventually(lambda: router.frames("drain"))
    assert not running.done()
    proceed.set()
    await asyncio.wait_for(running, 5)

    kinds = [frame.WhichOneof("frame") for frame in router.frames()]
    assert kinds == ["hello", "ack", "drain", "result", "goodbye"]


async def test_stopping_is_heard_while_no_router_answers() -> None:
    agent = worker()

    @agent.handles("work")
    async def work(payload: bytes) -> None: ...

    host = AgentHost([agent], settings=settings(routing="127.0.0.1:1"))
    running = asyncio.create_task(host.run())
    await asyncio.sleep(0)
    host.stop()

    await asyncio.wait_for(running, 5)


async def test_a_handler_that_holds_its_program_up_does_not_hold_up_its_ack(
    router: FakeRouter,
) -> None:
    agent = worker()
    release = threading.Event()

    @agent.handles("work")
    async def work(payload: bytes) -> None:
        release.wait(10)

    async def acked() -> None:
        await eventually(lambda: router.frames("ack"))

    async with hosting(router, agent):
        shared = wire.acquire()
        router.assign("a1")
        # The watcher lives on the wire's loop: this one is about to stand still.
        watching = asyncio.run_coroutine_threadsafe(acked(), shared.loop)
        watching.add_done_callback(lambda _: release.set())
        await eventually(lambda: router.frames("result"))
        watching.result(1)
        await wire.release(shared)
