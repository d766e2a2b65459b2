"""Instruments with a reader, and what it reads."""

from __future__ import annotations

from typing import Any, TypeAlias

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from looopy.observe.metrics import Instruments, RunMeter

Points: TypeAlias = dict[str, list[tuple[dict[str, Any], Any]]]

AGENT = {"gen_ai.agent.name": "clerk"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "litellm"}
ANSWERED = {**CHAT, "gen_ai.response.model": "scripted-model"}
RUN = {"gen_ai.operation.name": "invoke_agent", **AGENT}
TOOL = {"gen_ai.operation.name": "execute_tool", **AGENT}


class Metered:
    """Instruments with a reader."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.instruments = Instruments(self.provider)

    def run(self, **options: Any) -> RunMeter:
        return self.instruments.run(agent="clerk", provider="litellm", **options)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self) -> Points:
        """Attributes and value of each point; of a histogram, its count and sum."""
        return {
            name: sorted(
                ((dict(point.attributes), value(point)) for point in metric.data.data_points), key=repr
            )
            for name, metric in self.metrics().items()
        }


def value(point: Any) -> Any:
    if isinstance(point, HistogramDataPoint):
        return point.count, round(point.sum, 6)
    return round(point.value, 9)
