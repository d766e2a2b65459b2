"""What tokens cost: the proxy's prices, or those of an offline library, and the cost of a call by them.

A price that nobody knows is None, never 0. Nothing here asks a server; `catalogue.py` does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, cast

from looopy.messages import JSON, Usage
from looopy.providers.chat import dollars

_MILLION = 1_000_000
_LONGER = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
_VENDORS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_ai": "azure",
    "bedrock": "aws",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together_ai": "together",
    "vertex_ai": "google",
    "xai": "x-ai",
}
"""LiteLLM's prefixes of models, and what the offline library calls those vendors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars for a million tokens.

    Attributes:
        input: of the prompt.
        output: of the answer.
        cached: of the part of the prompt that a provider's cache served; None where it has no price of its own.
        reasoning: of the part of the answer that was thought; None where it has no price of its own.
        cache_creation: of the part of the prompt that was written into a provider's cache; None where it has no price of its own.
        longer: prices of calls with longer prompts: above how many tokens, and what they are then; ascending.
    """

    input: float
    output: float
    cached: float | None = None
    reasoning: float | None = None
    cache_creation: float | None = None
    longer: tuple[tuple[int, Prices], ...] = ()


def cost_of(usage: Usage, prices: Prices) -> float:
    """US dollars of a call."""
    for tokens, then in prices.longer:
        if usage.input_tokens > tokens:
            prices = then
    cached = min(usage.cached_tokens, usage.input_tokens)
    created = min(usage.cache_creation_tokens, usage.input_tokens - cached)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    total = (
        (usage.input_tokens - cached - created) * prices.input
        + created * _or(prices.cache_creation, prices.input)
        + cached * _or(prices.cached, prices.input)
        + (usage.output_tokens - reasoning) * prices.output
        + reasoning * _or(prices.reasoning, prices.output)
    )
    return total / _MILLION


def _or(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


def prices_of(entry: Mapping[str, JSON]) -> Prices | None:
    """The prices in an entry of a LiteLLM proxy's list of models; None where it has none, or says that all is free.

    The proxy writes 0 also where it knows no price (litellm#39069), so 0 proves nothing.
    """
    plain = _tier(entry, "")
    if plain is None or not (plain.input or plain.output):
        return None
    tiers = {
        int(found[1]): _tier(entry, f"_above_{found[1]}k_tokens")
        for found in map(_LONGER.fullmatch, entry)
        if found
    }
    longer = tuple((thousands * 1000, tier) for thousands, tier in sorted(tiers.items()) if tier)
    return Prices(
        input=plain.input,
        output=plain.output,
        cached=plain.cached,
        reasoning=plain.reasoning,
        cache_creation=plain.cache_creation,
        longer=longer,
    )


def _tier(entry: Mapping[str, JSON], suffix: str) -> Prices | None:
    def price(name: str) -> float | None:
        amount = dollars(entry.get(f"{name}{suffix}"))
        return None if amount is None else round(amount * _MILLION, 9)

    given, written = price("input_cost_per_token"), price("output_cost_per_token")
    if given is None or written is None:
        return None
    return Prices(
        input=given,
        output=written,
        cached=price("cache_read_input_token_cost"),
        reasoning=price("output_cost_per_reasoning_token"),
        cache_creation=price("cache_creation_input_token_cost"),
    )


async def library_cost(model: str, usage: Usage) -> float | None:
    """US dollars of a call by the offline library (extra `prices`); None where that is not installed, or does not know the model.

    Loading the library takes a third of a second, once, and on a thread of its own.
    """
    price = _library() if _library.cache_info().currsize else await asyncio.to_thread(_library)
    return price and price(model, usage)


@cache
def _library() -> Callable[[str, Usage], float | None] | None:
    try:
        library = cast("Any", import_module("genai_prices"))
    except ImportError:
        return None

    def price(model: str, usage: Usage) -> float | None:
        vendor, _, name = model.partition("/")
        known = {"provider_id": _VENDORS[vendor]} if vendor in _VENDORS else {}
        tokens = library.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=(cached := min(usage.cached_tokens, usage.input_tokens)),
            cache_write_tokens=min(usage.cache_creation_tokens, usage.input_tokens - cached),
        )
        try:
            return float(library.calc_price(tokens, name if known else model, **known).total_price) or None
        except LookupError:
            return None

    return price
