from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.kernel.metrics import Metrics


def test_each_service_has_its_own_registry() -> None:
    first, second = Metrics(), Metrics()
    first.counter("podium_toys_total", "Toys.").inc(3)
    second.counter("podium_toys_total", "Toys.").inc(4)

    assert "podium_toys_total 3.0" in generate_latest(first.registry).decode()
    assert "podium_toys_total 4.0" in generate_latest(second.registry).decode()


def test_plain_numbers_are_read_when_somebody_scrapes() -> None:
    metrics, count = Metrics(), [0]
    states = {"open": 1.0}
    metrics.read_counter("podium_grants_total", "Grants.", lambda: count[0])
    metrics.read_gauge("podium_queue_tasks", "Queue.", lambda: count[0] * 2)
    metrics.read_gauges("podium_breakers", "Breakers.", "state", states.items)
    count[0], states["closed"] = 21, 2.0

    text = generate_latest(metrics.registry).decode()

    assert "podium_grants_total 21.0" in text
    assert "podium_queue_tasks 42.0" in text
    assert 'podium_breakers{state="open"} 1.0' in text
    assert 'podium_breakers{state="closed"} 2.0' in text


def test_latencies_are_counted_from_half_a_millisecond() -> None:
    metrics = Metrics()
    metrics.histogram("podium_task_assignment_latency_seconds", "Latency.").observe(0.0004)
    metrics.gauge("podium_agent_utilization_ratio", "Load.", ["kind"]).labels("busy").set(0.5)

    text = generate_latest(metrics.registry).decode()

    assert 'podium_task_assignment_latency_seconds_bucket{le="0.0005"} 1.0' in text
    assert 'podium_agent_utilization_ratio{kind="busy"} 0.5' in text


def test_a_histogram_tells_what_the_client_library_would() -> None:
    metrics, library = Metrics(), CollectorRegistry()
    ours = metrics.histogram("podium_toy_seconds", "Toys.", buckets=(0.5, 1, 2.5))
    theirs = Histogram("podium_toy_seconds", "Toys.", buckets=(0.5, 1, 2.5), registry=library)
    for value in (0.0, 0.5, 0.51, 1.0, 2.0, 2.5, 99.0):
        ours.observe(value)
        theirs.observe(value)

    said = generate_latest(metrics.registry).decode().splitlines()
    expected = generate_latest(library).decode().splitlines()
    assert said == [line for line in expected if "_created" not in line]
