"""Several models that are as good as each other: they take turns, and those that fail rest."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from reactivex import Observable

from looopy import threads
from looopy.errors import ConfigurationError, ModelError, ModelRejected
from looopy.events import LLMEvent, LLMResponse
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.attempts import Attempt, Shown, Then, attempts
from looopy.providers.candidates import (
    Candidate,
    Failures,
    candidates,
    check_candidates,
    model_of,
    refuse_one_twice,
)
from looopy.providers.clocks import is_seconds
from looopy.providers.wrapped import base_url_of, parameters_of


class Roster:
    """Whose turn it is, and who rests: the memory of a `LoadBalance`. It knows models by their names, and may be used from many threads.

    Several `LoadBalance` over the same models share what they learn when they are given the same one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def __repr__(self) -> str:
        """Show who rests."""
        return f"Roster(resting={self.resting})"

    @property
    def resting(self) -> dict[str, float]:
        """For how many seconds more each of those that failed is left out."""
        with self._lock:
            now = threads.now()
            return {name: until - now for name, until in self._until.items() if until > now}

    def choose(self, weights: Mapping[str, float], *, without: Collection[str] = ()) -> str:
        """Whose turn it is. Of those that are awake, each comes up as often as its weight says, evenly spread; where all rest, who wakes first.

        Args:
            weights: who may be chosen.
            without: those of them who may not after all.
        """
        with self._lock:
            now = threads.now()
            left = [name for name in weights if name not in without]
            awake = [name for name in left if self._until.get(name, now) <= now]
            if not awake:
                return min(left, key=self._until.__getitem__)
            # Each gains its weight, and the one that has most pays for all: 3 to 1 is then a a b a, over and over, and not a a a b.
            for name in awake:
                self._turns[name] = self._turns.get(name, 0.0) + weights[name]
            chosen = max(awake, key=self._turns.__getitem__)
            self._turns[chosen] -= math.fsum(weights[name] for name in awake)
            return chosen

    def rest(self, name: str, seconds: float) -> None:
        """Leave one out for so many seconds from now."""
        with self._lock:
            self._until[name] = threads.now() + seconds

    def wake(self, name: str) -> None:
        """Leave one out no longer."""
        with self._lock:
            self._until.pop(name, None)


@dataclass(frozen=True, slots=True, init=False)
class LoadBalance:
    """A provider that asks several in turn, and leaves those that fail out for a while.

    One that fails rests for as long as its server asks (`retry_after`), else for `rest` seconds; an answer ends that. Where all rest, the one
    that rests the shortest is asked. When one fails before it has shown anything, the next is asked within the same call, each once, told by an
    `LLMRetry`; where all failed, the error is that of the last, or of the last whose failure may pass (`retryable`). After the first piece an error
    is passed on. A request that is itself refused (`ModelRejected`) would be refused by all: its error is passed on, and nobody rests for it.

    `served_by` says who answered. A request's `model` is asked of whoever's turn it is, but for those that are given by name.

    Args:
        providers: who takes turns. A name stands for that model on the provider before it.
        weights: how often each comes up beside the others, one number for each; left out: all alike.
        rest: how long one that failed is left out, in seconds.
        roster: the memory; left out: one of this object's own.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> LoadBalance(LiteLLMProvider("http://eu:4000"), LiteLLMProvider("http://us:4000"), weights=(3, 1))
    """

    providers: tuple[LLMProvider | str, ...]
    weights: tuple[float, ...]
    rest: float
    roster: Roster = field(compare=False)

    def __init__(
        self,
        *providers: LLMProvider | str,
        weights: Sequence[float] | None = None,
        rest: float = 30.0,
        roster: Roster | None = None,
    ) -> None:
        check_candidates(
            "LoadBalance",
            providers,
            "LoadBalance(LiteLLMProvider('http://eu:4000'), LiteLLMProvider('http://us:4000'))",
        )
        refuse_one_twice("LoadBalance", providers, "weights=(2, 1) lets one come up more often")
        given = cast("Sequence[Any]", (1.0,) * len(providers) if weights is None else weights)
        if not (
            isinstance(given, list | tuple)
            and len(given) == len(providers)
            and all(is_seconds(weight) and weight > 0 for weight in given)
        ):
            raise ConfigurationError(
                f"LoadBalance(weights={weights!r}): there must be a number above 0 for each of the {len(providers)} providers",
                argument="weights",
            )
        if not is_seconds(rest):
            raise ConfigurationError(
                f"LoadBalance(rest={rest!r}): it must be a number of seconds, 0 or more; 0 leaves nobody out",
                argument="rest",
            )
        if not isinstance(cast("object", roster), Roster | None):
            raise ConfigurationError(
                f"LoadBalance(roster={roster!r}): it must be a Roster(), or left out", argument="roster"
            )
        keep = partial(object.__setattr__, self)
        keep("providers", providers)
        keep("weights", tuple(given))
        keep("rest", rest)
        keep("roster", roster or Roster())

    @property
    def model(self) -> str:
        """The model that all of them ask; empty where they differ."""
        models = {each.model or model_of(each.provider) for each in candidates(self.providers)}
        return models.pop() if len(models) == 1 else ""

    @property
    def base_url(self) -> str:
        """The address that all of them ask; empty where they differ."""
        addresses = {base_url_of(each.provider) for each in candidates(self.providers)}
        return addresses.pop() if len(addresses) == 1 else ""

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the first provider sends a request with."""
        return parameters_of(cast("LLMProvider", self.providers[0]), request)

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the one whose turn it is, and the next when it fails; `LLMResponse.served_by` says who answered."""

        def plan() -> tuple[Attempt, Then]:
            turn = _Turn(self, request)
            return turn.attempt(), turn.then

        return attempts(plan)


class _Turn:
    """One subscription: who was asked."""

    def __init__(self, balance: LoadBalance, request: LLMRequest) -> None:
        self._balance = balance
        self._request = request
        self._candidates = {each.name: each for each in candidates(balance.providers)}
        self._weights = dict(zip(self._candidates, balance.weights, strict=True))
        self._asked: dict[str, None] = {}  # in order
        self._failures = Failures()

    def attempt(self) -> Attempt:
        """Ask the one whose turn it is."""
        name = self._balance.roster.choose(self._weights, without=self._asked)
        self._asked[name] = None
        candidate = self._candidates[name]
        request = candidate.sent(self._request)
        return Attempt(
            begin=lambda: asked(candidate.provider, request), model=name, take=partial(self._take, candidate)
        )

    def then(self, error: Exception, shown: Shown) -> Attempt | Exception:
        """The next attempt, or the error that is passed on."""
        if not isinstance(error, ModelError) or isinstance(error, ModelRejected):
            return error
        asks_for = error.retry_after
        self._balance.roster.rest(
            next(reversed(self._asked)), self._balance.rest if asks_for is None else asks_for
        )
        if shown:
            return error
        self._failures.note(error)
        if len(self._asked) == len(self._candidates):
            return self._failures.worth_most(error)
        return self.attempt()

    def _take(self, candidate: Candidate, response: LLMResponse, _: Shown) -> LLMResponse:
        self._balance.roster.wake(candidate.name)
        return candidate.signed(response)
