"""Metrics of one service for Prometheus: children are made once and kept, never looked up hot."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.kernel import names

Reading = Callable[[], float]


class Metrics:
    """The registry of a service.

    Labels must be bounded: an outcome or a state, never the name or id of anything.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Return a new counter; keep the child of each label value."""
        return Counter(name, help, labels, registry=self.registry)

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a new gauge; keep the child of each label value."""
        return Gauge(name, help, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        help: str,
        buckets: Sequence[float] = names.latency_buckets_s,
    ) -> Histogram:
        """Return a new histogram, of seconds unless `buckets` says otherwise."""
        histogram = Histogram(name, help, buckets)
        self.registry.register(histogram)
        return histogram

    def read_counter(self, name: str, help: str, reading: Reading) -> None:
        """Expose a plain number of the program as a counter, read when somebody scrapes."""
        family = CounterMetricFamily(name, help)
        self.registry.register(_Read(family, reading))

    def read_gauge(self, name: str, help: str, reading: Reading) -> None:
        """Expose a plain number of the program as a gauge, read when somebody scrapes."""
        self.registry.register(_Read(GaugeMetricFamily(name, help), reading))

    def read_gauges(
        self, name: str, help: str, label: str, readings: Callable[[], Iterable[tuple[str, float]]]
    ) -> None:
        """Expose numbers by one label as gauges, read when somebody scrapes."""
        self.registry.register(_ReadMany(name, help, label, readings))


class Histogram(Collector):
    """Counts values in buckets as plain numbers: a task is observed by two services.

    The client library takes a lock for each number, which is ten times the cost. Here one thread
    observes, and a scrape may see the count of a value before its sum.
    """

    def __init__(self, name: str, help: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._help = help
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; always from the same thread."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def describe(self) -> Iterable[Metric]:
        """Return what it is called."""
        return [HistogramMetricFamily(self._name, self._help)]

    def collect(self) -> Iterator[Metric]:
        """Return what was counted, as a scrape wants it."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._help)
        family.add_metric([], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)
        yield family


class _Read(Collector):
    def __init__(self, family: CounterMetricFamily | GaugeMetricFamily, reading: Reading) -> None:
        self._family = family
        self._reading = reading

    def describe(self) -> Iterable[Metric]:
        """Return what there will be, without values."""
        return [type(self._family)(self._family.name, self._family.documentation)]

    def collect(self) -> Iterator[Metric]:
        family = type(self._family)(self._family.name, self._family.documentation)
        family.add_metric([], self._reading())
        yield family


class _ReadMany(Collector):
    def __init__(
        self,
        name: str,
        help: str,
        label: str,
        readings: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        self._name = name
        self._help = help
        self._label = label
        self._readings = readings

    def describe(self) -> Iterable[Metric]:
        """Return what there will be, without values."""
        return [GaugeMetricFamily(self._name, self._help, labels=[self._label])]

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._help, labels=[self._label])
        for value, number in self._readings():
            family.add_metric([value], number)
        yield family
