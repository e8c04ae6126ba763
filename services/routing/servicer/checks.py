"""Rules of what agents send, checked before the core hears of it."""

from __future__ import annotations

import re

from podium.v1 import session_pb2, task_pb2
from services.kernel import limits
from services.kernel.rules import Checker
from services.kernel.versions import offer, version_len_max
from services.routing.core.session import Greeting

concurrency_max = 1_000
in_flight_len_max = 2 * concurrency_max
"""All that an agent may work on, and as many results that are not settled yet."""
checkpoint_bytes_max = 64 * 1024
failure_len_max = 4 * 1024
money_max = 1e12
tokens_max = 1_000_000_000_000
"""Of one report: sums over all attempts of a task stay far below what the wire holds."""

_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]").fullmatch


def greeting(agent_id: str, hello: session_pb2.Hello) -> Greeting:
    """Return what a Hello says.

    Raises:
        InvalidArgument: INVALID_FIELD, with every field that breaks a rule.
    """
    check = Checker()
    check.identifier("agent_id", agent_id)
    check.key("hello.instance_id", hello.instance_id)
    check.name("hello.name", hello.name)
    check.text("hello.build_id", hello.build_id, limits.name_len_max)
    check.text("hello.sdk", hello.sdk, limits.name_len_max)
    check.text("hello.transport", hello.transport, limits.id_len_max)
    check.labels("hello.labels", hello.labels)
    count = len(hello.capabilities)
    check.length("hello.capabilities", count, limits.capabilities_len_max, low=1)
    capabilities: dict[str, float] = {}
    versions: list[str] = []
    for index, capability in enumerate(hello.capabilities[: limits.capabilities_len_max]):
        path = f"hello.capabilities[{index}]"
        check.capability(f"{path}.name", capability.name)
        check.text(f"{path}.version", capability.version, version_len_max)
        if capability.version and (offered := offer(capability.name, capability.version)):
            versions.append(offered)
        proficiency = capability.proficiency if capability.HasField("proficiency") else 1.0
        check.finite(f"{path}.proficiency", proficiency, 0.0, 1.0)
        capabilities[capability.name] = proficiency
    check.integer("hello.max_concurrency", hello.max_concurrency, 0, concurrency_max)
    check.length("hello.in_flight", len(hello.in_flight), in_flight_len_max)
    for index, ref in enumerate(hello.in_flight[:in_flight_len_max]):
        fault = lease_fault(ref.task_id, ref.lease_epoch)
        check.require(f"hello.in_flight[{index}]", not fault, fault)
    check.finite("hello.cost_hint.cost_per_task", hello.cost_hint.cost_per_task, 0.0, money_max)
    kilotoken = hello.cost_hint.cost_per_kilotoken
    check.finite("hello.cost_hint.cost_per_kilotoken", kilotoken, 0.0, money_max)
    check.text("hello.resume_token", hello.resume_token, limits.name_len_max)
    check.done()
    return Greeting(
        agent_id=agent_id,
        instance_id=hello.instance_id,
        name=hello.name,
        capabilities=capabilities,
        max_concurrency=hello.max_concurrency or 1,
        cost_per_task=hello.cost_hint.cost_per_task,
        in_flight=tuple((ref.task_id, ref.lease_epoch) for ref in hello.in_flight),
        resume_token=hello.resume_token,
        body=hello,
        versions=tuple(versions),
        last_seq=hello.last_seq,
        draining=hello.draining,
    )


def lease_fault(task_id: str, lease_epoch: int) -> str:
    """Return why these name no lease that there can be; empty when they may."""
    if lease_epoch >= 1 and 0 < len(task_id) <= limits.id_len_max:
        return ""
    return f"lease must have a task_id of 1 to {limits.id_len_max} and a lease_epoch from 1 on."


def progress_fault(progress: session_pb2.Progress) -> str:
    """Return what is wrong with a progress report; empty when nothing is."""
    if progress.report_seq < 1:
        # Not passed over in silence: the checkpoint would be lost with it.
        return "progress.report_seq must be at least 1: it numbers the reports of an attempt."
    if not 0.0 <= progress.fraction <= 1.0:
        return "progress.fraction must be a number from 0 to 1."
    if len(progress.message) > limits.text_len_max:
        return f"progress.message must be at most {limits.text_len_max} characters."
    if not _type_fits(progress.partial):
        most = limits.name_len_max
        return f"progress.partial.content_type must be at most {most} printable characters."
    if len(progress.partial.data) > limits.payload_bytes_max:
        return f"progress.partial must be at most {limits.payload_bytes_max} bytes."
    if len(progress.checkpoint) > checkpoint_bytes_max:
        return f"progress.checkpoint must be at most {checkpoint_bytes_max} bytes."
    if progress.HasField("usage") and not _usage_is_right(progress.usage):
        return f"progress.usage must have numbers from 0 to {money_max:g}."
    return ""


def result_fault(result: session_pb2.Result, outcome: str | None) -> str:
    """Return why a result cannot be taken as it is; empty when it can.

    Such a result fails the attempt and not the session.

    Args:
        result: What the agent sent.
        outcome: Which outcome it names.
    """
    if outcome == "success":
        success = result.success
        if len(success.data) > limits.payload_bytes_max:
            return "RESULT_TOO_LARGE"
        if not _type_fits(success):
            return "RESULT_INVALID"
    elif outcome == "failure":
        failure = result.failure
        if not _REASON(failure.reason) or len(failure.message) > failure_len_max:
            return "RESULT_INVALID"
    if len(result.traceparent) > limits.name_len_max:
        return "RESULT_INVALID"
    if result.HasField("usage") and not _usage_is_right(result.usage):
        return "RESULT_INVALID"
    if result.HasField("confidence") and not 0.0 <= result.confidence <= 1.0:
        return "RESULT_INVALID"
    return ""


def question_fault(asked: session_pb2.NeedInput) -> str:
    """Return why a question cannot be taken as it is; empty when it can.

    Such a question fails the attempt, as such a result does.
    """
    if len(asked.question.data) > limits.payload_bytes_max:
        return "QUESTION_TOO_LARGE"
    if not _type_fits(asked.question):
        return "QUESTION_INVALID"
    if asked.HasField("usage") and not _usage_is_right(asked.usage):
        return "QUESTION_INVALID"
    return ""


def _type_fits(payload: task_pb2.Payload) -> bool:
    content_type = payload.content_type
    return len(content_type) <= limits.name_len_max and content_type.isprintable()


def _usage_is_right(usage: task_pb2.Usage) -> bool:
    tokens = (usage.input_tokens, usage.output_tokens)
    return all(0 <= count <= tokens_max for count in tokens) and 0.0 <= usage.cost <= money_max
