"""RateLimit: who waits, how long, in which order, and that a turn is never lost. All in virtual time, but where threads are."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given, settings
from hypothesis import strategies as st
from providers.wrapping import HI, Named, heard, proxy, story
from reactivex import Observable

from looopy import (
    AgentLoop,
    Cache,
    Fallback,
    Limiter,
    LimitExceeded,
    Limits,
    LLMProvider,
    LLMRequest,
    MemoryCache,
    Message,
    RateLimit,
    Retry,
    Usage,
)
from looopy.errors import ConfigurationError, ModelFailed, TaskCanceled
from looopy.events import LLMEvent
from looopy.providers.estimates import input_tokens
from looopy.testing import (
    LLMRig,
    ScriptedModel,
    ScriptedServer,
    cuts,
    fails,
    llm_provider_contract,
    run_virtual,
    says,
    stalls,
    waits,
)
from looopy.threads import background_loop

ASKED = input_tokens(HI)


class Times:
    """A model that notes when it is asked for what, and answers after some seconds."""

    def __init__(self, seconds: float = 0.0, usage: Usage | None = None) -> None:
        self.seen: list[tuple[float, str]] = []
        self._model = ScriptedModel(otherwise=lambda request: waits(seconds) + says("4", usage=usage))

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        def ask(_: Any) -> Observable[LLMEvent]:
            self.seen.append((asyncio.get_running_loop().time(), request.model))
            return self._model.call(request)

        return rx.defer(ask)


def named(name: object) -> LLMRequest:
    return replace(HI, model=str(name))


def asked_all(provider: LLMProvider, *requests: LLMRequest) -> None:
    """Ask all at once, and wait until all are answered."""

    async def main() -> None:
        await asyncio.gather(*[_asked(provider, request) for request in requests])

    run_virtual(main())


async def _asked(provider: LLMProvider, request: LLMRequest = HI) -> Any:
    return await provider.call(request)


def test_a_wrapper_says_what_its_provider_says():
    limited = RateLimit(proxy(ScriptedServer()), Limiter(at_once=1))

    assert isinstance(limited, LLMProvider)
    assert (limited.model, limited.base_url, limited.parameters(HI)["max_tokens"]) == (
        "gpt-4o-mini",
        "http://proxy",
        4096,
    )
    assert repr(Limiter(requests_per_minute=5, at_once=2)) == "Limiter(requests_per_minute=5, at_once=2)"


# ------------------------------------------------------------------------------------------------------------ limits


def test_requests_a_minute_are_let_through_in_order_as_the_minute_passes():
    model = Times()
    limited = RateLimit(model, Limiter(requests_per_minute=2))
    asked_all(limited, *map(named, range(5)))

    assert model.seen == [(0, "0"), (0, "1"), (60, "2"), (60, "3"), (120, "4")]


def test_a_minute_is_any_minute():
    async def main() -> list[float]:
        limiter, times = Limiter(requests_per_minute=2), []
        for pause in (0, 50, 0, 0):
            await asyncio.sleep(pause)
            (await limiter.turn()).done()
            times.append(asyncio.get_running_loop().time())
        return times

    assert run_virtual(main()) == [0, 50, 60, 110]


def test_at_most_so_many_are_under_way_at_once():
    model = Times(seconds=10)
    limited = RateLimit(model, Limiter(at_once=2))
    asked_all(limited, *map(named, range(5)))

    assert model.seen == [(0, "0"), (0, "1"), (10, "2"), (10, "3"), (20, "4")]


def test_tokens_are_reserved_by_an_estimate():
    model = Times()
    limited = RateLimit(model, Limiter(tokens_per_minute=2 * (ASKED + 100)), answer_tokens=100)
    asked_all(limited, *map(named, range(5)))

    assert model.seen == [(0, "0"), (0, "1"), (60, "2"), (60, "3"), (120, "4")]


@pytest.mark.parametrize(
    ("used", "times"),
    [
        (Usage(input_tokens=1, output_tokens=9), [0, 1, 2, 3, 4]),  # ten each: all fit
        (Usage(input_tokens=50, output_tokens=60), [0, 60, 120, 180, 240]),  # more than the estimate said
    ],
)
def test_the_estimate_is_corrected_by_what_it_was(used: Usage, times: list[float]):
    async def main() -> list[float]:
        model = Times(usage=used)
        limited = RateLimit(model, Limiter(tokens_per_minute=ASKED + 100), answer_tokens=50)
        for number in range(5):
            await asyncio.sleep(number and 1)
            await _asked(limited)
        return [at for at, _ in model.seen]

    assert run_virtual(main()) == times


def test_what_a_call_took_longer_than_a_minute_for_counts_when_it_is_known():
    async def main() -> list[float]:
        model = Times(seconds=90, usage=Usage(output_tokens=1_001))
        limited = RateLimit(model, Limiter(tokens_per_minute=1_000), answer_tokens=0)
        await _asked(limited)
        await _asked(limited)
        return [at for at, _ in model.seen]

    assert run_virtual(main()) == [0, 150]


def test_what_came_to_less_after_its_minute_changes_nothing():
    async def main() -> list[float]:
        model = Times(seconds=90, usage=Usage(output_tokens=1))
        limited = RateLimit(model, Limiter(tokens_per_minute=300))
        await _asked(limited)
        await _asked(limited)
        return [at for at, _ in model.seen]

    assert run_virtual(main()) == [0, 90]


def test_a_call_that_is_larger_than_a_minutes_tokens_goes_alone():
    model = Times()
    limited = RateLimit(model, Limiter(tokens_per_minute=1_000), answer_tokens=0)
    large = replace(named("large"), messages=(Message.user("x" * 8_000),))
    asked_all(limited, named("a"), large, named("b"))

    assert model.seen == [(0, "a"), (60, "large"), (120, "b")]


def test_who_came_first_goes_first_also_where_a_later_one_would_fit():
    model = Times()
    limited = RateLimit(model, Limiter(tokens_per_minute=1_000), answer_tokens=0)
    half = replace(named("half"), messages=(Message.user("x" * 2_400),))
    asked_all(limited, half, replace(half, model="other half"), named("small"))

    assert model.seen == [(0, "half"), (60, "other half"), (60, "small")]


def test_tokens_do_not_matter_to_a_limiter_that_does_not_count_them():
    async def main() -> None:
        limiter = Limiter(requests_per_minute=2)
        turn = await limiter.turn(10**9)
        turn.used(10**12)
        turn.used(0)
        assert limiter.turn_now(10**9) is not None
        assert limiter.turn_now() is None

    run_virtual(main())


@settings(max_examples=60)
@given(
    st.integers(1, 5),
    st.integers(1, 100),
    st.integers(1, 3),
    st.lists(
        st.tuples(st.floats(0, 40), st.integers(0, 120), st.floats(0, 90), st.none() | st.integers(0, 120)),
        min_size=1,
        max_size=14,
    ),
)
def test_no_minute_sees_more_than_is_allowed(
    requests: int, tokens: int, at_once: int, script: list[tuple[float, int, float, int | None]]
):
    async def main() -> tuple[list[tuple[float, float, int]], list[int]]:
        loop = asyncio.get_running_loop()
        limiter = Limiter(requests_per_minute=requests, tokens_per_minute=tokens, at_once=at_once)
        taken: list[tuple[float, float, int]] = []
        order: list[int] = []

        async def one(number: int, reserved: int, seconds: float, used: int | None) -> None:
            turn = await limiter.turn(reserved)
            order.append(number)
            began = loop.time()
            await asyncio.sleep(seconds)
            if used is not None and used < reserved:
                turn.used(used)  # no more than was reserved: else no limit could be kept
            turn.done()
            taken.append((began, loop.time(), reserved))

        tasks = []
        for number, (pause, reserved, seconds, used) in enumerate(script):
            await asyncio.sleep(pause)
            tasks.append(
                asyncio.ensure_future(one(number, reserved, seconds, None if used is None else used))
            )
        await asyncio.gather(*tasks)
        assert limiter.waiting == 0
        return taken, order

    taken, order = run_virtual(main())
    assert order == sorted(order)
    for start, _, _ in taken:
        minute = [each for each in taken if start <= each[0] < start + 60 - 1e-5]
        assert len(minute) <= requests
        under_way = [each for each in taken if each[0] <= start < each[1]]
        assert len(under_way) <= at_once


@settings(max_examples=60)
@given(
    st.integers(10, 100),
    st.lists(
        st.tuples(st.floats(0, 40), st.integers(0, 120), st.floats(0, 90), st.integers(0, 120)), max_size=14
    ),
)
def test_no_minute_sees_more_tokens_than_are_allowed(
    allowed: int, script: list[tuple[float, int, float, int]]
):
    async def main() -> list[tuple[float, float]]:
        loop, limiter = asyncio.get_running_loop(), Limiter(tokens_per_minute=allowed)
        counted: list[tuple[float, float]] = []

        async def one(reserved: int, seconds: float, used: int) -> None:
            turn = await limiter.turn(reserved)
            began = loop.time()
            await asyncio.sleep(seconds)
            used = min(used, reserved)
            turn.used(used)
            turn.done()
            counted.append((began, used))

        tasks = []
        for pause, reserved, seconds, used in script:
            await asyncio.sleep(pause)
            tasks.append(asyncio.ensure_future(one(reserved, seconds, used)))
        await asyncio.gather(*tasks)
        return counted

    counted = run_virtual(main())
    for start, _ in counted:
        minute = [tokens for at, tokens in counted if start <= at < start + 60 - 1e-5]
        assert sum(minute) <= allowed or sum(tokens > 0 for tokens in minute) == 1


# ----------------------------------------------------------------------------------------------------------- waiting


def test_leaving_while_it_waits_asks_nothing_and_lets_the_next_one_go():
    async def main() -> None:
        model, limiter = Times(seconds=10), Limiter(at_once=1)
        limited = RateLimit(model, limiter)
        first = asyncio.ensure_future(_asked(limited, named("first")))
        await asyncio.sleep(0)
        left = limited.call(named("left")).subscribe()
        next_ = asyncio.ensure_future(_asked(limited, named("next")))
        await asyncio.sleep(1)
        assert limiter.waiting == 2
        left.dispose()
        left.dispose()
        await asyncio.sleep(0.1)
        assert limiter.waiting == 1
        await asyncio.gather(first, next_)
        assert model.seen == [(0, "first"), (10, "next")]

    run_virtual(main())


def test_the_head_of_the_queue_may_leave_before_its_minute_has_passed():
    async def main() -> None:
        model = Times()
        limited = RateLimit(model, Limiter(requests_per_minute=1))
        await _asked(limited)
        left = limited.call(named("left")).subscribe()
        waiting = asyncio.ensure_future(_asked(limited, named("next")))
        await asyncio.sleep(30)
        left.dispose()
        await waiting
        assert model.seen == [(0, ""), (60, "next")]

    run_virtual(main())


def test_leaving_a_call_under_way_gives_its_turn_back():
    async def main() -> None:
        model = ScriptedModel(stalls(), says("4"))
        limited = RateLimit(model, Limiter(at_once=1))
        left = limited.call(HI).subscribe()
        waiting = asyncio.ensure_future(_asked(limited))
        await asyncio.sleep(1)
        assert model.open_calls == 1
        left.dispose()
        assert (await waiting).message.text == "4"
        assert model.open_calls == 0

    run_virtual(main())


def test_a_turn_that_comes_while_its_waiter_leaves_is_given_back():
    async def main() -> None:
        model, limiter = Times(), Limiter(at_once=1)
        limited = RateLimit(model, limiter)
        held = limiter.turn_now()
        assert held is not None
        left = limited.call(named("left")).subscribe()
        await asyncio.sleep(1)
        held.done()
        held.done()  # a second time does nothing
        left.dispose()
        await _asked(limited, named("next"))
        assert model.seen == [(1, "next")]

    run_virtual(main())


def test_a_turn_that_came_just_before_another_thread_left_is_given_back():
    """The waiter's task has its turn, and its subscription is over before it can say so."""

    async def main() -> None:
        model, limiter = Times(), Limiter(at_once=1)
        limited = RateLimit(model, limiter)
        held = limiter.turn_now()
        assert held is not None
        left = limited.call(named("left")).subscribe()
        await asyncio.sleep(1)
        held.done()
        for _ in range(5):  # wherever in the waking of the task it strikes
            await asyncio.sleep(0)
            thread = threading.Thread(target=left.dispose)
            thread.start()
            thread.join(5)
        await _asked(limited, named("next"))
        assert [name for _, name in model.seen][-1] == "next"
        assert limiter.turn_now() is not None

    run_virtual(main())


