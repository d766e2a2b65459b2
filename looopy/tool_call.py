"""One tool call inside the loop: from `tool-start` to exactly one `tool-complete` or `input-required`.

`loop.py` decides which calls run, and how many at once; `tools/` know how to run them. Here is what lies between: ids, progress from any
thread, clocks, and turning every kind of failure into a result that the model reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.notification import Notification, OnNext
from reactivex.subject import Subject

from looopy import reactive, threads
from looopy.errors import StoreFailed, ToolFailed, words
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
from looopy.messages import JSON, ToolCall, jsonable, plain, render, whole
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
        return reactive.at_once((starts, ToolComplete(call_id=call.id, tool_name=call.name, error=refused)))

    def subscribe(
        observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        observer.on_next(starts)
        return _Running(call=call, state=state, setup=setup, interrupt=interrupt, observer=observer).begin(
            tools[call.name], scheduler
        )

    return reactive.Lockless(subscribe)


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
    started: float = field(default_factory=threads.now)
    upstream: SingleAssignmentDisposable = field(default_factory=SingleAssignmentDisposable)
    emitted: Subject[Notification[ToolEvent]] | None = None
    call_off: Callable[[], None] | None = None

    def begin(self, provider: ToolProvider, scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        if (seconds := self.setup.limits.tool_seconds) is not None:
            what = f"the tool {self.call.name!r} took longer"
            error = exceeded("tool_seconds", allowed=seconds, spent=seconds, what=what)
            self.call_off = threads.after(seconds, lambda: self.interrupt(error))
        self.upstream.disposable = self._events(provider).subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=scheduler
        )
        return Disposable(self._stop)

    def _context(self) -> ToolContext[Any]:
        loop = threads.loop_here()

        def emit(event: ToolProgress | ArtifactUpdate) -> None:
            threads.on_loop(loop, lambda: self._emit(event))

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

    def _events(self, provider: ToolProvider) -> Observable[ToolEvent]:
        """What the provider emits. With an artifact store, an artifact is kept before it is shown, and what comes after it waits."""
        called = rx.defer(lambda _: provider.call(self.call, self._context()))
        store = self.setup.artifact_store
        if store is None:
            return called
        self.emitted = Subject()
        arrived = reactive.at_once((self.emitted, called.pipe(ops.materialize())))
        return arrived.pipe(
            ops.merge_all(), ops.concat_map(lambda said: self._kept(store, said)), ops.dematerialize()
        )

    def _emit(self, event: ToolProgress | ArtifactUpdate) -> None:
        """An event from the tool's context: shown at once, or in its turn where there is a store to wait for."""
        if self.emitted is None:
            self._on_next(event)
        else:
            self.emitted.on_next(OnNext(event))

    def _kept(
        self, store: ArtifactStore, said: Notification[ToolEvent]
    ) -> Observable[Notification[ToolEvent]]:
        event = said.value if isinstance(said, OnNext) else None
        if not isinstance(event, ArtifactUpdate):
            return reactive.at_once((said,))
        artifact_id = event.artifact.artifact_id

        async def keep() -> Notification[ToolEvent]:
            shown = _plain(event)
            try:
                await store.save(replace(shown, task_id=self.state.task_id, context_id=self.state.context_id))
            except Exception as error:
                name = type(store).__name__
                what = f"the artifact {artifact_id!r} could not be saved in {name}: {words(error)}"
                raise StoreFailed(what, store=name) from error
            return OnNext(shown)

        return reactive.from_awaitable(keep)

    def _on_next(self, event: Event) -> None:
        if self.over:
            return
        named: dict[str, JSON] = {"call_id": self.call.id, "tool_name": self.call.name}
        match event:
            case ToolComplete():
                self._complete(event)
            case InputRequired():
                self._finish(replace(event, **named))
            case ToolProgress():
                self.observer.on_next(_shown(replace(event, **named)))
            case ArtifactUpdate():
                self._artifact(event)
            case _:
                self._stranger(event)

    def _stranger(self, event: Event) -> None:
        """A tool must not write what only the loop may, such as the status of the task."""
        what = f"the tool {self.call.name!r} emitted a {type(event).__name__}"
        mend = "a tool emits ToolProgress, ArtifactUpdate, InputRequired or ToolComplete"
        self._on_error(TypeError(f"{what}; {mend}"))

    def _artifact(self, event: ArtifactUpdate) -> None:
        try:
            shown = _plain(event)
        except TypeError as error:
            self._on_error(error)
        else:
            self.observer.on_next(shown)

    def _on_error(self, error: Exception) -> None:
        if self.over:
            return
        if isinstance(error, InputNeeded):
            self._on_next(error.question)
            return
        self._complete(ToolComplete(error=Failure.of(error)), ends_task=self._failed(error))

    def _failed(self, error: Exception) -> ToolFailed | None:
        """What ends the task when this tool raises; None where the model shall read it."""
        if self.setup.on_tool_error == "model":
            return None
        failed = ToolFailed(
            f"the tool {self.call.name!r} raised {type(error).__name__}: {words(error)}",
            tool=self.call.name,
            call_id=self.call.id,
        )
        failed.__cause__ = error
        return failed

    def _on_completed(self) -> None:
        if not self.over:
            name = self.call.name
            self._complete(
                ToolComplete(
                    error=Failure(type="NoResult", message=f"the tool {name!r} ended without a result")
                )
            )

    def _complete(self, event: ToolComplete, *, ends_task: ToolFailed | None = None) -> None:
        result, error = event.result, event.error
        if error is None:
            result, error = _result(result, name=self.call.name, limit=self.setup.max_result_chars)
        else:
            error = replace(error, message=_cut(whole(error.message), self.setup.max_result_chars))
        self._finish(
            replace(
                event,
                call_id=self.call.id,
                tool_name=self.call.name,
                result=None if error else result,
                error=error,
                seconds=threads.now() - self.started,
            ),
            ends_task=ends_task,
        )

    def _finish(self, event: ToolComplete | InputRequired, *, ends_task: ToolFailed | None = None) -> None:
        self._stop()
        self.observer.on_next(event)
        if ends_task is not None:
            # Before this call completes: it may be the last that the next model call waits for.
            self.interrupt(ends_task)
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
    text = "" if isinstance(result, int | float | None) else render(result)
    return (result if len(text) <= limit else _cut(text, limit)), None


def _plain(event: ArtifactUpdate) -> ArtifactUpdate:
    artifact = event.artifact
    try:
        return replace(event, artifact=replace(artifact, parts=tuple(map(plain, artifact.parts))))
    except TypeError as error:
        raise TypeError(f"the artifact {artifact.artifact_id!r} has no JSON form: {error}") from None


def _shown(event: ToolProgress) -> ToolProgress:
    """Progress with nothing in it but what JSON knows; it is for people, who would rather see something odd than a failure."""
    done = event.progress if event.progress is not None and math.isfinite(event.progress) else None
    try:
        data = jsonable(event.data)
    except TypeError:
        data = repr(event.data)
    return replace(event, progress=done, note=whole(event.note), data=data)


def _cut(text: str, limit: int) -> str:
    return (
        text if len(text) <= limit else f"{text[:limit]}… [cut: {limit:,} of {len(text):,} characters shown]"
    )
