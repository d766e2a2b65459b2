"""The tracer provider that `instrument` makes where the program has none, and a lighter way for it to make looopy's own spans.

A span of the SDK costs 25 to 45 µs, most of it for what nobody uses here: limits, checks of values that are known to be good, and a sampler asked
anew for each child. A run has six spans and costs about a millisecond, so `LightSpan` does the same for a quarter. It is made only while nobody but
looopy's own outlet listens to the provider and no limit of the SDK is set; else, and for everybody else's spans, the SDK makes them.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.util.types import Attributes, AttributeValue

from looopy.errors import redact, words
from looopy.observe.attributes import Value
from looopy.observe.destinations import Outlet
from looopy.observe.faults import Faults
from looopy.observe.spans import MakesSpans

_UNSAID = "something could not be said of a span; the rest of it is sent"
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


class LightTracer:
    """Makes looopy's own spans.

    Args:
        provider: whose they are.
        tracer: the provider's own tracer, for when light ones will not do.
        scope: what they say made them.
    """

    __slots__ = ("_provider", "_scope", "_tracer")

    def __init__(self, provider: Provider, tracer: Tracer, scope: InstrumentationScope) -> None:
        self._provider = provider
        self._tracer = tracer
        self._scope = scope

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *,
        start_time: int | None = None,
    ) -> Span:
        """Begin a span below the one in the context, as `Tracer.start_span` does; its attributes are taken as they are."""
        provider = self._provider
        if not provider.light:
            return self._tracer.start_span(name, context, kind, attributes, start_time=start_time)
        above = trace.get_current_span(context)
        parent = above.get_span_context()
        ids = provider.id_generator
        if isinstance(above, LightSpan):
            # The sampler has taken the trace, and the samplers that OpenTelemetry knows take whole traces.
            here = SpanContext(
                parent.trace_id, ids.generate_span_id(), False, parent.trace_flags, parent.trace_state
            )
        else:
            trace_id = parent.trace_id if parent.is_valid else ids.generate_trace_id()
            random = (
                parent.trace_flags & ~TraceFlags.SAMPLED if parent.is_valid else TraceFlags.RANDOM_TRACE_ID
            )
            if provider.takes_all and not parent.is_valid:
                here = SpanContext(
                    trace_id, ids.generate_span_id(), False, TraceFlags(random | TraceFlags.SAMPLED)
                )
            else:
                found = provider.sampler.should_sample(context, trace_id, name, kind, attributes)
                flags = TraceFlags(random | found.decision.is_sampled())
                here = SpanContext(trace_id, ids.generate_span_id(), False, flags, found.trace_state)
                if not found.decision.is_recording():
                    return NonRecordingSpan(here)
                attributes = cast("Attributes", found.attributes)
        span = LightSpan.__new__(LightSpan)
        span.name = name
        span.context = here
        span.parent = parent if parent.is_valid else None
        span.kind = kind
        span.start_time = start_time or time.time_ns()
        span.instrumentation_scope = self._scope
        span.provider = provider
        span.said = [lambda: attributes] if attributes else []
        span.known = {}
        span.working = threading.RLock()
        return span


class LightSpan(Span):
    """A span that is being recorded; one of OpenTelemetry's API, so that other code may write on it as on any.

    What is said of it is kept as it was said, and worked out when somebody reads `attributes`: the thread that sends it. When it is over it is
    handed on as it is, since it has what readers of the SDK's spans look for; `readable` makes one of those.
    """

    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    status: Status = Status()
    dropped_attributes = dropped_events = dropped_links = 0
    end_time: int | None = None

    name: str
    context: SpanContext
    parent: SpanContext | None
    kind: SpanKind
    start_time: int
    instrumentation_scope: InstrumentationScope
    provider: Provider
    said: list[Callable[[], Mapping[str, AttributeValue]]]
    known: dict[str, AttributeValue]
    working: threading.RLock
    """Held while attributes are worked out: two exporters may want them at once. Each span has its own, so that no open one waits for another, and
    none that a fork's child can see is held by a thread that is not there."""

    def end(self, end_time: int | None = None) -> None:
        """It is over; later calls do nothing."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self.provider.outlet.on_end(cast("ReadableSpan", self))

    @property
    def resource(self) -> Resource:
        """What it is a span of."""
        return self.provider.resource

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """All that was said so far; each thing worked out once, by whoever asks first."""
        with self.working:
            if self.said:
                self.known = dict(self.known)  # what somebody has read stays as it was read
            while self.said:
                say = self.said.pop(0)
                try:
                    new = say()
                except Exception as error:
                    self.provider.faults.caught(_UNSAID, error)
                else:
                    self.known.update(new)
            return self.known

    def readable(self) -> ReadableSpan:
        """The same as a span of the SDK, for exporters that need no less."""
        return ReadableSpan(
            self.name,
            self.context,
            self.parent,
            self.resource,
            dict(self.attributes),
            self.events,
            self.links,
            self.kind,
            None,
            self.status,
            self.start_time,
            self.end_time,
            self.instrumentation_scope,
        )

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return self.context

    def is_recording(self) -> bool:
        """Whether what is written on it is kept."""
        return self.end_time is None

    def later(self, say: Callable[[], Mapping[str, AttributeValue]]) -> None:
        """Write attributes that are worked out when they are needed."""
        if self.end_time is None:
            self.said.append(say)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Write one attribute."""
        kept = BoundedAttributes(immutable=False)
        kept[key] = value  # by itself, since the SDK cleans the key of a single one less
        self.later(lambda: kept)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Write several attributes, as they are now."""
        kept = _cleaned(attributes)
        self.later(lambda: kept)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Say what happened within it."""
        if self.end_time is None:
            self.events = (*self.events, Event(name, _cleaned(attributes), timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Say what else it belongs to."""
        if self.end_time is None and (context.is_valid or context.trace_state or attributes):
            self.links = (*self.links, Link(context, _cleaned(attributes)))

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if self.end_time is None:
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it ended; who says that all is well has the last word, as with the SDK's spans."""
        if self.end_time is not None or self.status.status_code is StatusCode.OK:
            return
        new = status if isinstance(status, Status) else Status(status, description)
        if new.status_code is not StatusCode.UNSET:
            self.status = new

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Say that an exception happened within it."""
        kind = type(exception)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        about: dict[str, AttributeValue] = {
            "exception.type": module + kind.__qualname__,
            "exception.message": words(exception),
            "exception.stacktrace": redact("".join(traceback.format_exception(exception))),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**about, **(attributes or {})}, timestamp)


def _cleaned(attributes: Attributes) -> Mapping[str, AttributeValue]:
    """A copy of what somebody writes, of that alone which an exporter can send: as the SDK does it, with its words where it leaves something out."""
    return BoundedAttributes(attributes=attributes)