@pytest.mark.parametrize(
    "answer", [fails(500), says("Hel") + cuts(), cuts(), rx.empty(), rx.throw(ModelFailed("x"))]
)
def test_a_call_that_ends_in_whatever_way_gives_its_turn_back(answer: Any):
    limited = RateLimit(Named("m", answer, says("4")), Limiter(at_once=1))
    heard(limited)

    assert story(limited)[-1] == "0: = 4, attempts 1"


def test_a_provider_that_is_none_fails_the_call_and_gives_its_turn_back():
    class Wrong:
        def call(self, request: LLMRequest, /) -> object:
            return asyncio.sleep(0)

    limiter = Limiter(at_once=1)
    for _ in range(2):
        assert isinstance(heard(RateLimit(Wrong(), limiter))[1], ConfigurationError)  # type: ignore[arg-type]


def test_why_a_call_waits_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "looopy.providers")
    asked_all(RateLimit(Times(), Limiter(requests_per_minute=1)), *map(named, range(3)))

    assert [record.getMessage() for record in caplog.records] == [
        "a model call waits for its turn: 0 before it, Limiter(requests_per_minute=1)",
        "a model call waits for its turn: 1 before it, Limiter(requests_per_minute=1)",
    ]


def test_the_clocks_of_a_run_go_on_while_it_waits_and_a_cancel_ends_the_wait():
    async def main() -> None:
        limiter = Limiter(at_once=1)
        assert limiter.turn_now() is not None
        limited = RateLimit(ScriptedModel(), limiter)
        with pytest.raises(LimitExceeded, match="model_seconds"):
            await AgentLoop(llm_provider=limited, limits=Limits(model_seconds=7)).execute("Hi")
        assert (asyncio.get_running_loop().time(), limiter.waiting) == (7, 0)

        run = AgentLoop(llm_provider=limited).execute("Hi")
        run.start()
        await asyncio.sleep(1)
        assert limiter.waiting == 1
        run.cancel("enough")
        with pytest.raises(TaskCanceled, match="enough"):
            await run
        assert limiter.waiting == 0

    run_virtual(main())


