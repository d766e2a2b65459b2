"""Several requests for one answer, one after the other, as one stream. `retry.py`, `fallback.py` and others say whom to ask next; what they have in common is here.

Every request but the first is announced by an `LLMRetry`. They are numbered over all wrappers of a model call: what a wrapper inside counted is
counted on here, so that any nesting of them tells one story. What was shown is remembered, since a wrapper commits at the first piece shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.internal import noop

from looopy import threads
from looopy.events import ContentDelta, ContentReset, Failure, LLMEvent, LLMResponse, LLMRetry, ThoughtDelta
from looopy.providers.requests import Request, Requests, Subscriber


class Shown:
    """The pieces of a model call that its subscriber has.

    Attributes:
        text: of the answer.
        thoughts: of the reasoning.
        calls: whether a tool call has begun.
    """

    __slots__ = ("calls", "text", "thoughts")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.calls = False

    def __bool__(self) -> bool:
        return bool(self.text or self.thoughts or self.calls)

    def forget(self) -> None:
        """All was taken back."""
        self.text.clear()
        self.thoughts.clear()
        self.calls = False


def _as_it_is(response: LLMResponse, _: Shown) -> LLMResponse:
    return response


@dataclass(slots=True, kw_only=True)
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

    def subscribe(subscriber: Subscriber) -> abc.DisposableBase:
        try:
            first, then = plan()
        except Exception as error:  # noqa: BLE001  of a function that the user gave
            subscriber.end(error)
            return Disposable()
        attempts = _Attempts(subscriber, then)
        attempts.begin(first)
        return attempts

    return Requests(subscribe)


class _Attempts(abc.DisposableBase):
    """One subscriber, and what it was shown."""

    __slots__ = ("_answered", "_call_off", "_failed", "_running", "_then", "shown", "subscriber")

    def __init__(self, subscriber: Subscriber, then: Then) -> None:
        self.subscriber = subscriber
        self.shown = Shown()
        self._then = then
        self._call_off: Callable[[], None] | None = None
        self._running: _Running | None = None
        self._failed = 0  # requests before the one that runs
        self._answered = False

    def begin(self, attempt: Attempt) -> None:
        """Make a request, unless nobody listens any more."""
        running = self._running = _Running(self, attempt, self._failed)
        if not self.subscriber.left:  # only now: whoever leaves while this is read closes what runs
            self.subscriber.ask(running, attempt.begin)

    def dispose(self) -> None:
        """Close the request, or wait no longer for the next."""
        self.subscriber.leave()
        if self._running is not None:
            self._running.close()
        if self._call_off is not None:
            threads.on_loop(self.subscriber.loop, self._call_off)

    def answered(self, running: _Running, response: LLMResponse) -> None:
        """A request has its answer; it may not do."""
        try:
            taken = running.attempt.take(response, self.shown)
        except Exception as error:  # noqa: BLE001  it will not do, or a function that the user gave is broken
            self.failed(running, error)
            return
        self._answered = True
        for piece in running.held:
            self.subscriber.show(piece)
        self.subscriber.show(
            replace(taken, attempts=taken.attempts + self._failed) if self._failed else taken
        )

    def completed(self, running: _Running) -> None:
        """A request is over."""
        if running is self._running:  # else its answer would not do, and it has not heard of that yet
            self._running = None
            running.close()
            self.subscriber.end()

    def failed(self, running: _Running, error: Exception) -> None:
        """A request failed: make the next one, or pass the error on."""
        if running is not self._running or self.subscriber.left:
            return
        self._running = None
        running.close()
        try:
            following = error if self._answered else self._then(error, self.shown)
        except Exception as bug:  # noqa: BLE001  of a function that the user gave
            following = bug
        if isinstance(following, Exception):
            self.subscriber.end(following)
            return
        self._failed += 1 + running.inner
        told = LLMRetry(
            attempt=self._failed,
            error=Failure.of(error),
            seconds=following.seconds,
            model=running.attempt.model,
            next_model=following.model,
        )
        self.subscriber.show(told)
        if following.over:
            self.shown.forget()
            self.subscriber.show(ContentReset())
        # By a timer also where there is nothing to wait for: a thousand failures at once must not be a thousand calls deep.
        threads.on_loop(self.subscriber.loop, partial(self._wait, following))

    def _wait(self, attempt: Attempt) -> None:
        if not self.subscriber.left:
            self._call_off = threads.after(attempt.seconds, partial(self.begin, attempt))


class _Running(Request):
    """An attempt that is under way.

    Attributes:
        inner: requests that failed inside it, as wrappers within have told.
        held: pieces that are held back.
    """

    __slots__ = ("_attempts", "_before", "_show", "_shown", "_text", "attempt", "held", "inner")

    def __init__(self, attempts: _Attempts, attempt: Attempt, before: int) -> None:
        super().__init__()
        self.attempt = attempt
        self.inner = 0
        self.held: list[LLMEvent] = []
        self._attempts = attempts
        self._before = before
        self._shown = attempts.shown
        self._text = None if attempt.hold else attempts.shown.text.append
        self._show = attempts.subscriber.show

    def close(self) -> None:
        """End it, and show nothing more of it."""
        self._show = noop
        super().close()

    def on_next(self, event: LLMEvent) -> None:
        """Show a piece, and remember that it was."""
        if (
            isinstance(event, ContentDelta) and self._text is not None
        ):  # first, since there are thousands of them
            self._text(event.delta)
            self._show(event)
            return
        match event:
            case LLMResponse():
                self._attempts.answered(self, event)
                return
            case LLMRetry():
                self.inner += 1
                event = replace(event, attempt=event.attempt + self._before)
            case ContentReset() if self.attempt.hold:
                self.held.clear()
                return
            case ContentReset():
                self._shown.forget()
            case _ if self.attempt.hold:
                self.held.append(event)
                return
            case ThoughtDelta(delta=delta):
                self._shown.thoughts.append(delta)
            case _:
                self._shown.calls = True
        self._show(event)

    def on_error(self, error: Exception) -> None:
        """Go on from a failure."""
        self._attempts.failed(self, error)

    def on_completed(self) -> None:
        """Be over."""
        self._attempts.completed(self)
