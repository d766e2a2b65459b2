"""A model that plays a script: an `LLMProvider` without HTTP.

It emits events at once, or as the script waits, on the running event loop's clock. The HTTP side (bytes, statuses, connections) is `ScriptedServer`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
    UnknownModel,
    UnsupportedParameter,
)
from looopy.events import ContentDelta, LLMEvent, LLMResponse, ThoughtDelta, ToolCallDelta
from looopy.messages import Message, ToolCall, read_arguments
from looopy.ports import LLMRequest
from looopy.testing.script import Answer, Call, Cut, Fail, Raw, Say, ScriptOver, Stall, Think, Wait

Played: TypeAlias = "Answer | Observable[LLMEvent]"
"""What one call plays: an answer, or a stream of events, for example a marble diagram's `cold`."""


class ScriptedModel:
    """An `LLMProvider` that gives the answers of a script, one a call, in order.

    Args:
        answers: what the calls are answered with.
        otherwise: makes an answer from the request, once the others are used up.
        name: the model's name where neither the answer nor the request has one.

    Attributes:
        requests: every request so far.
        open_calls: how many calls are under way.
        disposed: how many were given up before their end.

    Raises:
        ConfigurationError: an answer has `raw` bytes; only a server can send those.
    """

    def __init__(
        self,
        *answers: Played,
        otherwise: Callable[[LLMRequest], Answer] | None = None,
        name: str = "scripted-model",
    ) -> None:
        for answer in answers:
            if isinstance(answer, Answer) and any(isinstance(step, Raw) for step in answer.steps):
                raise ConfigurationError(_NO_BYTES, argument="answers")
        self.requests: list[LLMRequest] = []
        self.open_calls = 0
        self.disposed = 0
        self._answers = answers
        self._otherwise = otherwise
        self._name = name
        self._calls = 0

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """The next answer, taken when it is subscribed to."""

        def subscribe(
            observer: abc.ObserverBase[LLMEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            answer = self._next(request)
            if isinstance(answer, Observable):
                return answer.subscribe(observer, scheduler=scheduler)
            playback = _Playback(self, answer, answer.model or request.model or self._name, observer)
            playback.go_on()
            return Disposable(playback.dispose)

        return Observable(subscribe)

    def assert_complete(self) -> None:
        """Check that every answer was asked for.

        Raises:
            ScriptOver: some were not.
        """
        left = len(self._answers) - len(self.requests)
        if left > 0:
            raise ScriptOver(
                f"{left} of {len(self._answers)} scripted answers were not asked for; the next is "
                f"{self._answers[len(self.requests)]}"
            )

    def next_call_id(self) -> str:
        """An id for a tool call: `call_1`, `call_2` … over the model's life."""
        self._calls += 1
        return f"call_{self._calls}"

    def _next(self, request: LLMRequest) -> Played:
        self.requests.append(request)
        asked = len(self.requests)
        if asked <= len(self._answers):
            return self._answers[asked - 1]
        if self._otherwise:
            return self._otherwise(request)
        newest = request.messages[-1] if request.messages else None
        shown = f"{newest.role}: {newest.text[:200]!r}" if newest else "nothing"
        raise ScriptOver(
            f"the script has {len(self._answers)} answers and this is model call {asked}; it ends with {shown}. "
            "Add an answer, or find out why there is another call"
        )


class _Playback:
    """One answer on its way to one observer."""

    __slots__ = ("_answer", "_message", "_model", "_observer", "_owner", "_shown", "_steps", "_timer")

    def __init__(
        self, owner: ScriptedModel, answer: Answer, model: str, observer: abc.ObserverBase[LLMEvent]
    ) -> None:
        self._owner = owner
        self._answer = answer
        self._model = model
        self._observer: abc.ObserverBase[LLMEvent] | None = observer
        self._steps = iter(answer.steps)
        self._message = Message("assistant", model=model)
        self._shown = 0
        self._timer: asyncio.TimerHandle | None = None
        owner.open_calls += 1

    def go_on(self) -> None:
        """Emit until there is something to wait for."""
        for step in self._steps:
            match step:
                case Wait(seconds):
                    self._timer = asyncio.get_running_loop().call_later(seconds, self.go_on)
                    return
                case Stall():
                    return
                case Cut() | Fail():
                    self._end(self._error(step))
                    return
                case _:
                    self._emit(self._event(step))
        self._emit(self._response())
        self._end(None)

    def dispose(self) -> None:
        """Stop, for good."""
        if self._timer:
            self._timer.cancel()
        if self._observer:
            self._observer = None
            self._owner.open_calls -= 1
            self._owner.disposed += 1

    def _emit(self, event: LLMEvent) -> None:
        self._shown += 1
        if self._observer:
            self._observer.on_next(event)

    def _end(self, error: ModelError | None) -> None:
        observer, self._observer = self._observer, None
        self._owner.open_calls -= observer is not None
        if observer and error:
            observer.on_error(error)
        elif observer:
            observer.on_completed()

    def _event(self, step: Say | Think | Call | Raw) -> LLMEvent:
        """The delta that shows a step; the message grows by the same."""
        match step:
            case Say(text):
                self._message = replace(self._message, content=self._message.text + text)
                return ContentDelta(delta=text)
            case Think(text):
                self._message = replace(self._message, reasoning=self._message.reasoning + text)
                return ThoughtDelta(delta=text)
            case Call(name, text):
                arguments, problem = read_arguments(text)
                call = ToolCall(self._owner.next_call_id(), name, arguments, problem)
                self._message = replace(self._message, tool_calls=(*self._message.tool_calls, call))
                return ToolCallDelta(call_id=call.id, tool_name=name, delta=text)
            case _:
                raise ConfigurationError(_NO_BYTES, argument="otherwise")

    def _response(self) -> LLMResponse:
        return LLMResponse(
            message=self._message,
            finish_reason=self._answer.reason,
            model=self._model,
            usage=self._answer.usage,
            cost=self._answer.cost,
        )

    def _error(self, step: Cut | Fail) -> ModelError:
        if self._shown:
            why = step.message if isinstance(step, Fail) else "the connection was cut"
            text = f"the answer of {self._model} broke off after {self._shown} pieces, as scripted: {why}"
            return StreamBroken(text, events_seen=self._shown, model=self._model)
        if isinstance(step, Fail):
            return refusal(step, model=self._model)
        return ProxyUnreachable(
            f"{self._model} closed the connection before it answered, as scripted", model=self._model
        )


def refusal(failure: Fail, *, model: str) -> ModelError:
    """The typed error that a scripted HTTP failure stands for."""
    text = f"API error {failure.status} from {model}, as scripted: {failure.message}"
    if failure.status == 408:
        return ModelTimeout(text, clock="call", seconds=0.0, model=model, status=408)
    if "no healthy deployments" in failure.message:
        return UnknownModel(text, model=model, url="", status=failure.status, body=failure.message)
    if "UnsupportedParamsError" in failure.message:
        return UnsupportedParameter(text, model=model, status=failure.status, body=failure.message)
    error_type = next((kind for name, kind in _NAMED.items() if name in failure.message), None)
    error_type = (
        error_type
        or _BY_STATUS.get(failure.status)
        or (ModelFailed if failure.status >= 500 else ModelRejected)
    )
    return error_type(
        text, model=model, status=failure.status, body=failure.message, retry_after=failure.retry_after
    )


_NO_BYTES = "raw(…) is bytes, and a scripted model sends none: use ScriptedServer"
_NAMED: dict[str, type[ModelError]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ContentRefused,
    "no_db_connection": AuthenticationFailed,
}
_BY_STATUS: dict[int, type[ModelError]] = {
    401: AuthenticationFailed,
    403: AuthenticationFailed,
    429: ModelOverloaded,
    503: ModelOverloaded,
    529: ModelOverloaded,
}
