"""Metrics at a tenth of the SDK's price: a meter for the instruments of `metrics.py`, and nothing more general.

What is recorded is added up here, under one short lock for each instrument; at an interval it is put into the SDK's public data classes, which
any of its exporters takes. `push.py` does the sending. Views, exemplars, exponential histograms and observable instruments are the SDK's: who
wants them gives `Instruments` a `MeterProvider`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as Distributions
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from looopy.events import Event
from looopy.observe.faults import Faults
from looopy.observe.metrics import Attributes, RunMeter
from looopy.observe.sending.push import Push, interval

SERIES = 2_000
"""How many sets of attributes an instrument tells apart; what comes after is one series more, with `otel.metric.overflow`."""

_MANY = 16
"""What waits at most: entries of runs, each of which has one for its first event and one for its end; and events of one."""

MOST = 2.0**53
"""The greatest amount that is recorded: a float still counts so far, and no sum of a few of these breaks its encoding."""

_OVERFLOW: Attributes = {"otel.metric.overflow": True}
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_DELTA = AggregationTemporality.DELTA

_log = logging.getLogger("looopy.observe")


class LightMeters:
    """A meter that adds up itself and exports by OpenTelemetry's exporters: give it to `Instruments`.

    Nothing runs before the first record: then a daemon thread exports every OTEL_METRIC_EXPORT_INTERVAL milliseconds (60,000). A forked child
    begins anew, with nothing recorded. Sums and histograms are cumulative, or tell what was new since the last export if
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is `delta` or `lowmemory`. Recording never raises, and neither does exporting: an
    exporter that fails is counted, and said once by the logger `looopy.observe`, as is that it works again.

    Args:
        exporter: makes the exporter; by default `OTLPMetricExporter`, over HTTP, as the environment says. Called on the thread, at the first
            export, and again in a forked child.
        resource: what the metrics tell of; by default as the environment says.
        every: seconds from one export to the next, instead of what the environment says.
    """

    def __init__(
        self,
        exporter: Callable[[], MetricExporter] | None = None,
        *,
        resource: Resource | None = None,
        every: float | None = None,
    ) -> None:
        self._resource = Resource.create() if resource is None else resource
        self._scope = InstrumentationScope("looopy", version("looopy"), "")
        preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
        self._delta = preference in {"delta", "lowmemory"}
        self._faults = Faults()
        self._histograms: dict[str, LightHistogram] = {}
        self._counters: dict[str, LightCounter] = {}
        self._push = Push(
            self.collect,
            exporter or _otlp,
            every=interval("OTEL_METRIC_EXPORT_INTERVAL", 60.0) if every is None else every,
            timeout=interval("OTEL_METRIC_EXPORT_TIMEOUT", 30.0),
        )
        self._await_nothing()
        _alive.add(self)

    def _await_nothing(self) -> None:
        self._waiting: deque[LaterMeter] = deque()
        self._working = threading.RLock()
        self._at_work = self._begun = False

    @property
    def failures(self) -> int:
        """How many exports of this process failed."""
        return self._push.failures

    def create_histogram(
        self, name: str, unit: str, description: str, *, explicit_bucket_boundaries_advisory: Sequence[float]
    ) -> LightHistogram:
        """The histogram of this name."""
        made = LightHistogram(name, unit, description, self._push.begin, delta=self._delta)
        made.bounds = tuple(explicit_bucket_boundaries_advisory)
        return self._histograms.setdefault(name, made)

    def create_counter(self, name: str, unit: str, description: str) -> LightCounter:
        """The counter of this name, which only rises."""
        made = LightCounter(name, unit, description, self._push.begin, delta=self._delta)
        return self._counters.setdefault(name, made)

    def create_up_down_counter(self, name: str, unit: str, description: str) -> LightCounter:
        """The counter of this name, which rises and falls; always cumulative."""
        made = LightCounter(name, unit, description, self._push.begin, delta=False)
        made.least = -MOST
        return self._counters.setdefault(name, made)

    def later(self, meter: LaterMeter) -> None:
        """Let a meter catch up, at the latest before the next export."""
        self._waiting.append(meter)
        if len(self._waiting) >= _MANY:
            self._catch_up(wait=False)
        elif not self._begun:
            self._begun = True
            self._push.begin()

    def _catch_up(self, *, wait: bool) -> None:
        """Let all that are waiting catch up, in turn; unless somebody else is at it and need not be waited for."""
        if not self._working.acquire(blocking=wait):
            return
        try:
            if (
                not self._at_work
            ):  # else a signal or a finalizer came in between, and who is at it takes along what waits
                self._at_work = True
                try:
                    while self._waiting:
                        self._waiting.popleft().catch_up(self._faults)
                finally:
                    self._at_work = False
        finally:
            self._working.release()

    def collect(self) -> MetricsData | None:
        """What there is to export, or None. Where only what is new is told, it is new for the next call after this one."""
        self._catch_up(wait=True)
        now = time.time_ns()
        instruments = (*self._histograms.values(), *self._counters.values())
        metrics = [metric for metric in (instrument.collect(now) for instrument in instruments) if metric]
        if not metrics:
            return None
        scope = ScopeMetrics(scope=self._scope, metrics=metrics, schema_url="")
        return MetricsData(
            resource_metrics=[
                ResourceMetrics(
                    resource=self._resource, scope_metrics=[scope], schema_url=self._resource.schema_url
                )
            ]
        )

    def flush(self, timeout: float = 10.0) -> bool:
        """Export now, and wait for it. Blocks, so not for an event loop.

        Args:
            timeout: the most seconds to wait.

        Returns:
            Whether it worked, within that time; also if there was nothing to export.
        """
        return self._push.flush(timeout)

    def shutdown(self, timeout: float = 10.0) -> bool:
        """Export for the last time, close the exporter and wait for both. Blocks. What is recorded afterwards goes nowhere.

        Args:
            timeout: the most seconds to wait; the thread ends with the process at the latest.

        Returns:
            Whether it worked, within that time; also if there was nothing to export. Later calls say the same.
        """
        return self._push.shutdown(timeout)

    def reset(self) -> None:
        """Begin anew, as a forked child does: what was recorded so far is its parent's to tell."""
        self._push.reset()
        self._await_nothing()
        for instrument in (*self._histograms.values(), *self._counters.values()):
            instrument.reset()


