"""Light spans: what a run records where nobody but looopy's own outlet listens to the provider.

A span of the SDK costs 25 to 45 µs, most of it for what nobody uses here: limits, checks of values that are known to be good, and a sampler asked
anew for each child. A run has six spans and costs about a millisecond, so `LightSpan` does the same for a fraction. Else, and for everybody else's
spans, the SDK makes them.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from random import getrandbits
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVarTuple, cast

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes, AttributeValue

from looopy.errors import words
from looopy.observe import attributes as a
from looopy.observe.sending.encoding import UNSET
from looopy.redaction import redact

if TYPE_CHECKING:
    from looopy.observe.opened import Opened, Tracer
    from looopy.observe.tracer import Provider

Ts = TypeVarTuple("Ts")
_CURRENT = next(iter(trace.set_span_in_context(INVALID_SPAN, Context())))  # the API's own key
_Lock = type(RLock())  # which `threading` wraps in a function
_NOTHING: Mapping[str, object] = {}
_UNSAID = "something could not be said of a span; the rest of it is sent"


class LightTracer:
    """Makes looopy's own spans.

    Args:
        provider: whose they are.
        tracer: the provider's own tracer, for when light ones will not do.
        scope: what they say made them.
    """

    __slots__ = ("_tracer", "ended", "provider", "resource", "scope")

    def __init__(self, provider: Provider, tracer: trace.Tracer, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.resource = provider.resource
        self.scope = scope
        self.ended: Callable[[Any], None] = provider.outlet.on_end
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
        above = (otel.get_current() if context is None else context).get(_CURRENT)
        parent = above.get_span_context() if isinstance(above, Span) else None
        if parent is not None and not parent.is_valid:
            parent = None
        if parent is not None and type(above) is LightSpan:
            here = _child_of(parent)
        elif parent is None and provider.takes_all:
            here = _context(getrandbits(128) or 1, _BEGUN_HERE, DEFAULT_TRACE_STATE)
        else:
            trace_id = parent.trace_id if parent else getrandbits(128) or 1
            random = parent.trace_flags & ~TraceFlags.SAMPLED if parent else TraceFlags.RANDOM_TRACE_ID
            found = provider.sampler.should_sample(context, trace_id, name, kind, attributes)
            flags = TraceFlags(random | found.decision.is_sampled())
            here = _context(trace_id, flags, found.trace_state or DEFAULT_TRACE_STATE)
            if not found.decision.is_recording():
                return NonRecordingSpan(here)
            attributes = cast("Mapping[str, a.Value]", found.attributes)
        span = LightSpan(self, name, here, kind, dict(attributes or {}))
        span.start_time = start_time or span.start_time
        span.parent = parent
        span.around = context
        return span


def _child_of(parent: SpanContext) -> SpanContext:
    """The ids of a span below a light one: the sampler has taken the trace, and those that OpenTelemetry knows take whole traces."""
    trace_id, _, _, flags, state, _ = parent  # its properties are functions in Python
    return _context(trace_id, flags, state)


def _context(trace_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
    """The ids of a new span, past the constructor, which takes longer to ask whether they are valid than all else that a span is made of."""
    return _new(SpanContext, (trace_id, getrandbits(64) or 1, False, flags, state, True))


_new: Callable[..., SpanContext] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
_BEGUN_HERE = TraceFlags(TraceFlags.RANDOM_TRACE_ID | TraceFlags.SAMPLED)


class LightSpan(Span):
    """A span that is being recorded; one of OpenTelemetry's API, so that other code may write on it as on any.

    What is said of it is kept as it was said, and worked out when somebody reads `attributes`: the thread that sends it. When it is over it is
    handed on as it is, since it has what readers of the SDK's spans look for; `readable` makes one of those.

    Attributes:
        around: a context in which the span above it is the current one, or one as good; None for the one that is current.
        steady: what is said of it and of others in the same words: mappings that nobody changes.
        known: what else was worked out of what was said of it.
        said: what was not: each time a function, and what it is called with.
    """

    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    status: Status = UNSET
    dropped_attributes = dropped_events = dropped_links = 0
    end_time: int | None = None
    parent: SpanContext | None = None
    around: Context | None = None
    _inside: Context | None = None
    _over_at: int | None = None
    _at_once = False
    _overwritten = False
    steady: tuple[a.Attributes, ...] = ()
    _working: RLock | None = None

    def __init__(
        self,
        maker: LightTracer,
        name: str,
        context: SpanContext,
        kind: SpanKind,
        attributes: a.Attributes,
    ) -> None:
        self.maker = maker
        self.name = name
        self.context = context
        self.kind = kind
        self.start_time = time.time_ns()
        self.known = attributes
        self.said: list[tuple[Any, ...]] = []

    # ------------------------------------------------------------------------------------------------- as its run sees it

    @property
    def span(self) -> LightSpan:
        """Itself."""
        return self

    @property
    def inside(self) -> Context:
        """A context in which it is the current span; made at the first use, since many spans are no caller of anything."""
        return self._inside or self.keep(_NOTHING)

    def keep(self, values: Mapping[str, object]) -> Context:
        """Let those find something who look into its context."""
        above = self._inside or self.around
        self._inside = Context({**(otel.get_current() if above is None else above), _CURRENT: self, **values})
        return self._inside

    def below(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        steady: tuple[a.Attributes, ...],
        attributes: a.Attributes,
    ) -> Opened:
        """Begin a span below it."""
        maker = self.maker
        if not maker.provider.light:
            return tracer.begin(name, self.inside, kind, (*steady, attributes))
        here = self.context
        span = LightSpan(maker, name, _child_of(here), kind, attributes)
        span.steady = steady
        span.parent = here
        # As good as its own context, if it has made none: nothing is in there but itself.
        span.around = self._inside or self.around
        span._at_once = self._at_once
        return span

    def say(self, *words: *tuple[Callable[[*Ts], a.Attributes], *Ts]) -> None:
        """Say something of it, which is worked out when it is sent."""
        if self.end_time is not None:
            return  # somebody else has ended it, and it may be read by now
        if self._at_once:
            self.set_attributes(words[0](*words[1:]))
        else:
            self.said.append(words)

    def say_at_once(self) -> None:
        """Work out what is said of it, and of those below it, from now on as it is said."""
        self._at_once = True

    def given_up(self) -> None:
        """What it stands for ends now."""
        if self.end_time is None:
            self._over_at = self._over_at or time.time_ns()

    # ---------------------------------------------------------------------------------------- as those see it who read it

    def end(self, end_time: int | None = None) -> None:
        """It is over, since when what it stands for was; later calls do nothing."""
        if self.end_time is None:
            self.end_time = end_time or self._over_at or time.time_ns()
            self._inside = self.around = None  # it may wait for long to be sent
            self.maker.ended(self)

    over = end  # as its run calls that

    resource = property(attrgetter("maker.resource"), doc="What it is a span of.")
    instrumentation_scope = property(attrgetter("maker.scope"), doc="What made it.")

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """All that was said so far, as it is now."""
        return a.joined(*self.steady, self.own())

    def parts(self) -> tuple[tuple[a.Attributes, ...], a.Attributes]:
        """What it says in the same words as others, and all the rest; no name is in two of them."""
        own = self.own()
        return ((), a.joined(*self.steady, own)) if self._overwritten else (self.steady, own)

    def own(self) -> a.Attributes:
        """All that was said so far, without what is steady; each thing worked out once, by whoever asks first."""
        if self.said or self._working is not None:
            # Two exporters may want them at once. Each span has its own lock, so that no open one waits for another, nor a fork's child for one
            # that was being worked out when it began; and it is made here, since few spans are read while they are open.
            with self._working or vars(self).setdefault("_working", _Lock()):
                while said := self.said:
                    words = said.pop(
                        0
                    )  # before it is worked out, since a hook may read the span that it writes on
                    try:
                        self.known.update(words[0](*words[1:]))
                    except Exception as error:
                        self.maker.provider.faults.caught(_UNSAID, error)
        return self.known

    def readable(self) -> ReadableSpan:
        """The same as a span of the SDK, for exporters that need no less."""
        return ReadableSpan(
            self.name,
            self.context,
            self.parent,
            self.resource,
            self.attributes,
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

    def later(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Write attributes, after what was said before them."""
        if self.end_time is None:
            self._overwritten = True  # it may be
            self.said.append((dict, attributes))

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Write one attribute."""
        kept = BoundedAttributes(immutable=False)
        kept[key] = value  # by itself, since the SDK cleans the key of a single one less
        self.later(kept)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Write several attributes, as they are now."""
        kept = _cleaned(attributes)
        self.later(kept)

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
