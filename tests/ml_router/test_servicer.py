from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from podium.v1 import ml_router_pb2 as pb
from podium.v1.ml_router_pb2_grpc import MLRouterServiceStub
from services.kernel.clock import SystemClock
from services.kernel.config import load
from services.kernel.errors import PodiumError
from services.kernel.options import dial
from services.kernel.rpc import from_rpc_error
from services.kernel.serving import running
from services.ml_router.__main__ import SERVICE
from services.ml_router.servicer import NAME, POLICY
from tests.ml_router.test_events import decision
from tests.support.eventlog import LogServicer, attempt_failed, completed, event, served_log
from tests.support.waiting import eventually


@dataclass
class Served:
    """MLRouter over a log."""

    log: LogServicer
    stub: MLRouterServiceStub
    ready: Any
    environ: dict[str, str]

    async def version(self, event_seq: int) -> pb.ModelSnapshot:
        """Returns the first model that has learned from the event."""
        async for response in self.stub.WatchModel(pb.WatchModelRequest(router_id="r-1")):
            if response.snapshot.event_seq >= event_seq:
                return response.snapshot
        raise AssertionError("the stream ended")

    async def learn(self, count: int = 30) -> pb.ModelSnapshot:
        """Lets a good and a poor agent do something."""
        for number in range(count):
            self.log.append(completed("good", task_id=f"g-{number}", run_s=0.1))
            self.log.append(attempt_failed("poor", task_id=f"p-{number}"))
        return await self.version(len(self.log.events))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_log() as (log, address):
        environ = {
            "PODIUM_DATA_DIR": str(tmp_path),
            "PODIUM_OTLP_ENDPOINT": "off",
            "PODIUM_TASK_SCHEDULER_ADDRESS": address,
            "PODIUM_ML_UPDATE_S": "20ms",
            "PODIUM_ML_PUSH_INTERVAL_S": "1.5",
        }
        settings = load(SERVICE.settings, environ)
        async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as service:
            async with dial(f"127.0.0.1:{service.port}") as channel:
                stub = MLRouterServiceStub(channel)
                yield Served(log, stub, service.assembled.ready, environ)


async def refused(call: Any) -> PodiumError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def agents(*names: str, **fields: Any) -> list[pb.AgentFeatures]:
    return [pb.AgentFeatures(agent_id=name, **fields) for name in names]


WORDS = pb.TaskFeatures(task_type="words")


async def test_it_learns_from_the_log_and_scores(served: Served) -> None:
    snapshot = await served.learn()

    answer = await served.stub.ScoreCandidates(
        pb.ScoreCandidatesRequest(tasks=[WORDS, WORDS], agents=agents("poor", "new", "good"))
    )

    assert answer.model_version == snapshot.model_version
    poor, new, good = answer.success_probabilities[:3]
    assert poor < new < good
    assert answer.scores[:3] == answer.scores[3:]
    assert sorted(answer.optimal_assignment) == [1, 2]


async def test_a_snapshot_holds_the_model_as_matrices(served: Served) -> None:
    snapshot = await served.learn()

    def matrix(raw: bytes) -> Any:
        return np.frombuffer(raw, "<f4").reshape(len(snapshot.agent_ids), len(snapshot.task_types))

    assert list(snapshot.agent_ids) == ["good", "poor"]
    assert list(snapshot.task_types) == ["words"]
    good, poor = matrix(snapshot.success_means)[:, 0]
    assert good > 0.9 > 0.2 > poor
    assert matrix(snapshot.service_ms)[0, 0] == pytest.approx(100.0, rel=0.01)
    assert matrix(snapshot.evidence)[1, 0] == pytest.approx(28.0, abs=1)
    assert (matrix(snapshot.success_deviations) > 0).all()
    assert len(snapshot.fleet_success) == len(snapshot.fleet_service_ms) == 1
    assert len(snapshot.checksum) == 32
    assert snapshot.mode == pb.MODE_LIVE
    assert snapshot.push_interval.ToMilliseconds() == 1_500


async def test_the_model_there_is_comes_at_once_and_again_while_nothing_happens(
    served: Served,
) -> None:
    stream = served.stub.WatchModel(pb.WatchModelRequest())

    first, second = await stream.read(), await stream.read()

    assert first.snapshot == second.snapshot
    assert not first.snapshot.agent_ids
    stream.cancel()


async def test_the_mode_is_pushed_with_the_model(served: Served) -> None:
    stream = served.stub.WatchModel(pb.WatchModelRequest())
    await stream.read()

    answer = await served.stub.SetMode(pb.SetModeRequest(mode=pb.MODE_CANARY, canary_fraction=0.25))

    pushed = (await stream.read()).snapshot
    assert (answer.mode, answer.canary_fraction) == (pb.MODE_CANARY, 0.25)
    assert (pushed.mode, pushed.canary_fraction) == (pb.MODE_CANARY, 0.25)
    listed = await served.stub.ListModels(pb.ListModelsRequest())
    assert (listed.mode, listed.canary_fraction) == (pb.MODE_CANARY, 0.25)
    stream.cancel()


async def test_versions_are_listed_in_pages_and_the_current_is_marked(served: Served) -> None:
    await served.learn()

    page = await served.stub.ListModels(pb.ListModelsRequest(page_size=1))

    (model,) = page.models
    assert model.current
    assert (model.agent_count, model.task_type_count, model.outcome_count) == (2, 1, 60)
    assert page.next_page_token == ""


