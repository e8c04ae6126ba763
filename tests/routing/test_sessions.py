from __future__ import annotations

from tests.routing.peers import ACCEPTED, room


async def test_a_granted_task_goes_to_an_agent_and_its_result_to_the_scheduler() -> None:
    async with room() as here:
        wire = here.wire()
        ready = await wire.hello("agent-a")
        class_id = await here.scheduler.class_of("echo")
        lease = here.scheduler.grant("task-1", class_id)

        [assign] = await wire.until("agent-a", "assign")
        await wire.ack("agent-a", lease)
        [started] = await here.scheduler.until("started")
        await wire.result("agent-a", lease, b"answer")
        [ended] = await here.scheduler.until("ended")
        [ack] = await wire.until("agent-a", "result_ack")

        assert ready.heartbeat_interval.seconds == 15
        assert (assign.task_id, assign.lease_epoch) == ("task-1", lease.lease_epoch)
        assert assign.spec.payload.data == b"x"
        assert started.agent_id == "agent-a"
        assert started.decision.policy == "formula"
        assert list(started.decision.candidate_agent_ids) == ["agent-a"]
        assert list(started.decision.scores) == [125.0]
        assert ended.success.data == b"answer"
        assert ack.verdict == ACCEPTED
