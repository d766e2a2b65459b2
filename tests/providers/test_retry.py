"""Retry: when it asks again, how long it waits, and that it never shows half an answer twice."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import threading
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from providers.wrapping import HI, Named, Stubborn, answer, heard, in_the_turn_of, most, proxy, story, told
from reactivex import Observable
from reactivex import operators as ops

from looopy import (
    AgentLoop,
    Fallback,
    Hedge,
    Limiter,
    LiteLLMProvider,
    LLMProvider,
    LoadBalance,
    Message,
    RateLimit,
    Retry,
)
from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ModelFailed,
    ModelOverloaded,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
)
from looopy.events import ContentDelta, ContentReset, Failure, LLMEvent, LLMResponse, LLMRetry, ThoughtDelta
from looopy.ports import LLMRequest
from looopy.reactive import at_once
from looopy.testing import (
    Answer,
    LLMRig,
    Marbles,
    ScriptedModel,
    ScriptedServer,
    calls,
    cuts,
    fails,
    llm_provider_contract,
    raw,
    run_virtual,
    says,
    stalls,
    thinks,
    waits,
)


def retry(*answers: Any, **options: Any) -> Retry:
    return Retry(Named("m", *answers), **{"jitter": most, **options})


def test_a_wrapper_is_the_socket_that_it_wraps():
    assert isinstance(Retry(ScriptedModel()), LLMProvider)
    assert (Retry(Named("m")).model, Retry(ScriptedModel()).model) == ("m", "")


@pytest.mark.parametrize("wrapper", [Retry, Fallback])
def test_what_the_provider_says_of_itself_the_wrapper_says(wrapper: Any) -> None:
    wrapped = wrapper(LiteLLMProvider("http://proxy", "gpt-4o", api_key=None))

    assert (wrapped.model, wrapped.base_url, wrapped.parameters(HI)["max_tokens"]) == (
        "gpt-4o",
        "http://proxy",
        4096,
    )


def test_each_wait_is_twice_as_long_up_to_the_longest_and_is_told():
    assert story(retry(*[fails(500)] * 5, says("4"), attempts=9, first_wait=1, longest_wait=5)) == [
        "0: 1 ModelFailed, again in 1",
        "1: 2 ModelFailed, again in 2",
        "3: 3 ModelFailed, again in 4",
        "7: 4 ModelFailed, again in 5",
        "12: 5 ModelFailed, again in 5",
        "17: 4",
        "17: = 4, attempts 6",
    ]


def test_the_event_says_what_failed_and_who_is_asked_again():
    events, _ = heard(retry(fails(500, "oops"), says("4")))

    assert events[0][1] == LLMRetry(
        attempt=1,
        error=Failure(type="ModelFailed", message="API error 500 from m, as scripted: oops", retryable=True),
        seconds=0.5,
        model="m",
        next_model="m",
    )


def test_an_answer_at_once_is_as_it_was():
    assert heard(retry(says("4"))) == heard(ScriptedModel(says("4"), name="m"))


def test_the_jitter_spreads_the_waits():
    random = iter([0.5, 0.0, 0.25])

    assert story(retry(*[fails(500)] * 3, says("4"), attempts=4, jitter=lambda: next(random)))[:3] == [
        "0: 1 ModelFailed, again in 0.25",
        "0.25: 2 ModelFailed, again in 0",
        "0.25: 3 ModelFailed, again in 0.5",
    ]


def test_without_being_told_it_waits_at_random():
    waited = {heard(Retry(Named("m", fails(500), says("4"))))[0][-1][0] for _ in range(20)}

    assert len(waited) > 10
    assert all(0 <= seconds <= 0.5 for seconds in waited)


def test_after_the_last_attempt_the_error_is_passed_on():
    assert story(retry(fails(500), fails(429), fails(503), attempts=3)) == [
        "0: 1 ModelFailed, again in 0.5",
        "0.5: 2 ModelOverloaded, again in 1",
        "ModelOverloaded",
    ]


def test_the_error_says_how_many_attempts_were_made():
    said = "API error 500 from m, as scripted: oops"
    oops = [fails(500, "oops")] * 9
    inner = retry(*oops, attempts=2)

    assert [str(heard(provider)[1]) for provider in (
        retry(*oops, attempts=1), retry(*oops), Retry(inner, attempts=2), Fallback(inner, Named("m", *oops))
    )] == [
        said,
        f"{said}\n  3 attempts were made.",
        f"{said}\n  4 attempts were made.",
        f"{said}\n  3 attempts were made.",
    ]  # fmt: skip


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_would_fail_again_is_not_asked_again(status: int):
    model = Named("m", fails(status), says("4"))

    heard(Retry(model))

    assert len(model.requests) == 1


# ------------------------------------------------------------------------------------------------ what the server says


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, "slow down", 7),
        ({"llm_provider-retry-after": "7"}, "slow down", 7),
        ({"x-ratelimit-reset-requests": "1m2s"}, "slow down", 62),
        ({"x-ratelimit-reset-tokens": "250ms", "x-ratelimit-remaining-tokens": "0"}, "slow down", 0.25),
        ({}, "No deployments available, Try again in 5 seconds", 5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "slow down", 0),
    ],
)
def test_it_waits_as_long_as_the_server_asks_in_whatever_spelling(
    headers: dict[str, str], body: str, seconds: float
):
    refused = raw(
        b'{"error":{"message":"litellm.RateLimitError: %s"}}' % body.encode(), status=429, headers=headers
    )

    events, _ = heard(Retry(proxy(ScriptedServer(refused, says("4"))), jitter=lambda: 0.0, longest_wait=99))

    assert [event.seconds for _, event in events if isinstance(event, LLMRetry)] == [seconds]
    assert events[-1][0] == pytest.approx(seconds)


def test_its_own_wait_comes_on_top_so_that_not_all_come_back_at_once():
    assert story(retry(fails(429, retry_after=10), says("4"), first_wait=2))[1] == "12: 4"


def test_no_wait_is_longer_than_the_longest():
    assert story(retry(fails(429, retry_after=29), says("4"), first_wait=2))[1] == "30: 4"


def test_a_server_that_asks_for_more_than_the_longest_wait_is_not_waited_for():
    assert story(retry(fails(429, retry_after=31), says("4"))) == ["ModelOverloaded"]


def test_a_thousand_failures_do_not_overflow_the_wait():
    events, _ = heard(retry(*[fails(500)] * 2000, says("4"), attempts=2001, longest_wait=1))

    assert events[-1][0] == pytest.approx(1999.5)


def test_thousands_of_failures_at_once_are_not_as_many_calls_deep():
    events, error = heard(retry(*[fails(500)] * 9999, says("4"), attempts=10_000, first_wait=0))

    assert (error, answer(events).attempts, events[-1][0]) == (None, 10_000, 0)


# -------------------------------------------------------------------------------------------------------- budget, policy


def test_no_attempt_begins_after_its_seconds():
    failing = [waits(4) + fails(500)] * 9

    assert story(retry(*failing, attempts=9, first_wait=1, seconds=13)) == [
        "4: 1 ModelFailed, again in 1",
        "9: 2 ModelFailed, again in 2",
        "ModelFailed",
    ]


@pytest.mark.parametrize(
    ("on", "answers", "requests"),
    [
        ({ModelFailed: 5}, [fails(500)] * 9, 5),
        ({ModelFailed: 1}, [fails(500)] * 9, 1),
        ({ModelFailed: 5}, [fails(500), fails(429), fails(500), fails(429)], 4),
        ({AuthenticationFailed: 2}, [fails(401)] * 9, 2),
        ({Exception: 1, ModelOverloaded: 4}, [fails(429)] * 9, 4),
        ({Exception: 1, ModelOverloaded: 4}, [fails(500)] * 9, 1),
        ({ModelTimeout: 2}, [fails(408)] * 9, 2),
        ({ProxyUnreachable: 2}, [cuts()] * 9, 2),
    ],
)
def test_each_class_of_error_may_have_attempts_of_its_own(
    on: dict[type[Exception], int], answers: list[Answer], requests: int
):
    model = Named("m", *answers)

    heard(Retry(model, on=on, attempts=3))

    assert len(model.requests) == requests


def test_a_quota_that_is_spent_is_not_asked_for_again_whatever_is_said_of_overload():
    server = ScriptedServer(
        raw(
            b'{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}', status=429
        )
    )

    events, error = heard(Retry(proxy(server), on={ModelOverloaded: 5}))

    assert (events, type(error), len(server.requests)) == ([], ModelOverloaded, 1)


def test_any_exception_may_be_asked_again_where_it_is_named():
    class Socket:
        def __init__(self) -> None:
            self.asked = 0

        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            self.asked += 1
            raise OSError("no route")

    for on, asked in (({}, 1), ({OSError: 3}, 3)):
        socket = Socket()
        _, error = heard(Retry(socket, on=on))
        assert (repr(error), socket.asked) == ("OSError('no route')", asked)


# ------------------------------------------------------------------------------------------------------------- committing


@pytest.mark.parametrize(
    ("begun", "shown"),
    [(says("Hel"), "0: Hel"), (thinks("hm"), "0: (hm)"), (calls("add", '{"a'), '0: add {"a')],
)
@pytest.mark.parametrize("end", [cuts(), fails(500)])
def test_once_something_was_shown_the_error_is_passed_on(begun: Answer, shown: str, end: Answer):
    model = Named("m", begun + end, says("again"))

    assert story(Retry(model)) == [shown, "StreamBroken"]
    assert len(model.requests) == 1


def test_what_was_taken_back_was_not_shown():
    taken_back = rx.concat(rx.of(ContentDelta(delta="Hel"), ContentReset()), rx.throw(ModelFailed("no")))

    assert story(retry(taken_back, says("Hello."))) == [
        "0: Hel",
        "0: reset",
        "0: 1 ModelFailed, again in 0.5",
        "0.5: Hello.",
        "0.5: = Hello., attempts 2",
    ]


def test_an_error_after_the_answer_is_passed_on():
    said = LLMResponse(message=Message.assistant("4"))

    class Late:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            return rx.concat(rx.of(said), rx.throw(ModelFailed("late")))

    assert story(Retry(Late())) == ["0: = 4, attempts 1", "ModelFailed"]


# ---------------------------------------------------------------------------------------------------- what the proxy gets


def sent(params: dict[str, Any]) -> list[Any]:
    server = ScriptedServer(fails(500), says("4"))
    heard(Retry(proxy(server)), LLMRequest(messages=HI.messages, params=params))
    return [request.body["num_retries"] for request in server.requests]


def test_the_proxy_is_told_not_to_retry_unless_the_request_says_how_often():
    assert sent({"seed": 7}) == [0, 0]
    assert sent({"num_retries": 2}) == [2, 2]


@pytest.mark.parametrize(
    "fault",
    [
        fails(429, retry_after=3),
        fails(500),
        fails(502),
        fails(503),
        fails(529),
        fails(408),
        cuts(),
        stalls(),
        stalls(headers=False),
        raw(b""),
        raw(b"<html>bad gateway</html>"),
        raw(b'data: {"error":{"message":"oops","code":"500"}}\n\n'),
        raw(b"data: [DONE]\n\n"),
        raw(b'data: {"id":"1"', headers={"content-type": "text/event-stream"}),
    ],
    ids=lambda answer: str(answer.steps[0])[:40],
)
@pytest.mark.parametrize("pieces", ["event", 1])
def test_after_each_fault_of_a_proxy_the_second_answer_is_the_only_one(fault: Answer, pieces: Any):
    server = ScriptedServer(fault, says("It is ", "4."), pieces=pieces)

    events, error = heard(Retry(proxy(server, timeout=20.0)))

    assert error is None
    assert [type(event).__name__ for _, event in events] == [
        "LLMRetry",
        "ContentDelta",
        "ContentDelta",
        "LLMResponse",
    ]
    assert answer(events).message.text == "It is 4."
    assert answer(events).attempts == 2
    assert (len(server.requests), server.open_connections) == (2, 0)


# ------------------------------------------------------------------------------------------------------ leaving and threads


def test_leaving_while_it_waits_asks_nobody_again():
    m = Marbles(r=LLMRetry, d="content-delta")
    model = Named("m", fails(500), says("4"))

    assert m.draw(Retry(model, first_wait=5, jitter=most).call(HI), dispose_at=2) == "r-!"
    assert len(model.requests) == 1


def test_leaving_at_the_event_asks_nobody_again():
    model = Named("m", waits(1) + fails(500), says("4"))

    async def main() -> None:
        seen: list[LLMEvent] = []

        def leave(event: LLMEvent) -> None:
            seen.append(event)
            subscription.dispose()

        subscription = rx.disposable.SerialDisposable()
        subscription.disposable = Retry(model).call(HI).subscribe(leave)
        await asyncio.sleep(100)
        assert [event.kind for event in seen] == ["llm-retry"]

    run_virtual(main())
    assert len(model.requests) == 1


def test_a_cancelled_run_waits_no_longer():
    model = Named("m", fails(500), says("4"))

    async def main() -> list[str]:
        run = AgentLoop(llm_provider=Retry(model, first_wait=60, longest_wait=60, jitter=most)).execute("Hi")
        run.filter(lambda event: isinstance(event, LLMRetry)).subscribe(lambda _: run.cancel("enough"))
        seen = [event.kind async for event in run]
        assert asyncio.get_running_loop().time() == 0
        return seen

    assert run_virtual(main()) == ["task", "status-update", "llm-call", "llm-retry", "status-update"]
    assert len(model.requests) == 1


def test_it_works_where_no_event_loop_runs():
    server = ScriptedServer(fails(500), says("4"))
    with server.running() as url:
        provider = Retry(type(proxy(server))(url, "m", api_key=None), first_wait=0.01)
        over = threading.Event()
        seen: list[str] = []
        provider.call(HI).subscribe(lambda event: seen.append(event.kind), print, over.set)
        assert over.wait(5)

    assert seen == ["llm-retry", "content-delta", "llm-response"]


def test_a_wait_is_left_from_another_thread():
    server = ScriptedServer(fails(500), says("4"))
    with server.running() as url:
        provider = Retry(
            type(proxy(server))(url, "m", api_key=None), first_wait=60, longest_wait=60, jitter=most
        )
        waiting = threading.Event()
        subscription = provider.call(HI).subscribe(lambda _: waiting.set())
        assert waiting.wait(5)
        subscription.dispose()

    assert len(server.requests) == 1


def test_a_wait_that_is_left_from_another_thread_just_as_it_ends_asks_nobody_again():
    model = Named("m", fails(500), says("4"))

    async def main() -> None:
        subscription = Retry(model, jitter=most).call(HI).subscribe()
        in_the_turn_of(0.5, subscription.dispose)
        await asyncio.sleep(9)

    run_virtual(main())
    assert len(model.requests) == 1


def test_what_fails_at_once_is_asked_again_also_where_no_loop_runs():
    class Fails:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            return rx.throw(ModelFailed("no"))

    over = threading.Event()
    seen: list[str] = []
    Retry(Fails(), first_wait=0.01).call(HI).subscribe(
        lambda event: seen.append(event.kind), lambda _: over.set()
    )
    assert over.wait(5)
    assert seen == ["llm-retry", "llm-retry"]


def test_a_failure_after_leaving_asks_nobody_again():
    stubborn = Stubborn()

    async def main() -> list[LLMEvent]:
        seen: list[LLMEvent] = []
        Retry(stubborn).call(HI).subscribe(seen.append).dispose()
        for step in (partial(stubborn.say, ContentDelta(delta="4")), partial(stubborn.say, ThoughtDelta(delta="hm")), partial(stubborn.fail, ModelFailed("no")), stubborn.complete):  # fmt: skip
            step()
        await asyncio.sleep(9)
        return seen

    assert run_virtual(main()) == []


def test_text_and_all_else_keep_their_order_through_a_stack_and_nothing_comes_after_leaving():
    stubborn, seen = Stubborn(), list[str]()
    sent = [
        ContentDelta(delta="1"), ThoughtDelta(delta="2"), ContentDelta(delta="3"), ContentReset(),
        ContentDelta(delta="4"), ThoughtDelta(delta="5"), ContentDelta(delta="6"), ContentDelta(delta="7"),
    ]  # fmt: skip

    async def main() -> None:
        stack = Retry(Fallback(RateLimit(stubborn, Limiter(at_once=1)), "another"))

        def show(event: LLMEvent) -> None:
            seen.append(told(event))
            if len(seen) == len(sent) - 1:
                leaving.dispose()

        leaving = stack.call(HI).subscribe(show)
        for event in sent:
            stubborn.say(event)

    run_virtual(main())
    assert seen == ["1", "(2)", "3", "reset", "4", "(5)", "6"]


def test_an_observer_may_subscribe_and_so_may_nobody():
    seen: list[str] = []
    observer = rx.Observer[LLMEvent](
        lambda event: seen.append(event.kind), lambda _: seen.append("#"), lambda: seen.append("|")
    )

    async def main() -> None:
        retry(says("4")).call(HI).subscribe(observer)
        retry(says("4")).call(HI).subscribe()

    run_virtual(main())
    assert seen == ["content-delta", "llm-response", "|"]


def test_operators_that_lock_their_source_work_on_it():
    call = retry(says("4")).call(HI)

    async def main() -> list[Any]:
        merged = rx.merge(call, rx.empty()).pipe(ops.take_while(lambda event: event.kind != "llm-response"))
        return [event.delta for event in await merged.pipe(ops.to_list())]

    assert run_virtual(main()) == ["4"]
    assert call.lock is call.lock


def test_an_answer_leaves_nothing_for_the_garbage_collector():
    """Cycles would cost more than the wrapper itself."""

    async def main() -> int:
        call = Retry(Fallback(Hedge(LoadBalance(Answers()), after=1))).call(HI)
        await call
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                call.subscribe()
            return gc.collect()
        finally:
            gc.enable()

    class Answers:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            return at_once([LLMResponse(message=Message.assistant("4"))])

    assert run_virtual(main()) == 0


def test_each_subscription_has_attempts_of_its_own():
    call = retry(fails(500), says("a"), fails(500), says("b"), attempts=2).call(HI)

    async def main() -> list[Any]:
        return [(answered.message.text, answered.attempts) for answered in (await call, await call)]

    assert run_virtual(main()) == [("a", 2), ("b", 2)]


def test_every_attempt_is_made_in_the_subscribers_context():
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []

    class Provider:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            seen.append(where.get())
            where.set("inside an attempt")
            return rx.throw(ModelFailed("no"))

    where.set("the caller")
    heard(Retry(Provider()))

    assert seen == ["the caller"] * 3


# ------------------------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Retry(ScriptedModel), "Retry: the class ScriptedModel is no provider; it takes an object with call(request)"),
        (lambda: Retry("gpt-4o"), "Retry: 'gpt-4o' is no provider; it takes an object with call(request), for example LiteLLMProvider(model="),
        (lambda: Retry({"api_key": "sk-1234567890abcdefg"}), "Retry: a dict is no provider"),
        (lambda: Retry("sk-1234567890abcdefg"), "Retry: '***' is no provider"),
        (lambda: Retry(ScriptedModel(), attempts=0), "Retry(attempts=0): it must be a whole number, at least 1"),
        (lambda: Retry(ScriptedModel(), attempts=True), "Retry(attempts=True): it must be a whole number"),
        (lambda: Retry(ScriptedModel(), attempts=2.5), "Retry(attempts=2.5): it must be a whole number"),
        (lambda: Retry(ScriptedModel(), first_wait=-1), "Retry(first_wait=-1): it must be a number of seconds, 0 or more"),
        (lambda: Retry(ScriptedModel(), first_wait=None), "Retry(first_wait=None): it must be a number"),
        (lambda: Retry(ScriptedModel(), longest_wait=float("inf")), "Retry(longest_wait=inf): it must be a number"),
        (lambda: Retry(ScriptedModel(), seconds="60"), "Retry(seconds='60'): it must be a number"),
        (lambda: Retry(ScriptedModel(), seconds=True), "Retry(seconds=True): it must be a number"),
        (lambda: Retry(ScriptedModel(), on=ModelTimeout), "it must say for classes of errors how many attempts there are, for example {"),
        (lambda: Retry(ScriptedModel(), on={"timeout": 3}), "Retry(on={'timeout': 3}): it must say for classes of errors"),
        (lambda: Retry(ScriptedModel(), first_wait=60), "Retry(first_wait=60): no wait is longer than longest_wait=30.0; pass a longer one"),
        (lambda: Retry(ScriptedModel(), on={int: 3}), "it must say for classes of errors"),
        (lambda: Retry(ScriptedModel(), on={ModelTimeout: 0}), "it must say for classes of errors"),
        (lambda: Retry(ScriptedModel(), jitter=0.5), "Retry(jitter=0.5): it must be a function"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_when_it_is_made(make: Any, said: str):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_a_broken_jitter_ends_the_call_and_does_not_hang_it():
    _, error = heard(retry(fails(500), jitter=lambda: 1 / 0))

    assert isinstance(error, ZeroDivisionError)


def test_a_provider_that_returns_a_coroutine_is_told_so_at_each_attempt():
    class Wrong:
        def call(self, request: LLMRequest) -> object:
            return asyncio.sleep(0)

    _, error = heard(Retry(Wrong(), on={ConfigurationError: 2}))  # pyright: ignore[reportArgumentType]

    assert "write `def call`, not `async def`" in str(error)


def again_and_again(*answers: Answer) -> LLMRig:
    model = ScriptedModel(*answers, otherwise=lambda _: answers[-1])
    return LLMRig(
        Retry(model, jitter=lambda: 0.0), asked=lambda: len(model.requests), open=lambda: model.open_calls
    )


@pytest.mark.parametrize("check", llm_provider_contract)
def test_it_keeps_the_contract_of_a_provider(check: Any):
    run_virtual(check(again_and_again))


def test_a_run_shows_the_retries_and_its_state_is_that_of_a_run_without():
    async def run(*answers: Any) -> Any:
        return await AgentLoop(llm_provider=retry(*answers)).execute("Hi")

    tried, straight = run_virtual(run(fails(500), says("4"))), run_virtual(run(says("4")))

    assert (tried.output, tried.messages) == (straight.output, straight.messages)


def test_a_stream_that_breaks_keeps_its_text_in_the_run():
    async def main() -> Any:
        with pytest.raises(StreamBroken) as caught:
            await AgentLoop(llm_provider=retry(fails(500), says("Hel") + cuts())).execute("Hi")
        return caught.value.result.output

    assert run_virtual(main()) == "Hel"
