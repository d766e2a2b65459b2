"""A model whose answers are kept: an equal request is answered without asking again, and equal ones at the same time share one call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json
from reactivex import Observable

from looopy.errors import ConfigurationError, words
from looopy.events import LLMEvent
from looopy.messages import JSON, digest
from looopy.model_call import asked
from looopy.ports import AnswerStore, LLMProvider, LLMRequest
from looopy.providers.candidates import check_provider, model_of
from looopy.providers.clocks import LARGEST
from looopy.providers.flights import Flight, Kept, Seat
from looopy.providers.requests import Requests
from looopy.providers.wrapped import base_url_of, everyone, held_by, parameters_of, refuse_twice
from looopy.redaction import redact

logger = logging.getLogger("looopy.providers")
logger.addHandler(logging.NullHandler())  # silent until the program configures logging

_VERSION = 1  # of what is kept; another one finds nothing of this
_PATIENCE = 2.0  # seconds that a store may take

_BOOKKEEPING = ("litellm_session_id", "metadata", "num_retries", "user")
"""Parameters that do not change an answer."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A provider that keeps another one's answers, and gives them again when an equal request comes.

    Requests are equal that have the same messages, tools, tool choice, model, address and parameters, what the provider adds to them included.
    Who asks, in which session and trace, makes no difference. An answer out of the cache is streamed as the first one was, and says
    so: `cached` is True, its `cost` 0.0, its `usage` that of the first. Equal requests at the same time share one call; it ends when the
    last of them leaves.

    Only whole answers are kept: none that failed, was cut (`length`, `content_filter`), or has a tool call that cannot be read. A store that
    fails is as if there were none; the log `looopy.providers` says so once.

    Attributes:
        provider: who is asked.
        store: where the answers are: `MemoryCache`, `SQLiteCache`, `RedisCache`, or yours. Share it to share them.
        seconds: how long an answer is kept.
        max_bytes: the largest answer that is kept, with its pieces.
        said: what was logged of a store that fails.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> Cache(LiteLLMProvider(model="gpt-4o-mini"), SQLiteCache("answers.db"), seconds=86_400)
    """

    provider: LLMProvider
    store: AnswerStore
    _: KW_ONLY
    seconds: float = 3_600.0
    max_bytes: int = 1_000_000
    said: list[str] = field(default_factory=list[str], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_provider("Cache", self.provider, "for example LiteLLMProvider(model='gpt-4o-mini')")
        store: object = self.store
        if isinstance(store, type) or not all(
            callable(getattr(store, name, None)) for name in ("get", "put")
        ):
            given = f"the class {store.__name__}" if isinstance(store, type) else f"a {type(store).__name__}"
            raise ConfigurationError(
                f"Cache: {given} is no store; it takes an object with get(key) and put(key, value, seconds=…), for example MemoryCache()",
                argument="store",
            )
        for name, value in (("seconds", self.seconds), ("max_bytes", self.max_bytes)):
            number = isinstance(value, int | float) and not isinstance(value, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
            if not (number and 0 < value <= LARGEST):
                raise ConfigurationError(
                    f"Cache({name}={value!r}): it must be a number above 0", argument=name
                )
        refuse_twice(self, "store", "one of the two is enough")

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
        """The kept answer to an equal request, else the provider's."""
        return Requests(partial(Seat, partial(self._seat, request)))

    def key(self, request: LLMRequest, /) -> str:
        """What stands for a request and all that are equal to it: 64 hex digits.

        Raises:
            TypeError: something in the request has no JSON form.
            ConfigurationError: its `params` cannot be sent.
        """
        whole = sha256(
            _digest(
                (
                    _VERSION,
                    request.model,
                    request.tool_choice,
                    _relevant(request.params),
                    [_asked(who, request) for who in everyone(self.provider) if not held_by(who)],
                    len(request.messages),
                )
            )
        )
        for part in (*request.messages, *request.tools):
            whole.update(part.digest)
        return whole.hexdigest()

    def _seat(self, request: LLMRequest, seat: Seat) -> None:
        """Give a subscriber what it asks for; on its loop."""
        if seat.left:
            return
        loop = asyncio.get_running_loop()
        begin = partial(asked, self.provider, request)
        try:
            key = self.key(request)
        except Exception:  # noqa: BLE001  what is wrong with the request is the provider's to say
            alone = Flight(begin, shelf=None, land=lambda: None)
            alone.take(seat)
            alone.fetch()
            return
        place = (id(self.store), id(loop), key)
        if (flight := _in_flight.get(place)) is not None:
            flight.take(seat)
            return
        shelf, later = _Shelf(self, key), _awaits(getattr(self.store.get, "__func__", self.store.get))
        kept = None if later else shelf.get()
        if kept is not None:
            seat.replay(kept)
            return
        # The flight holds the store and the loop: their ids are theirs as long as it is in the table.
        flight = _in_flight[place] = Flight(begin, shelf=shelf, land=partial(_in_flight.pop, place, None))
        flight.take(seat)
        if later:
            flight.look(shelf)
        else:
            flight.fetch()


@lru_cache(maxsize=16)
def _awaits(get: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(get)


_in_flight: dict[tuple[int, int, str], Flight] = {}
"""The calls under way, by store, event loop and key. Each loop touches none but its own."""


class _Shelf:
    """One key's place in a store that may fail, which is said once a cache and is no error."""

    __slots__ = ("_cache", "_key", "_works")

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._works = True

    def get(self) -> Kept | None:
        """What is kept there, by a store that says so at once."""
        try:
            return Kept.read(self._cache.store.get(self._key))
        except Exception as error:  # noqa: BLE001  a store may raise whatever it likes
            self._failed(error)
            return None

    async def look(self) -> Kept | None:
        """What is kept there."""
        return Kept.read(await self._answer(lambda: self._cache.store.get(self._key)))

    def put(self, value: bytes, /) -> Awaitable[None] | None:
        """Keep an answer there, if the store works and it is not too large."""
        if not self._works or len(value) > self._cache.max_bytes:
            return None
        keep = partial(self._cache.store.put, self._key, value, seconds=self._cache.seconds)
        if inspect.iscoroutinefunction(self._cache.store.put):
            return self._answer(keep)
        try:
            keep()
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error)
        return None

    async def _answer(self, ask: Callable[[], Any]) -> Any:
        """What a store answers in the end; None where it fails or takes too long."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await ask()
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        self._works = False
        if not self._cache.said:
            why = redact(f"{type(error).__name__}: {words(error)}")
            self._cache.said.append(why)
            logger.warning(
                "%s fails; models are asked as if there were no cache: %s",
                type(self._cache.store).__name__,
                why,
            )


def _digest(value: object) -> bytes:
    """`digest` of what is mostly the same from one request to the next: it is made once for each way in which it is written."""
    try:
        return _digest_of(to_json(value, inf_nan_mode="constants"))
    except (PydanticSerializationError, ValueError):
        return digest(value)


@lru_cache(maxsize=64)
def _digest_of(text: bytes) -> bytes:
    return digest(from_json(text))


def _asked(provider: object, request: LLMRequest) -> JSON:
    """Which model a provider asks, where, and with what."""
    if isinstance(provider, str):  # `Fallback` has names, too
        return provider
    known = cast("LLMProvider", provider)
    return (model_of(known), base_url_of(known), _relevant(parameters_of(known, request)))


def _relevant(parameters: Mapping[str, JSON]) -> JSON:
    return {name: value for name, value in parameters.items() if name not in _BOOKKEEPING}
