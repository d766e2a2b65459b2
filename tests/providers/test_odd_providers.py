"""Providers that somebody wrote in a hurry, and servers that count wrongly, behind the wrappers: a call ends, with nothing left open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import reactivex as rx
from providers.wrapping import HI, Named, proxy
from reactivex import Observable

from looopy import (
    AgentLoop,
    Budget,
    Cache,
    Fallback,
    Hedge,
    Limiter,
    LLMProvider,
    LLMRequest,
    LLMResponse,
    LoadBalance,
    MemoryCache,
    Message,
    Meter,
    RateLimit,
    Retry,
    Route,
    Usage,
)
from looopy.events import ContentDelta, LLMRetry, ThoughtDelta
from looopy.reactive import from_aiter
from looopy.testing import ScriptedServer, raw

ANSWER = LLMResponse(message=Message.assistant("Hello"), finish_reason="stop", model="odd")


class Odd:
    """Emits what it was given, of whatever type: from a task, or while it is subscribed to."""

    model = "odd"

    def __init__(self, *events: Any, at_once: bool = False) -> None:
        self._events = events
        self._at_once = at_once

    def call(self, request: LLMRequest, /) -> Observable[Any]:
        async def emit() -> Any:
            for event in self._events:
                yield event

        return rx.of(*self._events) if self._at_once else from_aiter(emit)


WRAPPED: dict[str, Callable[[LLMProvider, Limiter], LLMProvider]] = {
    "Budget": lambda odd, _: Budget(odd, Meter(), tokens=1_000, cost=1.0),
    "Cache": lambda odd, _: Cache(odd, MemoryCache()),
    "Fallback": lambda odd, _: Fallback(odd, Named("other"), mid_stream="continue"),
    "Hedge": lambda odd, _: Hedge(odd, Named("other"), after=60),
    "LoadBalance": lambda odd, _: LoadBalance(odd, Named("other")),
    "RateLimit": RateLimit,
    "Retry": lambda odd, _: Retry(odd),
    "Route": lambda odd, _: Route({}, only=odd),
    "all": lambda odd, limiter: Cache(
        Budget(Fallback(Retry(RateLimit(odd, limiter)), Named("other")), Meter(), tokens=1_000), MemoryCache()
    ),
}
NOTHING = cast("Any", None)
STRANGE = {
    "no delta": ContentDelta(delta=NOTHING),
    "no thought": ThoughtDelta(delta=NOTHING),
    "no event": NOTHING,
    "no retry": LLMRetry(attempt=NOTHING, error=NOTHING, seconds=NOTHING, model="", next_model=""),
    "no usage": LLMResponse(
        message=Message.assistant("Hello"), finish_reason="stop", model="odd", usage=cast("Any", "many")
    ),
    "no cost": LLMResponse(
        message=Message.assistant("Hello"), finish_reason="stop", model="odd", cost=cast("Any", "much")
    ),
}


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("wrapper", WRAPPED)
async def test_what_no_model_should_emit_ends_the_run_whatever_is_around_the_model(
    wrapper: str, strange: str, at_once: bool
):
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    limiter = Limiter(at_once=1, tokens_per_minute=10_000)
    run = AgentLoop(llm_provider=WRAPPED[wrapper](Odd(STRANGE[strange], at_once=at_once), limiter)).execute(
        "Hi"
    )
    over = asyncio.Event()
    run.subscribe(on_error=lambda _: over.set(), on_completed=over.set)
    await asyncio.wait_for(over.wait(), 5)
    assert (run.status, limiter.waiting) == ("failed", 0)
    turn = limiter.turn_now()
    assert turn is not None, "the failed call has kept its turn"


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
async def test_a_cost_that_is_no_amount_of_money_changes_no_budget(price: float):
    meter = Meter()
    meter.add(10, 0.5)
    answer = LLMResponse(
        message=Message.assistant("Hello"),
        finish_reason="stop",
        model="odd",
        usage=Usage(input_tokens=3, output_tokens=2),
        cost=price,
    )
    await Budget(Odd(answer), meter, cost=1.0).call(HI)
    assert (meter.tokens, meter.cost) == (15, 0.5)


@pytest.mark.parametrize("count", ["9" * 400, "1e300"])
async def test_a_server_that_counts_absurdly_many_tokens_spends_the_budget_and_hangs_nobody(count: str):
    body = (
        'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'
        f'data: {{"choices":[],"usage":{{"prompt_tokens":{count},"completion_tokens":1}}}}\n\n'
        "data: [DONE]\n\n"
    )
    limiter, meter = Limiter(at_once=1, tokens_per_minute=10_000), Meter()
    model = proxy(ScriptedServer(raw(body.encode())))
    agent = AgentLoop(llm_provider=Budget(RateLimit(model, limiter), meter, tokens=1_000, cost=1.0))
    result = await asyncio.wait_for(agent.execute("Hi"), 5)
    assert (result.output, result.usage, meter.tokens >= 2**53) == (
        "Hello",
        Usage(input_tokens=2**53, output_tokens=1),
        True,
    )


async def test_a_subscriber_that_raises_gives_its_turn_back_and_hears_no_more():
    heard: list[Any] = []
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: told.append(said["exception"]))
    limiter, over = Limiter(at_once=1), asyncio.Event()

    def on_next(event: Any) -> None:
        heard.append(event)
        raise ZeroDivisionError

    def on_error(error: Exception) -> None:
        heard.append(error)
        over.set()

    RateLimit(Odd(ContentDelta(delta="Hel"), ContentDelta(delta="lo"), ANSWER), limiter).call(HI).subscribe(
        on_next, on_error
    )
    await asyncio.wait_for(over.wait(), 5)
    await asyncio.sleep(0)
    assert (heard, told) == ([ContentDelta(delta="Hel"), told[0]], [heard[1]])
    assert limiter.turn_now() is not None


@dataclass(frozen=True, kw_only=True)
class Tagged(LLMResponse):
    """An answer of somebody's own."""

    tag: str = "mine"


