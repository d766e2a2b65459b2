"""Small tools and agents for several files of tests, and how to look at what a run did."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import reactivex as rx
from reactivex import Observable

from looopy import AgentLoop, InMemoryStateStore, Message
from looopy.events import (
    BLANK,
    ArtifactUpdate,
    Event,
    Failure,
    InputRequired,
    StatusUpdate,
    ToolComplete,
    ToolEvent,
    ToolProgress,
    ToolStart,
)
from looopy.messages import ToolCall
from looopy.ports import ToolContext, ToolDefinition
from looopy.reactive import from_awaitable
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, says


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def delete(path: str, context: ToolContext[object]) -> str:
    """Delete a file, once somebody agrees."""
    return f"deleted {path}" if context.ask(f"delete {path}?") == "yes" else f"kept {path}"


async def events_of(run: Run) -> list[Event]:
    async with asyncio.timeout(5):
        return [event async for event in run]


def kinds(events: list[Event]) -> list[str]:
    return [event.status.state if isinstance(event, StatusUpdate) else event.kind for event in events]


def answers(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.tool_call_id, message.text) for message in messages if message.role == "tool"]


async def garbage_of(work: Callable[[], Awaitable[object]]) -> list[str]:
    """The types of what work leaves behind for the garbage collector to find."""
    await work()  # what is made once is no garbage
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await work()
        await asyncio.sleep(0)  # the loop's own last callbacks
        gc.collect()
        return [type(each).__qualname__ for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


Work: TypeAlias = Callable[[ToolCall, ToolContext[Any]], Observable[ToolEvent]]


class Tools:
    """A ToolProvider of the named tools, which all do the same.

    Attributes:
        listed: what it offers; a test may change it.
        contexts: what its tools were told, call by call.
    """

    def __init__(self, *names: str, work: Work | None = None) -> None:
        self.listed = [ToolDefinition(name=name) for name in names]
        self.contexts: list[ToolContext[Any]] = []
        self._work: Work = work or (lambda call, _: rx.of(ToolComplete(result=f"{call.name} ran")))

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:
        return self.listed

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        self.contexts.append(context)
        return self._work(call, context)


class AsyncTools(Tools):
    """The same, with a list that must be awaited."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.asked: list[int] = []

    def tools(self, state: LoopState, /) -> Any:
        async def fetch() -> Sequence[ToolDefinition]:
            self.asked.append(state.iteration)
            return self.listed

        return fetch()


def keeping(*script: Any, **options: Any) -> tuple[AgentLoop, ScriptedModel]:
    """An agent that keeps its tasks, with its model."""
    model = ScriptedModel(*script)
    store = options.pop("task_state_store", None) or InMemoryStateStore()
    agent = AgentLoop(llm_provider=model, tools=[add, delete], task_state_store=store, **options)
    return agent, model


def doing(work: Work, *names: str) -> Tools:
    """Tools that do what the test says."""
    return Tools(*names, work=work)


def agent_with(*tools: Tools, asks: Any = None, **options: Any) -> AgentLoop:
    """An agent whose model calls `work`, or what it is told to call, and then says that it is done."""
    return AgentLoop(
        llm_provider=ScriptedModel(asks or calls("work"), says("done")), tool_providers=tools, **options
    )


def of_tools(events: list[Event]) -> list[Event]:
    """The events of tool calls, without what differs from run to run."""
    blank = {"task_id": "", "context_id": "", "seq": 0, "timestamp": BLANK}
    shown = [
        replace(event, **blank)
        for event in events
        if isinstance(event, ToolStart | ToolProgress | ToolComplete | InputRequired | ArtifactUpdate)
    ]
    return [replace(event, seconds=0.0) if isinstance(event, ToolComplete) else event for event in shown]


async def outcome(work: Work, **options: Any) -> list[Event]:
    """What is seen of one call of a tool, after its start."""
    events = of_tools(await events_of(agent_with(doing(work, "work"), **options).execute("go")))
    assert events[0] == ToolStart(call_id="call_1", tool_name="work")
    return events[1:]


def complete(result: object = None, error: Failure | None = None) -> ToolComplete:
    """How the call of `outcome` ends."""
    return ToolComplete(call_id="call_1", tool_name="work", result=result, error=error)


def awaiting(act: Callable[[], Awaitable[ToolEvent]]) -> Work:
    """A tool that awaits its end."""
    return lambda _call, _context: from_awaitable(act)
