from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.analytics.adapters import otlp


@pytest.mark.parametrize("task_id", ["a", "00-01a20735a5c2-0000000000", "x" * 64])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_task_is_known_by_its_key_wherever_its_attribute_stands(
    task_id: str, others: int
) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"t" * 16, span_id=b"s" * 8
    )
    span.attributes.add(key="task.id").value.string_value = task_id
    for number in range(others):
        span.attributes.add(key=f"more.{number}").value.string_value = "Jot"

    keys = otlp.contents(request.SerializeToString()).keys

    assert otlp.task_key(task_id) in keys
    assert len(keys) == 2 * otlp.key_len
