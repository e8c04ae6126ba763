"""What a task costs the program of its agent, in numbers that no load and no machine changes.

Bounds as in `test_counts`: what was measured and a little more.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from podium.sdk.agent import Agent
from podium.sdk.conversation import Conversation, Outgoing
from podium.sdk.identity import Identity
from podium.sdk.runner import Runner
from podium.sdk.settings import Settings
from podium.sdk.tracing import Tracer
from podium.v1 import agent_pb2, session_pb2, task_pb2
from tests.bench.counting import calls

TASKS = 500
SESSION_CALLS = 21
"""Of a host's session, from an Assign to the ResultAck; 20 when this was written."""
RUNNER_CALLS = 78
"""Of what runs a handler that returns at once, from its Assign to its Result; 72 when this was
written."""


def test_a_task_costs_the_session_of_its_agent_so_many_calls_and_no_more() -> None:
    talk = Conversation([Identity("a1", [agent_pb2.Capability(name="work")], instance_id="i1")])
    frame, lease_of = session_pb2.RouterFrame, session_pb2.LeaseRef

    def worked(first: int) -> None:
        keys = [(f"t{number}", number) for number in range(first, first + TASKS)]
        seqs = iter(range(3 * first, 3 * first + 2 * TASKS))
        leases = [lease_of(task_id=task_id, lease_epoch=epoch) for task_id, epoch in keys]
        assigns = [
            frame(
                agent_id="a1",
                seq=next(seqs),
                assign=session_pb2.Assign(task_id=task_id, lease_epoch=epoch, attempt=1),
            )
            for task_id, epoch in keys
        ]
        assert len(talk.receive(assigns, 1.0).work) == TASKS
        said: list[Outgoing] = []
        for key, of in zip(keys, leases, strict=True):
            acked = session_pb2.AgentFrame(agent_id="a1", ack=session_pb2.Ack(lease=of))
            result = session_pb2.Result(lease=of, success=task_pb2.Payload(data=b"x"))
            ended = session_pb2.AgentFrame(agent_id="a1", result=result)
            said += [("ack", key, acked), ("result", key, ended)]
        sent = Counter(each.WhichOneof("frame") for each in talk.say(said, 1.0, brief=False))
        assert (sent["ack"], sent["result"]) == (TASKS, TASKS)
        settled = [
            frame(agent_id="a1", seq=next(seqs), result_ack={"lease": of, "verdict": 1})
            for of in leases
        ]
        talk.receive(settled, 1.0)
        assert not talk.leases

    worked(1)
    with calls() as count:
        worked(1 + TASKS)

    assert count.calls / TASKS < SESSION_CALLS


async def test_a_task_costs_the_runner_of_its_handler_so_many_calls_and_no_more() -> None:
    agent = Agent("worker", agent_id="a1", capacity=TASKS)

    @agent.handles("work")
    async def work(data: bytes) -> bytes:
        return data

    said: list[Outgoing] = []
    tracer = Tracer("agent", Settings(otlp_endpoint="off"))
    runner = Runner([agent], said.extend, tracer, inline=True)

    async def worked(first: int) -> None:
        frames = []
        for number in range(first, first + TASKS):
            frame = session_pb2.RouterFrame(agent_id="a1")
            frame.assign.task_id, frame.assign.lease_epoch = f"t{number}", number
            frame.assign.spec.type, frame.assign.spec.payload.data = "work", b"x"
            frames.append(frame)
        said.clear()
        runner.take(frames)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [kind for kind, _, _ in said] == ["result"] * TASKS, "in one turn, and no ack"

    await worked(1)
    with calls() as count:
        await worked(1 + TASKS)

    assert count.calls / TASKS < RUNNER_CALLS
