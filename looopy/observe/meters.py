"""Metrics at a tenth of the SDK's price: a meter for the instruments of `metrics.py`, and nothing more general.

The events of a run are kept until it is over, and folded with those of others; at an interval what they come to is put into the SDK's public data
classes, which any of its exporters takes. `push.py` does the sending. Views, exemplars, exponential histograms and observable instruments are the SDK's: who
wants them gives `Instruments` a `MeterProvider`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
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

_MANY = 8
"""Runs that are over, and wait at most to be folded: so much code is warm then that the next costs a third."""

_NOTED = 512
"""Runs after which what is noted is added up, though nobody has asked for it yet."""

MOST = 2.0**53
"""The greatest amount that is recorded: a float still counts so far, and no sum of a few of these breaks its encoding."""

_NUMBERS = frozenset((int, float))

_OVERFLOW: Attributes = {"otel.metric.overflow": True}
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_DELTA = AggregationTemporality.DELTA

_log = logging.getLogger("looopy.observe")


class LightMeters:
    """A meter that adds up itself and exports by OpenTelemetry's exporters: give it to `Instruments`.

    Nothing runs before the first record: then a daemon thread exports every OTEL_METRIC_EXPORT_INTERVAL milliseconds (60,000). A forked child
    begins anew, with nothing recorded. Sums and histograms are cumulative, or tell what was new since the last export if
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is `delta` or `lowmemory`. Recording never raises, and neither does exporting: an
    exporter that fails is counted, and said once by the logger `looopy.observe`, as is that it works again. Runs record through `LaterMeter`, from
    any thread; whoever records into an instrument directly does so on one.

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
        self._under_way: set[LaterMeter] = set()
        self._over: deque[LaterMeter] = deque()
        self._unsummed = 0
        self._working = threading.RLock()
        self._at_work = False

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
        made.lowest = -MOST
        return self._counters.setdefault(name, made)

    def begin(self, meter: LaterMeter) -> None:
        """A run has begun, whose meter catches up when it is over, and before each export."""
        self._under_way.add(meter)
        self._push.begin()

    def end(self, meter: LaterMeter) -> None:
        """It is over."""
        self._over.append(meter)  # first: whoever looks meanwhile finds it here or there
        self._under_way.discard(meter)
        if len(self._over) >= _MANY:
            with self._turn(wait=False) as mine:
                if mine:
                    self._catch_up()

    @contextmanager
    def _turn(self, *, wait: bool) -> Generator[bool]:
        """A turn at the numbers, of which one at a time has one: whether it is had.

        Else somebody else has it, who need not be waited for; or what asks is a signal's handler or a finalizer, that came in between on the same
        thread: who was interrupted takes along what it brings.
        """
        if not self._working.acquire(blocking=wait):
            yield False
            return
        mine, self._at_work = not self._at_work, True
        try:
            yield mine
        finally:
            self._at_work = not mine
            self._working.release()

    def _catch_up(self) -> None:
        """Fold the runs that are over; those that end meanwhile are for who comes next."""
        for _ in range(len(self._over)):
            self._over.popleft().catch_up(self._faults)
            self._unsummed += 1
        if self._unsummed >= _NOTED:
            self._unsummed = 0
            for instrument in self._instruments():
                instrument.add_up()

    def _instruments(self) -> list[LightHistogram | LightCounter]:
        return [*self._histograms.values(), *self._counters.values()]

    def collect(self) -> MetricsData | None:
        """What there is to export, or None. Where only what is new is told, it is new for the next call after this one."""
        with self._turn(wait=True) as mine:
            if not mine:
                return None
            self._catch_up()
            for meter in tuple(self._under_way):
                meter.catch_up(self._faults)
            now = time.time_ns()
            metrics = [metric for metric in (each.collect(now) for each in self._instruments()) if metric]
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
        for instrument in self._instruments():
            instrument.reset()


class LaterMeter:
    """A run's meter that sees its events when the run is over, together with those of other runs.

    Args:
        meter: makes what sees them.
        meters: has it catch up.
    """

    __slots__ = ("_make", "_meter", "_meters", "_unseen")

    def __init__(self, meter: Callable[[], RunMeter], meters: LightMeters) -> None:
        self._make = meter
        self._meter: RunMeter | None = None
        self._meters = meters
        self._unseen: deque[Event | datetime] = deque()
        meters.begin(self)

    def on_event(self, event: Event) -> None:
        """Let an event be folded in."""
        self._unseen.append(event)

    def end(self) -> None:
        """The stream was torn down, now. On any thread, perhaps while an event is being shown."""
        self._unseen.append(datetime.now(UTC))
        self._meters.end(self)

    def catch_up(self, faults: Faults) -> None:
        """Fold in what there is. One thread at a time."""
        unseen = self._unseen
        while unseen:
            event = unseen.popleft()
            try:
                meter = self._meter = self._meter or self._make()
                if isinstance(event, datetime):
                    meter.end(event)
                else:
                    meter.on_event(event)
            except Exception as error:
                faults.caught("metrics: something could not be recorded", error)


def _otlp() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415  0.1 s

    return OTLPMetricExporter()


_alive: WeakSet[LightMeters] = WeakSet()
# Windows has no fork.
getattr(os, "register_at_fork", dict)(after_in_child=lambda: [meters.reset() for meters in _alive])


