"""A model that is asked again when it fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, cast

from reactivex import Observable

from looopy import threads
from looopy.errors import ConfigurationError, LooopyError
from looopy.events import LLMEvent
from looopy.frozen import changed
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.attempts import Attempt, Shown, Then, attempts
from looopy.providers.candidates import check_provider, model_of
from looopy.providers.clocks import is_seconds
from looopy.providers.wrapped import base_url_of, parameters_of


@dataclass(frozen=True, slots=True)
class Retry:
    """A provider that asks another one again when that fails before it has shown anything. Afterwards an error is passed on.

    It asks again after errors that are `retryable`; the last one's text says how many attempts were made. Before the second attempt it waits up to
    `first_wait`, before each further one up to twice as long as before: at random, so that those who failed together do not come back together. Where the server says how long to wait, that is
    added. Each wait is told by an `LLMRetry`; leaving ends it at once.

    The proxy is told not to retry by itself (`num_retries: 0`), else the retries would multiply; a request's own `params` win.

    Attributes:
        provider: who is asked.
        attempts: how often, the first time included.
        first_wait: the longest wait before the second attempt, in seconds.
        longest_wait: the longest wait before any, in seconds; a server that asks for more is not waited for.
        seconds: for all attempts together: none begins later than that. One that has begun is not cut (a provider's `timeout` does that).
        on: how many attempts there are when an attempt failed with an error of this class, where that differs from `attempts`; the nearest
            class counts. 1 never asks again; 2 and more asks again also where the class is not retryable.
        jitter: a number from 0 to 1 for each wait, by which it is multiplied.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> Retry(LiteLLMProvider(model="gpt-4o-mini"), attempts=5, on={ModelTimeout: 1, ModelOverloaded: 8})
    """

    provider: LLMProvider
    _: KW_ONLY
    attempts: int = 3
    first_wait: float = 0.5
    longest_wait: float = 30.0
    seconds: float | None = None
    on: Mapping[type[Exception], int] = field(default_factory=dict[type[Exception], int])
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        check_provider("Retry", self.provider, "for example LiteLLMProvider(model='gpt-4o-mini')")
        if not _is_count(self.attempts):
            raise ConfigurationError(
                f"Retry(attempts={self.attempts!r}): it must be a whole number, at least 1, which never asks again",
                argument="attempts",
            )
        for name in ("first_wait", "longest_wait", "seconds"):
            value: object = getattr(self, name)
            if not (is_seconds(value) or (name == "seconds" and value is None)):
                raise ConfigurationError(
                    f"Retry({name}={value!r}): it must be a number of seconds, 0 or more", argument=name
                )
        if self.first_wait > self.longest_wait:
            raise ConfigurationError(
                f"Retry(first_wait={self.first_wait!r}): no wait is longer than longest_wait={self.longest_wait!r}; pass a longer one, or wait less",
                argument="first_wait",
            )
        given = cast("Any", self.on)
        if not (isinstance(given, Mapping) and all(map(_is_rule, cast("Mapping[Any, Any]", given).items()))):
            raise ConfigurationError(
                f"Retry(on={given!r}): it must say for classes of errors how many attempts there are, "
                "for example {ModelTimeout: 1, ModelOverloaded: 8}",
                argument="on",
            )
        if not callable(self.jitter):
            raise ConfigurationError(
                f"Retry(jitter={self.jitter!r}): it must be a function that returns a number from 0 to 1, such as random.random",
                argument="jitter",
            )

    @property
    def model(self) -> str:
        """The model that the provider asks."""
        return model_of(self.provider)

    @property
    def base_url(self) -> str:
        """The address that the provider asks."""
        return base_url_of(self.provider)

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the provider sends a request with."""
        return parameters_of(self.provider, request)

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model, and again when it fails; `LLMResponse.attempts` says how many requests it took."""
        request = changed(request, params={"num_retries": 0, **request.params})
        again = Attempt(begin=lambda: asked(self.provider, request), model=request.model)
        return attempts(lambda: (again, self._rule(again)))

    def _rule(self, again: Attempt) -> Then:
        """When to ask again, for one subscription."""
        began, failed = 0.0 if self.seconds is None else threads.now(), 0

        def then(error: Exception, shown: Shown) -> Attempt | Exception:
            nonlocal failed
            failed += 1
            again.model = again.model or self.model  # asked only now: in a stack it goes through all of it
            if shown or failed >= self._attempts_for(error):
                return error
            wait = self._wait(error, failed)
            late = self.seconds is not None and threads.now() - began + wait > self.seconds
            return error if late or wait > self.longest_wait else replace(again, seconds=wait)

        return then

    def _attempts_for(self, error: Exception) -> int:
        retryable = isinstance(error, LooopyError) and error.retryable
        given = next((self.on[kind] for kind in type(error).__mro__ if kind in self.on), None)
        if given is None:
            return self.attempts if retryable else 1
        # An error may know better than its class: a 429 for a quota that is spent is over, whatever is said of overload.
        return given if retryable or not getattr(type(error), "retryable", False) else 1

    def _wait(self, error: Exception, failed: int) -> float:
        told = getattr(error, "retry_after", None) or 0.0
        if told > self.longest_wait:
            return told
        most = min(self.longest_wait, self.first_wait * 2.0 ** min(failed - 1, _DOUBLINGS))
        return min(self.longest_wait, told + self.jitter() * most)


_DOUBLINGS = 64  # more would overflow, and are years


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_rule(rule: tuple[object, object]) -> bool:
    kind, count = rule
    return isinstance(kind, type) and issubclass(kind, Exception) and _is_count(count)
