"""One model call inside the loop: the provider's events under the loop's clocks, and what is left when it is cut.

`loop.py` decides when to ask; `providers/` know how. Here is what lies between them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from looopy import threads
from looopy.errors import ConfigurationError, ModelFailed
from looopy.events import (
    ContentDelta,
    ContentReset,
    Event,
    Failure,
    LLMCall,
    LLMEvent,
    LLMResponse,
    LLMRetry,
    ThoughtDelta,
    ToolCallDelta,
)
from looopy.messages import Message
from looopy.ports import LLMProvider, LLMRequest
from looopy.reactive import Lockless
from looopy.setup import Limits, exceeded


class ModelCall:
    """One call of a provider; `events` is to be subscribed once."""

    def __init__(
        self,
        provider: LLMProvider,
        request: LLMRequest,
        *,
        iteration: int,
        limits: Limits,
        interrupt: Callable[[Exception], None],
    ) -> None:
        self._provider = provider
        self._request = request
        self._clocks = _Clocks(limits, interrupt)
        self._model: str = request.model or getattr(provider, "model", "")
        self._begins = LLMCall(
            iteration=iteration, model=self._model, messages=len(request.messages), tools=len(request.tools)
        )
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._started = 0.0
        self._first_token: float | None = None
        self._answered = False

    @property
    def events(self) -> Observable[Event]:
        """`llm-call`, the deltas, and last `llm-response`; a provider that ends without one failed."""
        return Lockless(self._subscribe)

    def _subscribe(
        self, observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        text, clocks = self._text, self._clocks
        self._started = threads.now()
        observer.on_next(self._begins)
        clocks.start()

        def on_next(event: LLMEvent) -> None:
            if clocks.running and not isinstance(event, LLMRetry | ContentReset):
                clocks.heard()
            match event:
                case _ if self._answered:
                    return observer.on_error(self._stranger(event))
                case ContentDelta(delta=str(delta)):
                    self._said(text, delta)
                case ThoughtDelta(delta=str(delta)):
                    self._said(self._thoughts, delta)
                case ToolCallDelta(delta=str()):
                    pass
                case LLMRetry(error=Failure(), next_model=str(model)):
                    clocks.pause()
                    self._model = model or self._model
                case ContentReset():
                    text.clear()
                    self._thoughts.clear()
                case LLMResponse(message=Message(role="assistant")):
                    self._answered = True
                    clocks.stop()
                    event = _with_unique_calls(event)
                case _:  # whatever its author's type checker would have said
                    return observer.on_error(self._stranger(event))
            return observer.on_next(event)

        def on_completed() -> None:
            if self._answered:
                observer.on_completed()
            else:
                name = _name(self._provider)
                observer.on_error(
                    ModelFailed(
                        f"{name} completed without an LLMResponse, so there is no answer", model=self._model
                    )
                )

        answer = asked(self._provider, self._request).subscribe(
            on_next, observer.on_error, on_completed, scheduler=scheduler
        )
        return CompositeDisposable(Disposable(clocks.stop), answer)

    def _said(self, pieces: list[str], piece: str) -> None:
        if self._first_token is None:
            self._first_token = threads.now() - self._started
        pieces.append(piece)

    def _stranger(self, event: object) -> ModelFailed:
        """A model must not write what only the loop may, such as the status of the task."""
        what = f"{_name(self._provider)} emitted a {type(event).__name__}"
        why = " after its LLMResponse" if self._answered else ""
        mend = "a model emits ContentDelta, ThoughtDelta and ToolCallDelta with text, and last one LLMResponse with an assistant's message"
        return ModelFailed(f"{what}{why}; {mend}", model=self._model)

    def cut(self) -> LLMResponse | None:
        """What the model had said, when its call was cut; None when it had said nothing, or everything."""
        if self._answered or not (self._text or self._thoughts):
            return None
        said = Message("assistant", "".join(self._text), reasoning="".join(self._thoughts), model=self._model)
        return LLMResponse(
            message=said,
            finish_reason="interrupted",
            model=self._model,
            seconds=threads.now() - self._started,
            first_token=self._first_token,
        )


def asked(provider: LLMProvider, request: LLMRequest) -> Observable[LLMEvent]:
    """What a provider's `call` returned, if it is a stream.

    Raises:
        ConfigurationError: it is none; mostly `call` is an `async def`.
    """
    given: object = provider.call(request)
    if _is_stream(type(given)):
        return given
    if inspect.iscoroutine(given):
        given.close()  # else Python warns, at another place
    raise ConfigurationError(
        f"{_name(provider)}.call() returned a {type(given).__name__}, but it must return an Observable: write `def call`, "
        "not `async def`, that returns a stream of deltas with an LLMResponse at its end",
        argument="llm_provider",
    )


@cache
def _is_stream(kind: type[Any]) -> bool:
    """`issubclass` of an abstract class is dear, and asked by every wrapper at every call."""
    return issubclass(kind, Observable)


def _name(provider: LLMProvider) -> str:
    """What a provider's author calls it, also where somebody watches it (`__wrapped__`)."""
    return type(getattr(provider, "__wrapped__", provider)).__name__


