"""The configuration of a local LiteLLM proxy: which models it offers. Credentials stay out of it, in the environment.

`local_proxy.py` above writes it to a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from looopy.errors import ConfigurationError
from looopy.messages import JSON
from looopy.providers.keys import KEYS, present, variable_of

_BY_NAME = "os.environ/"  # LiteLLM's sign for a value that stands in the environment
_CREDENTIAL = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LocalModels:
    """What a local proxy offers.

    Attributes:
        configuration: LiteLLM's, as JSON.
        secrets: values that the configuration only names, by the variables that it expects them in.
    """

    configuration: dict[str, JSON]
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names to ask for."""
        return tuple(model["model_name"] for model in self.configuration["model_list"])

    @classmethod
    def of(cls, models: Sequence[str] | Mapping[str, str | Mapping[str, JSON]] | None) -> LocalModels:
        """The models that somebody lists; None stands for all those of the makers whose keys are in the environment.

        Raises:
            ConfigurationError: there is none, or one cannot be.
        """
        hidden: dict[str, str] = {}
        listed = [
            {"model_name": name, "litellm_params": _named(_parameters(name, given), hidden)}
            for name, given in _pairs(models)
        ]
        configuration: dict[str, JSON] = {
            "model_list": listed,
            # Else a model goes on, and is paid for, when we leave before its first word (litellm#37140).
            "general_settings": {"cancel_on_disconnect": True},
        }
        return cls(configuration, hidden)


def _pairs(models: object) -> list[tuple[str, object]]:
    if models is None:
        models = [f"{maker}/*" for maker in present()]
        if not models:
            raise ConfigurationError(
                f"no model is named and no API key is there: set one of {', '.join(KEYS.values())}, or name models, "
                "for example models=['ollama_chat/llama3.1'], in a shell --model ollama_chat/llama3.1",
                argument="models",
            )
    if isinstance(models, Mapping):
        pairs: list[tuple[str, object]] = list(cast("Mapping[str, object]", models).items())
    elif isinstance(models, Sequence) and not isinstance(models, str):
        pairs = [(name, name) for name in cast("Sequence[str]", models)]
    else:
        raise ConfigurationError(f"models={models!r}: pass a list of names, or a mapping", argument="models")
    if not pairs:
        raise ConfigurationError("models= is empty: a proxy needs at least one model", argument="models")
    return pairs


def _parameters(name: object, given: object) -> dict[str, JSON]:
    """LiteLLM's parameters of a model, with the name of the variable that its key is in."""
    parameters = {"model": given} if isinstance(given, str) else given
    if not (
        isinstance(name, str)
        and isinstance(parameters, Mapping)
        and (model := cast("Mapping[str, Any]", parameters).get("model"))
        and isinstance(model, str)
    ):
        raise ConfigurationError(
            f"models: {name!r} is given as {type(given).__name__}: it takes LiteLLM's name of the model, for example 'openai/gpt-4o-mini', "
            "or a mapping of LiteLLM's parameters with 'model' among them",
            argument="models",
        )
    variable = variable_of(model)
    found = {"api_key": f"{_BY_NAME}{variable}"} if variable else {}
    return {**found, **cast("Mapping[str, JSON]", parameters)}


def _named(parameters: dict[str, JSON], hidden: dict[str, str]) -> dict[str, JSON]:
    """The parameters with a variable's name in the place of each credential; the credentials go to `hidden`."""
    for name, value in parameters.items():
        if isinstance(value, str) and _CREDENTIAL.search(name) and not value.startswith(_BY_NAME):
            variable = f"LOOOPY_PROXY_SECRET_{len(hidden) + 1}"
            hidden[variable] = value
            parameters[name] = _BY_NAME + variable
    return parameters
