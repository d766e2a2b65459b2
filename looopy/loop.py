"""One task, from its first event to its last: what to do next, and doing it.

`decide` (in `decide.py`) looks at the state and says the next step; `Execution` performs it and emits events; `advance` (in `state.py`) folds each event
back. `iterate` turns these three into one cold, flat stream. Everything that ends a task early (a cancel, a limit, an error) takes the same way:
the interruption fires, whatever is in flight is disposed of, and the next step reports it.

Above is `run.py`, which shares and replays this stream. Below are the sockets: this file knows no provider, no HTTP and no span.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never, cast

import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import CompositeDisposable, Disposable

from looopy import reactive, threads
from looopy.decide import CallModel, CallTools, Reject, Report, Save, decide, parted
from looopy.errors import ConfigurationError, StateConflict, StoreFailed, TaskCanceled, words
from looopy.events import (
    Checkpoint,
    Event,
    Failure,
    OutputRejected,
    Status,
    StatusUpdate,
    ToolComplete,
    ToolStart,
    stamp,
)
from looopy.frozen import changed
from looopy.messages import DataPart, Message, ToolCall
from looopy.model_call import ModelCall
from looopy.modes import Mode
from looopy.output import Judged, Output
from looopy.ports import LLMRequest, StateStore, ToolDefinition, ToolProvider
from looopy.prompts import Instructions, instructions
from looopy.rounds import iterate
from looopy.setup import Setup, exceeded
from looopy.state import LoopState, advance, settled
from looopy.tool_call import tool_call
from looopy.watcher import PIECES, Watched


class Execution:
    """One stream of one task: `events` is cold and to be subscribed once; `interrupt` ends it early.

    Attributes:
        state: the state after the newest event.
        error: why the task failed or was canceled, as an exception; None otherwise.
        answer: what was made of the answer, where it is of a type and the task is completed; None otherwise.
        watched: what somebody who watches made of it; None where nobody does.
    """

    def __init__(
        self, setup: Setup, state: LoopState, *, opening: Iterable[Event], watched: Watched | None = None
    ) -> None:
        self.state = state
        self.error: Exception | None = None
        self.answer: Judged | None = None
        self.watched = watched
        self._setup = setup
        self._opening = tuple(opening)
        self._seq = state.seq
        self._interruption: reactive.Signal[Exception] = reactive.Signal()
        self._tools: dict[str, ToolProvider] | None = None
        self._listed: Sequence[Sequence[ToolDefinition]] = ()
        self._model_call: ModelCall | None = None
        self._mode: Mode | None = None

    @property
    def events(self) -> Observable[Event]:
        """The task's events, from the opening to the final status, under the clock for the whole run."""
        rounds = iterate(self.state, perform=self._perform, advance=self._advance, prepare=self._prepare)
        if self.watched is not None:
            rounds = reactive.Within(self.watched.context, rounds)
        seconds = self._setup.limits.run_seconds
        if seconds is None:
            return rounds

        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            error = exceeded("run_seconds", allowed=seconds, spent=seconds, what="the run took longer")
            call_off = threads.after(seconds, lambda: self.interrupt(error))
            return CompositeDisposable(Disposable(call_off), rounds.subscribe(observer, scheduler=scheduler))

        return reactive.Lockless(subscribe)

    def interrupt(self, error: Exception) -> None:
        """End the task with this error: what is in flight is disposed of at once. Only the first interruption counts."""
        self._interruption.fire(error)

    # -- the three functions that `iterate` drives

    def _prepare(self, event: Event) -> Event:
        """Give an event its ids."""
        self._seq += 1
        return stamp(
            event,
            task_id=self.state.task_id,
            context_id=self.state.context_id,
            seq=self._seq,
            timestamp=datetime.now(UTC),
        )

    def _advance(self, state: LoopState, event: Event) -> LoopState:
        """Fold an event, and remember the newest state."""
        self.state = advance(state, event)
        if self.watched is not None and type(event) not in PIECES:
            self.watched.see(event)
        return self.state

    def _perform(self, state: LoopState) -> Observable[Event] | None:
        """The events of the next step."""
        if self._opening:
            opening, self._opening = self._opening, ()
            return reactive.at_once(opening)
        if (error := self._interruption.value) is not None and not settled(state):
            return self._report(Report("canceled" if isinstance(error, TaskCanceled) else "failed", error))
        step = decide(state, self._setup)
        match step:
            case None:
                return None
            case Report():
                return self._report(step)
            case Reject(judged):
                return self._reject(judged)
            case Save():
                # Nothing stops it: of a save that was cut nobody knows whether it took place, and the next would conflict with it.
                return self._save(state, [Checkpoint(iteration=state.iteration)])
            case CallModel():
                return self._stoppable(lambda: self._call_model(state))
            case CallTools(calls):
                return self._stoppable(lambda: self._call_tools(calls, state))
            case _:
                assert_never(step)

    def _stoppable(self, step: Callable[[], Observable[Event]]) -> Observable[Event]:
        """A step that the interruption ends; its own error is an interruption too."""
        try:
            events = step()
        except Exception as error:  # noqa: BLE001  a prompt function or a provider may raise whatever it likes
            events = cast("Observable[Event]", rx.throw(error))
        return reactive.stopped_by(self._interruption, events)

    # -- the model

    def _call_model(self, state: LoopState) -> Observable[Event]:
        return self._with_request(state, lambda request: self._ask(state, request))

    def _with_request(
        self, state: LoopState, then: Callable[[LLMRequest], Observable[Event]]
    ) -> Observable[Event]:
        """What follows once the prompt and the tools are known; it takes a task only where one of them must be awaited."""
        prompt = self._setup.system_prompt
        said: Any = prompt(state) if callable(prompt) else prompt
        listed: list[Any] = [provider.tools(state) for provider in self._setup.tool_providers]
        mode: Any = self._how_to_answer()
        pending = [part for part in (said, mode, *listed) if inspect.isawaitable(part)]
        if not pending:
            return then(self._request(state, said, listed, mode))

        async def known(part: Any) -> Any:
            if not inspect.isawaitable(part):
                return part
            pending.remove(part)
            return await part

        async def prepare() -> LLMRequest:
            tools = [await known(part) for part in listed]
            return self._request(state, await known(said), tools, await known(mode))

        def abandon() -> None:
            for part in pending:  # cancelled before anybody awaited them
                if inspect.iscoroutine(part):
                    part.close()

        return reactive.from_awaitable(prepare).pipe(ops.flat_map(then), ops.finally_action(abandon))

    def _how_to_answer(self) -> Mode | Awaitable[Mode] | None:
        """How the model is brought to an answer of the task's type; None where text will do."""
        output, provider = self._setup.output, self._setup.llm_provider
        if output is None or self._mode is not None:
            return self._mode
        model: str = self._setup.request.model or getattr(provider, "model", "")
        return output.mode_for(provider, model, tools=bool(self._setup.tool_providers))

    def _request(
        self,
        state: LoopState,
        said: Instructions,
        listed: Sequence[Sequence[ToolDefinition]],
        mode: Mode | None,
    ) -> LLMRequest:
        self._know_tools(listed)
        self._mode = mode
        prompt = instructions(said)
        system = (Message.system(prompt.text),) if prompt.text else ()
        request = changed(
            self._setup.request,
            messages=(*system, *state.messages),
            tools=tuple(listed[0]) if len(listed) == 1 else tuple(tool for tools in listed for tool in tools),
            prompt_name=prompt.name,
            prompt_version=prompt.version,
        )
        output = self._setup.output
        return request if output is None or mode is None else output.on(request, mode)

    def _know_tools(self, listed: Sequence[Sequence[ToolDefinition]]) -> None:
        """Remember which provider has which tool."""
        if self._tools is not None and all(new is old for new, old in zip(listed, self._listed, strict=True)):
            return
        known: dict[str, ToolProvider] = {}
        for provider, tools in zip(self._setup.tool_providers, listed, strict=True):
            for tool in tools:
                if tool.name in known:
                    raise ConfigurationError(
                        f"two tool providers offer a tool called {tool.name!r}: rename one of them",
                        argument=tool.name,
                    )
                known[tool.name] = provider
        self._tools, self._listed = known, listed

    def _ask(self, state: LoopState, request: LLMRequest) -> Observable[Event]:
        self._model_call = ModelCall(
            self._setup.llm_provider,
            request,
            iteration=state.iteration + 1,
            limits=self._setup.limits,
            interrupt=self._interruption.fire,  # no reference to the execution, which holds the call
        )
        return self._model_call.events

    # -- the tools

    def _call_tools(self, calls: Sequence[ToolCall], state: LoopState) -> Observable[Event]:
        if self._tools is None:  # a resumed task: its calls are known before any model was asked
            return self._with_request(state, lambda _: self._call_tools(calls, state))
        streams = [
            tool_call(
                call, state, setup=self._setup, tools=self._tools or {}, interrupt=self._interruption.fire
            )
            for call in calls
        ]
        if len(streams) == 1:
            return streams[0]
        return reactive.at_once(streams).pipe(ops.merge(max_concurrent=self._setup.max_parallel_tools))

    # -- an answer of a type

    def _reject(self, judged: Sequence[Judged]) -> Observable[Event]:
        """What is wrong with an answer; where calls gave it, their answers say so."""
        output = cast("Output[Any]", self._setup.output)  # else nothing is rejected
        told = [(output.again(each, self._mode or "prompt"), each.call) for each in judged]
        problem, call = told[0]
        attempt = self.state.rejected + 1
        events: list[Event] = [
            OutputRejected(problem=problem, attempt=attempt, call_id=call.id if call else "")
        ]
        for problem, call in told:
            if call is not None:
                wrong = Failure(type="OutputInvalid", message=problem)
                events += _answered(call, error=wrong)
        return reactive.at_once(events)

    def _accepting(self, answer: Judged | None) -> list[Event]:
        """The answers to the calls that gave the task's answer: the model's history is whole with them."""
        if answer is None or answer.call is None:
            return []
        _, calls = parted(self.state, self._setup)
        events: list[Event] = []
        for call in calls:
            events += _answered(
                call, result="taken" if call is answer.call else "not needed: another was taken"
            )
        return events

    # -- the end, and the stores

    def _report(self, report: Report) -> Observable[Event]:
        self.error, self.answer = report.error, report.answer
        events = [*self._accepting(report.answer), *self._closing(report.error), self._status(report)]
        if self._setup.task_state_store is None:
            return reactive.at_once(events)
        events.insert(-1, Checkpoint(iteration=self.state.iteration))
        return self._save(self.state, events)

    def _closing(self, error: Exception | None) -> list[Event]:
        """What makes the history whole when a task ends early: what the model said until then, and an answer for every open call."""
        events: list[Event] = []
        if error is None:
            return events
        if self._model_call is not None and (cut := self._model_call.cut()) is not None:
            events.append(cut)
        reason = Failure(type=type(error).__name__, message=f"not finished: {words(error)}")
        events.extend(
            ToolComplete(call_id=call.id, tool_name=call.name, error=reason)
            for call in self.state.pending
            if call.id not in self.state.answers
        )
        return events

    def _status(self, report: Report) -> StatusUpdate:
        newest = self.state.messages[-1] if self.state.messages else None
        answer = newest if report.state == "completed" and newest and newest.role == "assistant" else None
        if report.answer is not None and report.answer.call is not None:
            answer = Message("assistant", (DataPart(report.answer.call.arguments),))
        return StatusUpdate(
            status=Status(state=report.state, message=answer, timestamp=datetime.now(UTC)),
            final=True,
            error=Failure.of(report.error) if report.error else None,
        )

    def _save(self, state: LoopState, events: Sequence[Event]) -> Observable[Event]:
        """Store the state that these events will make, then show them: who sees an event may rely on the store."""
        store, after = cast("StateStore", self._setup.task_state_store), state.saved
        for seq, event in enumerate(events, start=self._seq + 1):
            state = advance(state, replace(event, seq=seq))

        async def save() -> Sequence[Event]:
            try:
                await store.save(state, after=after)
            except StateConflict:
                raise
            except Exception as error:
                name = type(store).__name__
                what = f"the state of task {state.task_id!r} could not be saved in {name}: {words(error)}"
                raise StoreFailed(what, store=name) from error
            return events

        return reactive.from_awaitable(save).pipe(
            ops.flat_map(reactive.at_once), ops.catch(self._unsaved(events))
        )

    def _unsaved(
        self, events: Sequence[Event]
    ) -> Callable[[Exception, Observable[Event]], Observable[Event]]:
        """A store that fails in mid-task ends it; at the end of a task there is nothing left to end, so the status says it."""

        def handler(error: Exception, _: Observable[Event]) -> Observable[Event]:
            if not isinstance(events[-1], StatusUpdate):
                self.interrupt(error)
                return rx.empty()
            self.error = self.error or error
            said = replace(
                events[-1], error=Failure.of(self.error), status=replace(events[-1].status, state="failed")
            )
            return reactive.at_once([*self._closing(self.error), said])

        return handler


def _answered(call: ToolCall, *, result: str | None = None, error: Failure | None = None) -> list[Event]:
    """A call that the loop answers by itself."""
    return [
        ToolStart(call_id=call.id, tool_name=call.name, arguments=call.arguments),
        ToolComplete(call_id=call.id, tool_name=call.name, result=result, error=error),
    ]
