"""The plugs of a run that is watched: the same model and the same tools, asked within their spans.

Each is the socket that it wraps. What they emit goes through untouched; events open and close the spans (`spans.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any, Protocol

from reactivex import Observable

from looopy.events import LLMEvent, ToolEvent
from looopy.messages import ToolCall
from looopy.ports import LLMProvider, LLMRequest, ToolContext, ToolDefinition, ToolProvider
from looopy.reactive import Within
from looopy.state import LoopState

if TYPE_CHECKING:
    from looopy.observe.opened import Opened
    from looopy.observe.spans import RunSpans


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
        answer: Any = within.run(self.__wrapped__.call, request)
        given: object = answer
        if not isinstance(given, Observable):
            return answer  # the loop says what is wrong with that
        return Within(within, answer, chat.given_up if chat else None)


class KnowsTools(Protocol):
    """What is needed of a run's spans here."""

    def tool(self, call: ToolCall) -> tuple[Opened | None, Variables]:
        """A tool is run: its span, if it has one, and the context to run it in."""
        ...


class WatchedTools:
    """A `ToolProvider` whose calls are run within the span that `tool-start` opened."""

    __slots__ = ("__wrapped__", "_spans")

    def __init__(self, provider: ToolProvider, spans: KnowsTools) -> None:
        self.__wrapped__ = provider
        self._spans = spans

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition] | Awaitable[Sequence[ToolDefinition]]:
        """The tools that there are for a task in this state."""
        return self.__wrapped__.tools(state)

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        """Run one of them."""
        tool, within = self._spans.tool(call)
        events: Any = within.run(self.__wrapped__.call, call, context)
        given: object = events
        if not isinstance(given, Observable):
            return events  # the loop knows what to do with that
        return Within(within, events, tool.given_up if tool else None)