class LaterMeter:
    """A run's meter that sees its events a little later, with those of other runs: so they cost a third, since the code is warm then.

    Args:
        meter: sees them.
        meters: has it catch up.
    """

    __slots__ = ("_meter", "_meters", "_unseen")

    def __init__(self, meter: RunMeter, meters: LightMeters) -> None:
        self._meter = meter
        self._meters = meters
        self._unseen: deque[Event | datetime] = deque()

    def on_event(self, event: Event) -> None:
        """Let an event be folded in."""
        unseen = self._unseen
        unseen.append(event)
        if len(unseen) % _MANY == 1:  # else those before take it along
            self._meters.later(self)

    def end(self) -> None:
        """The stream was torn down, now. On any thread: so it relies on no count, which may be of two events by then."""
        self._unseen.append(datetime.now(UTC))
        self._meters.later(self)

    def catch_up(self, faults: Faults) -> None:
        """Fold in what there is. One thread at a time."""
        while self._unseen:
            event = self._unseen.popleft()
            try:
                if isinstance(event, datetime):
                    self._meter.end(event)
                else:
                    self._meter.on_event(event)
            except Exception as error:
                faults.caught("metrics: something could not be recorded", error)


def _otlp() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415  0.1 s

    return OTLPMetricExporter()


_alive: WeakSet[LightMeters] = WeakSet()
# Windows has no fork.
getattr(os, "register_at_fork", dict)(after_in_child=lambda: [meters.reset() for meters in _alive])


# ------------------------------------------------------------------------------------------------------- the instruments
class _Series(Protocol):
    """What an instrument knows of one set of attributes."""

    attributes: Attributes


_S = TypeVar("_S", bound=_Series)


