from __future__ import annotations

import os
import threading

import pytest

from services.kernel.spans import (
    Tracer,
    below,
    format_traceparent,
    is_traceparent,
    leg_id,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)


def test_ids_are_unique_and_of_their_size() -> None:
    spans = {new_span_id() for _ in range(100_000)}
    traces = {new_trace_id() for _ in range(100_000)}

    assert len(spans) == len(traces) == 100_000
    assert 0 < min(spans) and max(spans) < 2**64
    assert 0 < min(traces) and 2**64 < max(traces) < 2**128


def test_a_forked_process_draws_other_ids() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(new_span_id()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reading, 64))
    os.close(reading)
    os.close(writing)

    assert theirs != new_span_id()


def test_a_traceparent_survives_the_journey() -> None:
    trace_id, span_id = new_trace_id(), new_span_id()
    text = format_traceparent(trace_id, span_id)

    assert parse_traceparent(text) == (trace_id, span_id)
    assert is_traceparent(text)
    assert parse_traceparent("00-" + "0" * 31 + "1-" + "0" * 15 + "2-00") == (1, 2)


GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-extra",
        "ff" + GOOD[2:],
        "0g" + GOOD[2:],
        GOOD.upper(),
        GOOD.replace("-", "_"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        GOOD.replace("0af76519", "0af7_519"),
        GOOD.replace("0af76519", "+af76519"),
        "\uff10" + GOOD[1:],
        "01" + GOOD[2:] + "x",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert parse_traceparent(text) is None
    assert not is_traceparent(text)


def test_a_later_version_may_say_more() -> None:
    assert parse_traceparent("01" + GOOD[2:] + "-more") == parse_traceparent(GOOD)


def test_a_leg_has_the_same_id_wherever_it_is_made_and_no_other_has_it() -> None:
    ids = {
        leg_id(leg, task, epoch) for leg in ("a", "b") for task in ("t", "u") for epoch in (1, 2)
    }

    assert len(ids) == 8
    assert leg_id("assign", "t1", 7) == leg_id("assign", "t1", 7)
    assert parse_traceparent(below(GOOD, leg_id("assign", "t1", 7))) == (
        (parse_traceparent(GOOD) or (0, 0))[0],
        int(leg_id("assign", "t1", 7), 16),
    )


def test_a_full_buffer_drops_and_counts() -> None:
    tracer = Tracer(spans_len_max=2)
    for number in range(5):
        tracer.record(1, number + 1, 0, "submit", 0, 1)

    assert (len(tracer), tracer.recorded, tracer.dropped) == (2, 2, 3)
    assert [span[1] for span in tracer.take(10)] == [1, 2]
    assert tracer.take(10) == []


def test_no_span_is_lost_between_two_threads() -> None:
    tracer = Tracer(spans_len_max=10**6)
    taken: list[int] = []
    finished = threading.Event()

    def reader() -> None:
        while not finished.is_set() or len(tracer):
            taken.extend(span[1] for span in tracer.take(100))

    thread = threading.Thread(target=reader)
    thread.start()
    for number in range(20_000):
        tracer.record(1, number, 0, "submit", 0, 1)
    finished.set()
    thread.join()

    assert taken == list(range(20_000))
