"""What a suite's tasks may consume, judged as a scheduler does."""

from __future__ import annotations

from podium.v1 import task_pb2


def spent(budget: task_pb2.Budget, used: task_pb2.Usage) -> bool:
    """Tells whether nothing of a budget is left, so that no other attempt begins."""
    tokens = used.input_tokens + used.output_tokens
    return 0 < budget.max_cost <= used.cost or 0 < budget.max_tokens <= tokens


def exceeded(budget: task_pb2.Budget, used: task_pb2.Usage, more: task_pb2.Usage) -> bool:
    """Tells whether an attempt that has used `more` has taken its task beyond its budget."""
    tokens = used.input_tokens + used.output_tokens + more.input_tokens + more.output_tokens
    return 0 < budget.max_cost < used.cost + more.cost or 0 < budget.max_tokens < tokens


def add(to: task_pb2.Usage, used: task_pb2.Usage) -> None:
    """Adds what an attempt has used to what its task has used."""
    to.input_tokens += used.input_tokens
    to.output_tokens += used.output_tokens
    to.cost += used.cost
