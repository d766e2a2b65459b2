"""One provider, bare and within wrappers: the contenders of the workload `wrappers`."""

from __future__ import annotations

import asyncio

from benchmarks.loops import PROMPT
from looopy import Fallback, LiteLLMProvider, LLMProvider, LLMRequest, Message, Retry
from looopy.events import LLMEvent

REQUEST = LLMRequest(messages=(Message.user(PROMPT),))


def bare(url: str, model: str) -> LLMProvider:
    return LiteLLMProvider(url, model, api_key="sk-bench")


def wrapped(url: str, model: str) -> LLMProvider:
    return Retry(Fallback(bare(url, model), "another"))


async def ask(provider: LLMProvider, pieces: int, calls: int) -> None:
    """Calls, one after the other; each piece of each answer reaches a subscriber, anything else is an error."""
    for _ in range(calls):
        seen: list[LLMEvent] = []
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        provider.call(REQUEST).subscribe(seen.append, over.set_exception, lambda: over.set_result(None))  # noqa: B023  awaited in this turn
        await over
        if len(seen) != pieces + 1:
            raise AssertionError(f"{len(seen)} events reached the subscriber, not {pieces} and an answer")
