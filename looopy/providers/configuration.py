"""What `LiteLLMProvider` is told, checked, and as calls need it.

`Arguments` are the constructor's, `Configuration` is what follows from them; both are values, and a call keeps the one that it began with.
`litellm.py` stands above; nothing here does I/O but reading the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

from looopy.errors import ConfigurationError
from looopy.messages import JSON
from looopy.providers.address import Address, address
from looopy.providers.body import Body
from looopy.providers.capabilities import known
from looopy.providers.catalogue import Catalogue
from looopy.providers.clocks import Timeouts
from looopy.providers.proxy import Proxy
from looopy.providers.transport import Transport


class _Default(float):
    """A number that nobody chose: it is left out where the model could refuse it."""


TEMPERATURE = _Default(0.7)
TOP_P = _Default(1.0)


class Options(TypedDict, total=False):
    """What `LiteLLMProvider` takes beside the place, the key and the model."""

    temperature: float
    max_tokens: int | None
    top_p: float
    timeout: float | Timeouts
    extra_params: Mapping[str, JSON] | None


class Settings(Options, total=False):
    """The arguments of `LiteLLMProvider`, for `update_config`."""

    base_url: str | None
    model: str | None
    api_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments as they were given; `LiteLLMProvider` describes them."""

    base_url: str | None = field(repr=False)  # may hold a login
    model: str | None
    api_key: str | None = field(repr=False)
    temperature: float
    max_tokens: int | None
    top_p: float
    timeout: float | Timeouts
    extra_params: Mapping[str, JSON] | None = field(repr=False)

    def check(self) -> None:
        """Say which number cannot work.

        Raises:
            ConfigurationError: one is out of its range.
        """
        for name in ("temperature", "top_p"):
            if getattr(self, name) is None:
                raise ConfigurationError(
                    f"{name}=None: leave it out for what the model is known to take", argument=name
                )
        check_sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

    def fields(self, model: str) -> dict[str, JSON]:
        """What every request to a model has in its body."""
        fields: dict[str, JSON] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "drop_params": True,
        }
        if self.max_tokens is not None:
            fields["max_tokens"] = self.max_tokens
        if not isinstance(self.temperature, _Default) or known(model).sampling:
            fields["temperature"] = float(self.temperature)
        if not isinstance(self.top_p, _Default):
            fields["top_p"] = self.top_p
        return fields


def check_sampling(
    *, temperature: float | None = None, top_p: float | None = None, max_tokens: int | None = None
) -> None:
    """Say which number cannot work; None stands for none.

    Raises:
        ConfigurationError: one is out of its range.
    """
    for name, value, allowed in (
        ("temperature", temperature, "from 0 to 2"),
        ("top_p", top_p, "above 0 and at most 1"),
        ("max_tokens", max_tokens, "at least 1, or None"),
    ):
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"{name}={value!r} must be a number, {allowed}", argument=name)
        if not {"temperature": 0 <= value <= 2, "top_p": 0 < value <= 1, "max_tokens": value >= 1}[name]:
            raise ConfigurationError(f"{name}={value!r} must be {allowed}", argument=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One checked set of arguments."""

    address: Address
    model: str
    timeouts: Timeouts
    proxy: Proxy = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Body = field(repr=False)

    @classmethod
    def of(cls, arguments: Arguments, transport: Transport) -> Configuration:
        """Check the arguments and find what is left to the environment.

        Raises:
            ConfigurationError: there is no URL or no model, or a value cannot work.
        """
        model = (arguments.model or os.environ.get("LOOOPY_MODEL", "")).strip()
        place = address(arguments.base_url, arguments.api_key, model=model)
        if not model:
            raise ConfigurationError(
                "no model is named: pass model=, for example 'gpt-4o-mini', or set LOOOPY_MODEL. "
                f"To see what the proxy offers: curl {place.root}/v1/models",
                argument="model",
            )
        arguments.check()
        timeout = arguments.timeout
        timeouts = timeout if isinstance(timeout, Timeouts) else Timeouts(call=timeout)
        proxy = Proxy(place, timeouts, transport)
        return cls(
            address=place,
            model=model,
            timeouts=timeouts,
            proxy=proxy,
            catalogue=Catalogue(proxy),
            headers={"content-type": "application/json", "accept": "text/event-stream", **place.headers},
            body=Body(model, partial(Arguments.fields, arguments), arguments.extra_params or {}),
        )