async def test_an_answer_of_a_class_of_ones_own_goes_through_the_wrappers():
    answer = Tagged(message=Message.assistant("Hello"), finish_reason="stop", model="odd", tag="yours")
    odd = Fallback(Odd(answer), "other")
    passed = await odd.call(HI)
    assert passed == Tagged(
        message=Message.assistant("Hello"), finish_reason="stop", model="odd", tag="yours", served_by="odd"
    )
    result = await AgentLoop(llm_provider=Cache(odd, MemoryCache())).execute("Hi")
    assert result.output == "Hello"


async def test_an_answer_without_a_json_form_is_given_and_not_kept():
    unwritable = Message("assistant", "Hello", extra=cast("Any", {"of": object()}))
    store = MemoryCache()
    model = Cache(Odd(LLMResponse(message=unwritable, finish_reason="stop", model="odd")), store)
    for _ in range(2):
        answer = cast("LLMResponse", await asyncio.wait_for(_last(model), 5))
        assert (answer.message is unwritable, answer.cached, len(store)) == (True, False, 0)


async def _last(model: LLMProvider) -> object:
    return await model.call(HI)


@pytest.mark.parametrize("wrapper", ["Budget", "RateLimit", "all"])
async def test_a_request_that_cannot_be_counted_is_an_error_and_takes_no_turn(wrapper: str):
    limiter = Limiter(at_once=1, tokens_per_minute=10_000)
    model = WRAPPED[wrapper](Named("never asked"), limiter)
    request = LLMRequest(messages=cast("Any", (object(),)))
    with pytest.raises(AttributeError):
        await asyncio.wait_for(_of(model, request), 5)
    assert limiter.turn_now() is not None


async def _of(model: LLMProvider, request: LLMRequest) -> object:
    return await model.call(request)
