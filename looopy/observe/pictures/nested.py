"""What a picture shows beside a run's own events: those of the agents that its tools call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import Context as Variables
from itertools import repeat

from opentelemetry.context import Context

from looopy.events import Event
from looopy.messages import ToolCall
from looopy.observe.carried import by_run, called_from, in_tool
from looopy.observe.opened import within
from looopy.observe.pictures.timeline import Origin
from looopy.observe.wrapped import WatchedTools
from looopy.ports import Embedder, Embeddings, EmbedRequest
from looopy.setup import Setup
from looopy.state import LoopState
from looopy.watcher import Caller, Watched, Watcher, watch_with, watcher


@contextmanager
def kept() -> Generator[Kept]:
    """Keep the events of the runs that begin within, whoever watches them otherwise."""
    keeps = Kept(watcher())
    before = watch_with(keeps)
    try:
        yield keeps
    finally:
        if watcher() is keeps:  # else the program has begun to record
            watch_with(before)


class Kept:
    """A watcher beside another, or alone.

    Args:
        there: the other.

    Attributes:
        events: of all runs, as they happened.
        origins: what is known of each task beside them.
    """

    def __init__(self, there: Watcher | None) -> None:
        self._there = there
        self.events: list[Event] = []
        self.origins: dict[str, Origin] = {}

    def watch(self, setup: Setup, state: LoopState, caller: Caller, /) -> Watched:
        """Keep the events of an execution."""
        there = self._there
        watched = _marked(setup, state, caller) if there is None else there.watch(setup, state, caller)
        parent, call_id = called_from(caller.context)
        self.origins[state.task_id] = Origin(
            agent=state.agent_id,
            iterations=state.iteration,
            trace_id=watched.trace_id,
            parent=parent,
            call_id=call_id,
        )

        def see(event: Event) -> None:
            self.events.append(event)
            watched.see(event)

        return watched._replace(see=see)

    async def embed(
        self,
        embedder: Embedder,
        request: EmbedRequest,
        ask: Callable[[EmbedRequest], Awaitable[Embeddings]],
        /,
    ) -> Embeddings:
        """Let texts be embedded, which is no part of a picture."""
        there = self._there
        return await (ask(request) if there is None else there.embed(embedder, request, ask))


def _marked(setup: Setup, state: LoopState, caller: Caller) -> Watched:
    """An execution whose context says which it is, so that agents that begin in it know who called them."""
    marks = _Marks(state.task_id)
    return Watched(
        plugs={"tool_providers": tuple(map(WatchedTools, setup.tool_providers, repeat(marks)))},
        see=_nothing,
        context=within(Context({**caller.context, **by_run(state.task_id, {})})),
        trace_id=caller.trace_id,
    )


class _Marks:
    """What `RunSpans` is to the tools of a run that is recorded."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id

    def tool(self, call: ToolCall) -> tuple[None, Variables]:
        """A tool is run: no span, and the context to run it in."""
        return None, in_tool(self._task_id, call.id)


def _nothing(_: Event) -> None:
    """Nobody else sees it."""
