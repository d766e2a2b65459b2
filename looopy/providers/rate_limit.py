"""A model that is asked so often a minute and no more; who comes too early waits for its turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import cast

from reactivex import Observable, abc

from looopy import threads
from looopy.errors import ConfigurationError
from looopy.events import LLMEvent, LLMResponse
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.candidates import check_provider, model_of
from looopy.providers.estimates import input_tokens
from looopy.providers.limiter import Limiter, Place, Turn
from looopy.providers.requests import Hearer, Passage, Requests
from looopy.providers.wrapped import base_url_of, parameters_of, refuse_twice
from looopy.reactive import from_awaitable

logger = logging.getLogger("looopy.providers")
logger.addHandler(logging.NullHandler())  # silent until the program configures logging


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A provider that waits for its turn before each call. Leaving ends the wait at once; waiting is logged by `looopy.providers`.

    Clocks and limits of the run go on while it waits. Inside a `Retry` or a `Fallback` each attempt waits for a turn of its own.

    Attributes:
        provider: who is asked.
        limiter: how often, and who shares that.
        answer_tokens: how many tokens of an answer are expected until it is there; what it really was counts afterwards.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> RateLimit(LiteLLMProvider(model="gpt-4o-mini"), Limiter(requests_per_minute=500, at_once=20))
    """

    provider: LLMProvider
    limiter: Limiter
    _: KW_ONLY
    answer_tokens: int = 256

    def __post_init__(self) -> None:
        check_provider("RateLimit", self.provider, "for example LiteLLMProvider(model='gpt-4o-mini')")
        if not isinstance(self.limiter, Limiter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"RateLimit: a {type(self.limiter).__name__} is no limiter; it takes a Limiter(requests_per_minute=…), "
                "which those share who share the limits",
                argument="limiter",
            )
        given = cast("object", self.answer_tokens)
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise ConfigurationError(
                f"RateLimit(answer_tokens={given!r}): it must be a whole number, 0 or more",
                argument="answer_tokens",
            )
        refuse_twice(self, "limiter", "it would wait for itself; one RateLimit is enough")

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
        """Ask the model when it is time."""
        return Requests(partial(_Call, self, request))


class _Call(Passage):
    """One subscriber: first its wait, then its call."""

    __slots__ = ("_limit", "_loop", "_place", "_request", "_tokens", "_turn", "_waiting")

    def __init__(
        self, limit: RateLimit, request: LLMRequest, below: Hearer, scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(below, scheduler)
        self._limit = limit
        self._loop = threads.loop_here()
        self._request = request
        self._tokens = input_tokens(request) + limit.answer_tokens if limit.limiter.counts_tokens else 0.0
        self._place: Place | None = None
        self._turn: Turn | None = None
        self._waiting: abc.DisposableBase | None = None

    def begin(self) -> None:
        """Ask now, or wait."""
        limiter = self._limit.limiter
        self._turn = limiter.turn_now(self._tokens)
        if self._turn is not None:
            self._ask_model()
            return
        logger.info("a model call waits for its turn: %d before it, %r", limiter.waiting, limiter)
        place = self._place = limiter.line_up(self._tokens)

        async def wait() -> None:
            self._turn = await place.turn()

        self._waiting = from_awaitable(wait).subscribe(lambda _: self._ask_model(), self.on_error)

    def dispose(self) -> None:
        """Wait no longer, or close the call."""
        again = self.left
        super().dispose()
        if again:
            return
        if self._waiting is not None:
            self._waiting.dispose()
        if self._place is not None:
            self._place.leave()
        # Behind the cancel, on the same thread: a turn that has come in the meantime is given back.
        threads.on_loop(self._loop, self._give_back)

    def other(self, event: LLMEvent, /) -> None:
        """Show it, and learn from the answer how many tokens it was."""
        if isinstance(event, LLMResponse) and self._turn is not None:
            if event.cached:
                self._turn.used(0.0)
            elif event.usage is not None:
                self._turn.used(event.usage.total_tokens)
        self.below.other(event)

    def _ask_model(self) -> None:
        self.ask(self, lambda: asked(self._limit.provider, self._request))

    def _give_back(self) -> None:
        if self._turn is not None:
            self._turn.done()
