"""What a wrapper says of the provider that it holds, and what it can find out about it.

A provider may say more than the socket asks for: `model`, `base_url` and `parameters`, which traces and caches read. A wrapper passes them on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from looopy.errors import ConfigurationError
from looopy.messages import JSON
from looopy.ports import LLMProvider, LLMRequest

_NOTHING: Mapping[str, JSON] = {}


def base_url_of(provider: LLMProvider) -> str:
    """The address that a provider asks; empty where it does not say."""
    return getattr(provider, "base_url", "")


def parameters_of(provider: LLMProvider, request: LLMRequest) -> Mapping[str, JSON]:
    """What a provider sends a request with beside the conversation and its tools; nothing where it does not say."""
    parameters = getattr(provider, "parameters", None)
    return cast("Mapping[str, JSON]", parameters(request)) if callable(parameters) else _NOTHING


def held_by(provider: object) -> tuple[Any, ...]:
    """What a wrapper holds: providers, and names that stand for one; nothing where it is no wrapper."""
    several = getattr(provider, "providers", None)
    if isinstance(several, list | tuple):
        return tuple(cast("tuple[Any, ...]", several))
    one = getattr(provider, "provider", None)
    return () if one is None else (one,)


def everyone(provider: object) -> Iterator[object]:
    """The provider, and all that it holds, at any depth."""
    yield provider
    for held in held_by(provider):
        yield from everyone(held)


def refuse_twice(wrapper: object, memory: str, mend: str) -> None:
    """Check that a wrapper does not hold another of its kind with the same memory.

    Args:
        wrapper: the outer one.
        memory: the attribute that they must not share.
        mend: what to do about it.

    Raises:
        ConfigurationError: it does.
    """
    shared, name = getattr(wrapper, memory), type(wrapper).__name__
    for held in everyone(wrapper):
        if held is not wrapper and type(held) is type(wrapper) and getattr(held, memory) is shared:
            raise ConfigurationError(
                f"{name}: there is another {name} with the same {memory} in the provider that it holds; {mend}",
                argument=memory,
            )
