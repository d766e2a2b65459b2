"""Budget: what is counted, when an answer is cut, and when a model is not asked at all."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from providers.wrapping import HI, Named, Stubborn, heard, proxy, story
from reactivex.abc import DisposableBase

from looopy import (
    AgentLoop,
    Budget,
    BudgetExceeded,
    Cache,
    Fallback,
    LLMProvider,
    LLMRequest,
    LLMResponse,
    MemoryCache,
    Message,
    Meter,
    Retry,
    ToolDefinition,
    Usage,
)
from looopy.errors import ConfigurationError, LimitExceeded, ModelOverloaded, ModelTimeout, StreamBroken
from looopy.events import ContentDelta, ContentReset, LLMRetry, ThoughtDelta, ToolCallDelta
from looopy.messages import FilePart, TextPart
from looopy.providers.estimates import input_tokens
from looopy.testing import (
    LLMRig,
    ScriptedModel,
    ScriptedServer,
    calls,
    cuts,
    fails,
    llm_provider_contract,
    run_virtual,
    says,
    stalls,
    thinks,
    waits,
)

ASKED = input_tokens(HI)  # what the question alone is taken for
FOUR = "four"  # a text of one token
NO_PRICE = {"input_price": 0.0, "output_price": 0.0}


def used(tokens: int, output: int = 0) -> Usage:
    return Usage(input_tokens=tokens - output, output_tokens=output)


def outcome(error: Exception | None) -> tuple[str, float, float, str]:
    assert isinstance(error, BudgetExceeded)
    return error.limit, error.allowed, error.spent, error.unit


def test_a_wrapper_says_what_its_provider_says():
    budget = Budget(proxy(ScriptedServer()), Meter(), tokens=9)

    assert isinstance(budget, LLMProvider)
    assert (budget.model, budget.base_url, budget.parameters(HI)["max_tokens"]) == (
        "gpt-4o-mini",
        "http://proxy",
        4096,
    )


# --------------------------------------------------------------------------------------------------------- counting


def test_the_models_own_figures_take_the_place_of_the_estimate():
    meter = Meter()
    budget = Budget(Named("m", says(FOUR * 50, usage=used(11), cost=0.25), says("4")), meter, tokens=1_000)
    heard(budget)
    assert (meter.tokens, meter.cost, repr(meter)) == (11, 0.25, "Meter(tokens=11, cost=0.250000)")

    heard(budget)  # this one reports nothing: the estimate stays
    assert (meter.tokens, meter.cost) == (11 + ASKED + 1, pytest.approx(0.25 + 0.25 / 11 * (ASKED + 0.25)))


def test_an_answer_is_priced_where_nobody_says_its_cost():
    meter = Meter()
    budget = Budget(
        Named("m", says("4", usage=used(30, output=10))),
        meter,
        cost=1.0,
        input_price=0.001,
        output_price=0.01,
    )
    heard(budget)

    assert (meter.tokens, meter.cost) == (30, pytest.approx(0.12))


def test_a_call_that_was_left_stays_counted_as_estimated():
    async def main() -> int:
        meter = Meter()
        call = Budget(ScriptedModel(says(FOUR, FOUR) + stalls()), meter, tokens=1_000).call(HI)
        call.subscribe().dispose()
        return meter.tokens

    assert run_virtual(main()) == ASKED + 2


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (fails(429), 0),
        (fails(401), 0),
        (cuts(), 0),
        (fails(408), ASKED),  # it may well have worked at it
        (says(FOUR) + cuts(), ASKED + 1),
        (says(FOUR) + fails(500), ASKED + 1),
        (rx.empty(), ASKED),
    ],
)
def test_a_request_that_was_refused_is_not_charged(answer: Any, counted: int):
    meter = Meter()
    heard(Budget(Named("m", answer), meter, tokens=1_000))

    assert meter.tokens == counted


def test_an_answer_out_of_a_cache_is_not_charged():
    meter = Meter()
    budget = Budget(
        Cache(Named("m", says("4", usage=used(40), cost=0.5)), MemoryCache()), meter, tokens=1_000
    )
    heard(budget)
    events, _ = heard(budget)

    assert isinstance(events[-1][1], LLMResponse)
    assert events[-1][1].cached
    assert (meter.tokens, meter.cost) == (40, 0.5)


def test_what_was_shown_of_a_model_that_broke_off_stays_counted_beside_the_next():
    meter = Meter()
    model = Fallback(
        Named("a", says(FOUR * 10) + cuts()), Named("b", fails(429)), Named("c", says("4", usage=used(20))),
        mid_stream="restart",
    )  # fmt: skip
    events, error = heard(Budget(model, meter, tokens=1_000))

    assert error is None
    assert [type(event) for _, event in events] == [
        ContentDelta, LLMRetry, ContentReset, LLMRetry, ContentDelta, LLMResponse,
    ]  # fmt: skip
    assert meter.tokens == ASKED + 10 + 20


def test_tools_count_and_pictures_do_not():
    picture = FilePart(data="A" * 1_000_000, mime_type="image/png")
    request = LLMRequest(messages=(Message.user((TextPart("what is this?"), picture)),))
    tool = ToolDefinition(name="add", description="x" * 400)

    assert 2 < input_tokens(request) < 6
    assert 100 < input_tokens(replace(request, tools=(tool,))) - input_tokens(request) < 130
    assert input_tokens(LLMRequest(messages=(Message.user((TextPart("日本" * 4),)),))) == 6


# ----------------------------------------------------------------------------------------------------------- cutting


def test_an_answer_is_cut_when_the_estimate_crosses_the_limit():
    model = Named("m", says(*[FOUR] * 100))
    meter = Meter()
    events, error = heard(Budget(model, meter, tokens=ASKED + 3))

    assert [event for _, event in events] == [ContentDelta(delta=FOUR)] * 4
    assert outcome(error) == ("tokens", ASKED + 3, ASKED + 4, "tokens")
    assert str(error) == (
        f"the budget of {ASKED + 3} tokens is spent: the meter is at {ASKED + 4}; raise tokens= of Budget, or go on with a new Meter"
    )
    assert isinstance(error, LimitExceeded)
    assert not error.retryable
    assert outcome(pickle.loads(pickle.dumps(error))) == outcome(error)
    assert meter.tokens == ASKED + 4


@pytest.mark.parametrize(
    "answer",
    [thinks(*[FOUR] * 9), calls("write", f'{{"text":"{FOUR * 20}"}}') + says(FOUR), says("日本日本", "日本")],
)
def test_thoughts_calls_and_any_script_count(answer: Any):
    events, error = heard(Budget(Named("m", answer), Meter(), tokens=ASKED + 2))

    assert isinstance(error, BudgetExceeded)
    assert isinstance(events[-1][1], ContentDelta | ThoughtDelta | ToolCallDelta)


def test_money_is_estimated_by_the_given_prices():
    model = Named("m", says(*[FOUR] * 100))
    _, error = heard(Budget(model, Meter(), cost=0.045, input_price=0.0, output_price=0.01))

    assert outcome(error) == ("cost", 0.045, pytest.approx(0.05), "USD")
    assert "the budget of $0.045 is spent: the meter is at $0.05;" in str(error)


def test_money_is_estimated_by_what_the_model_cost_before():
    meter = Meter()
    model = Named("m", says("4", usage=used(100), cost=1.0), says(*[FOUR] * 1_000))
    budget = Budget(model, meter, cost=1.505)
    heard(budget)
    events, error = heard(budget)

    assert outcome(error)[:2] == ("cost", 1.505)
    assert meter.cost == pytest.approx(1.51)
    assert len(events) == 51 - ASKED


def test_money_of_an_unknown_price_is_counted_when_the_answer_says_it_and_then_no_more_is_asked():
    meter = Meter()
    model = Named("m", says(*[FOUR] * 100, usage=used(110), cost=2.0))
    budget = Budget(model, meter, cost=1.0)
    events, error = heard(budget)
    assert (len(events), error, meter.cost) == (101, None, 2.0)

    events, error = heard(budget)
    assert (events, outcome(error), len(model.requests)) == ([], ("cost", 1.0, 2.0, "USD"), 1)


def test_money_that_nobody_tells_is_not_taken_for_nothing_but_said_once(caplog: pytest.LogCaptureFixture):
    meter = Meter()
    model = Named("m", *[says(FOUR, usage=used(11))] * 4, says(FOUR, cost=0.5))
    for budget in [Budget(model, meter, cost=1.0)] * 3 + [Budget(model, meter, tokens=1_000)]:
        heard(budget)
    warned = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    heard(Budget(model, meter, cost=1.0))

    assert (meter.unpriced, repr(meter)) == (4, f"Meter(tokens={44 + ASKED + 1}, cost=0.500000, unpriced=4)")
    assert warned == [
        (
            "looopy",
            "WARNING",
            (
                "Budget(cost=1): nobody says what 'm' costs, so its answers are not in it; "
                "pass input_price= and output_price=, or tokens= for a limit that needs no price"
            ),
        )
    ]


def test_a_model_that_is_said_to_cost_nothing_has_a_price():
    meter = Meter()
    heard(Budget(Named("m", says(FOUR, usage=used(11))), meter, cost=1.0, **NO_PRICE))

    assert (meter.unpriced, meter.cost) == (0, 0.0)


def test_a_budget_that_is_spent_to_the_last_token_is_spent():
    meter = Meter()
    model = Named("m", says("4", usage=used(100)))
    budget = Budget(model, meter, tokens=100)
    assert heard(budget)[1] is None

    assert outcome(heard(budget)[1]) == ("tokens", 100, 100, "tokens")
    assert (meter.tokens, len(model.requests)) == (100, 1)


def test_a_question_that_is_too_dear_is_not_asked_and_not_counted():
    meter, model = Meter(), Named("m")
    long = LLMRequest(messages=(Message.user("x" * 4_000),))

    assert outcome(heard(Budget(model, meter, tokens=500), long)[1])[:2] == ("tokens", 500)
    assert (meter.tokens, model.requests) == (0, [])


def test_a_dear_answer_is_not_thrown_away():
    events, error = heard(Budget(Named("m", says("4", usage=used(10_000))), Meter(), tokens=100))

    assert (error, len(events)) == (None, 2)


async def test_the_connection_of_an_answer_that_is_cut_is_closed():
    server = ScriptedServer(says(*[FOUR] * 100) + stalls())
    with pytest.raises(BudgetExceeded):
        await Budget(proxy(server), Meter(), tokens=ASKED + 20).call(HI)
    await server.hung_up()


def test_a_cut_in_a_tool_calls_arguments_ends_the_task_with_what_was_there():
    ran: list[str] = []

    def write(text: str) -> None:
        """Write."""
        ran.append(text)

    server = ScriptedServer(says("Let me write. ") + calls("write", text=FOUR * 2_000))
    agent = AgentLoop(llm_provider=Budget(proxy(server), Meter(), tokens=300), tools=[write])
    with pytest.raises(BudgetExceeded) as caught:
        agent.execute("Go").result()

    result = caught.value.result
    assert (result.status, result.output, ran) == ("failed", "Let me write. ", [])
    assert result.error is not None


def test_a_provider_that_goes_on_after_it_was_cut_is_not_heard():
    model = rx.of(
        *[ContentDelta(delta=FOUR * 10) for _ in range(5)], LLMResponse(message=Message.assistant("x"))
    )
    meter = Meter()
    events, error = heard(Budget(Named("m", model), meter, tokens=ASKED + 15))

    assert (len(events), type(error), meter.tokens) == (2, BudgetExceeded, ASKED + 20)


# ------------------------------------------------------------------------------------------------------ one for many


def test_calls_at_the_same_time_share_a_meter_and_none_goes_beyond_by_more_than_a_piece():
    async def main() -> tuple[int, list[Exception]]:
        meter = Meter()
        model = ScriptedModel(otherwise=lambda request: says(*[FOUR] * 100, every=1))
        budget = Budget(model, meter, tokens=10 * ASKED + 50)
        calls = [asyncio.ensure_future(_asked(budget)) for _ in range(10)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        return meter.tokens, [error for error in failed if isinstance(error, Exception)]

    tokens, errors = run_virtual(main())
    assert [type(error) for error in errors] == [BudgetExceeded] * 10
    assert 10 * ASKED + 50 < tokens <= 10 * ASKED + 60


async def test_pieces_of_calls_that_take_turns_are_in_the_meter_at_once_and_the_one_that_crosses_the_limit_is_cut():
    meter, one, other = Meter(), Stubborn(), Stubborn()
    cut: list[Exception] = []
    four = ContentDelta(delta=FOUR)

    def begin(model: Stubborn) -> DisposableBase:
        budget = Budget(model, meter, tokens=2 * ASKED + 8)
        return budget.call(HI).subscribe(on_error=cut.append)

    first = begin(one)
    for _ in range(4):
        one.say(four)
    counted = [meter.tokens]
    second = begin(other)
    for model in (one, other, one, one, other):
        counted.append(meter.tokens)
        model.say(four)
    first.dispose()
    second.dispose()

    assert counted == [ASKED + 4, *(2 * ASKED + 4 + said for said in range(5))]
    assert (meter.tokens, [outcome(error)[2] for error in cut]) == (2 * ASKED + 9, [2 * ASKED + 9])


async def test_what_a_call_said_before_somebody_left_stays_counted():
    meter, model = Meter(), Stubborn()
    leaving = (
        Budget(model, meter, tokens=1_000, cost=1, input_price=0.0, output_price=0.01).call(HI).subscribe()
    )
    for _ in range(4):
        model.say(ContentDelta(delta=FOUR))
    before = (meter.tokens, meter.cost)
    leaving.dispose()

    assert before == (meter.tokens, meter.cost) == (ASKED + 4, pytest.approx(0.04))


async def _asked(provider: LLMProvider) -> Any:
    return await provider.call(HI)


def test_one_meter_may_have_several_budgets():
    meter = Meter()
    dear = Budget(Named("dear", says("4", usage=used(80)), says("4")), meter, tokens=100)
    cheap = Budget(Named("cheap", says("4", usage=used(100))), meter, tokens=1_000)
    either = Fallback(dear, cheap, on=BudgetExceeded)

    assert [story(either)[-1] for _ in range(2)][-1].startswith("0: = 4, attempts 1 by dear")
    meter.add(100, 0)
    assert story(either)[-1] == "0: = 4, attempts 2 by cheap"


def test_threads_share_a_meter_without_a_loss():
    meter = Meter()

    def count() -> None:
        for _ in range(10_000):
            meter.add(1, 0.5)
            meter.add(-0.5, -0.25)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (meter.tokens, meter.cost) == (20_000, 10_000)


def test_a_meter_that_is_corrected_below_nothing_is_at_nothing():
    meter = Meter()

    assert meter.add(2, 0.5) == (2, 0.5)
    assert meter.add(-3, -0.5) == (0, 0)
    assert (meter.tokens, meter.cost) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 50), st.none() | st.integers(0, 200), st.booleans()), max_size=8))
def test_a_meter_is_never_below_nothing_and_never_loses_a_call(script: list[tuple[int, int | None, bool]]):
    answers = [
        says(*[FOUR] * pieces) + (cuts() if cut else says(usage=None if tokens is None else used(tokens)))
        for pieces, tokens, cut in script
    ]
    meter, before = Meter(), 0
    budget = Budget(Named("m", *answers), meter, tokens=10**9, **NO_PRICE)
    for pieces, tokens, cut in script:
        heard(budget)
        estimate = 0 if cut and not pieces else ASKED + pieces
        assert meter.tokens - before == (estimate if cut or tokens is None else tokens)
        assert (meter.cost, meter.tokens >= 0) == (0.0, True)
        before = meter.tokens


def test_each_attempt_of_a_retry_around_it_is_counted_and_a_spent_budget_is_not_retried():
    meter = Meter()
    model = Named("m", fails(429), says("4", usage=used(100)))
    retry = Retry(Budget(model, meter, tokens=100), jitter=lambda: 1.0)

    assert (story(retry)[-1], meter.tokens) == ("0.5: = 4, attempts 2", 100)
    assert story(retry) == ["BudgetExceeded"]


def test_a_stall_is_ended_by_its_own_clock_and_stays_counted():
    meter = Meter()
    server = ScriptedServer(stalls())
    _, error = heard(Budget(proxy(server, timeout=5), meter, tokens=1_000))

    assert (type(error), meter.tokens) == (ModelTimeout, ASKED)


def test_errors_of_the_model_are_passed_on():
    for answer, wanted in ((fails(429), ModelOverloaded), (says("Hel") + waits(1) + cuts(), StreamBroken)):
        assert type(heard(Budget(proxy(ScriptedServer(answer)), Meter(), tokens=1_000))[1]) is wanted


@pytest.mark.parametrize("check", llm_provider_contract)
async def test_it_keeps_the_contract_of_a_provider(check: Any):
    def make(*answers: Any) -> LLMRig:
        model = ScriptedModel(*answers)
        return LLMRig(
            Budget(model, Meter(), tokens=10**6, cost=9.0),
            lambda: len(model.requests),
            lambda: model.open_calls,
        )

    await check(make)


def test_a_provider_that_is_none_fails_the_call_and_costs_nothing():
    class Wrong:
        def call(self, request: LLMRequest, /) -> object:
            return asyncio.sleep(0)

    meter = Meter()
    _, error = heard(Budget(Wrong(), meter, tokens=1_000))  # type: ignore[arg-type]

    assert (type(error), meter.tokens) == (ConfigurationError, 0)


@pytest.mark.parametrize(
    ("make", "argument", "text"),
    [
        (lambda: Budget("gpt", Meter(), tokens=1), "provider", "is no provider"),
        (lambda: Budget(ScriptedModel(), 100, tokens=1), "meter", "Budget: a int is no meter; it takes a Meter()"),
        (lambda: Budget(ScriptedModel(), Meter()), "tokens", "it has no limit; give it tokens=50_000"),
        (lambda: Budget(ScriptedModel(), Meter(), tokens=0), "tokens", "Budget(tokens=0): it must be a number above 0"),
        (lambda: Budget(ScriptedModel(), Meter(), cost=float("nan")), "cost", "above 0"),
        (lambda: Budget(ScriptedModel(), Meter(), cost="1"), "cost", "above 0"),
        (lambda: Budget(ScriptedModel(), Meter(), cost=1, input_price=-1, output_price=1), "input_price", "above 0"),
        (lambda: Budget(ScriptedModel(), Meter(), cost=1, input_price=1), "input_price", "come together"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(make: Callable[[], Any], argument: str, text: str):
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        make()
    assert caught.value.argument == argument


def test_two_budgets_around_each_other_need_two_meters():
    meter = Meter()
    with pytest.raises(ConfigurationError, match="another Budget with the same meter"):
        Budget(Retry(Budget(ScriptedModel(), meter, tokens=1)), meter, cost=1)

    mine, ours = Meter(), Meter()
    heard(Budget(Budget(ScriptedModel(says("4", usage=used(7))), mine, tokens=100), ours, tokens=1_000))
    assert (mine.tokens, ours.tokens) == (7, 7)
