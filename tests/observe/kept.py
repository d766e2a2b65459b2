"""An exporter of metrics that keeps what it is given, and what that says but for the times."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

RESOURCE = Resource({"service.name": "test"})
PREFERENCE = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
SECONDS = 5.0  # the bound of every wait


class Kept(MetricExporter):
    """Keeps what it is given, or does as scripted: a result, an error to raise, or something to call."""

    def __init__(self, *script: object) -> None:
        super().__init__()
        self.script = list(script)
        self.exports: list[MetricsData] = []
        self.closed = 0
        self.made = 0
        self.changed = threading.Condition()

    def __call__(self) -> Kept:
        self.made += 1
        return self

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> Any:
        with self.changed:
            self.exports.append(metrics_data)
            self.changed.notify_all()
        act = self.script.pop(0) if self.script else MetricExportResult.SUCCESS
        if isinstance(act, Exception):
            raise act
        return act() if callable(act) else act

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        self.closed += 1

    def wait(self, exports: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.exports) >= exports, SECONDS)


def plain(data: MetricsData | None) -> Any:
    """Everything but the times, which are checked to be in order."""
    if data is None:
        return None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    named = {}
    for metric in scope.metrics:
        points = []
        for point in metric.data.data_points:
            values = asdict(point)
            assert 0 < values.pop("start_time_unix_nano") <= values.pop("time_unix_nano")
            points.append(values)
        told = {name: value for name, value in vars(metric.data).items() if name != "data_points"}
        named[metric.name] = (type(metric.data), metric.unit, metric.description, told, points)
    assert len(named) == len(scope.metrics)
    return resource.resource, resource.schema_url, scope.scope, scope.schema_url, named
