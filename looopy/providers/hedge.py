"""Several models: when one is slow, another is asked beside it, and the first to speak wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from reactivex import Observable, abc

from looopy import threads
from looopy.errors import ConfigurationError, ModelError, ModelFailed
from looopy.events import ContentReset, Failure, LLMEvent, LLMResponse, LLMRetry
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.candidates import Candidate, Failures, candidates, check_candidates, model_of
from looopy.providers.clocks import is_seconds
from looopy.providers.requests import NOBODY, Hearer, Patient, Request, Requests
from looopy.providers.wrapped import base_url_of, parameters_of


@dataclass(frozen=True, slots=True, init=False)
class Hedge:
    """A provider that asks the first of several, and beside it the next one when it has shown nothing after some seconds, or has failed.

    The first piece of an answer decides: who shows it answers, and the requests to the others are closed at once. Afterwards an error is passed
    on. Each of the others is told by an `LLMRetry`: one that failed when it did, one that was too slow ("Overtaken") before the first piece.
    `served_by` says who answered, `attempts` how many were asked. The usage and the cost are those of the answer alone: nobody says
    what the others had spent when they were closed.

    Where all failed, the error is that of the last, or of the last whose failure may pass (`retryable`). A request's `model` is meant for the
    first; the others are asked for their own.

    Args:
        providers: who is asked, in this order. A name stands for that model on the provider before it; the same one may stand there twice.
        after: how long one may show nothing before the next is asked beside it, in seconds; 0 asks all at once.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> Hedge(LiteLLMProvider(model="gpt-4o-mini"), "claude-haiku-4-5", after=2)
    """

    providers: tuple[LLMProvider | str, ...]
    after: float

    def __init__(self, *providers: LLMProvider | str, after: float) -> None:
        check_candidates(
            "Hedge", providers, "Hedge(LiteLLMProvider(model='gpt-4o-mini'), 'claude-haiku-4-5', after=2)"
        )
        if not is_seconds(after):
            raise ConfigurationError(
                f"Hedge(after={after!r}): it must be a number of seconds, 0 or more; 0 asks all at once",
                argument="after",
            )
        object.__setattr__(self, "providers", providers)
        object.__setattr__(self, "after", after)

    @property
    def model(self) -> str:
        """The model that the first provider asks."""
        return model_of(self._first)

    @property
    def base_url(self) -> str:
        """The address that the first provider asks."""
        return base_url_of(self._first)

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the first provider sends a request with."""
        return parameters_of(self._first, request)

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the first, and the others when it is slow; `LLMResponse.served_by` says who answered."""
        return Requests(partial(_Hedged, self, request))

    @property
    def _first(self) -> LLMProvider:
        return cast("LLMProvider", self.providers[0])


class _Hedged(Patient):
    """One subscription: who is asked, and whether one of them has won.

    Until then they may be heard on several threads, and the lock lets one at a time decide; afterwards there is but one.
    """

    __slots__ = (
        "_after",
        "_call_off",
        "_candidates",
        "_decided",
        "_failures",
        "_lock",
        "_next",
        "_open",
        "_request",
        "_told",
    )

    def __init__(
        self, hedge: Hedge, request: LLMRequest, below: Hearer, scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(below, scheduler)
        self._after = hedge.after
        self._request = request
        self._candidates = candidates(hedge.providers, request.model)
        self._next = 0  # the place of the one that is asked next
        self._call_off: Callable[[], None] | None = None
        self._open: list[_Racer] = []
        self._told = 0  # requests that failed or were too slow
        self._failures = Failures()
        self._decided = False
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Ask the first."""
        self.ask_at(0)

    def ask_at(self, place: int) -> None:
        """Ask the one at a place, if it is its turn and nobody has won."""
        with self._lock:
            if self._decided or place != self._next:
                return
            candidate = self._candidates[place]
            racer = _Racer(self, candidate, place)
            self._open.append(racer)
            self._next += 1
        self._ask_next_in(self._after)
        if not self.left:  # only now: whoever leaves while this is read closes what is open
            request = self._request
            if candidate.model != request.model:
                request = replace(request, model=candidate.model)
            self.ask(racer, lambda: asked(candidate.provider, request))

    def heard(self, racer: _Racer, event: LLMEvent) -> None:
        """Something came from one that has not won yet: now it has, unless that was no piece of an answer."""
        with self._lock:
            if self._decided or self.left:
                return
            match event:
                case LLMRetry():
                    self._told += 1
                    racer.wait(event.seconds)
                    self.below.other(replace(event, attempt=self._told))
                    return
                case ContentReset():  # of nothing
                    return
                case _:
                    self._decide(racer)
        racer.on_next(event)

    def failed(self, racer: _Racer, error: Exception) -> None:
        """One failed: the next is asked at once where it was the newest, or the error is passed on."""
        racer.close()
        with self._lock:
            if racer.won:
                self._end(error)
            elif not (self._decided or self.left):
                self._open.remove(racer)
                self._lost(racer, error)

    def completed(self, racer: _Racer) -> None:
        """One is over."""
        if racer.won:
            racer.close()
            self._end()
        else:
            self.failed(racer, ModelFailed(f"{racer.name} ended without an answer", model=racer.name))

    def dispose(self) -> None:
        """Close whatever is open, and ask nobody else."""
        self.leave()
        self._ask_nobody()
        for racer in tuple(self._open):
            racer.close()

    def _decide(self, winner: _Racer) -> None:
        """Close all others at once, then say so."""
        self._decided = True
        self._ask_nobody()
        self._open.remove(winner)
        losers, self._open = self._open, [winner]
        for loser in losers:
            loser.close()
        for loser in losers:
            if not loser.waits:
                why = f"{loser.name} had shown nothing when {winner.name} did, and its request was closed"
                self._tell(loser, Failure(type="Overtaken", message=why, retryable=True), winner.name)
        winner.win(self._told)

    def _lost(self, racer: _Racer, error: Exception) -> None:
        if not isinstance(error, ModelError):  # somebody's bug, which no other model mends
            self._end(error)
            return
        self._failures.note(error)
        newest, more = racer.place + 1 == self._next, self._next < len(self._candidates)
        if more and (newest or not self._open):
            self._tell(racer, Failure.of(error), self._candidates[self._next].name)
            self._ask_next_in(0)
        elif self._open:
            self._tell(racer, Failure.of(error), self._open[-1].name)
        else:
            self._end(self._failures.worth_most(error))

    def _tell(self, loser: _Racer, why: Failure, following: str) -> None:
        self._told += 1
        self.below.other(LLMRetry(attempt=self._told, error=why, model=loser.name, next_model=following))

    def _end(self, error: Exception | None = None) -> None:
        self._decided = True
        self._ask_nobody()
        for racer in self._open:
            racer.close()
        self._open = []  # it and they hold each other
        self.end(error)

    def _ask_next_in(self, seconds: float) -> None:
        """By a timer also where there is nothing to wait for: a thousand failures at once must not be a thousand calls deep."""
        if self._next < len(self._candidates):
            threads.on_loop(self.loop, partial(self._set_timer, seconds, self._next))

    def _set_timer(self, seconds: float, place: int) -> None:
        self._ask_nobody()
        if not (self._decided or self.left):
            self._call_off = self.later(seconds, partial(self.ask_at, place))

    def _ask_nobody(self) -> None:
        if self._call_off is not None:
            threads.on_loop(self.loop, self._call_off)


