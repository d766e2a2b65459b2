"""A settings file: models, keys, retries, fallbacks, a cache and a budget in TOML, and the provider that follows from them.

Nothing reads it by itself: `Settings.load("looopy.toml")` does, and `looopy.llm` where LOOOPY_SETTINGS names one. What can be set is what the providers and
their wrappers take; this file says no more than which key goes where.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_core import ErrorDetails, from_json

from looopy import misfits
from looopy.arguments import stand_in_for
from looopy.errors import ConfigurationError, MissingExtra, words
from looopy.messages import JSON
from looopy.ports import AnswerStore, Embedder, LLMProvider
from looopy.providers.address import Key
from looopy.providers.budget import Budget, Meter
from looopy.providers.cache import Cache
from looopy.providers.embeddings import LiteLLMEmbedder
from looopy.providers.fallback import Fallback
from looopy.providers.limiter import Limiter
from looopy.providers.litellm import LiteLLMProvider, Timeouts
from looopy.providers.rate_limit import RateLimit
from looopy.providers.retry import Retry
from looopy.redaction import redact
from looopy.stores.answers import MemoryCache, RedisCache, SQLiteCache
from looopy.testing.standin import StandInEmbedder, StandInProvider

try:
    from pydantic_settings import (
        BaseSettings,
        NoDecode,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
        SettingsError,
    )
except ImportError:
    raise MissingExtra("looopy.settings", needs="pydantic-settings", extra="settings") from None

_PREFIX, _WITHIN = "LOOOPY_", "__"
_NAMED: Mapping[str, tuple[str, ...]] = {
    "LITELLM_URL": ("url",),
    "LITELLM_API_KEY": ("api_key",),
    "LOOOPY_EMBEDDING_MODEL": ("embedding", "model"),
}
"""Variables of the environment with names of their own, which the rest of looopy reads too, and the keys that they stand for."""

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_FIELD = re.compile(r'field "(\w+)"')


def _number(value: Any) -> Any:
    """Anything but what Python takes for a number all the same."""
    if isinstance(value, bool):
        raise ValueError("it must be a number")  # noqa: TRY004  what pydantic expects
    return value


_Number = Annotated[float, BeforeValidator(_number)]
_Seconds = Annotated[_Number, Field(gt=0)]
_Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]


def _listed(value: Any) -> Any:
    """A list as a variable of the environment holds one: separated by commas, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.strip().startswith("["):
        return from_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeoutSettings(_Table):
    """`[timeouts]`, in seconds: as `Timeouts`."""

    connect: _Seconds = 5.0
    first_token: _Seconds | None = None
    between_tokens: _Seconds | None = None
    call: _Seconds = 60.0


class RetrySettings(_Table):
    """`[retry]`: as `Retry`, with waits in seconds."""

    attempts: _Count = 3
    first_wait: Annotated[_Number, Field(ge=0)] = 0.5
    longest_wait: Annotated[_Number, Field(ge=0)] = 30.0
    seconds: _Seconds | None = None


class CacheSettings(_Table):
    """`[cache]`: where answers are kept, and for how many seconds.

    `entries` is for "memory", `path` for "sqlite" (seen from the file's folder), `url` for "redis".
    """

    store: Literal["memory", "sqlite", "redis"]
    seconds: _Seconds = 3_600.0
    entries: _Count = 1_000
    path: str = ""
    url: SecretStr | None = None


class BudgetSettings(_Table):
    """`[budget]`: the most tokens and US dollars of all calls together; one of them, or both."""

    tokens: _Count | None = None
    cost: Annotated[_Number, Field(gt=0)] | None = None


class RateLimitSettings(_Table):
    """`[rate_limit]`: as `Limiter`; at least one of them."""

    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    at_once: _Count | None = None


class EmbeddingSettings(_Table):
    """`[embedding]`: the model, and the numbers in each vector where it can shorten them."""

    model: str = ""
    dimensions: _Count | None = None