def test_each_attempt_of_a_retry_around_it_waits_for_its_own_turn():
    model = Named("m", fails(500), says("4"))

    assert story(Retry(RateLimit(model, Limiter(requests_per_minute=1)), jitter=lambda: 1.0)) == [
        "0: 1 ModelFailed, again in 0.5",
        "60: 4",
        "60: = 4, attempts 2",
    ]


def test_an_answer_out_of_a_cache_takes_no_tokens():
    async def main() -> list[float]:
        loop, times = asyncio.get_running_loop(), []
        cache = Cache(ScriptedModel(says("4", usage=Usage(output_tokens=1))), MemoryCache())
        limited = RateLimit(cache, Limiter(tokens_per_minute=300))
        for _ in range(4):
            await _asked(limited)
            times.append(loop.time())
        return times

    assert run_virtual(main()) == [0, 0, 0, 0]


def test_the_call_is_made_in_the_context_of_the_one_who_waited():
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    class Looks:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            return rx.defer(lambda _: (seen.append(who.get()), rx.empty())[1])

    async def main() -> None:
        limited = RateLimit(Looks(), Limiter(requests_per_minute=1))
        for name in ("first", "second"):
            who.set(name)
            limited.call(HI).subscribe()
        who.set("another")
        await asyncio.sleep(100)

    run_virtual(main())
    assert seen == ["first", "second"]