class _Clocks:
    """The times that a model call may take. A delta costs one look at the clock: a timer is set anew only when it has run out."""

    __slots__ = ("_called_off", "_interrupt", "_last", "_limits", "running")

    def __init__(self, limits: Limits, interrupt: Callable[[Exception], None]) -> None:
        self._limits = limits
        self._interrupt = interrupt
        self._called_off: list[Callable[[], None]] = []
        self._last: float | None = None
        clocks = (limits.model_seconds, limits.first_token_seconds, limits.idle_seconds)
        self.running = any(seconds is not None for seconds in clocks)

    def start(self) -> None:
        limits = self._limits
        if limits.model_seconds is not None:
            self._alarm("model_seconds", limits.model_seconds, "a model call took longer")
        if limits.first_token_seconds is not None:
            self._alarm(
                "first_token_seconds",
                limits.first_token_seconds,
                "the model had said nothing by then",
                unless_heard=True,
            )

    def heard(self) -> None:
        first, self._last = self._last is None, threads.now()
        if first and (seconds := self._limits.idle_seconds) is not None:
            self._called_off.append(threads.after(seconds, lambda: self._idle(seconds)))

    def pause(self) -> None:
        """Another request is made: its model is not silent in mid-answer before it has begun."""
        if self._last is not None:
            self._last = math.inf

    def stop(self) -> None:
        self.running = False
        for call_off in self._called_off:
            call_off()

    def _alarm(self, limit: str, seconds: float, what: str, *, unless_heard: bool = False) -> None:
        def ring() -> None:
            if not (unless_heard and self._last is not None):
                self._interrupt(exceeded(limit, allowed=seconds, spent=seconds, what=what))

        self._called_off.append(threads.after(seconds, ring))

    def _idle(self, seconds: float) -> None:
        silent = threads.now() - (self._last or 0.0)
        if silent > seconds - threads.TICK:
            self._interrupt(
                exceeded(
                    "idle_seconds", allowed=seconds, spent=silent, what="the model fell silent in mid-answer"
                )
            )
        else:
            left = min(seconds, seconds - silent)
            self._called_off.append(threads.after(left, lambda: self._idle(seconds)))


def _with_unique_calls(event: LLMResponse) -> LLMResponse:
    """Every call needs an id of its own, else its answer cannot be told from another's."""
    calls = event.message.tool_calls
    if len({call.id for call in calls} | {""}) == len(calls) + 1:
        return event
    seen: set[str] = {""}
    unique = list(calls)
    for place, call in enumerate(calls):
        new = call.id if call.id not in seen else f"{call.id or 'call'}_{place}"
        seen.add(new)
        unique[place] = replace(call, id=new)
    return replace(event, message=replace(event.message, tool_calls=tuple(unique)))
