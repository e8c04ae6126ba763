from __future__ import annotations

import pytest

from services.analytics.core.trace import Span, of_task, spans_len_max, whole
from services.kernel.errors import NotFound


def span(
    span_id: str, parent: str = "", *, trace: str = "f" * 32, at: int = 0, task: str = ""
) -> Span:
    attributes = {"task.id": task} if task else {}
    return Span(trace, span_id, parent, f"step {span_id}", "routing", at, 1, attributes)


def test_a_trace_is_told_by_start_time_and_each_span_once() -> None:
    spans = [span("b", at=2), span("a", at=1), span("b", at=2), span("x", trace="e" * 32)]

    trace = whole("f" * 32, spans)

    assert [each.span_id for each in trace.spans] == ["a", "b"]


def test_of_spans_that_begin_together_the_longer_comes_first() -> None:
    child, parent = span("child", "parent"), span("parent")._replace(duration_ns=9)

    assert [each.span_id for each in whole("f" * 32, [child, parent]).spans] == ["parent", "child"]


def test_a_task_has_its_own_spans_what_lies_beneath_and_what_is_above() -> None:
    spans = [
        span("client"),
        span("submit-1", "client", task="t-1"),
        span("submit-2", "client", task="t-2"),
        span("execute-1", "submit-1"),
        span("model-call", "execute-1"),
        span("execute-2", "submit-2"),
    ]

    told = {each.span_id for each in of_task("t-1", spans).spans}

    assert told == {"client", "submit-1", "execute-1", "model-call"}


def test_a_span_whose_parent_is_not_kept_belongs_to_the_trace() -> None:
    told = of_task("t-1", [span("orphan", "gone"), span("own", task="t-1")]).spans

    assert len(told) == 2


def test_a_chain_that_closes_on_itself_ends() -> None:
    told = of_task("t-1", [span("a", "b"), span("b", "a"), span("own", task="t-1")]).spans

    assert len(told) == 3


def test_the_earliest_spans_of_an_enormous_trace_are_told() -> None:
    spans = [span(f"{number:x}", at=-number) for number in range(spans_len_max + 10)]

    told = whole("f" * 32, spans).spans

    assert len(told) == spans_len_max
    assert told[0].start_ns == -(spans_len_max + 9)


@pytest.mark.parametrize("task_id", ["t-9", ""])
def test_a_task_without_spans_is_not_found(task_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        of_task(task_id, [span("a", task="t-1")])

    assert caught.value.reason == "TRACE_NOT_FOUND"


def test_a_trace_without_spans_is_not_found() -> None:
    with pytest.raises(NotFound, match="too old"):
        whole("e" * 32, [span("a")])
