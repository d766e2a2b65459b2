"""A provider that asks another one in its own way: for another model, with other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from reactivex import Observable

from looopy.errors import ConfigurationError
from looopy.events import LLMEvent
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.candidates import check_provider, model_of
from looopy.providers.configuration import check_sampling
from looopy.providers.wrapped import base_url_of, parameters_of


@dataclass(frozen=True, slots=True, init=False)
class Tuned:
    """A provider that asks another one for a model and with parameters of its own: so several agents share what one provider stands for
    (connections, a cache, a budget), each with its own model and temperature.

    What is left out is as the provider has it. What a request says itself wins.

    Args:
        provider: who is asked.
        model: the name to ask for.
        temperature: 0 to 2.
        max_tokens: the longest answer, in tokens.
        top_p: above 0, to 1.
        params: further fields of the request's body, for example `{"seed": 7}`; they win over the three above.

    Raises:
        ConfigurationError: a value cannot work.

    Example:
        >>> Tuned(LiteLLMProvider(model="gpt-4o-mini"), model="claude-haiku-4-5", temperature=1.2)
    """

    provider: LLMProvider
    asks: str
    params: Mapping[str, JSON] = field(repr=False)

    def __init__(
        self,
        provider: LLMProvider,
        *,
        model: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        params: Mapping[str, JSON] | None = None,
    ) -> None:
        check_provider("Tuned", provider, "for example LiteLLMProvider(model='gpt-4o-mini')")
        check_sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        if not isinstance(cast("object", params), Mapping | None):
            raise ConfigurationError(
                f"Tuned: params is a {type(params).__name__}: it must be a mapping of the body's further fields, such as {{'seed': 7}}",
                argument="params",
            )
        given = {"temperature": temperature, "max_tokens": max_tokens, "top_p": top_p}
        keep = partial(object.__setattr__, self)
        keep("provider", provider)
        keep("asks", model)
        keep(
            "params", {name: value for name, value in given.items() if value is not None} | dict(params or {})
        )

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return self.asks or model_of(self.provider)

    @property
    def base_url(self) -> str:
        """The address that the provider asks."""
        return base_url_of(self.provider)

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the provider sends a request with."""
        return parameters_of(self.provider, self._sent(request))

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model."""
        return asked(self.provider, self._sent(request))

    def _sent(self, request: LLMRequest) -> LLMRequest:
        return replace(request, model=request.model or self.asks, params={**self.params, **request.params})
