"""Tools that play a script: a `ToolProvider` whose results a test writes down, as values or as marble diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import reactivex as rx
from reactivex import Observable

from looopy.events import Failure, ToolComplete, ToolEvent
from looopy.messages import JSON, ToolCall
from looopy.ports import ToolContext, ToolDefinition
from looopy.state import LoopState


class ScriptedTools:
    """A `ToolProvider` that gives each of its tools' calls the same outcome.

    Args:
        outcomes: for each tool its result as JSON, or the exception that it fails with, or a stream of `ToolEvent`, for example a marble
            diagram's `cold`.

    Attributes:
        calls: every call so far.
    """

    def __init__(self, **outcomes: JSON | Exception | Observable[ToolEvent]) -> None:
        self.calls: list[ToolCall] = []
        self._outcomes = outcomes

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:  # noqa: ARG002  the port's signature
        """One definition a tool; it takes whatever it is given."""
        return [ToolDefinition(name=name, description="Scripted.") for name in self._outcomes]

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:  # noqa: ARG002  the port's signature
        """The outcome that was written down for the tool."""

        def play(_: object) -> Observable[ToolEvent]:
            self.calls.append(call)
            outcome = self._outcomes[call.name]
            if isinstance(outcome, Observable):
                return cast("Observable[ToolEvent]", outcome)
            if isinstance(outcome, Exception):
                return rx.of(ToolComplete(error=Failure.of(outcome)))
            return rx.of(ToolComplete(result=outcome))

        return rx.defer(play)
