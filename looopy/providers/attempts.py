"""Several requests for one answer, as one stream. `retry.py` and `fallback.py` say whom to ask next; what they have in common is here.

Every request but the first is announced by an `LLMRetry`. They are numbered over all wrappers of a model call: what a wrapper inside counted is
counted on here, so that any nesting of them tells one story. What was shown is remembered, since a wrapper commits at the first piece shown.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable

from looopy import threads
from looopy.errors import ConfigurationError, redact
from looopy.events import (
    ContentDelta,
    ContentReset,
    Failure,
    LLMEvent,
    LLMResponse,
    LLMRetry,
    ThoughtDelta,
)
from looopy.ports import LLMProvider


@dataclass(slots=True)
class Shown:
    """The pieces of a model call that its subscriber has.

    Attributes:
        text: of the answer.
        thoughts: of the reasoning.
        calls: whether a tool call has begun.
    """

    text: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    calls: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.thoughts or self.calls)

    def forget(self) -> None:
        """All was taken back."""
        self.text.clear()
        self.thoughts.clear()
        self.calls = False


def _as_it_is(response: LLMResponse, _: Shown) -> LLMResponse:
    return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A request to be made.

    Attributes:
        begin: makes its stream.
        model: whom it asks, for events.
        take: makes of its answer what is passed on, or raises when it will not do.
        seconds: how long to wait before it.
        over: whether the answer starts over: what was shown is taken back.
        hold: whether its pieces are held back until its answer is taken.
    """

    begin: Callable[[], Observable[LLMEvent]]
    model: str
    take: Callable[[LLMResponse, Shown], LLMResponse] = _as_it_is
    seconds: float = 0.0
    over: bool = False
    hold: bool = False


Then: TypeAlias = Callable[[Exception, Shown], "Attempt | Exception"]
"""What follows a failure: another attempt, or the error that is passed on."""


def attempts(plan: Callable[[], tuple[Attempt, Then]]) -> Observable[LLMEvent]:
    """The stream of an attempt and of those that follow its failures.

    Args:
        plan: the first attempt, and what follows a failure; asked for at each subscription, so that what it remembers is that subscription's.
    """

    def subscribe(
        observer: abc.ObserverBase[LLMEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        first, then = plan()
        subscription = _Subscription(observer, scheduler, then)
        subscription.begin(first)
        return Disposable(subscription.dispose)

    return Observable(subscribe)


class _Subscription:
    """One subscriber, and what it was shown."""

    __slots__ = (
        "_call_off",
        "_context",
        "_current",
        "_failed",
        "_held",
        "_inner",
        "_loop",
        "_observer",
        "_over",
        "_running",
        "_scheduler",
        "_shown",
        "_then",
    )

    def __init__(
        self, observer: abc.ObserverBase[LLMEvent], scheduler: abc.SchedulerBase | None, then: Then
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._then = then
        self._loop = threads.loop_here()
        self._context = copy_context()
        self._current = SerialDisposable()
        self._call_off: Callable[[], None] | None = None
        self._shown = Shown()
        self._held: list[LLMEvent] = []
        self._failed = 0  # requests before this attempt
        self._inner = 0  # requests that failed inside this attempt, as wrappers within have told
        self._running: Attempt | None = None
        self._over = False  # answered, or left

    def begin(self, attempt: Attempt) -> None:
        """Make a request, unless nobody listens any more."""
        if self._over:
            return
        self._running = attempt
        self._inner = 0
        self._held.clear()
        single = SingleAssignmentDisposable()
        self._current.disposable = single
        # In the subscriber's context: in that of the failed attempt, spans would become children of a span that has ended.
        context = self._context.copy()
        try:
            events = context.run(attempt.begin)
        except Exception as error:  # noqa: BLE001  a provider may raise whatever it likes
            self._go_on(attempt, error)
            return
        single.disposable = context.run(
            events.subscribe,
            partial(self._on_next, attempt),
            partial(self._go_on, attempt),
            partial(self._completed, attempt),
            scheduler=self._scheduler,
        )

    def dispose(self) -> None:
        """Close the request, or wait no longer for the next."""
        self._over = True
        self._current.dispose()
        if self._call_off is not None:
            threads.on_loop(self._loop, self._call_off)

    def _on_next(self, attempt: Attempt, event: LLMEvent) -> None:
        match event:
            case ContentDelta(delta=delta) if not attempt.hold:  # first, since there are thousands of them
                self._shown.text.append(delta)
            case LLMResponse():
                self._answered(attempt, event)
                return
            case LLMRetry():
                self._inner += 1
                event = replace(event, attempt=event.attempt + self._failed)
            case ContentReset() if attempt.hold:
                self._held.clear()
                return
            case ContentReset():
                self._shown.forget()
            case _ if attempt.hold:
                self._held.append(event)
                return
            case ThoughtDelta(delta=delta):
                self._shown.thoughts.append(delta)
            case _:
                self._shown.calls = True
        self._observer.on_next(event)

    def _answered(self, attempt: Attempt, response: LLMResponse) -> None:
        try:
            taken = attempt.take(response, self._shown)
        except Exception as error:  # noqa: BLE001  it will not do, or a function that the user gave is broken
            self._running = None
            self._current.disposable = Disposable()
            self._go_on(attempt, error)
            return
        for piece in self._held:
            self._observer.on_next(piece)
        self._over = True
        if self._failed:
            taken = replace(taken, attempts=taken.attempts + self._failed)
        self._observer.on_next(taken)

    def _completed(self, attempt: Attempt) -> None:
        if attempt is self._running:  # else its answer would not do, and it has not heard of that yet
            self._observer.on_completed()

    def _go_on(self, failed: Attempt, error: Exception) -> None:
        try:
            following = error if self._over else self._then(error, self._shown)
        except Exception as bug:  # noqa: BLE001  of a function that the user gave
            following = bug
        if isinstance(following, Exception):
            self._observer.on_error(following)
            return
        self._failed += 1 + self._inner
        told = LLMRetry(
            attempt=self._failed,
            error=Failure.of(error),
            seconds=following.seconds,
            model=failed.model,
            next_model=following.model,
        )
        self._observer.on_next(told)
        if following.over:
            self._shown.forget()
            self._observer.on_next(ContentReset())
        # By a timer also where there is nothing to wait for: a thousand failures at once must not be a thousand calls deep.
        threads.on_loop(self._loop, partial(self._wait, following))

    def _wait(self, attempt: Attempt) -> None:
        if not self._over:
            self._call_off = threads.after(attempt.seconds, partial(self.begin, attempt))


def model_of(provider: LLMProvider) -> str:
    """The name of the model that a provider asks; empty where it does not say."""
    return getattr(provider, "model", "")


def check_provider(wrapper: str, provider: object, mend: str) -> None:
    """Check that a wrapper was given a provider, and no class that somebody forgot to call.

    Raises:
        ConfigurationError: it was not.
    """
    if isinstance(provider, type) or not callable(getattr(provider, "call", None)):
        if isinstance(provider, type):
            given = f"the class {provider.__name__}"
        else:
            given = redact(repr(provider)) if isinstance(provider, str) else f"a {type(provider).__name__}"
        raise ConfigurationError(
            f"{wrapper}: {given} is no provider; it takes an object with call(request), {mend}",
            argument="provider",
        )
