"""Light spans: what a run records where nobody but looopy's own outlet listens to the provider.

A span of the SDK costs 25 to 45 µs, most of it for what nobody uses here: limits, checks of values that are known to be good, and a sampler asked
anew for each child. A run has six spans and costs about a millisecond, so `LightSpan` does the same for a fraction. Else, and for everybody else's
spans, the SDK makes them.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, cast

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
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
)
from opentelemetry.util.types import Attributes, AttributeValue

from looopy.errors import redact, words
from looopy.observe import attributes as a

if TYPE_CHECKING:
    from looopy.observe.opened import Opened, Tracer
    from looopy.observe.tracer import Provider

P = ParamSpec("P")
_Lock = type(threading.RLock())  # which `threading` wraps in a function
_UNSAID = "something could not be said of a span; the rest of it is sent"


class LightTracer:
    """Makes looopy's own spans.

    Args:
        provider: whose they are.
        tracer: the provider's own tracer, for when light ones will not do.
        scope: what they say made them.
    """

    __slots__ = ("_tracer", "provider", "scope")

    def __init__(self, provider: Provider, tracer: trace.Tracer, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.scope = scope
        self._tracer = tracer

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, a.Value] | None = None,
        *,
        start_time: int | None = None,
    ) -> Span:
        """Begin a span below the one in the context, as `Tracer.start_span` does; its attributes are taken as they are."""
        provider = self.provider
        if not provider.light:
            return self._tracer.start_span(name, context, kind, attributes, start_time=start_time)
        above = trace.get_current_span(context)
        parent = above.get_span_context()
        if isinstance(above, LightSpan):
            here = self.child_of(parent)
        else:
            ids = provider.id_generator
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
                attributes = cast("Mapping[str, a.Value]", found.attributes)
        span = LightSpan(self, name, here, kind, dict(attributes or {}))
        span.start_time = start_time or span.start_time
        span.parent = parent if parent.is_valid else None
        span.around = context
        return span

    def child_of(self, parent: SpanContext) -> SpanContext:
        """The ids of a span below a light one: the sampler has taken the trace, and those that OpenTelemetry knows take whole traces."""
        span_id = self.provider.id_generator.generate_span_id()
        return SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)


class LightSpan(Span):
    """A span that is being recorded; one of OpenTelemetry's API, so that other code may write on it as on any.

    What is said of it is kept as it was said, and worked out when somebody reads `attributes`: the thread that sends it. When it is over it is
    handed on as it is, since it has what readers of the SDK's spans look for; `readable` makes one of those.

    Attributes:
        around: a context in which the span above it is the current one, or one as good; None for the one that is current.
        known: what was worked out of what was said of it.
        said: what was not.
        working: held while attributes are worked out: two exporters may want them at once. Each span has its own, so that no open one waits for
            another, and none that a fork's child can see is held by a thread that is not there.
    """

    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    status: Status = Status()
    dropped_attributes = dropped_events = dropped_links = 0
    end_time: int | None = None
    parent: SpanContext | None = None
    around: Context | None = None
    _inside: Context | None = None
    _over_at: int | None = None
    _at_once = False

    def __init__(
        self,
        maker: LightTracer,
        name: str,
        context: SpanContext,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
    ) -> None:
        self.maker = maker
        self.instrumentation_scope = maker.scope
        self.name = name
        self.context = context
        self.kind = kind
        self.start_time = time.time_ns()
        self.known = attributes
        self.said: list[Callable[[], Mapping[str, AttributeValue]]] = []
        self.working = _Lock()

    # ------------------------------------------------------------------------------------------------- as its run sees it

    @property
    def span(self) -> LightSpan:
        """Itself."""
        return self

    @property
    def inside(self) -> Context:
        """A context in which it is the current span; made at the first use, since many spans are no caller of anything."""
        if self._inside is None:
            self._inside = trace.set_span_in_context(self, self.around)
        return self._inside

    def keep(self, values: Mapping[str, object]) -> None:
        """Let those find something who look into its context."""
        self._inside = Context({**self.inside, **values})

    def below(self, tracer: Tracer, name: str, kind: SpanKind, attributes: a.Attributes) -> Opened:
        """Begin a span below it."""
        maker = self.maker
        if not maker.provider.light:
            return tracer.begin(name, self.inside, kind, attributes)
        span = LightSpan(
            maker, name, maker.child_of(self.context), kind, cast("dict[str, AttributeValue]", attributes)
        )
        span.parent = self.context
        # As good as its own context, if it has made none: nothing is in there but itself.
        span.around = self._inside or self.around
        return span

    def say(self, what: Callable[P, a.Attributes], *about: P.args, **how: P.kwargs) -> None:
        """Say something of it, which is worked out when it is sent."""
        if self._at_once:
            self.set_attributes(what(*about, **how))
        else:
            self.said.append(partial(what, *about, **how))

    def say_at_once(self) -> None:
        """Work out what is said of it from now on as it is said."""
        self._at_once = True

    def given_up(self) -> None:
        """What it stands for ends now."""
        self._over_at = self._over_at or time.time_ns()

    def over(self) -> None:
        """End it, when what it stands for ended."""
        self.end(self._over_at)

    # ---------------------------------------------------------------------------------------- as those see it who read it

    def end(self, end_time: int | None = None) -> None:
        """It is over; later calls do nothing."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self._inside = self.around = None  # it may wait for long to be sent
            self.maker.provider.outlet.on_end(cast("ReadableSpan", self))

    @property
    def resource(self) -> Resource:
        """What it is a span of."""
        return self.maker.provider.resource

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
                    self.maker.provider.faults.caught(_UNSAID, error)
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
