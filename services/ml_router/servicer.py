"""MLRouterService on the wire: messages to the core and back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import numpy as np
from google.protobuf.duration_pb2 import Duration

from podium.v1 import ml_router_pb2 as pb
from podium.v1.ml_router_pb2_grpc import MLRouterServiceServicer
from services.kernel.errors import InvalidArgument, Unavailable
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.ml_router.core.assignment import optimal_assignment
from services.ml_router.core.evaluation import Estimate, evaluate, formula_policy, learned_policy
from services.ml_router.core.features import AgentFeatures, TaskFeatures, gather
from services.ml_router.core.model import Matrix, Model
from services.ml_router.core.scoring import Scores, score
from services.ml_router.core.versions import Kept, Mode, Policy
from services.ml_router.ports import Decisions, Models

pairs_len_max = 32_000
decisions_len_default = 2_000
decisions_len_max = 100_000
amount_max = 1e12

NAME = "podium.v1.MLRouterService"

POLICY = {
    f"/{NAME}/ScoreCandidates": "reader",
    f"/{NAME}/WatchModel": "service",
    f"/{NAME}/ListModels": "reader",
    f"/{NAME}/SetMode": "operator",
    f"/{NAME}/RollBack": "operator",
    f"/{NAME}/EvaluatePolicy": "reader",
}

_MODES = {
    Mode.OFF: pb.MODE_OFF,
    Mode.SHADOW: pb.MODE_SHADOW,
    Mode.CANARY: pb.MODE_CANARY,
    Mode.LIVE: pb.MODE_LIVE,
}
_MODES_IN = {number: mode for mode, number in _MODES.items()}


class MLRouterServicer(MLRouterServiceServicer):
    """Answers for the model in use.

    Args:
        models: The model and how it is governed.
        decisions: What policies are evaluated on.
        push_interval_s: How often watchers hear at least.
        seed: Of the draws with which policies are evaluated: the same log, the same estimate.
    """

    def __init__(
        self, models: Models, decisions: Decisions, *, push_interval_s: float, seed: int = 0
    ) -> None:
        self._models = models
        self._decisions = decisions
        self._push_interval = Duration(
            seconds=int(push_interval_s), nanos=round(push_interval_s % 1 * 1e9)
        )
        self._seed = seed
        self._page_key = secrets.token_bytes(32)
        self._snapshot: tuple[int, pb.WatchModelResponse] = (0, pb.WatchModelResponse())

    async def ScoreCandidates(
        self, request: pb.ScoreCandidatesRequest, context: Context
    ) -> pb.ScoreCandidatesResponse:
        """Score agents for tasks."""
        tasks, agents = _features(request)
        model = self._models.current
        scored, assigned = await asyncio.to_thread(_score, model, tasks, agents)
        return pb.ScoreCandidatesResponse(
            scores=_flat(scored.scores),
            success_probabilities=_flat(scored.success_probabilities),
            expected_delays_ms=_flat(scored.expected_delays_ms),
            optimal_assignment=assigned,
            model_version=model.version,
        )

    async def WatchModel(
        self, request: pb.WatchModelRequest, context: Context
    ) -> AsyncIterator[pb.WatchModelResponse]:
        """Stream the model in use."""
        checker = Checker()
        checker.key("router_id", request.router_id, optional=True)
        checker.done()
        while True:
            revision = self._models.revision
            yield self._current(revision)
            await self._models.changed(revision)
            if self._models.closed:
                raise Unavailable(
                    "DRAINING", "MLRouter is stopping: open the watch again.", retry_after_s=0.5
                )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """List the versions on record, newest first."""
        size = page_size(request.page_size)
        before = decode_token(request.page_token, b"models", self._page_key)
        kept = [entry for entry in self._models.listed() if not before or entry.version < before]
        page, policy = kept[:size], self._models.policy
        token = ""
        if len(kept) > size:
            token = encode_token(page[-1].version, b"models", self._page_key)
        return pb.ListModelsResponse(
            models=[_model(entry, self._models.current.version) for entry in page],
            next_page_token=token,
            mode=_MODES[policy.mode],
            canary_fraction=policy.canary_fraction,
        )

    async def SetMode(self, request: pb.SetModeRequest, context: Context) -> pb.SetModeResponse:
        """Change how far the model decides."""
        mode = _MODES_IN.get(request.mode)
        checker = Checker()
        checker.require("mode", mode is not None, "must be OFF, SHADOW, CANARY or LIVE")
        if mode is Mode.CANARY and checker.finite("canary_fraction", request.canary_fraction, 0, 1):
            checker.require("canary_fraction", request.canary_fraction > 0, "must be above 0")
        checker.done()
        assert mode is not None
        await self._models.set_mode(mode, request.canary_fraction)
        policy = self._models.policy
        return pb.SetModeResponse(mode=_MODES[policy.mode], canary_fraction=policy.canary_fraction)

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.RollBackResponse:
        """Return to an earlier version."""
        checker = Checker()
        checker.key("model_version", request.model_version, optional=True)
        checker.done()
        version = await self._models.roll_back(request.model_version)
        return pb.RollBackResponse(model_version=version)

    async def EvaluatePolicy(
        self, request: pb.EvaluatePolicyRequest, context: Context
    ) -> pb.EvaluatePolicyResponse:
        """Estimate how a policy would have done."""
        checker = Checker()
        known = request.policy in ("formula", "learned")
        checker.require("policy", known, 'must be "formula" or "learned"')
        checker.integer("decision_count", request.decision_count, 0, decisions_len_max)
        checker.done()
        count = request.decision_count or decisions_len_default
        estimate = await asyncio.to_thread(self._evaluate, request.policy, count)
        return pb.EvaluatePolicyResponse(**estimate._asdict())

    def _evaluate(self, name: str, count: int) -> Estimate:
        model = self._models.current
        policy = (
            formula_policy(model.tuning.exploration_fraction)
            if name == "formula"
            else learned_policy(model, np.random.default_rng(self._seed))
        )
        return evaluate(self._decisions.recent(count), policy, model)

    def _current(self, revision: int) -> pb.WatchModelResponse:
        # Built once for all routers that watch.
        if self._snapshot[0] != revision:
            snapshot = _snapshot(self._models.current, self._models.policy, self._push_interval)
            self._snapshot = (revision, pb.WatchModelResponse(snapshot=snapshot))
        return self._snapshot[1]


def _features(
    request: pb.ScoreCandidatesRequest,
) -> tuple[list[TaskFeatures], list[AgentFeatures]]:
    pairs = len(request.tasks) * len(request.agents)
    # The sum too: a list without a counterpart has no pairs.
    if pairs > pairs_len_max or len(request.tasks) + len(request.agents) > pairs_len_max + 1:
        raise InvalidArgument(
            "TOO_MANY_CANDIDATES",
            f"{len(request.tasks)} tasks x {len(request.agents)} agents are more than"
            f" {pairs_len_max} pairs: ask in parts.",
            metadata={"pairs": str(pairs), "pairs_max": str(pairs_len_max)},
        )
    checker = Checker()
    tasks = []
    for index, task in enumerate(request.tasks):
        path = f"tasks[{index}]"
        checker.capability(f"{path}.task_type", task.task_type)
        size = task.task_complexity_estimate
        checker.finite(f"{path}.task_complexity_estimate", size, 0.0, amount_max)
        tasks.append(TaskFeatures(task.task_type, size or 1.0))
    agents = []
    for index, agent in enumerate(request.agents):
        path = f"agents[{index}]"
        match = agent.capability_match_score if agent.HasField("capability_match_score") else 1.0
        checker.identifier(f"{path}.agent_id", agent.agent_id)
        checker.finite(f"{path}.current_load_factor", agent.current_load_factor, 0.0, 1.0)
        checker.finite(f"{path}.capability_match_score", match, 0.0, 1.0)
        checker.finite(f"{path}.cost", agent.cost, 0.0, amount_max)
        agents.append(AgentFeatures(agent.agent_id, agent.current_load_factor, match, agent.cost))
    checker.done()
    return tasks, agents


def _score(
    model: Model, tasks: list[TaskFeatures], agents: list[AgentFeatures]
) -> tuple[Scores, list[int]]:
    scored = score(model, gather(model, tasks, agents))
    return scored, optimal_assignment(scored.scores)


def _flat(matrix: Matrix) -> list[float]:
    flat: list[float] = matrix.ravel().tolist()
    return flat


def _model(entry: Kept, current: str) -> pb.Model:
    model = pb.Model(
        model_version=entry.version,
        event_seq=entry.event_seq,
        agent_count=entry.agent_count,
        task_type_count=entry.task_type_count,
        outcome_count=entry.outcome_count,
        current=entry.version == current,
    )
    model.create_time.FromMilliseconds(entry.create_ms)
    return model


def _snapshot(model: Model, policy: Policy, push_interval: Duration) -> pb.ModelSnapshot:
    def sent(matrix: Matrix) -> bytes:
        return matrix.astype("<f4", copy=False).tobytes()

    snapshot = pb.ModelSnapshot(
        model_version=model.version,
        event_seq=model.event_seq,
        mode=_MODES[policy.mode],
        canary_fraction=policy.canary_fraction,
        agent_ids=model.agent_ids,
        task_types=model.task_types,
        success_means=sent(model.success),
        success_deviations=sent(model.deviation),
        service_ms=sent(model.service_ms),
        evidence=sent(model.evidence),
        fleet_success=model.fleet_success.tolist(),
        fleet_service_ms=model.fleet_service_ms.tolist(),
        default_success=model.default_success,
        default_service_ms=model.default_service_ms,
        retry_penalty_ms=model.retry_penalty_ms,
        cost_weight_ms=model.tuning.cost_weight_ms,
        exploration_fraction=model.tuning.exploration_fraction,
        checksum=model.checksum(),
        push_interval=push_interval,
    )
    snapshot.create_time.FromMilliseconds(model.create_ms)
    return snapshot
