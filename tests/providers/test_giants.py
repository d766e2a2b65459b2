"""Numbers that are too large to count with, and so many calls that only what is the same for each of them can be afforded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from providers.wrapping import HI, Named

from looopy import (
    Budget,
    Cache,
    Fallback,
    Hedge,
    Limiter,
    LiteLLMProvider,
    LoadBalance,
    MemoryCache,
    Meter,
    RateLimit,
    Retry,
)
from looopy.errors import ConfigurationError, ModelOverloaded
from looopy.testing import ScriptedModel, fails, says

MODEL = ScriptedModel()
GIANT: Any = 10**400


@pytest.mark.parametrize(
    "make",
    [
        lambda: Budget(MODEL, Meter(), tokens=GIANT),
        lambda: Budget(MODEL, Meter(), cost=GIANT),
        lambda: Budget(MODEL, Meter(), tokens=1, input_price=GIANT, output_price=GIANT),
        lambda: Cache(MODEL, MemoryCache(), seconds=GIANT),
        lambda: Cache(MODEL, MemoryCache(), max_bytes=GIANT),
        lambda: Retry(MODEL, first_wait=GIANT),
        lambda: Retry(MODEL, seconds=-GIANT),
        lambda: Hedge(MODEL, "other", after=GIANT),
        lambda: LoadBalance(MODEL, "other", rest=GIANT),
        lambda: LoadBalance(MODEL, "other", weights=(GIANT, 1)),
        lambda: LiteLLMProvider("http://proxy", "gpt-4o", timeout=GIANT),
        lambda: LiteLLMProvider("http://proxy", "gpt-4o", timeout="5"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_number_too_large_to_count_with_is_refused_at_construction(make: Callable[[], object]):
    with pytest.raises(ConfigurationError):
        make()


async def test_ten_thousand_who_wait_for_a_turn_leave_at_once():
    """The newest first: nobody looks for them through those before."""
    limiter = Limiter(at_once=1)
    turn = limiter.turn_now()
    model = RateLimit(ScriptedModel(says("Hello")), limiter)
    waiting = [model.call(HI).subscribe() for _ in range(10_000)]
    assert limiter.waiting == 10_000
    loop = asyncio.get_running_loop()
    began = loop.time()
    for each in reversed(waiting):
        each.dispose()
    took = loop.time() - began
    assert (limiter.waiting, took < 2) == (0, True)
    assert turn is not None
    turn.done()
    assert (await model.call(HI)).message.text == "Hello"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("several", [Fallback, LoadBalance])
async def test_a_thousand_models_that_fail_are_gone_through(several: Callable[..., Any]):
    models = [Named(f"model-{n}", fails(429, "busy")) for n in range(1_000)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ModelOverloaded):
        await several(*models).call(HI)
    assert loop.time() - began < 5
    assert [len(model.requests) for model in models] == [1] * 1_000