async def test_policies_are_evaluated_on_what_was_decided(served: Served) -> None:
    few = await refused(served.stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy="formula")))
    assert few.reason == "TOO_FEW_DECISIONS"
    for number in range(200):
        agent_id = ("good", "poor")[number % 2]
        begun = event("STARTED", f"t-{number}", agent_id=agent_id)
        begun.started.decision.CopyFrom(decision(agent_id, "good", "poor"))
        ended = completed if agent_id == "good" else attempt_failed
        served.log.append(begun, ended(agent_id, task_id=f"t-{number}"))
    await served.version(len(served.log.events))

    learned = await served.stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy="learned"))

    assert learned.decision_count == 200
    assert learned.logged == 0.5
    assert learned.doubly_robust - learned.half_width > 0.9


async def test_it_serves_what_it_has_while_the_log_is_away(served: Served) -> None:
    await served.learn()
    served.log.break_off()

    assert served.ready() == ""
    answer = await served.stub.ScoreCandidates(
        pb.ScoreCandidatesRequest(tasks=[WORDS], agents=agents("good"))
    )
    assert answer.scores


async def test_after_a_break_it_goes_on_where_it_stood(served: Served) -> None:
    await served.learn(5)
    served.log.break_off()
    served.log.append(completed("late"))

    snapshot = await served.version(len(served.log.events))

    assert "late" in snapshot.agent_ids
    assert served.log.watches == ["", "10"]


async def test_a_drained_service_begins_where_it_ended(served: Served, tmp_path: Path) -> None:
    await served.learn(5)
    settings = load(SERVICE.settings, served.environ | {"PODIUM_DATA_DIR": str(tmp_path / "own")})
    async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as second:
        async with dial(f"127.0.0.1:{second.port}") as channel:
            stub = MLRouterServiceStub(channel)

            async def learned() -> bool:
                listed = await stub.ListModels(pb.ListModelsRequest())
                return listed.models[0].outcome_count == 10

            await eventually(learned)
            await second.drain()
    async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as third:
        async with dial(f"127.0.0.1:{third.port}") as channel:
            listed = await MLRouterServiceStub(channel).ListModels(pb.ListModelsRequest())
            assert listed.models[0].outcome_count == 10
            await eventually(lambda: served.log.watches == ["", "", "10"])


async def test_watchers_are_let_go_when_the_service_stops(served: Served, tmp_path: Path) -> None:
    settings = load(SERVICE.settings, served.environ | {"PODIUM_DATA_DIR": str(tmp_path / "own")})
    async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as second:
        async with dial(f"127.0.0.1:{second.port}") as channel:
            stream = MLRouterServiceStub(channel).WatchModel(pb.WatchModelRequest())
            await stream.read()
            await second.drain()

            async def rest() -> None:
                while await stream.read() is not grpc.aio.EOF:
                    pass

            error = await refused(asyncio.wait_for(rest(), 5))
    assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")


BAD_SCORES = {
    "tasks[0].task_type": {"tasks": [pb.TaskFeatures(task_type="No Such")]},
    "tasks[0].task_complexity_estimate": {
        "tasks": [pb.TaskFeatures(task_type="a", task_complexity_estimate=-1.0)]
    },
    "agents[0].agent_id": {"agents": agents("")},
    "agents[0].current_load_factor": {"agents": agents("a", current_load_factor=1.5)},
    "agents[0].capability_match_score": {"agents": agents("a", capability_match_score=math.nan)},
    "agents[0].cost": {"agents": agents("a", cost=math.inf)},
}


@pytest.mark.parametrize("field", BAD_SCORES)
async def test_fields_that_are_wrong_are_named(served: Served, field: str) -> None:
    request = pb.ScoreCandidatesRequest(**BAD_SCORES[field])  # type: ignore[arg-type]  # a table

    error = await refused(served.stub.ScoreCandidates(request))

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert [violation.field for violation in error.violations] == [field]


async def test_too_many_pairs_are_refused(served: Served) -> None:
    request = pb.ScoreCandidatesRequest(tasks=[WORDS] * 321, agents=agents("a") * 100)

    error = await refused(served.stub.ScoreCandidates(request))

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "TOO_MANY_CANDIDATES")


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("SetMode", pb.SetModeRequest(), "INVALID_FIELD"),
        ("SetMode", pb.SetModeRequest(mode=pb.MODE_CANARY), "INVALID_FIELD"),
        ("SetMode", pb.SetModeRequest(mode=pb.MODE_CANARY, canary_fraction=2), "INVALID_FIELD"),
        ("RollBack", pb.RollBackRequest(model_version="v1"), "MODEL_NOT_FOUND"),
        ("RollBack", pb.RollBackRequest(model_version="../../etc"), "INVALID_FIELD"),
        ("RollBack", pb.RollBackRequest(), "MODEL_NOT_FOUND"),
        ("ListModels", pb.ListModelsRequest(page_size=-1), "INVALID_FIELD"),
        ("ListModels", pb.ListModelsRequest(page_token="forged"), "PAGE_TOKEN_INVALID"),
        ("EvaluatePolicy", pb.EvaluatePolicyRequest(policy="guess"), "INVALID_FIELD"),
        (
            "EvaluatePolicy",
            pb.EvaluatePolicyRequest(policy="learned", decision_count=-1),
            "INVALID_FIELD",
        ),
    ],
)
async def test_bad_requests_are_answered_with_their_reason(
    served: Served, method: str, request_: Any, reason: str
) -> None:
    error = await refused(getattr(served.stub, method)(request_))

    assert error.reason == reason


def test_every_method_needs_a_role() -> None:
    methods = pb.DESCRIPTOR.services_by_name["MLRouterService"].methods_by_name

    assert set(POLICY) == {f"/{NAME}/{method}" for method in methods}