class _Instrument(Generic[_S]):
    """Finds the series of a set of attributes, and begins the exports with the first.

    A mapping of attributes is known by its identity as well: nobody may change one that was given.
    """

    def __init__(
        self, name: str, unit: str, description: str, begin: Callable[[], None], *, delta: bool
    ) -> None:
        self.name, self.unit, self.description = name, unit, description
        self.temporality = _DELTA if delta else _CUMULATIVE
        self._begin = begin
        self._refused = False
        self.reset()

    def reset(self) -> None:
        # Taken again by a finalizer that ends a run while its thread is recording: a plain lock would wait for ever.
        self._lock = threading.RLock()
        self._since = 0  # nanoseconds; of the last export where only what is new is told
        self._forget()

    def _forget(self) -> None:
        self._series: dict[frozenset[tuple[str, str | int]], _S] = {}
        # The same by the mapping that was given, which is kept, so that no other one gets its id.
        self._found: dict[int, _S] = {}
        self._given: list[Attributes] = []

    def _look_up(self, given: Attributes) -> _S:
        """The series of a mapping that is new. Called with the lock."""
        attributes = given
        self._begin()
        items = frozenset(attributes.items())
        series = self._series.get(items)
        if series is None:
            if len(self._series) >= SERIES:
                attributes, items = _OVERFLOW, frozenset(_OVERFLOW.items())
            series = self._series.get(items) or self._new(dict(attributes), self._since or time.time_ns())
            self._series[items] = series
        if len(self._given) < 2 * SERIES:
            self._found[id(given)] = series
            self._given.append(given)
        return series

    def _taken(self, now: int) -> list[_S]:
        with self._lock:
            series = list(self._series.values())
            if self.temporality is _DELTA:
                self._since = now
                self._forget()
        return series

    def _refuse(self, amount: float) -> None:
        if not self._refused:
            self._refused = True
            _log.warning("metrics: %s cannot be %r, which is left out (said once)", self.name, amount)

    def _new(self, attributes: Attributes, since: int) -> _S:
        raise NotImplementedError


class _Distribution:
    """How the amounts of one set of attributes are spread."""

    __slots__ = ("attributes", "counts", "least", "most", "since", "total")

    def __init__(self, attributes: Attributes, since: int, buckets: int) -> None:
        self.attributes, self.since = attributes, since
        self.counts = [0] * buckets
        self.total: float = 0
        self.least, self.most = inf, -inf


class LightHistogram(_Instrument[_Distribution]):
    """Counts amounts by bucket; `bounds` are the greatest amounts of all buckets but the last."""

    bounds: tuple[float, ...] = ()

    def record(self, amount: float, attributes: Attributes) -> None:
        """Count an amount from 0 to `MOST`; any other is left out, which is said once."""
        if not 0 <= amount <= MOST:  # nor is NaN
            self._refuse(amount)
            return
        with self._lock:
            series = self._found.get(id(attributes)) or self._look_up(attributes)
            series.counts[bisect_left(self.bounds, amount)] += 1
            series.total += amount
            if not series.least <= amount <= series.most:
                series.least, series.most = min(series.least, amount), max(series.most, amount)

    def collect(self, now: int) -> Metric | None:
        """The metric with its points, if there are any."""
        points = [self._point(series, now) for series in self._taken(now)]
        data = Distributions(data_points=points, aggregation_temporality=self.temporality)
        return Metric(self.name, self.description, self.unit, data) if points else None

    def _point(self, series: _Distribution, now: int) -> HistogramDataPoint:
        with self._lock:
            return HistogramDataPoint(
                attributes=series.attributes,
                start_time_unix_nano=series.since,
                time_unix_nano=now,
                count=sum(series.counts),
                sum=series.total,
                bucket_counts=tuple(series.counts),
                explicit_bounds=self.bounds,
                min=series.least,
                max=series.most,
            )

    def _new(self, attributes: Attributes, since: int) -> _Distribution:
        return _Distribution(attributes, since, len(self.bounds) + 1)


class _Total:
    """What the amounts of one set of attributes come to."""

    __slots__ = ("attributes", "since", "total")

    def __init__(self, attributes: Attributes, since: int) -> None:
        self.attributes, self.since = attributes, since
        self.total: float = 0


class LightCounter(_Instrument[_Total]):
    """Adds amounts up; `least` is the least amount: 0 for a sum that only rises."""

    least: float = 0

    def add(self, amount: float, attributes: Attributes) -> None:
        """Add an amount from `least` to `MOST`; any other is left out, which is said once."""
        if not self.least <= amount <= MOST:
            self._refuse(amount)
            return
        with self._lock:
            series = self._found.get(id(attributes)) or self._look_up(attributes)
            series.total += amount

    def collect(self, now: int) -> Metric | None:
        """The metric with its points, if there are any."""
        points = [
            NumberDataPoint(series.attributes, series.since, now, series.total) for series in self._taken(now)
        ]
        data = Sum(data_points=points, aggregation_temporality=self.temporality, is_monotonic=self.least == 0)
        return Metric(self.name, self.description, self.unit, data) if points else None

    def _new(self, attributes: Attributes, since: int) -> _Total:
        return _Total(attributes, since)
