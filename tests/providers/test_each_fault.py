"""Each wrapper against each fault of the scripted server, over real HTTP.

A wrapper holds a first model, whose first answer goes wrong, and most a second one, which is well. For each wrapper there is a rule that says
of any fault what must come out: all that a subscriber is shown, the error, and how many requests each server had, which is what would be
billed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from child import free_ports
from providers.faults import FAULTS, Fault
from providers.wrapping import HI

from looopy import (
    Budget,
    Cache,
    Fallback,
    Hedge,
    Limiter,
    LiteLLMProvider,
    LLMProvider,
    LoadBalance,
    MemoryCache,
    Meter,
    RateLimit,
    Retry,
    Route,
)
from looopy.errors import ModelRejected, ModelTimeout
from looopy.events import ContentDelta, ContentReset, LLMEvent, LLMResponse, LLMRetry, ThoughtDelta
from looopy.providers.litellm import Timeouts
from looopy.providers.transport import HTTP, FastTransport
from looopy.testing import ScriptedServer, cassette, says, stalls

PATIENT = Timeouts(connect=5, first_token=5, between_tokens=5, call=5)
"""Seconds; what is no stall is not to be taken for one, however busy the machine."""

HASTY = Timeouts(connect=5, first_token=0.25, between_tokens=0.25, call=5)
"""A stall is a fault that lasts as long as this."""


def patience(fault: Fault) -> Timeouts:
    return HASTY if fault.error is ModelTimeout else PATIENT


@dataclass(frozen=True)
class Came:
    """What one call came to.

    Attributes:
        shown: its events in words.
        error: the name of the error's class; empty for none.
        asked: how many requests each of the two servers had.
    """

    shown: tuple[str, ...]
    error: str = ""
    asked: tuple[int, int] = (1, 0)


@dataclass(frozen=True)
class Two:
    """Two servers, and a model on each."""

    servers: tuple[ScriptedServer, ScriptedServer]
    a: LiteLLMProvider
    b: LiteLLMProvider
    transport: HTTP

    @property
    def asked(self) -> tuple[int, int]:
        first, second = (len(server.requests) for server in self.servers)
        return first, second


@asynccontextmanager
async def two(fault: Fault, *, second_stalls: bool = False) -> AsyncIterator[Two]:
    """A server whose first answer goes wrong, and one that is well. Leaving checks that no connection was lost: neither in use nor open."""
    first = ScriptedServer(
        *([fault.answer] if fault.answer else []), otherwise=lambda _: says("Fine", ".", cost=0.5)
    )
    second = ScriptedServer(otherwise=lambda _: stalls() if second_stalls else says("Fine", "."))
    pool = FastTransport()
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(server.serve()) for server in (first, second)]
        if fault.answer is None:
            urls[0] = f"http://127.0.0.1:{free_ports(1)[0]}"
        transport = HTTP(pool)
        a = LiteLLMProvider(urls[0], "a", None, timeout=patience(fault), transport=transport)
        b = LiteLLMProvider(urls[1], "b", None, timeout=PATIENT, transport=transport)
        yield Two((first, second), a, b, transport)
        await until(lambda: "open" not in {each.outcome for each in (*first.requests, *second.requests)})
        await pool.aclose()
        await until(lambda: not first.open_connections + second.open_connections)


async def until(true: Callable[[], bool]) -> None:
    """Let the servers notice what has happened."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    pytest.fail("a connection was lost: it is in use, and nobody waits for an answer on it")


async def listen(provider: LLMProvider) -> tuple[list[str], str]:
    """The events of a call in words, and the name of its error."""
    shown: list[str] = []
    over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    provider.call(HI).subscribe(
        lambda event: shown.append(told(event)),
        lambda error: over.set_result(type(error).__name__),
        lambda: over.set_result(""),
    )
    return shown, await over


def told(event: LLMEvent) -> str:
    match event:
        case ContentDelta(delta=delta):
            return delta
        case ThoughtDelta(delta=delta):
            return f"({delta})"
        case LLMRetry():
            return f"{event.attempt}: {event.error.type}, then {event.next_model} in {event.seconds:g}"
        case ContentReset():
            return "reset"
        case LLMResponse():
            cached = ", cached" if event.cached else ""
            by = f" by {event.served_by}" if event.served_by else ""
            return f"= {event.message.text} ({event.attempts}{by}{cached})"
        case _:
            return f"{event.tool_name} {event.delta}"


# ------------------------------------------------------------------------------------------------------------ what must come out


def alone(fault: Fault) -> Came:
    """The error is passed on, after what was shown of the answer."""
    return Came(fault.shown, fault.error.__name__, asked=(0 if fault.answer is None else 1, 0))


def retry(fault: Fault) -> Came:
    """The same model again, where that may help and nothing was shown."""
    if fault.shown or not fault.passes or fault.wait > 1:
        return alone(fault)
    following = [f"{attempt}: {fault.error.__name__}, then a in {fault.wait:g}" for attempt in (1, 2)]
    if fault.answer is None:  # it stays away
        return Came(tuple(following), fault.error.__name__, asked=(0, 0))
    return Came((following[0], "Fine", ".", "= Fine. (2)"), asked=(2, 0))


