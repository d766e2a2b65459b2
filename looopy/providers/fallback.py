"""Several models: when one fails, the next is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import add
from typing import Any, Literal, cast, get_args

from reactivex import Observable, abc

from looopy.errors import ConfigurationError, ContentRefused, ModelError, ModelFailed
from looopy.events import ContentDelta, ContentReset, LLMEvent, LLMResponse, ThoughtDelta
from looopy.messages import JSON, Message, TextPart
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.attempts import NOTHING, Attempt, Shown, Then, attempts
from looopy.providers.candidates import (
    Candidate,
    Failures,
    candidates,
    check_candidates,
    first_of,
    model_of,
    refuse_one_twice,
    without_repeats,
)
from looopy.providers.wrapped import base_url_of, parameters_of

MidStream = Literal["fail", "restart", "continue"]
"""What happens when a model breaks off after it has shown something."""

GO_ON = (
    "Your answer was cut off. Go on exactly where it stops, with a space first if one belongs there; "
    "repeat nothing of it, and say nothing about this."
)
"""What a model is told that is to go on with another's answer."""


@dataclass(frozen=True, slots=True, init=False)
class Fallback:
    """A provider that asks the first of several, and the next one when that fails. It says so by an `LLMRetry`, and who answered by `served_by`.

    It goes on to the next when a provider fails, or when its answer is nothing but `content_filter`. Of the last one everything is passed on as
    it is; where all failed, the error is that of the last, or of the last whose failure may pass (`retryable`).

    A request's `model` is meant for the first; the others are asked for their own.

    Args:
        providers: who is asked, in this order. A name stands for that model on the provider before it; one that is asked at the same address
            already, also because the request names it, is left out.
        on: the errors after which the next one is asked: a class, or several; for example `ContextTooLong`.
        accept: whether an answer will do; the next one is asked where it will not. The pieces of an answer are held back until that is known,
            except with `mid_stream="restart"`; those of the last are not.
        mid_stream: what happens when an answer breaks off after something was shown. "fail": the error is passed on. "restart": a
            `ContentReset` takes back what was shown, and the next one starts over. "continue": the next one is shown the text, and goes on
            from there; where a tool call had begun, it starts over.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> Fallback(LiteLLMProvider(model="gpt-4o-mini"), "claude-haiku-4-5", on=(ModelOverloaded, ModelTimeout))
    """

    providers: tuple[LLMProvider | str, ...]
    on: tuple[type[Exception], ...]
    accept: Callable[[LLMResponse], bool] | None
    mid_stream: MidStream

    def __init__(
        self,
        *providers: LLMProvider | str,
        on: type[Exception] | Sequence[type[Exception]] = ModelError,
        accept: Callable[[LLMResponse], bool] | None = None,
        mid_stream: MidStream = "fail",
    ) -> None:
        check_candidates(
            "Fallback",
            providers,
            "Fallback(LiteLLMProvider(model='gpt-4o-mini'), 'claude-haiku-4-5')",
        )
        objects = [each for each in providers if not isinstance(each, str)]
        refuse_one_twice("Fallback", objects, "Retry(…) asks the same one again, after a wait")
        errors: tuple[Any, ...] = tuple(on) if isinstance(on, Sequence) else (on,)
        if not all(isinstance(each, type) and issubclass(each, Exception) for each in errors):
            raise ConfigurationError(
                f"Fallback(on={on!r}): it takes classes of errors, for example ContextTooLong", argument="on"
            )
        if accept is not None and not callable(accept):
            raise ConfigurationError(
                f"Fallback(accept={accept!r}): it must be a function of the LLMResponse, or left out",
                argument="accept",
            )
        if not errors and accept is None:
            raise ConfigurationError(
                "Fallback(on=()): with no error the next one is never asked; leave it out for all",
                argument="on",
            )
        if mid_stream not in get_args(MidStream):
            raise ConfigurationError(
                f"Fallback(mid_stream={mid_stream!r}): it must be one of {', '.join(map(repr, get_args(MidStream)))}",
                argument="mid_stream",
            )
        keep = partial(object.__setattr__, self)
        keep("providers", providers)
        keep("on", errors)
        keep("accept", accept)
        keep("mid_stream", mid_stream)

    @property
    def model(self) -> str:
        """The model that the first provider asks."""
        return model_of(cast("LLMProvider", self.providers[0]))

    @property
    def base_url(self) -> str:
        """The address that the first provider asks."""
        return base_url_of(cast("LLMProvider", self.providers[0]))

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the first provider sends a request with."""
        return parameters_of(cast("LLMProvider", self.providers[0]), request)

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the first, and the next when it fails; `LLMResponse.served_by` says who answered."""

        def plan() -> tuple[Attempt, Then]:
            turn = _Turn(self, request)
            return turn.attempt(NOTHING), turn.then

        return attempts(plan)


