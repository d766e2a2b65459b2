"""Several requests for one answer, one after the other, as one stream. `retry.py`, `fallback.py` and others say whom to ask next; what they have in common is here.

Every request but the first is announced by an `LLMRetry`. They are numbered over all wrappers of a model call: what a wrapper inside counted is
counted on here, so that any nesting of them tells one story. What was shown is remembered, since a wrapper commits at the first piece shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

from reactivex import Observable, abc
from reactivex.internal import noop

from looopy import threads
from looopy.errors import ModelError
from looopy.events import ContentDelta, ContentReset, Failure, LLMEvent, LLMResponse, LLMRetry, ThoughtDelta
from looopy.frozen import changed
from looopy.providers.requests import Hearer, Patient, Request, Requests


class Shown:
    """What the subscriber of a model call has of it; true when that is anything.

    Attributes:
        text: the pieces of the answer, where they are remembered.
        thoughts: those of the reasoning, where they are remembered.
        calls: whether a tool call has begun.
    """

    __slots__ = ("any", "calls", "text", "thoughts")

    def __init__(self) -> None:
        self.forget()

    def __bool__(self) -> bool:
        return self.any

    def forget(self) -> None:
        """All was taken back."""
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.any = self.calls = False


NOTHING = Shown()
"""What was shown before the first attempt."""


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
        remember: whether the text that is shown of it is remembered.
    """

    begin: Callable[[], Observable[LLMEvent]]
    model: str
    take: Callable[[LLMResponse, Shown], LLMResponse] = _as_it_is
    seconds: float = 0.0
    over: bool = False
    hold: bool = False
    remember: bool = False


Then: TypeAlias = Callable[[Exception, Shown], "Attempt | Exception"]
"""What follows a failure: another attempt, or the error that is passed on."""


def attempts(plan: Callable[[], tuple[Attempt, Then]]) -> Observable[LLMEvent]:
    """The stream of an attempt and of those that follow its failures.

    Args:
        plan: the first attempt, and what follows a failure; asked for at each subscription, so that what it remembers is that subscription's.
    """
    return Requests(partial(_Attempts, plan))


_COUNTED = re.compile(r"\n  \d+ attempts were made\.$")


def _count(error: Exception, attempts: int) -> None:
    """Let an error say that it is the end of several attempts: "try again" alone would sound as if nobody had."""
    if attempts > 1 and isinstance(error, ModelError) and error.args == (str(error),):
        error.args = (f"{_COUNTED.sub('', str(error))}\n  {attempts} attempts were made.",)