# ------------------------------------------------------------------------------------------------------- the instruments
class _Series:
    """What an instrument knows of one set of attributes.

    Attributes:
        attributes: the set.
        since: nanoseconds; when it began.
        noted: amounts that are not yet added up.
        count: how many are, and `total` what they come to.
        buckets: how many of them are in each; `least` and `most` are those at the ends. Of a histogram.
    """

    __slots__ = ("attributes", "buckets", "count", "least", "most", "noted", "since", "total")

    def __init__(self, attributes: Attributes, since: int, buckets: int) -> None:
        self.attributes, self.since = attributes, since
        self.noted: list[float] = []
        self.count = 0
        self.total: float = 0
        self.buckets = [0] * buckets
        self.least, self.most = inf, -inf


class _Instrument:
    """Notes amounts, each under its set of attributes, and adds them up when there are many or they are told: all at once, which costs a fraction.

    One thread at a time: `LightMeters` sees to that. A mapping of attributes is known by its identity as well: nobody may change one that was
    given.
    """

    bounds: tuple[float, ...] = ()
    lowest: float = 0

    def __init__(
        self, name: str, unit: str, description: str, begin: Callable[[], None], *, delta: bool
    ) -> None:
        self.name, self.unit, self.description = name, unit, description
        self.temporality = _DELTA if delta else _CUMULATIVE
        self._begin = begin
        self._refused = False
        self.reset()

    def reset(self) -> None:
        """Forget all of it."""
        self._since = 0  # nanoseconds; of the last export where only what is new is told
        self._forget()

    def _forget(self) -> None:
        self._series: dict[frozenset[tuple[str, str | int]], _Series] = {}
        # What is noted, by the mapping that was given, which is kept, so that no other one gets its id.
        self._noted: dict[int, list[float]] = {}
        self._given: list[Attributes] = []

    def note(self, amount: float, attributes: Attributes) -> None:
        """Note an amount from `lowest` to `MOST`; any other is left out when it is added up, which is said once."""
        try:
            self._noted[id(attributes)].append(amount)
        except KeyError:
            self._look_up(attributes).append(amount)

    def _look_up(self, given: Attributes) -> list[float]:
        """What is noted under a mapping that is new; with the first of all, exports begin."""
        attributes = given
        self._begin()
        items = frozenset(attributes.items())
        series = self._series.get(items)
        if series is None:
            if len(self._series) >= SERIES:
                attributes, items = _OVERFLOW, frozenset(_OVERFLOW.items())
            series = self._series.get(items) or _Series(
                dict(attributes), self._since or time.time_ns(), len(self.bounds) + 1
            )
            self._series[items] = series
        if len(self._given) < 2 * SERIES:
            self._noted[id(given)] = series.noted
            self._given.append(given)
        return series.noted

    def add_up(self) -> None:
        """Add up what is noted."""
        for series in self._series.values():
            if noted := series.noted:
                amounts = noted[:]
                del noted[: len(amounts)]  # a signal may have come in between, and noted more
                self._add(self._possible(amounts), series)

    def _add(self, amounts: list[float], series: _Series) -> None:
        series.count += len(amounts)
        series.total += sum(amounts)

    def _possible(self, amounts: list[float]) -> list[float]:
        """Those that can be, which all of them are if the ends and the sum look so: NaN is in no order, but makes a sum NaN."""
        if (
            _NUMBERS.issuperset(map(type, amounts))
            and self.lowest <= min(amounts)
            and max(amounts) <= MOST
            and sum(amounts) <= inf
        ):
            return amounts
        return [float(amount) for amount in amounts if self._can_be(amount)]

    def _can_be(self, amount: object) -> bool:
        with suppress(Exception):  # whoever makes numbers of his own
            if isinstance(amount, int | float) and self.lowest <= amount <= MOST:
                return True
        if not self._refused:
            self._refused = True
            _log.warning("metrics: %s cannot be %r, which is left out (said once)", self.name, amount)
        return False

    def _taken(self, now: int) -> list[_Series]:
        """What there is to tell; where only what is new is told, it is new from now on."""
        self.add_up()
        series = [each for each in self._series.values() if each.count]
        if self.temporality is _DELTA:
            self._since = now
            self._forget()
        return series


class LightHistogram(_Instrument):
    """Counts amounts by bucket; `bounds` are the greatest amounts of all buckets but the last."""

    record = _Instrument.note

    def _add(self, amounts: list[float], series: _Series) -> None:
        if not amounts:
            return
        super()._add(amounts, series)
        amounts.sort()
        below = 0
        for bucket, bound in enumerate((*self.bounds, inf)):
            upto = bisect_right(amounts, bound)
            series.buckets[bucket] += upto - below
            below = upto
        series.least, series.most = min(series.least, amounts[0]), max(series.most, amounts[-1])

    def collect(self, now: int) -> Metric | None:
        """The metric with its points, if there are any."""
        points = [
            HistogramDataPoint(
                attributes=series.attributes,
                start_time_unix_nano=series.since,
                time_unix_nano=now,
                count=series.count,
                sum=series.total,
                bucket_counts=tuple(series.buckets),
                explicit_bounds=self.bounds,
                min=series.least,
                max=series.most,
            )
            for series in self._taken(now)
        ]
        data = Distributions(data_points=points, aggregation_temporality=self.temporality)
        return Metric(self.name, self.description, self.unit, data) if points else None


class LightCounter(_Instrument):
    """Adds amounts up; `lowest` is the lowest amount: 0 for a sum that only rises."""

    add = _Instrument.note

    def collect(self, now: int) -> Metric | None:
        """The metric with its points, if there are any."""
        points = [
            NumberDataPoint(series.attributes, series.since, now, series.total) for series in self._taken(now)
        ]
        data = Sum(
            data_points=points, aggregation_temporality=self.temporality, is_monotonic=self.lowest == 0
        )
        return Metric(self.name, self.description, self.unit, data) if points else None