# ------------------------------------------------------------------------------------------------- threads and loops


def test_one_limiter_serves_several_event_loops():
    limiter, most, now = Limiter(at_once=2), [], []

    async def work() -> None:
        for _ in range(20):
            turn = await limiter.turn()
            now.append(1)
            most.append(len(now))
            await asyncio.sleep(0)
            now.pop()
            turn.done()

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert (len(most), max(most) <= 2, limiter.waiting) == (80, True, 0)


def test_threads_without_a_loop_wait_too():
    limiter = Limiter(at_once=1)
    model = ScriptedModel(otherwise=lambda request: says("4"))
    held = limiter.turn_now()
    assert held is not None
    over = [threading.Event() for _ in range(3)]
    for each in over:
        RateLimit(model, limiter).call(HI).subscribe(on_completed=each.set)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), background_loop()).result(5)
    assert (limiter.waiting, model.requests) == (3, [])

    held.done()
    assert [each.wait(5) for each in over] == [True] * 3
    assert len(model.requests) == 3


def test_a_loop_that_ends_leaves_the_queue():
    limiter = Limiter(at_once=1)
    held = limiter.turn_now()
    assert held is not None

    async def main() -> None:
        RateLimit(ScriptedModel(), limiter).call(HI).subscribe(on_error=lambda _: None)
        assert limiter.waiting == 1

    async def forgetful() -> None:
        limiter.line_up()  # and never asks for its turn

    asyncio.run(main())
    assert limiter.waiting == 0
    asyncio.run(forgetful())
    held.done()
    assert limiter.turn_now() is not None
    assert limiter.waiting == 0


