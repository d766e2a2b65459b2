"""Call a tool as the loop does, and listen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reactivex import Observable

from looopy.events import (
    Failure,
    ToolComplete,
    ToolEvent,
)
from looopy.messages import ToolCall
from looopy.ports import ToolContext
from looopy.state import LoopState
from looopy.tools.function import FunctionTools

BOUND = 5.0
"""Seconds that a wait of a test may last."""


class Heard:
    """A subscriber that writes down what comes."""

    def __init__(self, source: Observable[ToolEvent]) -> None:
        self.events: list[ToolEvent] = []
        self.error: Exception | None = None
        self.over = asyncio.Event()
        self.any = asyncio.Event()
        self.subscription = source.subscribe(self._next, self._fail, self.over.set)

    def _next(self, event: ToolEvent) -> None:
        self.events.append(event)
        self.any.set()

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.over.set()

    async def all(self) -> list[ToolEvent]:
        async with asyncio.timeout(BOUND):
            await self.over.wait()
        if self.error is not None:
            raise self.error
        return self.events


def call_context(**given: Any) -> ToolContext[Any]:
    blank = {
        "task_id": "task",
        "context_id": "context",
        "call_id": "call",
        "tool_name": "tool",
        "iteration": 1,
        "deps": None,
        "emit": lambda event: None,
        "cancelled": lambda: False,
    }
    return ToolContext(**{**blank, **given})


def heard(function: Callable[..., Any], arguments: dict[str, Any] | None = None, **given: Any) -> Heard:
    """Call the only tool of a provider and listen."""
    provider = FunctionTools([function])
    name = provider.tools(LoopState(task_id="", context_id=""))[0].name
    return Heard(provider.call(ToolCall("call", name, arguments or {}), call_context(**given)))


async def answer(
    function: Callable[..., Any], arguments: dict[str, Any] | None = None, **given: Any
) -> ToolEvent:
    """The only event of a call."""
    (event,) = await heard(function, arguments, **given).all()
    return event


def failed(type: str, message: str, *, retryable: bool = False) -> ToolComplete:
    return ToolComplete(error=Failure(type=type, message=message, retryable=retryable))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not holds():  # noqa: ASYNC110  what is waited for happens in another thread, or in somebody else's task
            await asyncio.sleep(0)
