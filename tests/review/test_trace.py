from __future__ import annotations

from examples.review.trace import BAR_WIDTH, tree
from podium.v1 import analytics_pb2


def span(
    span_id: str, parent: str, name: str, begin_ms: int, length_ms: int, **attributes: str
) -> analytics_pb2.Span:
    error = attributes.pop("error", "")
    made = analytics_pb2.Span(
        span_id=span_id, parent_span_id=parent, name=name, service="s", error=error
    )
    made.start_time.FromMilliseconds(1_000_000 + begin_ms)
    made.duration.FromMilliseconds(length_ms)
    for key, value in attributes.items():
        made.attributes[key.replace("_", ".")] = value
    return made


def test_spans_become_a_tree_in_the_order_of_time() -> None:
    lines = tree(
        [
            span("4", "2", "assign", 12, 3, agent_id="ada"),
            span("1", "", "submit", 0, 10),
            span("3", "1", "complete", 90, 10),
            span("2", "1", "route", 10, 2),
            span("5", "4", "execute", 15, 70, agent_id="ada"),
        ]
    )

    assert [line.text for line in lines] == [
        "submit",
        "├─ route",
        "│  └─ assign",
        "│     └─ execute",
        "└─ complete",
    ]
    assert [round(line.after_s, 3) for line in lines] == [0, 0.01, 0.012, 0.015, 0.09]
    assert lines[2].note == "agent.id=ada"
    assert {len(line.bar) for line in lines} == {BAR_WIDTH}
    assert lines[4].bar.endswith("━") and lines[0].bar.startswith("━")


def test_an_error_is_told_and_a_span_without_its_parent_is_not_lost() -> None:
    lines = tree([span("9", "gone", "execute", 0, 5, error="FLAKY: gave up")])

    assert [(line.text, line.failed, line.note) for line in lines] == [
        ("execute", True, "FLAKY: gave up")
    ]


def test_no_spans_make_no_tree() -> None:
    assert tree([]) == []