class _Turn:
    """One subscription: whom it has come to, and what was paid for on the way."""

    def __init__(self, fallback: Fallback, request: LLMRequest) -> None:
        self._fallback = fallback
        self._request = request
        self._candidate = first_of(fallback.providers, request.model)
        self._all: Sequence[Candidate] = ()  # mostly nobody but the first is asked
        self._place = 0
        self._refused: list[LLMResponse] = []
        self._unfit: Exception | None = None  # why the newest of them was refused
        self._failures = Failures()

    def attempt(self, shown: Shown) -> Attempt:
        """Ask the candidate whose turn it is."""
        fallback, candidate = self._fallback, self._candidate
        over = fallback.mid_stream == "restart" or shown.calls
        text = thoughts = ""
        if shown and not over:
            text, thoughts = "".join(shown.text), "".join(shown.thoughts)
        request = self._request
        if candidate.model != request.model:
            request = replace(request, model=candidate.model)
        if text.strip():
            # Not with the text as the last message: newer models of Anthropic refuse to go on from one.
            more = (Message.assistant(text), Message.user(GO_ON))
            request = replace(request, messages=(*request.messages, *more))

        def begin() -> Observable[LLMEvent]:
            events = asked(candidate.provider, request)
            return _joined(text, thoughts, events) if text or thoughts else events

        return Attempt(
            begin=begin,
            model=candidate.name,
            take=self._take,
            over=over and bool(shown),
            hold=fallback.accept is not None and fallback.mid_stream != "restart" and not self._last,
            remember=fallback.mid_stream == "continue",
        )

    def then(self, error: Exception, shown: Shown) -> Attempt | Exception:
        """The next attempt, or the error that is passed on."""
        fallback, refused = self._fallback, error is self._unfit
        if not refused:
            self._failures.note(error)
        if (shown and fallback.mid_stream == "fail") or not (refused or isinstance(error, fallback.on)):
            return error
        if self._last:
            return error if shown else self._failures.worth_most(error)
        self._place += 1
        if not self._all:
            self._all = candidates(self._providers, self._request.model)
        self._candidate = self._all[self._place]
        return self.attempt(shown)

    @property
    def _last(self) -> bool:
        return self._place + 1 == len(self._providers)

    @cached_property
    def _providers(self) -> tuple[LLMProvider | str, ...]:
        """Who may be asked for this request."""
        return without_repeats(self._fallback.providers, self._request.model)

    def _take(self, response: LLMResponse, shown: Shown) -> LLMResponse:
        movable = not ((shown and self._fallback.mid_stream == "fail") or self._last)
        if movable and (problem := self._problem(response)) is not None:
            self._refused.append(response)
            self._unfit = problem
            raise problem
        response = self._candidate.signed(response)
        return _with_costs(response, self._refused) if self._refused else response

    def _problem(self, response: LLMResponse) -> ModelError | None:
        """Why an answer will not do."""
        name, accept = self._candidate.name, self._fallback.accept
        said = response.message.content or response.message.tool_calls
        if response.finish_reason == "content_filter" and not said and self._falls_back_on(ContentRefused):
            return ContentRefused(f"the content filter of {name} left nothing of its answer", model=name)
        if accept is not None and not accept(response):
            return ModelFailed(f"the answer of {name} was not accepted", model=name)
        return None

    def _falls_back_on(self, error: type[Exception]) -> bool:
        return issubclass(error, self._fallback.on)


def _with_costs(response: LLMResponse, refused: Sequence[LLMResponse]) -> LLMResponse:
    """The answer with the tokens and the money of those that were not taken: they were paid for."""
    answers = (*refused, response)
    usages = [answer.usage for answer in answers if answer.usage is not None]
    costs = [answer.cost for answer in answers if answer.cost is not None]
    return replace(
        response,
        usage=reduce(add, usages) if usages else None,
        cost=math.fsum(costs) if costs else None,
    )


def _joined(text: str, thoughts: str, source: Observable[LLMEvent]) -> Observable[LLMEvent]:
    """An answer that goes on from what was shown of another, so that its end is the whole of both."""

    def subscribe(
        observer: abc.ObserverBase[LLMEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        def on_next(event: LLMEvent) -> None:
            match event:
                case ContentReset():  # a fallback within starts its part over; what was there before it stays
                    observer.on_next(event)
                    if thoughts:
                        observer.on_next(ThoughtDelta(delta=thoughts))
                    if text:
                        observer.on_next(ContentDelta(delta=text))
                case LLMResponse(message=message):
                    observer.on_next(replace(event, message=_whole(text, thoughts, message)))
                case _:
                    observer.on_next(event)

        return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

    return Observable(subscribe)


def _whole(text: str, thoughts: str, message: Message) -> Message:
    said = message.content
    content = text + said if isinstance(said, str) else (TextPart(text), *said)
    return replace(message, content=content, reasoning=thoughts + message.reasoning)