class Settings(BaseSettings):
    """What a settings file says; made by `Settings.load`.

    A variable of the environment wins over the file: LITELLM_URL, LITELLM_API_KEY, LOOOPY_MODEL, LOOOPY_EMBEDDING_MODEL, and for any other key
    LOOOPY_ and its name in capitals, with two underscores before a key in a table: LOOOPY_TEMPERATURE, LOOOPY_CACHE__STORE. What neither says is as the
    providers have it.

    Attributes:
        url: the proxy's URL.
        api_key: its key; never shown. Better in the environment.
        api_key_env: the variable of the environment that holds the key.
        model: the name as the proxy knows it.
        temperature: 0 to 2.
        max_tokens: the longest answer, in tokens.
        top_p: above 0, to 1.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        params: further fields of the request's body.
        fallbacks: other models on the same proxy, asked in this order when one fails, without `model` itself; in the environment separated by commas.
        timeouts: how long a call may take.
        retry: how often a model is asked again.
        cache: where answers are kept.
        budget: what may be spent.
        rate_limit: how often models may be asked.
        embedding: the embedding model.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter=_WITHIN, extra="forbid", frozen=True, env_ignore_empty=True
    )

    url: str = Field(default="", repr=False)  # may hold a login
    api_key: SecretStr | None = None
    api_key_env: str = ""
    model: str = ""
    temperature: Annotated[_Number, Field(ge=0, le=2)] | None = None
    max_tokens: _Count | None = None
    top_p: Annotated[_Number, Field(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    params: dict[str, JSON] = Field(default_factory=dict, repr=False)
    fallbacks: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    timeouts: TimeoutSettings = TimeoutSettings()
    retry: RetrySettings | None = None
    cache: CacheSettings | None = None
    budget: BudgetSettings | None = None
    rate_limit: RateLimitSettings | None = None
    embedding: EmbeddingSettings = EmbeddingSettings()

    _file: Path = PrivateAttr(default=Path("looopy.toml"))
    _meter: Meter = PrivateAttr(default_factory=Meter)
    _provider: LLMProvider | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, path: str | os.PathLike[str] = "looopy.toml") -> Settings:
        """Read a settings file, and what the environment says otherwise.

        Args:
            path: the file.

        Raises:
            ConfigurationError: it cannot be read or is no TOML, or a key is unknown or has a value that cannot work; the message says which, and where.
        """
        file = Path(path)
        said = _read(file)
        try:
            settings = cls(**said)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            # A key that is written wrongly is more often the cause of one that is missing than the other way round.
            raise _misfit(file, min(problems, key=lambda each: each["type"] != "extra_forbidden")) from None
        except SettingsError as error:
            field = _FIELD.search(str(error))
            variable = f"{_PREFIX}{field[1].upper()}" if field else "the environment"
            raise ConfigurationError(f"{variable}: it must be JSON", argument=variable) from None
        settings._file = file
        settings.provider()  # so that it raises now
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, which is passed to the constructor."""
        return _Named(settings_cls), env_settings, init_settings

    @property
    def meter(self) -> Meter:
        """What was spent of the budget."""
        return self._meter

    def provider(self) -> LLMProvider:
        """The model with all that the settings put around it, the same each time: `Cache(Budget(Fallback(Retry(RateLimit(…)))))`, as far as they say so.

        So an answer out of the cache costs nothing, the budget counts all models, each model is asked again before the next one is, and each attempt waits for
        its turn.

        Raises:
            ConfigurationError: there is no proxy or no model, or the key's variable is not set.
            MissingExtra: the cache is Redis, and its client is not installed.
        """
        if self._provider is None:
            try:
                self._provider = self._nested()
            except MissingExtra:
                raise
            except ConfigurationError as error:
                raise ConfigurationError(f"{self._file}: {error}", argument=error.argument) from None
        return self._provider

    def embedder(
        self, *, model: str = "", fallback_model: str = "", dimensions: int | None = None
    ) -> Embedder:
        """The embedder at the same proxy.

        Args:
            model: another model than that of the settings.
            fallback_model: takes the place of a model that gives no embeddings; left out: that of the settings.
            dimensions: numbers in each vector; left out: as the settings say.

        Raises:
            ConfigurationError: there is no proxy or no model, or the key's variable is not set.
        """
        own = self.embedding
        named, dimensions = model or own.model, dimensions or own.dimensions
        if stand_in_for(named):
            return StandInEmbedder(dimensions=dimensions)
        try:
            return LiteLLMEmbedder(
                self.url or None,
                named,
                self._key(),
                dimensions=dimensions,
                fallback_model=fallback_model or own.model,
                timeout=self._timeouts(),
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._file}: {error}", argument=error.argument) from None

    def _nested(self) -> LLMProvider:
        provider = self._base()
        for table in ("budget", "rate_limit"):
            given = getattr(self, table)
            if given is not None and not any(given.model_dump().values()):
                keys = ", ".join(_keys_in([table]))
                raise ConfigurationError(
                    f"[{table}] is empty: write one of {keys} below it, or leave it out", argument=table
                )
        if self.rate_limit is not None:
            provider = RateLimit(provider, Limiter(**self.rate_limit.model_dump()))
        if self.retry is not None:
            provider = Retry(provider, **self.retry.model_dump())
        if self.fallbacks:
            provider = Fallback(provider, *self.fallbacks)
        if self.budget is not None:
            provider = Budget(provider, self.meter, **self.budget.model_dump())
        if self.cache is not None:
            provider = Cache(provider, self._store(self.cache), seconds=self.cache.seconds)
        return provider

    def _base(self) -> LLMProvider:
        if stand_in_for(self.model):
            return StandInProvider()
        if not self.url and not os.environ.get("OPENAI_BASE_URL", "").strip():
            raise ConfigurationError(
                'url is missing: write url = "http://localhost:4000", your LiteLLM proxy\'s, or set LITELLM_URL',
                argument="url",
            )
        if not self.model:
            raise ConfigurationError(
                'model is missing: write model = "gpt-4o-mini", or set LOOOPY_MODEL', argument="model"
            )
        given: dict[str, Any] = {
            name: value
            for name in ("temperature", "max_tokens", "top_p")
            if (value := getattr(self, name)) is not None
        }
        penalties = {
            name: value
            for name in ("frequency_penalty", "presence_penalty")
            if (value := getattr(self, name)) is not None
        }
        return LiteLLMProvider(
            self.url or None,
            self.model,
            self._key(),
            timeout=self._timeouts(),
            extra_params={**penalties, **self.params},
            **given,
        )

    def _timeouts(self) -> Timeouts:
        return Timeouts(**self.timeouts.model_dump())

    def _key(self) -> str:
        """The key; empty where it is left to the provider to find one in the environment."""
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        if not self.api_key_env:
            return ""
        key = Key.of(self.api_key_env)
        if not key:
            if not _VARIABLE.fullmatch(self.api_key_env):
                # Not shown: mostly it is the key itself.
                raise ConfigurationError(
                    "api_key_env holds something else than the name of a variable that is set in the environment, such as OPENAI_API_KEY; "
                    "a key itself stands in api_key, or better in LITELLM_API_KEY",
                    argument="api_key_env",
                )
            raise ConfigurationError(
                f"api_key_env names the variable {self.api_key_env}, which is not set in the environment",
                argument="api_key_env",
            )
        return key

    def _store(self, cache: CacheSettings) -> AnswerStore:
        if cache.store == "memory":
            return MemoryCache(entries=cache.entries)
        if cache.store == "sqlite":
            if not cache.path:
                raise ConfigurationError(
                    'cache.store is "sqlite": cache.path must name its file', argument="cache.path"
                )
            return SQLiteCache(self._file.parent / cache.path)
        if cache.url is None:
            raise ConfigurationError(
                'cache.store is "redis": cache.url, or the variable LOOOPY_CACHE__URL, must say where, as "redis://localhost:6379/0"',
                argument="cache.url",
            )
        return RedisCache(cache.url.get_secret_value())


