"""The tracer provider that `instrument` makes where the program has none, and the tracer that never raises.

The provider's spans are light (`light.py`) while nobody but looopy's own outlet listens to it and no limit of the SDK is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind

from looopy.observe.attributes import Attributes, Value, joined
from looopy.observe.faults import Faults
from looopy.observe.light import LightSpan
from looopy.observe.opened import MakesSpans, Opened, OpenSpan
from looopy.observe.sending.destinations import Outlet

_LIMITS = (
    "OTEL_SDK_DISABLED",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
)


class Provider(TracerProvider):
    """A provider of the SDK that can also make light spans.

    Attributes:
        outlet: where its spans go.
        takes_all: whether its sampler takes every trace that begins here.
        light: whether it may: nobody else listens, and the environment sets no limit.
        faults: what could not be said of its light spans.
    """

    def __init__(self, resource: Resource, sampler: Sampler | None) -> None:
        super().__init__(sampler, resource, shutdown_on_exit=False)
        self.outlet = Outlet.of(self)
        self.takes_all = self.sampler is DEFAULT_ON
        self.faults = Faults()
        self.light = not any(os.environ.get(name, "").strip() for name in _LIMITS)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Tell a processor of the spans that begin and end; from then on all of them are the SDK's, if it is not looopy's own."""
        if not isinstance(span_processor, Outlet):
            self.light = False
        super().add_span_processor(span_processor)


class CarefulTracer:
    """A tracer that never raises, whatever processors and samplers do: what fails is a span that is not recorded.

    Args:
        tracer: makes the spans.
        outlet: takes them when they have ended; None where that is not looopy's business.
        faults: counts what is lost.
    """

    __slots__ = ("_faults", "_outlet", "_tracer")

    def __init__(self, tracer: MakesSpans, outlet: Outlet | None, faults: Faults) -> None:
        self._tracer = tracer
        self._outlet = outlet
        self._faults = faults

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
        *,
        start_time: int | None = None,
    ) -> Span:
        """Begin a span; where that fails, the one above stands in for it, and records nothing."""
        try:
            return self._tracer.start_span(name, context, kind, attributes, start_time=start_time)
        except Exception as error:
            self._faults.caught("a span could not be begun, and is lost", error, lost=1)
            return NonRecordingSpan(trace.get_current_span(context).get_span_context())

    def begin(
        self, name: str, context: Context, kind: SpanKind, attributes: tuple[Attributes, ...]
    ) -> Opened:
        """Begin a span below the one in the context, that more shall be said of."""
        all_of_them = joined(*attributes)
        span = self.start_span(name, context, kind, all_of_them)
        if not isinstance(span, LightSpan):
            return OpenSpan(self, span, context)
        if span.known == all_of_them:  # else a sampler has put in a word
            span.steady, span.known = attributes, {}
        return span

    def end_span(self, span: Span, end_time: int | None = None) -> None:
        """End a span. Where a processor fails, those that come after it do not get the span."""
        try:
            span.end(end_time)
        except Exception as error:
            lost = 0 if self._outlet is None or self._has_passed(span) else 1
            self._faults.caught("a span could not be ended as it should", error, lost=lost)

    def _has_passed(self, span: Span) -> bool:
        with suppress(Exception):  # a span that cannot end may not know what it is either
            return self._outlet is not None and self._outlet.newest is span.get_span_context()
        return False
