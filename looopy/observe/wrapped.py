"""The plugs of a run that is watched: the same model and the same tools, asked within their spans.

Each is the socket that it wraps. What they emit goes through untouched; events open and close the spans (`spans.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, cast

from reactivex import Observable, abc

from looopy.events import LLMEvent, ToolEvent
from looopy.messages import ToolCall
from looopy.ports import LLMProvider, LLMRequest, ToolContext, ToolDefinition, ToolProvider
from looopy.reactive import Lockless
from looopy.state import LoopState

if TYPE_CHECKING:
    from looopy.observe.opened import Opened
    from looopy.observe.spans import RunSpans

T = TypeVar("T")


class WatchedModel:
    """An `LLMProvider` whose calls are made within a span of their own."""

    __slots__ = ("__wrapped__", "_spans")

    def __init__(self, provider: LLMProvider, spans: RunSpans) -> None:
        self.__wrapped__ = provider
        self._spans = spans

    @property
    def model(self) -> str:
        """The name that is asked for."""
        return getattr(self.__wrapped__, "model", "")

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model."""
        try:
            request, chat, within = self._spans.chat(request)
        except Exception as error:
            self._spans.faults.caught("a model call could not be recorded", error, lost=1)
            return self.__wrapped__.call(request)
        answer = cast("Any", within.run(self.__wrapped__.call, request))
        if not isinstance(answer, Observable):
            return answer  # the loop says what is wrong with that
        return _Within(within, cast("Observable[LLMEvent]", answer), chat)


class WatchedTools:
    """A `ToolProvider` whose calls are run within the span that `tool-start` opened."""

    __slots__ = ("__wrapped__", "_spans")

    def __init__(self, provider: ToolProvider, spans: RunSpans) -> None:
        self.__wrapped__ = provider
        self._spans = spans

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition] | Awaitable[Sequence[ToolDefinition]]:
        """The tools that there are for a task in this state."""
        return self.__wrapped__.tools(state)

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        """Run one of them."""
        tool, within = self._spans.tool(call)
        return _Within(within, within.run(self.__wrapped__.call, call, context), tool)


class _Within(Lockless[T]):
    """A source that is subscribed in a context; when it is given up, the span notes the time.

    It stands in for its source and adds nothing to it, so it hands observers on instead of wrapping them.
    """

    def __init__(self, context: Context, source: Observable[T], span: Opened | None) -> None:
        super().__init__()
        self._context = context
        self._source = source
        self._span = span

    def subscribe(
        self,
        on_next: abc.ObserverBase[T] | abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe to the source."""
        upstream = self._context.run(
            self._source.subscribe, on_next, on_error, on_completed, scheduler=scheduler
        )
        return upstream if self._span is None else _GivesUp(self._span, upstream)


class _GivesUp(abc.DisposableBase):
    """A subscription whose end is noted."""

    __slots__ = ("_span", "_upstream")

    def __init__(self, span: Opened, upstream: abc.DisposableBase) -> None:
        self._span = span
        self._upstream = upstream

    def dispose(self) -> None:
        """Leave."""
        self._span.given_up()
        self._upstream.dispose()
