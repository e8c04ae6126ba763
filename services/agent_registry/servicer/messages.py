"""Agents between messages and the core, checked on the way in."""

from __future__ import annotations

from typing import Any

from podium.v1 import agent_pb2, agent_registry_pb2
from services.agent_registry.core.agent import Agent, Directive, Facts, Skill, Told
from services.agent_registry.core.breaker import State
from services.agent_registry.core.filter import Filter
from services.kernel import limits
from services.kernel.rules import Checker

concurrency_max = 1_000
money_max = 1e12


def facts_of(agent: agent_pb2.Agent) -> Facts:
    """Return what an agent says of itself."""
    return Facts(
        agent_id=agent.agent_id,
        instance_id=agent.instance_id,
        name=agent.name,
        skills=tuple(
            Skill(
                each.name,
                each.proficiency if each.HasField("proficiency") else 1.0,
                each.version,
            )
            for each in agent.capabilities
        ),
        labels=tuple(sorted(agent.labels.items())),
        max_concurrency=agent.max_concurrency or 1,
        cost_per_task=agent.cost_hint.cost_per_task,
        cost_per_kilotoken=agent.cost_hint.cost_per_kilotoken,
        build_id=agent.build_id,
        transport=agent.transport,
    )


def told_of(agent: agent_pb2.Agent) -> Told:
    """Return what the router of an agent says that it was last told about it."""
    known = agent.breaker in (agent_pb2.Agent.BREAKER_OPEN, agent_pb2.Agent.BREAKER_HALF_OPEN)
    return Told(
        State(agent.breaker) if known else State.CLOSED,
        agent.status == agent_pb2.Agent.STATUS_DRAINING,
        agent.status == agent_pb2.Agent.STATUS_QUARANTINED,
        agent.status_reason,
    )


def check_agent(agent: agent_pb2.Agent) -> None:
    """Check an agent that somebody registers.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    check = Checker()
    check.identifier("agent.agent_id", agent.agent_id)
    check.key("agent.instance_id", agent.instance_id, optional=True)
    check.text("agent.build_id", agent.build_id, limits.name_len_max)
    check.text("agent.transport", agent.transport, limits.id_len_max)
    check.integer("agent.max_concurrency", agent.max_concurrency, 0, concurrency_max)
    count = len(agent.capabilities)
    check.length("agent.capabilities", count, limits.capabilities_len_max, low=1)
    for index, each in enumerate(agent.capabilities[: limits.capabilities_len_max]):
        path = f"agent.capabilities[{index}]"
        check.capability(f"{path}.name", each.name)
        check.text(f"{path}.version", each.version, 32)
        if each.HasField("proficiency"):
            check.finite(f"{path}.proficiency", each.proficiency, 0.0, 1.0)
    check_changeable(check, agent)
    check.done()


def check_changeable(check: Checker, agent: agent_pb2.Agent) -> None:
    """Check the fields of an agent that an operator may change."""
    check.name("agent.name", agent.name)
    check.labels("agent.labels", agent.labels)
    costs = agent.cost_hint
    check.finite("agent.cost_hint.cost_per_task", costs.cost_per_task, 0.0, money_max)
    check.finite("agent.cost_hint.cost_per_kilotoken", costs.cost_per_kilotoken, 0.0, money_max)


def filter_of(wanted: agent_registry_pb2.AgentFilter) -> Filter:
    """Return a filter.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    check = Checker()
    check.requirements("filter.capabilities", wanted.capabilities)
    check.labels("filter.labels", wanted.labels)
    known = agent_pb2.Agent.Status.values()[1:]
    for index, status in enumerate(wanted.statuses):
        check.require(f"filter.statuses[{index}]", status in known, "must be a known status")
    check.done()
    return Filter(
        capabilities=tuple(dict.fromkeys(wanted.capabilities)),
        statuses=frozenset(wanted.statuses),
        labels=tuple(wanted.labels.items()),
        idle_only=wanted.idle_only,
    )


def message_of(agent: Agent, now_s: float) -> agent_pb2.Agent:
    """Return the message of an agent."""
    facts = agent.facts
    message = agent_pb2.Agent(
        agent_id=facts.agent_id,
        instance_id=facts.instance_id,
        name=facts.name,
        labels=dict(facts.labels),
        max_concurrency=facts.max_concurrency,
        build_id=facts.build_id,
        transport=facts.transport,
        status=int(agent.status),  # type: ignore[arg-type]  # numbers of the wire
        breaker=int(agent.breaker.state),  # type: ignore[arg-type]  # numbers of the wire
        in_flight_count=agent.in_flight,
        router_id=agent.router_id,
        status_reason=agent.reason,
        failure_rate=agent.breaker.failure_rate(now_s),
    )
    for skill in facts.skills:
        message.capabilities.add(
            name=skill.name, proficiency=skill.proficiency, version=skill.version
        )
    message.cost_hint.cost_per_task = facts.cost_per_task
    message.cost_hint.cost_per_kilotoken = facts.cost_per_kilotoken
    message.create_time.FromMilliseconds(agent.create_ms)
    message.heartbeat_time.FromMilliseconds(agent.heard_ms)
    for task_type, numbers in agent.statistics.items():
        statistics = message.statistics.add(
            task_type=task_type,
            completed_count=numbers.completed,
            failed_count=numbers.failed,
            success_rate=numbers.success_rate,
        )
        statistics.mean_run_duration.FromNanoseconds(round(numbers.mean_run_s * 1e9))
    return message


def directive_of(directive: Directive) -> agent_registry_pb2.AgentDirective:
    """Return the message of a directive."""
    breaker: Any = int(directive.breaker)
    return agent_registry_pb2.AgentDirective(
        agent_id=directive.agent_id,
        breaker=breaker,
        draining=directive.draining,
        quarantined=directive.quarantined,
        failure_rate=directive.failure_rate,
        instance_id=directive.instance_id,
        superseded_instance_ids=directive.superseded,
        reason=directive.reason,
    )
