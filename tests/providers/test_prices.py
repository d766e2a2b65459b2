"""What calls cost, by a proxy's prices and by the offline library."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy import Prices, Usage, cost_of
from looopy.providers import prices
from looopy.providers.prices import library_cost, prices_of

MILLION = 1_000_000


def test_each_kind_of_token_has_its_price():
    usage = Usage(
        input_tokens=5 * MILLION,
        cached_tokens=2 * MILLION,
        output_tokens=3 * MILLION,
        reasoning_tokens=MILLION,
    )

    assert cost_of(usage, Prices(input=1, output=10)) == 5 + 30
    assert cost_of(usage, Prices(input=1, output=10, cached=0.5)) == 3 + 1 + 30
    assert cost_of(usage, Prices(input=1, output=10, cached=0, reasoning=20)) == 3 + 20 + 20

    written = replace(usage, cache_creation_tokens=MILLION)
    assert cost_of(written, Prices(input=1, output=10, cached=0.5)) == 3 + 1 + 30
    assert cost_of(written, Prices(input=1, output=10, cached=0.5, cache_creation=1.25)) == 2 + 1.25 + 1 + 30


def test_a_longer_prompt_has_prices_of_its_own():
    dear = Prices(input=2, output=2)
    tiers = Prices(input=1, output=1, longer=((200_000, dear), (MILLION, Prices(input=4, output=4))))

    spent = [cost_of(Usage(input_tokens=tokens), tiers) for tokens in (200_000, 200_001, 2 * MILLION)]
    assert spent == [0.2, 0.400002, 8.0]


COUNT = st.integers(0, 10**9)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_a_cost_is_never_below_nothing_whatever_a_server_counts(given, cached, written, reasoning, created):
    usage = Usage(
        input_tokens=given,
        cached_tokens=cached,
        output_tokens=written,
        reasoning_tokens=reasoning,
        cache_creation_tokens=created,
    )

    prices = Prices(input=1, output=2, cached=0.1, reasoning=3, cache_creation=1.25)
    assert cost_of(usage, prices) >= 0


def test_prices_are_read_from_a_proxys_entry():
    entry = {
        "input_cost_per_token": 1e-07,
        "output_cost_per_token": 5e-07,
        "cache_read_input_token_cost": 1e-08,
        "cache_creation_input_token_cost": 1.25e-07,
        "output_cost_per_reasoning_token": 6e-07,
        "input_cost_per_token_above_272k_tokens": 2e-07,
        "output_cost_per_token_above_272k_tokens": 7.5e-07,
        "input_cost_per_token_above_272k_tokens_priority": 9.0,
        "input_cost_per_token_above_128k_tokens": 1.5e-07,
    }
    assert prices_of(entry) == Prices(
        input=0.1,
        output=0.5,
        cached=0.01,
        reasoning=0.6,
        cache_creation=0.125,
        longer=((272_000, Prices(input=0.2, output=0.75)),),
    )


@pytest.mark.parametrize("given", [None, 0, "x", True, float("nan"), -1])
def test_a_price_that_nobody_knows_is_none_and_not_0(given):
    assert prices_of({"input_cost_per_token": given, "output_cost_per_token": given}) is None
    assert prices_of({}) is None


# ----------------------------------------------------------------------------------------------------- the offline library
@pytest.fixture(autouse=True)
def _library_not_loaded():
    prices._library.cache_clear()
    yield
    prices._library.cache_clear()


SPENT = Usage(input_tokens=1000, output_tokens=100, cached_tokens=500)


def library(asked):
    """The library's two names, as looopy calls them."""
    module = ModuleType("genai_prices")

    def calc_price(usage, model, **known):
        asked.append((usage, model, known))
        if model == "unknown":
            raise LookupError(model)
        return SimpleNamespace(total_price="0" if model == "free" else "0.25")

    module.Usage, module.calc_price = SimpleNamespace, calc_price
    return module


async def test_the_library_is_asked_by_the_vendors_own_name(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "genai_prices", library(asked))

    costs = [
        await library_cost(model, SPENT)
        for model in ("gpt-4o", "gemini/gemini-2.5-flash", "ollama/x", "unknown", "free")
    ]

    assert costs == [0.25, 0.25, 0.25, None, None]
    assert [(model, known) for _, model, known in asked[:3]] == [
        ("gpt-4o", {}),
        ("gemini-2.5-flash", {"provider_id": "google"}),
        ("ollama/x", {}),
    ]
    assert vars(asked[0][0]) == {
        "input_tokens": 1000,
        "output_tokens": 100,
        "cache_read_tokens": 500,
        "cache_write_tokens": 0,
    }


async def test_without_the_library_the_cost_stays_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)

    assert [await library_cost("gpt-4o", SPENT) for _ in range(2)] == [None, None]


async def test_the_real_library_knows_well_known_models():
    pytest.importorskip("genai_prices", reason="pip install 'looopy[prices]'")

    assert math.isclose(await library_cost("gpt-4o-mini", SPENT) or 0, 0.0001725)
    assert math.isclose(await library_cost("anthropic/claude-haiku-4-5", SPENT) or 0, 0.00105)
    assert await library_cost("ollama_chat/llama3.1", SPENT) is None
    assert await library_cost("my-alias", SPENT) is None
