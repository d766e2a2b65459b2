"""Any wrapper around any other: what holds for every pair, whatever goes wrong. In virtual time.

Never two bills for one answer, never half an answer twice, never a lost connection, never a cached failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import pytest
from providers.faults import FAULTS
from providers.wrapping import HI, most, proxy, story

from looopy import (
    AgentLoop,
    Budget,
    Cache,
    Fallback,
    Hedge,
    Limiter,
    LLMProvider,
    LoadBalance,
    MemoryCache,
    Meter,
    RateLimit,
    Retry,
    Route,
    tool,
)
from looopy.errors import BudgetExceeded, TaskCanceled
from looopy.events import ContentDelta, ContentReset, LLMEvent, LLMResponse, LLMRetry
from looopy.testing import ScriptedServer, calls, cuts, fails, run_virtual, says, stalls, waits

Make = Callable[[LLMProvider, LLMProvider], LLMProvider]

WRAPPERS: Mapping[str, Make] = {
    "retry": lambda a, _: Retry(a, jitter=most),
    "fallback": Fallback,
    "fallback, restart": lambda a, b: Fallback(a, b, mid_stream="restart"),
    "fallback, continue": lambda a, b: Fallback(a, b, mid_stream="continue"),
    "hedge": lambda a, b: Hedge(a, b, after=2),
    "race": lambda a, b: Hedge(a, b, after=0),
    "balance": LoadBalance,
    "route": lambda a, b: Route({"other": lambda _: False}, this=a, other=b),
    "budget": lambda a, _: Budget(a, Meter(), tokens=100_000, cost=10.0),
    "rate limit": lambda a, _: RateLimit(a, Limiter(at_once=4)),
    "cache": lambda a, _: Cache(a, MemoryCache()),
}
PAIRS = list(product(WRAPPERS, WRAPPERS))
SOME_FAULTS = (
    "401",
    "429 seconds",
    "cut before the headers",
    "stall before the first piece",
    "empty answer",
    "cut in mid-stream",
    "stall in mid-stream",
    "cut in the thoughts",
    "cut in a tool call",
)


@dataclass
class Call:
    """One call: what a subscriber has of it, and what it came to."""

    text: str
    retries: list[int]
    response: LLMResponse | None
    error: Exception | None


async def call(provider: LLMProvider) -> Call:
    events: list[LLMEvent] = []
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    provider.call(HI).subscribe(events.append, over.set_result, lambda: over.set_result(None))
    error = await asyncio.wait_for(over, 1_000)
    text, retries, responses = "", list[int](), list[LLMResponse]()
    for event in events:
        assert not responses, "nothing follows an answer"
        match event:
            case ContentDelta(delta=delta):
                text += delta
            case ContentReset():
                text = ""
            case LLMRetry(attempt=attempt):
                retries.append(attempt)
            case LLMResponse():
                responses.append(event)
            case _:
                pass
    assert bool(responses) is (error is None), "an answer or an error, and not both"
    return Call(text, retries, responses[0] if responses else None, error)


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=[f"{outer} around {inner}" for outer, inner in PAIRS])
def test_whatever_is_around_whatever_nothing_is_paid_shown_or_kept_that_should_not_be(
    outer: str, inner: str
) -> None:
    for name in SOME_FAULTS:
        fault = FAULTS[name]
        assert fault.answer is not None
        servers = [
            ScriptedServer(*answers, otherwise=lambda _: waits(1) + says("Fi", "ne.", cost=0.5))
            for answers in ((waits(0.5) + fault.answer,), (), ())
        ]
        a, b, c = (proxy(server, model, timeout=9.0) for server, model in zip(servers, "abc", strict=True))
        nested = WRAPPERS[outer](WRAPPERS[inner](a, b), c)

        (first, asked, whole), (second, asked_in_all, whole_in_all) = run_virtual(_twice(nested, servers))

        where = f"{name}: {first}, {second}"
        begun = "".join(piece for piece in fault.shown if not piece.startswith(("(", "add")))
        # Each request is told of: as an attempt that was followed by another, and last as the answer or the error.
        if {outer, inner} <= {
            "hedge",
            "race",
        }:  # of what one within had open, the one around it does not know
            assert first.retries == list(range(1, len(first.retries) + 1)), where
        else:
            assert first.retries == list(range(1, asked)), where
        if first.response is None:
            assert isinstance(first.error, fault.error), where
            assert (first.text, whole) == (begun, 0), where
        else:
            assert first.response.message.text == first.text, where
            assert first.text in ("Fine.", f"{begun}Fine."), where
            assert (first.response.attempts, first.response.cost) == (len(first.retries) + 1, 0.5), where
        # The second time all is well, and out of the cache where the first was an answer.
        assert second.response is not None, where
        again = first.text if second.response.cached else "Fine."
        assert second.text == second.response.message.text == again, where
        if outer == "cache" or second.response.cached:
            assert second.response.cached is (first.response is not None), where
        assert asked_in_all - asked == second.response.attempts, where
        if "race" not in (outer, inner):
            assert whole <= 1, where
            assert whole_in_all - whole == (not second.response.cached), where
        assert "open" not in {request.outcome for server in servers for request in server.requests}, where
        assert [server.open_connections for server in servers] == [0, 0, 0], where


async def _twice(nested: LLMProvider, servers: list[ScriptedServer]) -> list[tuple[Call, int, int]]:
    """Two equal calls; after each, how many requests there were, and how many whole answers."""
    came: list[tuple[Call, int, int]] = []
    for _ in range(2):
        heard = await call(nested)
        first, *others = (request for server in servers for request in server.requests)
        came.append((heard, 1 + len(others), sum(request.outcome == "answered" for request in others)))
    assert first.body["model"] == "a"  # the one that goes wrong
    return came


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=[f"{outer} around {inner}" for outer, inner in PAIRS])
def test_whoever_leaves_whatever_is_around_whatever_hears_and_pays_no_more(outer: str, inner: str) -> None:
    for name, seconds in LEAVING:
        servers = [
            ScriptedServer(*answers, otherwise=lambda _: waits(1) + says("Fi", "ne.", every=1))
            for answers in ((waits(0.5) + (FAULTS[name].answer or says()),), (), ())
        ]
        a, b, c = (proxy(server, model, timeout=9.0) for server, model in zip(servers, "abc", strict=True))
        nested = WRAPPERS[outer](WRAPPERS[inner](a, b), c)

        async def leave(
            nested: LLMProvider = nested, servers: list[ScriptedServer] = servers, seconds: float = seconds
        ) -> None:
            heard: list[object] = []
            over = nested.call(HI).subscribe(heard.append, heard.append, lambda: heard.append("over"))
            await asyncio.sleep(seconds)
            over.dispose()
            await asyncio.sleep(0)
            before = len(heard), sum(len(server.requests) for server in servers)
            await asyncio.sleep(1_000)
            assert before == (len(heard), sum(len(server.requests) for server in servers))

        run_virtual(leave())
        assert [server.open_connections for server in servers] == [0, 0, 0], (name, seconds)


LEAVING = (
    ("429 seconds", 0.0),
    ("cut in mid-stream", 0.25),
    ("429 seconds", 0.75),
    ("cut in mid-stream", 1.75),
    ("stall before the first piece", 2.75),
)
"""What goes wrong, and after how many seconds somebody leaves: at once, before the head, in a wait, in an answer, beside one that stalls."""


# ------------------------------------------------------------------------------------------------------------- some pairs, by name


def test_a_retry_around_a_fallback_asks_both_again_after_a_wait() -> None:
    a, b = ScriptedServer(fails(500), says("Fine.")), ScriptedServer(fails(429, retry_after=4))

    assert story(Retry(Fallback(proxy(a, "a"), proxy(b, "b")), jitter=most)) == [
        "0: 1 ModelFailed, again in 0 a → b",
        "0: 2 ModelOverloaded, again in 4.5",
        "4.5: Fine.",
        "4.5: = Fine., attempts 3 by a",
    ]
    assert (len(a.requests), len(b.requests)) == (2, 1)


def test_a_fallback_around_a_retry_moves_on_when_that_gives_up() -> None:
    a, b = ScriptedServer(fails(429, retry_after=4), fails(500)), ScriptedServer(says("Fine."))

    assert story(Fallback(Retry(proxy(a, "a"), attempts=2, jitter=most), proxy(b, "b"))) == [
        "0: 1 ModelOverloaded, again in 4.5",
        "4.5: 2 ModelFailed, again in 0 a → b",
        "4.5: Fine.",
        "4.5: = Fine., attempts 3 by b",
    ]
    assert (len(a.requests), len(b.requests)) == (2, 1)


@pytest.mark.parametrize("headers", [True, False])
def test_a_hedge_around_one_that_stalls_closes_it_when_the_other_speaks(headers: bool) -> None:
    a, b = ScriptedServer(stalls(headers=headers)), ScriptedServer(waits(1) + says("Fi", "ne."))

    assert story(Hedge(proxy(a, "a"), proxy(b, "b"), after=2)) == [
        "3: 1 Overtaken, again in 0 a → b",
        "3: Fi",
        "3: ne.",
        "3: = Fine., attempts 2 by b",
    ]
    assert [request.outcome for request in (*a.requests, *b.requests)] == ["hung-up", "answered"]


def test_a_hedge_around_one_that_stalls_in_mid_stream_asks_nobody_else() -> None:
    a, b = ScriptedServer(says("Hel") + stalls()), ScriptedServer()

    assert story(Hedge(proxy(a, "a", timeout=9.0), proxy(b, "b"), after=2)) == ["0: Hel", "ModelTimeout"]
    assert [request.outcome for request in (*a.requests, *b.requests)] == ["hung-up"]


def test_a_budget_that_cuts_a_tool_calls_arguments_closes_the_connection_and_runs_no_tool() -> None:
    written: list[str] = []

    @tool
    def write(text: str) -> str:
        """Write a text down."""
        written.append(text)
        return "done"

    server = ScriptedServer(calls("write", text="word " * 1_000) + says(cost=0.5))
    meter = Meter()
    budget = Budget(Fallback(proxy(server, "a"), "b", mid_stream="restart"), meter, tokens=200)
    agent = AgentLoop(llm_provider=budget, tools=[write])

    async def main() -> BudgetExceeded:
        with pytest.raises(BudgetExceeded) as caught:
            await agent.execute("Write it down")
        return caught.value

    error = run_virtual(main())
    assert (error.limit, error.allowed, written) == ("tokens", 200, [])
    assert [request.outcome for request in server.requests] == ["hung-up"]
    assert server.open_connections == 0
    # Every call that the history holds is answered, so that the conversation can go on.
    messages = error.result.messages if error.result else ()
    asked = [call.id for message in messages for call in message.tool_calls]
    assert asked == [message.tool_call_id for message in messages if message.role == "tool"]


def test_a_cut_stream_is_each_callers_own_failure_and_is_not_kept() -> None:
    server = ScriptedServer(says("Hel") + waits(1) + cuts(), says("Fine."))
    cache = Cache(proxy(server), MemoryCache())

    async def main() -> list[tuple[str, str, bool]]:
        both = await asyncio.gather(call(cache), call(cache))
        later = [await call(cache), await call(cache)]
        return [
            (each.text, type(each.error).__name__, each.response is not None and each.response.cached)
            for each in (*both, *later)
        ]

    assert run_virtual(main()) == [
        ("Hel", "StreamBroken", False),
        ("Hel", "StreamBroken", False),
        ("Fine.", "NoneType", False),
        ("Fine.", "NoneType", True),
    ]
    assert (len(server.requests), server.open_connections) == (2, 0)


def test_a_run_that_is_cancelled_while_it_waits_for_a_rate_limit_asks_nobody() -> None:
    server = ScriptedServer(otherwise=lambda _: says("Fine."))
    limiter = Limiter(requests_per_minute=1)
    agent = AgentLoop(llm_provider=Retry(RateLimit(proxy(server), limiter)))

    async def main() -> list[float]:
        loop, answered = asyncio.get_running_loop(), list[float]()
        await agent.execute("first")
        answered.append(loop.time())
        waiting, next_one = agent.execute("second").start(), agent.execute("third").start()
        await asyncio.sleep(10)
        assert limiter.waiting == 2
        waiting.cancel()
        with pytest.raises(TaskCanceled):
            await waiting
        assert limiter.waiting == 1
        await next_one
        answered.append(loop.time())
        return answered

    assert run_virtual(main()) == [0.0, 60.0]  # the turn of the one who left is not lost
    assert [request.outcome for request in server.requests] == ["answered", "answered"]