class _Attempts(Patient):
    """One subscriber, and what it was shown."""

    __slots__ = ("_answered", "_call_off", "_failed", "_plan", "_running", "_then", "shown")
    _then: Then

    def __init__(
        self,
        plan: Callable[[], tuple[Attempt, Then]],
        below: Hearer,
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__(below, scheduler)
        self.shown = Shown()
        self._plan = plan
        self._call_off: Callable[[], None] | None = None
        self._running: _Running | None = None
        self._failed = 0  # requests before the one that runs
        self._answered = False

    def begin(self) -> None:
        """Make the first request."""
        try:
            first, self._then = self._plan()
        except Exception as error:  # noqa: BLE001  of a function that the user gave
            self.end(error)
        else:
            self.attempt(first)

    def attempt(self, attempt: Attempt) -> None:
        """Make a request, unless nobody listens any more."""
        running = self._running = _Running(self, attempt, self._failed)
        if not self.left:  # only now: whoever leaves while this is read closes what runs
            self.ask(running, attempt.begin)

    def dispose(self) -> None:
        """Close the request, or wait no longer for the next."""
        self.leave()
        if self._running is not None:
            self._running.close()
        if self._call_off is not None:
            threads.on_loop(self.loop, self._call_off)

    def answered(self, running: _Running, response: LLMResponse) -> None:
        """A request has its answer; it may not do."""
        try:
            taken = running.attempt.take(response, self.shown)
        except Exception as error:  # noqa: BLE001  it will not do, or a function that the user gave is broken
            self.failed(running, error)
            return
        self._answered = True
        for piece in running.held:
            (self.below.text if type(piece) is ContentDelta else self.below.other)(piece)
        self.below.other(changed(taken, attempts=taken.attempts + self._failed) if self._failed else taken)

    def completed(self, running: _Running) -> None:
        """A request is over."""
        if running is self._running:  # else its answer would not do, and it has not heard of that yet
            self._running = None
            running.close()
            self.end()

    def failed(self, running: _Running, error: Exception) -> None:
        """A request failed: make the next one, or pass the error on."""
        if running is not self._running or self.left:
            return
        self._running = None
        running.close()
        try:
            following = error if self._answered else self._then(error, self.shown)
        except Exception as bug:  # noqa: BLE001  of a function that the user gave
            following = bug
        if isinstance(following, Exception):
            if not (self._answered or self.shown):
                _count(following, self._failed + 1 + running.inner)
            self.end(following)
            return
        self._failed += 1 + running.inner
        told = LLMRetry(
            attempt=self._failed,
            error=Failure.of(error),
            seconds=following.seconds,
            model=running.attempt.model,
            next_model=following.model,
        )
        self.below.other(told)
        if following.over:
            self.shown.forget()
            self.below.other(ContentReset())
        # By a timer also where there is nothing to wait for: a thousand failures at once must not be a thousand calls deep.
        threads.on_loop(self.loop, partial(self._wait, following))

    def _wait(self, attempt: Attempt) -> None:
        if not self.left:
            self._call_off = self.later(attempt.seconds, partial(self.attempt, attempt))


class _Running(Request):
    """An attempt that is under way.

    Attributes:
        inner: requests that failed inside it, as wrappers within have told.
        held: pieces that are held back.
    """

    __slots__ = ("_attempts", "_before", "attempt", "held", "inner", "text")

    def __init__(self, attempts: _Attempts, attempt: Attempt, before: int) -> None:
        super().__init__()
        self.attempt = attempt
        self.inner = 0
        self.held: list[LLMEvent] = []
        self.text = self._first
        self._attempts = attempts
        self._before = before

    def close(self) -> None:
        """End it, and show nothing more of it."""
        self.text = noop
        super().close()

    def other(self, event: LLMEvent, /) -> None:
        """Show what is no text, and remember that it was."""
        if self.closed:
            return
        shown, hold = self._attempts.shown, self.attempt.hold
        match event:
            case LLMResponse():
                self._attempts.answered(self, event)
                return
            case LLMRetry():
                self.inner += 1
                event = changed(event, attempt=event.attempt + self._before)
            case ContentReset() if hold:
                self.held.clear()
                return
            case ContentReset():
                shown.forget()
                self.text = self._first
            case _ if hold:
                self.held.append(event)
                return
            case ThoughtDelta(delta=delta):
                shown.any = True
                if self.attempt.remember:
                    shown.thoughts.append(delta)
            case _:
                shown.any = shown.calls = True
        self._attempts.below.other(event)

    def _first(self, event: LLMEvent, /) -> None:
        """Show a piece of text, and remember that it was; the next one need not come by here, unless it is itself to be remembered."""
        if self.attempt.hold:
            self.held.append(event)
            return
        shown, below = self._attempts.shown, self._attempts.below
        shown.any = True
        if self.attempt.remember:
            shown.text.append(cast("ContentDelta", event).delta)
            below.text(event)
        else:
            below.text(event)
            self.text = (
                self._attempts.below.text
            )  # asked for anew, since that may have changed with this piece

    def on_error(self, error: Exception) -> None:
        """Go on from a failure."""
        self._attempts.failed(self, error)

    def on_completed(self) -> None:
        """Be over."""
        self._attempts.completed(self)
