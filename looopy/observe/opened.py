"""A span that is open: what stands for it, below which others begin, and of which more may be said than can be worked out at once.

`Opened` is what the spans of a run (`spans.py`) are to it. A light span (`light.py`) is one itself; `OpenSpan` makes one of any other.
OpenTelemetry's API only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Protocol, TypeVarTuple

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from looopy.observe.attributes import Attributes, Value

Ts = TypeVarTuple("Ts")


class MakesSpans(Protocol):
    """What is needed of a tracer."""

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
        *,
        start_time: int | None = None,
    ) -> Span:
        """Begin a span below the one in the context."""
        ...


class Tracer(MakesSpans, Protocol):
    """A tracer that does not raise."""

    def begin(
        self, name: str, context: Context, kind: SpanKind, attributes: tuple[Attributes, ...]
    ) -> Opened:
        """Begin a span below the one in the context; the attributes are taken as they are, and the mappings are kept: nobody changes them."""
        ...

    def end_span(self, span: Span, end_time: int | None = None) -> None:
        """End a span."""
        ...


class Opened(Protocol):
    """A span that is open, as the run sees it that it is a part of."""

    @property
    def span(self) -> Span:
        """The span."""
        ...

    @property
    def context(self) -> SpanContext:
        """Its ids."""
        ...

    @property
    def inside(self) -> Context:
        """A context in which it is the current one."""
        ...

    def keep(self, values: Mapping[str, object]) -> Context:
        """Let those find something who look into that context; returns it."""
        ...

    def below(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        steady: tuple[Attributes, ...],
        attributes: Attributes,
    ) -> Opened:
        """Begin a span below it, as `Tracer.begin` does.

        Args:
            tracer: begins it.
            name: of the span.
            kind: of the span.
            steady: attributes that other spans have too: mappings that nobody changes.
            attributes: of this span alone. The mapping is kept.
        """
        ...

    def say(self, *words: *tuple[Callable[[*Ts], Attributes], *Ts]) -> None:
        """Say something of it, which a function makes of what comes after it: now, or, where the span can wait, when it is sent."""
        ...

    def say_at_once(self) -> None:
        """Let nothing wait that is said of it, and of those below it, from now on: it is too large."""
        ...

    def given_up(self) -> None:
        """What it stands for ends now; why, and so the end of the span, is told later: a store may have to be waited for."""
        ...

    def over(self) -> None:
        """End it, at the time when what it stands for ended."""
        ...


class OpenSpan:
    """Any span of OpenTelemetry that is open."""

    __slots__ = ("_over_at", "_tracer", "context", "inside", "span")

    def __init__(self, tracer: Tracer, span: Span, context: Context) -> None:
        self._tracer = tracer
        self.span = span
        self.context = span.get_span_context()
        self.inside = trace.set_span_in_context(span, context)
        self._over_at: int | None = None

    def keep(self, values: Mapping[str, object]) -> Context:
        """Let those find something who look into its context."""
        self.inside = Context({**self.inside, **values})
        return self.inside

    def below(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        steady: tuple[Attributes, ...],
        attributes: Attributes,
    ) -> Opened:
        """Begin a span below it."""
        return tracer.begin(name, self.inside, kind, (*steady, attributes))

    def say(self, *words: *tuple[Callable[[*Ts], Attributes], *Ts]) -> None:
        """Say something of it, now."""
        self.span.set_attributes(words[0](*words[1:]))

    def say_at_once(self) -> None:
        """Nothing waits anyway."""

    def given_up(self) -> None:
        """What it stands for ends now."""
        self._over_at = self._over_at or time.time_ns()

    def over(self) -> None:
        """End it."""
        self._tracer.end_span(self.span, self._over_at)


def within(context: Context) -> Variables:
    """A copy of the context variables that are now, in which this context of OpenTelemetry is the current one."""
    variables = copy_context()
    variables.run(_enter, context)
    return variables


def _entrance() -> Callable[[Context], object]:
    """What lets an OpenTelemetry context be the current one: the variable that `attach` sets is found by setting it, since to ask for it costs three calls each time."""
    probe, variables = Context(), copy_context()
    variables.run(otel.attach, probe)
    return next((variable.set for variable, value in variables.items() if value is probe), otel.attach)


_enter = _entrance()
