from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import decision_pb2, session_pb2, task_pb2
from services.kernel.clock import ManualClock
from services.routing.adapters.reports import Reports
from services.routing.core.effects import Ended, Started
from tests.routing.floor import Floor, raw_model


def clock_of(floor: Floor) -> ManualClock:
    return ManualClock(floor.time.mono_s, floor.time.wall_ms)


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("learned", [False, True])
def test_a_decision_is_told_as_it_was_made(count: int, learned: bool) -> None:
    floor = Floor()
    agents = [f"a{number}" for number in range(count)]
    for number, agent in enumerate(agents):
        floor.agent(agent, slots=4, proficiency=1.0 - number / 10)
    if learned:
        service_ms = [[10.0 + number] for number in range(count)]
        floor.router.learn(raw_model(agents, ["echo"], service_ms=service_ms), floor.time)
    floor.agent("other", "sing")
    lease = floor.granted("t1", priority=7)
    made = lease.decision
    assert made is not None

    lease.granted_s, lease.acked_s = lease.offered_s - 0.002, lease.offered_s + 0.0005

    [report] = Reports("router-1", clock_of(floor)).request([Started(lease)]).reports

    told = report.started.decision
    assert told == decision_pb2.Decision(
        agent_id=made.agent_id,
        policy=made.policy,
        model_version=made.model_version,
        probability=made.probability,
        eligible_count=count,
        router_id="router-1",
        candidate_agent_ids=made.candidates,
        scores=made.scores,
        capability_matches=made.matches,
        load_balances=made.balances,
        priority_bonuses=[7.0] * min(count, 5),
        filtered_counts={"capability": 1},
        success_probabilities=made.successes,
        expected_delays_ms=made.delays_ms,
        shadow_agent_id=made.shadow_agent_id,
        explored=made.explored,
        assign_time=Timestamp(seconds=1_700_000_000),
        route_duration=Duration(nanos=2_000_000),
        accept_duration=Duration(nanos=500_000),
    )
    filled = {field.name for field in told.DESCRIPTOR.fields} - {"explored"}
    if learned:
        names = MessageToDict(told, preserving_proto_field_name=True).keys()
        assert names == filled, "each part is told"


@pytest.mark.parametrize("told", [False, True])
def test_the_end_tells_why_this_agent_where_no_report_of_the_start_did(told: bool) -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.granted("t1")
    floor.finish(lease)
    lease.start_told, lease.outcome = told, session_pb2.Result(success=task_pb2.Payload())

    started, ended = (
        Reports("router-1", clock_of(floor)).request([effect]).reports[0]
        for effect in (Started(lease), Ended(lease))
    )

    assert ended.ended.HasField("decision") is not told
    assert told or ended.ended.decision == started.started.decision


def test_of_a_task_that_began_elsewhere_no_time_is_told() -> None:
    floor = Floor()
    floor.agent("a1")
    lease = floor.granted("t1")
    lease.offered_s = 0.0

    [report] = Reports("router-1", clock_of(floor)).request([Started(lease)]).reports

    assert not report.started.decision.HasField("assign_time")


@pytest.mark.parametrize("by_ms", [-3_600_000, 3_600_000])
def test_a_wall_clock_that_was_set_is_followed(by_ms: int) -> None:
    floor = Floor()
    floor.agent("a1")
    started = Started(floor.granted("t1"))
    clock = clock_of(floor)
    reports = Reports("router-1", clock)
    reports.request([started])

    clock.set_wall(floor.time.wall_ms + by_ms)
    [report] = reports.request([started]).reports

    told = report.started.decision.assign_time.ToMilliseconds()
    assert told == floor.time.wall_ms + by_ms
