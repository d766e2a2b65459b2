"""Who watches runs: nobody, until `looopy.observe.instrument` says otherwise.

A watcher is told of every execution before it begins. It may wrap the setup's plugs, is shown the events, and does nothing else: no more
than that is known of it in the loop. There is one for the whole process, as there is one OpenTelemetry for the whole process (docs/decisions/0009).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context as Variables
from dataclasses import dataclass
from random import getrandbits
from typing import Any, NamedTuple, Protocol

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context

from looopy.events import ContentDelta, Event, ThoughtDelta, ToolCallDelta, ToolProgress
from looopy.ports import Embedder, Embeddings, EmbedRequest
from looopy.setup import Setup
from looopy.state import LoopState

PIECES: frozenset[type[Event]] = frozenset((ContentDelta, ThoughtDelta, ToolCallDelta, ToolProgress))
"""What a watcher is not shown: there are thousands of them, and what they add up to comes again as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Where a run was asked for.

    Attributes:
        context: the OpenTelemetry context that was current.
        trace_id: 32 hex digits of its trace; a new id where there is no span.
        span_id: 16 hex digits of its span; empty where there is none.
        sampled: whether that span is recorded; True where there is none.
    """

    context: Context
    trace_id: str
    span_id: str = ""
    sampled: bool = True

    @classmethod
    def here(cls) -> Caller:
        """The caller that this code is."""
        context = otel.get_current()
        span = trace.get_current_span(context).get_span_context()
        if not span.is_valid:
            return cls(context=context, trace_id=f"{getrandbits(128):032x}")
        return cls(
            context=context,
            trace_id=trace.format_trace_id(span.trace_id),
            span_id=trace.format_span_id(span.span_id),
            sampled=span.trace_flags.sampled,
        )


def _nothing(_: Exception | None) -> None:
    """Who needs no word of the end."""


class Watched(NamedTuple):
    """What a watcher makes of one execution.

    Attributes:
        plugs: what the setup shall have instead: `llm_provider` and `tool_providers`, wrapped; empty where it is to stay as it is.
        see: is shown each event but `PIECES`, before anybody else is. It must not raise.
        context: the context variables in which the stream is subscribed; nobody else's.
        trace_id: the trace that the execution is recorded in.
        trace_url: where a person can look at it; empty where nobody knows.
        end: is told that the run is over, and by which error, also where its stream cannot say so any more. From any thread, perhaps again.
    """

    plugs: Mapping[str, Any]
    see: Callable[[Event], object]
    context: Variables
    trace_id: str
    trace_url: str = ""
    end: Callable[[Exception | None], object] = _nothing


class Watcher(Protocol):
    """Sees executions begin. It must not raise, and must not hold one back."""

    def watch(self, setup: Setup, state: LoopState, caller: Caller, /) -> Watched:
        """Take an execution in hand, just before its first event."""
        ...

    async def embed(
        self,
        embedder: Embedder,
        request: EmbedRequest,
        ask: Callable[[EmbedRequest], Awaitable[Embeddings]],
        /,
    ) -> Embeddings:
        """Let texts be embedded: `ask` does it, with the request or one that says under which span it is."""
        ...


_watcher: Watcher | None = None


def watcher() -> Watcher | None:
    """Who watches the runs that begin now."""
    return _watcher


def watch_with(new: Watcher | None) -> Watcher | None:
    """Let this one watch the runs that begin from now on, or nobody; returns who did before."""
    global _watcher
    before, _watcher = _watcher, new
    return before
