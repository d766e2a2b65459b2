"""What a wrapper says of the provider that it holds.

A provider may say more than the socket asks for: `model`, `base_url` and `parameters`, which traces and caches read. A wrapper passes them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

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
