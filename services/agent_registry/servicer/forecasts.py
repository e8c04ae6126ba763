"""What a task can expect, between messages and the core."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from podium.v1 import agent_registry_pb2
from services.agent_registry.core.filter import Filter
from services.agent_registry.core.forecast import Forecast
from services.agent_registry.servicer.messages import message_of
from services.kernel.rules import Checker

pb = agent_registry_pb2

ahead_max = 10**9


def wanted_of(request: pb.FindAgentsRequest) -> Filter:
    """Return which agents are asked for.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    check = Checker()
    check.require("capabilities", bool(request.capabilities), "must name at least one")
    check.requirements("capabilities", request.capabilities)
    check.labels("labels", request.labels)
    if request.task_type:
        check.capability("task_type", request.task_type)
    check.integer("ahead_count", request.ahead_count, 0, ahead_max)
    check.done()
    return Filter(
        capabilities=tuple(dict.fromkeys(request.capabilities)),
        labels=tuple(request.labels.items()),
    )


def forecast_message(found: Forecast, size: int, now_s: float) -> pb.FindAgentsResponse:
    """Return the message of what a task can expect, with the first `size` candidates."""
    message = pb.FindAgentsResponse(
        capable_count=len(found.candidates),
        ready_count=found.ready_count,
        free_slot_count=found.free_slots,
    )
    _set(message.expected_wait, found.wait_s)
    for each in found.candidates[:size]:
        candidate = message.candidates.add(
            agent=message_of(each.agent, now_s), success_rate=each.success_rate
        )
        _set(candidate.expected_wait, each.wait_s)
        _set(candidate.expected_run_duration, each.run_s)
    return message


def _set(field: Duration, seconds: float | None) -> None:
    """Set a duration; None leaves it unset."""
    if seconds is not None:
        field.SetInParent()
        field.FromNanoseconds(round(seconds * 1e9))
