"""One tool call inside the loop: from `tool-start` to exactly one `tool-complete` or `input-required`.

`loop.py` decides which calls run, and how many at once; `tools/` know how to run them. Here is what lies between: ids, progress from any
thread, clocks, and turning every kind of failure into a result that the model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from looopy import reactive
from looopy.errors import StoreFailed, ToolFailed
from looopy.events import (
    ArtifactUpdate,
    Event,
    Failure,
    InputRequired,
    ToolComplete,
    ToolEvent,
    ToolProgress,
    ToolStart,
)
from looopy.messages import JSON, ToolCall, jsonable, render
from looopy.ports import ArtifactStore, InputNeeded, ToolContext, ToolProvider
from looopy.setup import Setup, exceeded
from looopy.state import LoopState


def tool_call(
    call: ToolCall,
    state: LoopState,
    *,
    setup: Setup,
    tools: Mapping[str, ToolProvider],
    interrupt: Callable[[Exception], None],
) -> Observable[Event]:
    """The events of one call, cold."""
    starts = ToolStart(call_id=call.id, tool_name=call.name, arguments=call.arguments)
    if refused := _refusal(call, tools):
        return rx.of(starts, ToolComplete(call_id=call.id, tool_name=call.name, error=refused))

    def subscribe(
        observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        observer.on_next(starts)
        return _Running(call=call, state=state, setup=setup, interrupt=interrupt, observer=observer).begin(
            tools[call.name], scheduler
        )

    return Observable(subscribe)


def _refusal(call: ToolCall, tools: Mapping[str, ToolProvider]) -> Failure | None:
    """Why a call cannot be run at all, in words for the model."""
    if call.name not in tools:
        close = get_close_matches(call.name, tools, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        offered = f"The tools are: {', '.join(sorted(tools))}." if tools else "There are no tools."
        return Failure(type="UnknownTool", message=f"there is no tool {call.name!r}.{hint} {offered}")
    if call.problem:
        return Failure(type="InvalidArguments", message=call.problem)
    return None


@dataclass(slots=True, kw_only=True)
class _Running:
    """A call that runs: where its tool's events go, and whether it is over."""

    call: ToolCall
    state: LoopState
    setup: Setup
    interrupt: Callable[[Exception], None]
    observer: abc.ObserverBase[Event]
    over: bool = False
    started: float = field(default_factory=reactive.now)
    upstream: SingleAssignmentDisposable = field(default_factory=SingleAssignmentDisposable)
    call_off: Callable[[], None] | None = None

    def begin(self, provider: ToolProvider, scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        if (seconds := self.setup.limits.tool_seconds) is not None:
            what = f"the tool {self.call.name!r} took longer"
            error = exceeded("tool_seconds", allowed=seconds, spent=seconds, what=what)
            self.call_off = reactive.after(seconds, lambda: self.interrupt(error))
        events = rx.defer(lambda _: self._kept(provider.call(self.call, self._context())))
        self.upstream.disposable = events.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=scheduler
        )
        return Disposable(self._stop)

    def _context(self) -> ToolContext[Any]:
        loop = reactive.loop_here()

        def emit(event: ToolProgress | ArtifactUpdate) -> None:
            reactive.on_loop(loop, lambda: self._on_next(event))

        return ToolContext(
            task_id=self.state.task_id,
            context_id=self.state.context_id,
            call_id=self.call.id,
            tool_name=self.call.name,
            iteration=self.state.iteration,
            deps=self.setup.deps,
            inputs=self.state.inputs,
            emit=emit,
            cancelled=lambda: self.over,
        )

    def _kept(self, events: Observable[ToolEvent]) -> Observable[ToolEvent]:
        """With an artifact store, an artifact is kept before it is shown."""
        store = self.setup.artifact_store
        if store is None:
            return events
        return events.pipe(
            ops.concat_map(
                lambda event: self._keep(store, event) if isinstance(event, ArtifactUpdate) else rx.of(event)
            )
        )

    def _keep(self, store: ArtifactStore, event: ArtifactUpdate) -> Observable[ToolEvent]:
        async def save() -> ToolEvent:
            try:
                await store.save(replace(event, task_id=self.state.task_id, context_id=self.state.context_id))
            except Exception as error:
                name = type(store).__name__
                what = f"the artifact {event.artifact.artifact_id!r} could not be saved in {name}: {error}"
                raise StoreFailed(what, store=name) from error
            return event

        return reactive.from_awaitable(save)

    def _on_next(self, event: ToolEvent) -> None:
        if self.over:
            return
        named: dict[str, JSON] = {"call_id": self.call.id, "tool_name": self.call.name}
        match event:
            case ToolComplete():
                self._complete(event)
            case InputRequired():
                self._finish(replace(event, **named))
            case ToolProgress():
                self.observer.on_next(replace(event, **named, data=_data(event.data)))
            case _:
                self.observer.on_next(event)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, InputNeeded):
            self._on_next(error.question)
            return
        self._complete(ToolComplete(error=Failure.of(error)))
        if self.setup.on_tool_error == "raise":
            failed = ToolFailed(
                f"the tool {self.call.name!r} raised {type(error).__name__}: {error}",
                tool=self.call.name,
                call_id=self.call.id,
            )
            failed.__cause__ = error
            self.interrupt(failed)

    def _on_completed(self) -> None:
        if not self.over:
            name = self.call.name
            self._complete(
                ToolComplete(
                    error=Failure(type="NoResult", message=f"the tool {name!r} ended without a result")
                )
            )

    def _complete(self, event: ToolComplete) -> None:
        result, error = event.result, event.error
        if error is None:
            result, error = _result(result, name=self.call.name, limit=self.setup.max_result_chars)
        elif len(error.message) > self.setup.max_result_chars:
            error = replace(error, message=_cut(error.message, self.setup.max_result_chars))
        self._finish(
            replace(
                event,
                call_id=self.call.id,
                tool_name=self.call.name,
                result=None if error else result,
                error=error,
                seconds=reactive.now() - self.started,
            )
        )

    def _finish(self, event: ToolComplete | InputRequired) -> None:
        self._stop()
        self.observer.on_next(event)
        self.observer.on_completed()

    def _stop(self) -> None:
        self.over = True
        if self.call_off is not None:
            self.call_off()
        self.upstream.dispose()


def _result(value: object, *, name: str, limit: int) -> tuple[JSON, Failure | None]:
    """The result as JSON, cut to a length that a model can read; or why it has no JSON form."""
    try:
        result = jsonable(value)
    except TypeError as error:
        mend = "return text, numbers, lists, dicts, dataclasses or pydantic models"
        message = (
            f"the tool {name!r} returned a {type(value).__name__} that has no JSON form ({error}); {mend}"
        )
        return None, Failure(type="UnserializableResult", message=message)
    text = (
        result
        if isinstance(result, str)
        else None
        if isinstance(result, int | float | None)
        else render(result)
    )
    return (_cut(text, limit) if text is not None and len(text) > limit else result), None


def _data(value: object) -> JSON:
    try:
        return jsonable(value)
    except TypeError:
        return repr(value)


def _cut(text: str, limit: int) -> str:
    return f"{text[:limit]}… [cut: {limit:,} of {len(text):,} characters shown]"
