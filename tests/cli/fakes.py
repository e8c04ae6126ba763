"""What the command line asks for beside tasks: agents, explanations, traces, counts."""

from __future__ import annotations

from typing import Any

from podium.v1 import (
    agent_pb2,
    agent_registry_pb2,
    agent_registry_pb2_grpc,
    analytics_pb2,
    analytics_pb2_grpc,
    decision_pb2,
    task_pb2,
    task_scheduler_pb2,
)
from tests.sdk.fakes import FakeScheduler


class TellingScheduler(FakeScheduler):
    """Explains every task the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.requeues: list[task_scheduler_pb2.TaskFilter] = []

    async def ExplainTask(self, request: Any, context: Any) -> Any:
        decision = decision_pb2.Decision(
            agent_id="a1",
            policy="formula",
            probability=1.0,
            eligible_count=2,
            filtered_counts={"busy": 3},
            candidate_agent_ids=["a1", "a2[red]"],
            scores=[125.0, 99.5],
        )
        return task_scheduler_pb2.ExplainTaskResponse(
            task=self.tasks[request.task_id],
            waiting_for="No connected agent has all of: fly.",
            decisions=[task_scheduler_pb2.AttemptDecision(attempt=1, decision=decision)],
        )

    async def GetQueueStats(self, request: Any, context: Any) -> Any:
        response = task_scheduler_pb2.GetQueueStatsResponse(durable_seq=1234, router_count=2)
        response.states.add(state=task_pb2.Task.STATE_QUEUED, count=7)
        response.priorities.add(priority=5, count=7).oldest_age.FromSeconds(3)
        response.requirements.add(required_capabilities=["fly"], count=7, schedulable=False)
        response.requirements.add(required_capabilities=["fly@2"], granted_count=3)
        rate = response.rate_keys.add(key="api", tenant="acme", limit=60, limit_max=60)
        rate.started_count, rate.waiting_count = 60, 4
        rate.period.FromSeconds(60)
        return response

    async def RequeueTasks(self, request: Any, context: Any) -> Any:
        self.requeues.append(request.filter)
        if request.filter.tenant:
            return task_scheduler_pb2.RequeueTasksResponse(
                refusals=[
                    task_scheduler_pb2.RequeueRefusal(
                        reason="TENANT_BACKLOG_FULL", message="full", count=3
                    )
                ]
            )
        if not request.page_token:
            return task_scheduler_pb2.RequeueTasksResponse(task_ids=["t8"], next_page_token="p")
        return task_scheduler_pb2.RequeueTasksResponse(task_ids=["t9"])


class FakeRegistry(agent_registry_pb2_grpc.AgentRegistryServiceServicer):
    async def ListAgents(self, request: Any, context: Any) -> Any:
        agent = agent_pb2.Agent(
            agent_id="a1",
            status=agent_pb2.Agent.STATUS_BUSY,
            breaker=agent_pb2.Agent.BREAKER_OPEN,
            max_concurrency=4,
            in_flight_count=3,
            capabilities=[agent_pb2.Capability(name="text.summarize")],
        )
        agent.statistics.add(task_type="text.summarize", completed_count=3, failed_count=1)
        return agent_registry_pb2.ListAgentsResponse(agents=[agent])

    async def FindAgents(self, request: Any, context: Any) -> Any:
        response = agent_registry_pb2.FindAgentsResponse()
        if "fly" in request.capabilities:
            agent = agent_pb2.Agent(agent_id="a1", max_concurrency=4, in_flight_count=4)
            agent.capabilities.add(name="fly", version="2.1", proficiency=0.7)
            candidate = response.candidates.add(agent=agent, success_rate=0.75)
            candidate.expected_wait.FromSeconds(2)
            response.capable_count = 1
            response.expected_wait.FromSeconds(2 * request.ahead_count)
        return response


class FakeAnalytics(analytics_pb2_grpc.AnalyticsServiceServicer):
    async def GetTrace(self, request: Any, context: Any) -> Any:
        response = analytics_pb2.GetTraceResponse(trace_id="ab" * 16)
        names = [("submit", ""), ("route", "submit"), ("assign", "route"), ("execute", "assign")]
        for number, (name, parent) in enumerate(names):
            span = response.spans.add(span_id=name, parent_span_id=parent, name=name)
            span.start_time.FromMilliseconds(1_700_000_000_000 + number)
            span.duration.FromMilliseconds(10)
        response.spans[2].attributes.update({"agent.id": "ada", "task.attempt": "2"})
        response.spans[3].error = "NO_LUCK: [bold]not[/] this time"
        return response