@pytest.mark.parametrize("check", llm_provider_contract)
@pytest.mark.parametrize("limits", [{"requests_per_minute": 9, "tokens_per_minute": 10_000}, {"at_once": 2}])
async def test_it_keeps_the_contract_of_a_provider(check: Any, limits: dict[str, int]):
    def make(*answers: Any) -> LLMRig:
        model = ScriptedModel(*answers)
        return LLMRig(
            RateLimit(model, Limiter(**limits)), lambda: len(model.requests), lambda: model.open_calls
        )

    await check(make)


@pytest.mark.parametrize(
    ("make", "argument", "text"),
    [
        (Limiter, "requests_per_minute", "it has no limit; give it requests_per_minute="),
        (lambda: Limiter(requests_per_minute=0), "requests_per_minute", "Limiter(requests_per_minute=0): it must be a whole"),
        (lambda: Limiter(tokens_per_minute=1.5), "tokens_per_minute", "whole number above 0"),
        (lambda: Limiter(at_once=True), "at_once", "whole number above 0"),
        (lambda: RateLimit("gpt", Limiter(at_once=1)), "provider", "is no provider"),
        (lambda: RateLimit(ScriptedModel(), 60), "limiter", "RateLimit: a int is no limiter; it takes a Limiter("),
        (lambda: RateLimit(ScriptedModel(), Limiter(at_once=1), answer_tokens=-1), "answer_tokens", "0 or more"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(make: Callable[[], Any], argument: str, text: str):
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        make()
    assert caught.value.argument == argument


def test_a_limit_around_itself_would_wait_for_itself():
    limiter = Limiter(at_once=1)
    with pytest.raises(ConfigurationError, match="it would wait for itself"):
        RateLimit(Retry(Fallback(ScriptedModel(), RateLimit(ScriptedModel(), limiter))), limiter)

    both = RateLimit(RateLimit(ScriptedModel(says("4")), limiter), Limiter(at_once=1))
    assert story(both)[-1] == "0: = 4, attempts 1"


def test_a_loop_that_ends_in_mid_call_gives_the_turn_back():
    limiter = Limiter(at_once=1)
    model = RateLimit(ScriptedModel(otherwise=lambda _: waits(60) + says("Hello")), limiter)

    async def leave_it() -> None:
        model.call(HI).subscribe()

    asyncio.run(leave_it())
    turn = limiter.turn_now()
    assert turn is not None
    turn.done()


def test_a_turn_that_was_given_back_with_its_loop_is_not_given_back_again():
    limiter = Limiter(at_once=1)

    async def take() -> Any:
        return limiter.turn_now()

    lost = asyncio.run(take())
    kept = limiter.turn_now()
    lost.done()
    assert (kept is not None, limiter.turn_now()) == (True, None)


def test_who_waits_for_another_loop_notices_that_it_has_ended():
    limiter, free = Limiter(at_once=1), ScriptedModel(says("Hello"))
    held, ends = threading.Event(), threading.Event()

    async def hold() -> None:
        assert limiter.turn_now() is not None
        held.set()
        await asyncio.get_running_loop().run_in_executor(None, ends.wait, 5)

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    held.wait(5)

    async def main() -> Any:
        async def ask() -> Any:
            return await RateLimit(free, limiter).call(HI)

        asking = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        ends.set()
        return await asyncio.wait_for(asking, 5)

    answer = asyncio.run(main())
    thread.join(5)
    assert answer.message.text == "Hello"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forks_child_does_not_wait_for_its_parents_calls():
    limiter = Limiter(at_once=1)
    assert limiter.turn_now() is not None
    limiter.line_up()
    child = os.fork()
    if child == 0:
        os._exit(0 if (limiter.waiting, limiter.turn_now() is not None) == (0, True) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (limiter.waiting, limiter.turn_now()) == (1, None)