class _Named(PydanticBaseSettingsSource):
    """The variables with names of their own, as pydantic-settings wants them."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not asked: all of them come at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """The keys that they stand for."""
        found: dict[str, Any] = {}
        for name, (*tables, key) in _NAMED.items():
            if value := os.environ.get(name, "").strip():
                place = found
                for table in tables:
                    place = place.setdefault(table, {})
                place[key] = value
        return found


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no settings file {str(file)!r} (looked for in {Path.cwd()})", argument="path"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is no TOML: {redact(str(error))}", argument="path") from None
    except RecursionError:
        raise ConfigurationError(
            f"the settings file {file} is nested too deeply to be read", argument="path"
        ) from None
    except (OSError, ValueError) as error:  # also a NUL in the path and a giant number
        raise ConfigurationError(
            f"the settings file {file} cannot be read: {words(error)}", argument="path"
        ) from None


def _misfit(file: Path, problem: ErrorDetails) -> ConfigurationError:
    """What is wrong with a key, and where that stands: in the file, or in which variable."""
    where = problem["loc"]
    key, source = misfits.place(problem, whole="settings"), _variable_of(where) or str(file)
    if problem["type"] == "extra_forbidden":
        return ConfigurationError(f"{source}: there is no key {key!r}{_meant(where)}", argument=key)
    # What is long may be a key in the wrong place, which looks like one to nobody.
    secret = where[-1:] in (("api_key",), ("url",)) or len(repr(problem["input"])) > _PLAIN
    shown = problem["type"].startswith("missing") or not secret
    told = redact(misfits.line(problem, whole="settings")) if shown else f"{key}: {problem['msg']}"
    return ConfigurationError(f"{source}: {told}", argument=key)


_PLAIN = 24  # characters of a wrong value that are shown: keys are longer


def _variable_of(where: tuple[int | str, ...]) -> str:
    """The variable of the environment that says a key, or a table that it is in; empty where the file does."""
    named = {path: name for name, path in _NAMED.items() if os.environ.get(name, "").strip()}
    there = {name.upper(): name for name, value in os.environ.items() if value}
    steps = [str(step) for step in where]
    for end in range(len(steps), 0, -1):
        name = named.get(tuple(steps[:end])) or there.get(_PREFIX + _WITHIN.join(steps[:end]).upper())
        if name:
            return name
    return ""


def _meant(where: tuple[int | str, ...]) -> str:
    *tables, key = map(str, where)
    if tables and key in Settings.model_fields:
        return f"; {key!r} stands above the first [table]"
    close = difflib.get_close_matches(key, _keys_in(tables), n=1)
    return (
        f"; did you mean {'.'.join([*tables, close[0]])!r}?"
        if close
        else f"; there are {', '.join(_keys_in(tables))}"
    )


def _keys_in(tables: list[str]) -> list[str]:
    """The keys of a table, or those above all tables."""
    names = list(Settings.model_fields)
    for table in tables:
        kind = Settings.model_fields[table].annotation
        names = list(
            next(
                each
                for each in (kind, *typing.get_args(kind))
                if isinstance(each, type) and issubclass(each, _Table)
            ).model_fields
        )
    return names