class _Racer(Request):
    """One that is asked.

    Attributes:
        won: whether it was the first to show something.
        place: which of the candidates it is.
    """

    __slots__ = ("_asks_at", "_before", "_below", "_candidate", "_hedged", "_inner", "place", "won")

    def __init__(self, hedged: _Hedged, candidate: Candidate, place: int) -> None:
        super().__init__()
        self.won = False
        self.place = place
        self._hedged = hedged
        self._candidate = candidate
        self._below: Hearer = hedged.below
        self._inner = 0  # requests that failed inside it, as wrappers within have told
        self._before = 0  # requests to others that failed or were too slow
        self._asks_at = 0.0

    @property
    def name(self) -> str:
        """What events call it."""
        return self._candidate.name

    @property
    def waits(self) -> bool:
        """Whether a wrapper within waits before it asks again: then there is no request to give up."""
        return threads.now() < self._asks_at

    def wait(self, seconds: float) -> None:
        """A wrapper within asks again in so many seconds."""
        self._inner += 1
        self._asks_at = threads.now() + seconds

    def win(self, told: int) -> None:
        """From here on its events are shown."""
        self._before = told - self._inner
        self.won = True

    def close(self) -> None:
        """End it, and show nothing more of it."""
        self._below = NOBODY
        super().close()

    def text(self, event: LLMEvent, /) -> None:
        """Show it, once this one has won."""
        if self.won:
            self._below.text(event)
        else:
            self._hedged.heard(self, event)

    def other(self, event: LLMEvent, /) -> None:
        """Show it, once this one has won."""
        if not self.won:
            self._hedged.heard(self, event)
            return
        match event:
            case LLMResponse():
                event = self._candidate.signed(event)
                if self._before:
                    event = replace(event, attempts=event.attempts + self._before)
            case LLMRetry():
                event = replace(event, attempt=event.attempt + self._before)
            case _:
                pass
        self._below.other(event)

    def on_error(self, error: Exception) -> None:
        """Fail."""
        self._hedged.failed(self, error)

    def on_completed(self) -> None:
        """Be over."""
        self._hedged.completed(self)
