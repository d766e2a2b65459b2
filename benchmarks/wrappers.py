"""One provider, bare and within wrappers: the contenders of the workload `wrappers`."""

from __future__ import annotations

import asyncio

from benchmarks.loops import PROMPT
from looopy import (
    Budget,
    Cache,
    Fallback,
    Limiter,
    LiteLLMProvider,
    LLMProvider,
    LLMRequest,
    MemoryCache,
    Message,
    Meter,
    RateLimit,
    Retry,
)
from looopy.events import LLMEvent

PLENTY = 10**12

REQUEST = LLMRequest(messages=(Message.user(PROMPT),))


def bare(url: str, model: str) -> LLMProvider:
    return LiteLLMProvider(url, model, api_key="sk-bench")


def wrapped(url: str, model: str) -> LLMProvider:
    return Retry(Fallback(bare(url, model), "another"))


def stacked(url: str, model: str) -> LLMProvider:
    """All four that most programs want, with limits that are counted and never reached."""
    limiter = Limiter(requests_per_minute=PLENTY, tokens_per_minute=PLENTY, at_once=20)
    limited = Budget(RateLimit(bare(url, model), limiter), Meter(), tokens=PLENTY, cost=1e9)
    return Retry(Fallback(limited, "another"))


def cached(url: str, model: str) -> LLMProvider:
    return Cache(bare(url, model), MemoryCache())


async def ask(provider: LLMProvider, pieces: int, calls: int) -> None:
    """Calls, one after the other; each piece of each answer reaches a subscriber, anything else is an error."""
    for _ in range(calls):
        seen: list[LLMEvent] = []
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        provider.call(REQUEST).subscribe(seen.append, over.set_exception, lambda: over.set_result(None))  # noqa: B023  awaited in this turn
        await over
        if len(seen) != pieces + 1:
            raise AssertionError(f"{len(seen)} events reached the subscriber, not {pieces} and an answer")