def following(fault: Fault) -> Came:
    """The next model, where nothing was shown."""
    return alone(fault) if fault.shown else _taken_over(fault, "Fine", ".", "= Fine. (2 by b)")


def restarting(fault: Fault) -> Came:
    """The next model, which starts over."""
    return _taken_over(fault, *["reset"][: len(fault.shown)], "Fine", ".", "= Fine. (2 by b)")


def going_on(fault: Fault) -> Came:
    """The next model, which goes on with the text; a tool call starts over."""
    if any(piece.startswith("add") for piece in fault.shown):
        return restarting(fault)
    said = "".join(piece for piece in fault.shown if not piece.startswith("("))
    return _taken_over(fault, "Fine", ".", f"= {said}Fine. (2 by b)")


def balanced(fault: Fault) -> Came:
    """The next model, unless the request is itself refused."""
    return alone(fault) if issubclass(fault.error, ModelRejected) else following(fault)


def _taken_over(fault: Fault, *then: str) -> Came:
    following = f"1: {fault.error.__name__}, then b in 0"
    return Came((*fault.shown, following, *then), asked=(alone(fault).asked[0], 1))


Rule = Callable[[Fault], Came]
WRAPPERS: dict[str, tuple[Callable[[LLMProvider, LLMProvider], LLMProvider], Rule]] = {
    "retry": (lambda a, b: Retry(a, attempts=3, longest_wait=1, jitter=lambda: 0.0), retry),
    "fallback": (Fallback, following),
    "fallback, restart": (lambda a, b: Fallback(a, b, mid_stream="restart"), restarting),
    "fallback, continue": (lambda a, b: Fallback(a, b, mid_stream="continue"), going_on),
    "hedge": (lambda a, b: Hedge(a, b, after=60), following),
    "balance": (LoadBalance, balanced),
    "route": (lambda a, b: Route({"other": lambda _: False}, this=a, other=b), alone),
    "budget": (lambda a, b: Budget(a, Meter(), tokens=10_000), alone),
    "rate limit": (lambda a, b: RateLimit(a, Limiter(at_once=1)), alone),
    "cache": (lambda a, b: Cache(a, MemoryCache()), alone),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
async def test_each_wrapper_makes_of_each_fault_what_its_rule_says(wrapper: str, fault: str) -> None:
    make, rule = WRAPPERS[wrapper]
    async with two(FAULTS[fault]) as models:
        shown, error = await listen(make(models.a, models.b))
        came = Came(tuple(shown), error, models.asked)

    assert came == rule(FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
async def test_in_a_race_whoever_speaks_wins_and_a_fault_before_that_loses(fault: str) -> None:
    """Which of the two is heard of first is a matter of moments; so the reason why one lost is left out."""
    failing = FAULTS[fault]
    async with two(failing, second_stalls=bool(failing.shown)) as models:
        shown, error = await listen(Hedge(models.a, models.b, after=0))
        came = Came(tuple(shown[1:]), error, models.asked)

    if failing.shown:
        assert came == replace(alone(failing), asked=(1, 1))
    else:
        assert came == Came(("Fine", ".", "= Fine. (2 by b)"), asked=(alone(failing).asked[0], 1))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_is_not_kept_and_the_answer_after_it_is(fault: str) -> None:
    async with two(FAULTS[fault]) as models:
        cache = Cache(models.a, MemoryCache())
        came = [await listen(cache) for _ in range(3)]

    failure = (list(FAULTS[fault].shown), FAULTS[fault].error.__name__)
    if FAULTS[fault].answer is None:
        assert (came, models.asked) == ([failure] * 3, (0, 0))
    else:
        answers = [(["Fine", ".", f"= Fine. ({how})"], "") for how in ("1", "0, cached")]
        assert (came, models.asked) == ([failure, *answers], (2, 0))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_gives_its_turn_back_and_costs_what_was_heard_of_it(fault: str) -> None:
    meter = Meter()
    async with two(FAULTS[fault]) as models:
        limited = RateLimit(Budget(models.a, meter, tokens=10_000, cost=1.0), Limiter(at_once=1))
        await listen(limited)
        tokens = meter.tokens
        # A model that is not waited for works all the same.
        paid = bool(FAULTS[fault].shown) or FAULTS[fault].error is ModelTimeout
        assert bool(tokens) == paid
        if FAULTS[fault].answer is not None:
            assert await listen(limited) == (["Fine", ".", "= Fine. (1)"], "")
            assert (meter.cost, models.asked) == (0.5, (2, 0))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_was_recorded_is_replayed_as_it_was(fault: str, tmp_path: Path) -> None:
    """Also a stall: what would have come nobody knows, so that the replay lets its reader wait as long."""
    path = tmp_path / "fault.json"
    async with two(FAULTS[fault]) as models:
        played = []
        for _ in range(2):
            with cassette(path, transport=models.transport) as tape:
                timeout = patience(FAULTS[fault])
                provider = LiteLLMProvider(models.a.base_url, "a", None, timeout=timeout, transport=tape)
                played.append(await listen(provider))
        expected = alone(FAULTS[fault])

    assert played == [(list(expected.shown), expected.error)] * 2
    assert models.asked == expected.asked
