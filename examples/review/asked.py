"""What the report asks the suite at the end: a trace, the reasons, the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import grpc.aio

from examples.review.fleet import Profile
from examples.review.report import Learned, Retried
from examples.review.tally import Attempt, Tally
from examples.review.trace import tree
from podium.sdk.client import Client
from podium.sdk.errors import PodiumError
from podium.sdk.wire import dial
from podium.v1 import agent_pb2, analytics_pb2, ml_router_pb2, ml_router_pb2_grpc

TRACE_S_MAX = 6.0
TRACE_EVERY_S = 0.3
SCORES_S_MAX = 3.0
# A model that has seen less than this says more about its prior than about an agent.
OUTCOMES_MIN = 30

BREAKERS = {
    agent_pb2.Agent.BREAKER_CLOSED: "closed",
    agent_pb2.Agent.BREAKER_OPEN: "open",
    agent_pb2.Agent.BREAKER_HALF_OPEN: "half-open",
}


async def breakers(client: Client) -> dict[str, str]:
    """Returns the state of each agent's breaker; nothing while the registry is away."""
    try:
        agents = await client.agents()
    except PodiumError:
        return {}
    return {agent.agent_id: BREAKERS.get(agent.breaker, "closed") for agent in agents}


def most_retried(tally: Tally, task_ids: Iterable[str]) -> str | None:
    """Returns a completed task that took several attempts: of those with most, the quickest."""
    records = (tally.records[task_id] for task_id in task_ids if task_id in tally.records)
    tried = [r for r in records if r.end == "completed" and len(r.attempts) > 1]
    return max(tried, key=lambda r: (len(r.attempts), -r.total_s)).task_id if tried else None


def told(attempts: Sequence[Attempt]) -> list[str]:
    """Says what became of each attempt."""
    return [
        f"{attempt.agent_id} failed it ({attempt.failure})"
        if attempt.failure
        else f"{attempt.agent_id} completed it"
        for attempt in attempts
    ]


async def retried(client: Client, tally: Tally, task_id: str, path: str) -> Retried:
    """Returns the story of a task, with its trace as far as it has arrived."""
    attempts = tally.records[task_id].attempts
    spans = await trace(client, task_id, executes=len(attempts))
    return Retried(task_id, path, told(attempts), tree(spans))


async def trace(client: Client, task_id: str, executes: int) -> Sequence[analytics_pb2.Span]:
    """Returns the spans of a task, once those of all its attempts have arrived.

    Spans travel in the background: after a few seconds it takes what there is.
    """
    spans: Sequence[analytics_pb2.Span] = ()
    for _ in range(round(TRACE_S_MAX / TRACE_EVERY_S)):
        try:
            spans = (await client.trace(task_id)).spans
        except PodiumError:
            spans = ()
        names = [span.name for span in spans]
        if names.count("execute") >= executes and {"submit", "complete"} <= set(names):
            break
        await asyncio.sleep(TRACE_EVERY_S)
    return spans


async def learned(address: str, fleet: Sequence[Profile]) -> tuple[str, list[Learned]]:
    """Returns the model's version and what it expects; nothing when it has not learned enough."""
    kinds = sorted({kind for profile in fleet for kind in profile.skills})
    request = ml_router_pb2.ScoreCandidatesRequest(
        tasks=[
            ml_router_pb2.TaskFeatures(task_type=kind, task_complexity_estimate=1.0)
            for kind in kinds
        ],
        agents=[ml_router_pb2.AgentFeatures(agent_id=profile.agent_id) for profile in fleet],
    )
    channel = dial(address)
    try:
        stub = ml_router_pb2_grpc.MLRouterServiceStub(channel)
        models = await stub.ListModels(
            ml_router_pb2.ListModelsRequest(page_size=1), timeout=SCORES_S_MAX
        )
        if not models.models or models.models[0].outcome_count < OUTCOMES_MIN:
            return "", []
        answer = await stub.ScoreCandidates(request, timeout=SCORES_S_MAX)
    except grpc.aio.AioRpcError:
        return "", []
    finally:
        await channel.close()
    expected = []
    for row, kind in enumerate(kinds):
        for column, profile in enumerate(fleet):
            cell = row * len(fleet) + column
            if kind in profile.skills and cell < len(answer.success_probabilities):
                success = answer.success_probabilities[cell]
                delay_s = answer.expected_delays_ms[cell] / 1000
                expected.append(Learned(profile.agent_id, kind, success, delay_s))
    return answer.model_version, expected
