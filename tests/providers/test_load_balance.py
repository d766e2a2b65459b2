"""LoadBalance: whose turn it is, who rests for how long, and who is asked next when one fails."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from providers.wrapping import HI, Named, answer, heard, most, proxy, story
from reactivex import Observable

from looopy import AgentLoop, Fallback, Hedge, LLMProvider, LoadBalance, Retry
from looopy.errors import AuthenticationFailed, ConfigurationError, ModelFailed, ModelOverloaded, StreamBroken
from looopy.events import ContentDelta, LLMEvent, LLMRetry
from looopy.ports import LLMRequest
from looopy.providers.load_balance import Roster
from looopy.testing import (
    Answer,
    LLMRig,
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


def steady(name: str) -> Named:
    return Named(name, otherwise=lambda _: says(name))


def served(provider: LLMProvider, times: int, *, every: float = 0.0) -> str:
    """Who answered so many calls, one after the other; `#` where one failed."""

    async def main() -> str:
        found = ""
        for _ in range(times):
            try:
                found += (await provider.call(HI)).served_by  # pyright: ignore[reportAttributeAccessIssue]
            except Exception:  # noqa: BLE001
                found += "#"
            await asyncio.sleep(every)
        return found

    return run_virtual(main())


def test_a_wrapper_is_the_socket_that_it_wraps():
    assert isinstance(LoadBalance(ScriptedModel()), LLMProvider)


def test_it_says_of_itself_what_all_say():
    a, b = proxy(ScriptedServer(), "m", temperature=0.5), proxy(ScriptedServer(), "m")

    alike, others = LoadBalance(a, b), LoadBalance(a, "n", Named("m"))
    assert (alike.model, alike.base_url, alike.parameters(HI)) == ("m", "http://proxy", a.parameters(HI))
    assert (others.model, others.base_url) == ("", "")


# -------------------------------------------------------------------------------------------------------------------- turns


def test_they_take_turns():
    assert served(LoadBalance(steady("a"), steady("b"), steady("c")), 7) == "abcabca"


@pytest.mark.parametrize(
    ("weights", "turns"),
    [((3, 1), "aabaaaba"), ((1, 2), "babbabba"[:8]), ((0.5, 0.5), "abababab"), ([5, 1], "aaabaaaaaabaa"[:8])],
)
def test_the_weights_say_how_often_each_comes_up_evenly_spread(weights: Any, turns: str):
    found = served(LoadBalance(steady("a"), steady("b"), weights=weights), 8)

    assert found == turns


def test_over_many_calls_each_has_its_share():
    found = served(LoadBalance(steady("a"), steady("b"), steady("c"), weights=(5, 3, 2)), 1000)

    assert Counter(found) == {"a": 500, "b": 300, "c": 200}


def test_each_subscription_is_a_turn():
    call = LoadBalance(steady("a"), steady("b")).call(HI)

    async def main() -> list[Any]:
        return [(await call).served_by for _ in range(3)]  # pyright: ignore[reportAttributeAccessIssue]

    assert run_virtual(main()) == ["a", "b", "a"]


def test_an_answer_at_once_says_who_gave_it():
    assert story(LoadBalance(Named("a", says("4")), Named("b"))) == ["0: 4", "0: = 4, attempts 1 by a"]


def test_a_name_is_another_model_of_the_provider_before_it():
    model = ScriptedModel(otherwise=lambda _: says("4"))
    balance = LoadBalance(model, "b", Named("c", says("4")))

    assert served(balance, 3) == "ScriptedModelbc"
    assert [request.model for request in model.requests] == ["", "b"]


def test_a_request_for_another_model_is_asked_of_all_but_those_that_are_names():
    a, b = ScriptedModel(otherwise=lambda _: says("4")), Named("b", says("4"))
    balance = LoadBalance(a, "a2", b)
    for _ in range(3):
        heard(balance, replace(HI, model="large"))

    assert [request.model for request in (*a.requests, *b.requests)] == ["large", "a2", "large"]


def test_the_same_model_at_two_places_is_told_apart():
    assert served(LoadBalance(steady("a"), steady("a")), 3) == "aa#2a"


# ------------------------------------------------------------------------------------------------------------------- failures


def test_when_one_fails_the_next_is_asked_within_the_same_call():
    assert story(LoadBalance(Named("a", fails(500)), Named("b", fails(429)), Named("c", says("4")))) == [
        "0: 1 ModelFailed, again in 0 a → b",
        "0: 2 ModelOverloaded, again in 0 b → c",
        "0: 4",
        "0: = 4, attempts 3 by c",
    ]


def test_one_that_fails_rests_and_then_takes_turns_again():
    a = Named("a", fails(500), otherwise=lambda _: says("4"))

    assert served(LoadBalance(a, steady("b"), rest=5), 9, every=1) == "bbbbbbaba"
    assert len(a.requests) == 3


def test_it_rests_for_as_long_as_its_server_asks():
    a = Named("a", fails(429, retry_after=2), otherwise=lambda _: says("4"))

    assert served(LoadBalance(a, steady("b"), rest=30), 5, every=1) == "bbbab"


def test_with_0_nobody_rests():
    a = Named("a", otherwise=lambda _: fails(500))

    assert served(LoadBalance(a, steady("b"), rest=0), 4) == "bbbb"
    assert len(a.requests) >= 2


def test_an_answer_ends_the_rest():
    roster = Roster()
    a = Named("a", fails(500), says("4"))
    balance = LoadBalance(a, roster=roster, rest=60)

    async def main() -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for _ in range(2):
            balance.call(HI).subscribe(on_error=lambda _: None)
            await asyncio.sleep(10)
            found.append(roster.resting)
        return found

    assert run_virtual(main()) == [{"a": 50}, {}]


def test_where_all_rest_the_one_that_rests_the_shortest_is_asked_and_then_the_next_shortest():
    a = Named("a", fails(429, retry_after=60))
    b = Named("b", fails(429, retry_after=20), fails(429, retry_after=90))
    c = Named("c", fails(429, retry_after=40), otherwise=lambda _: says("c"))
    balance = LoadBalance(a, b, c)

    assert [story(balance) for _ in range(3)] == [
        [
            "0: 1 ModelOverloaded, again in 0 a → b",
            "0: 2 ModelOverloaded, again in 0 b → c",
            "ModelOverloaded",
        ],
        ["0: 1 ModelOverloaded, again in 0 b → c", "0: c", "0: = c, attempts 2 by c"],
        ["0: c", "0: = c, attempts 1 by c"],
    ]


def test_where_all_failed_each_was_asked_once_and_the_error_is_the_last_that_may_pass_else_the_last():
    for failures, raised in (
        ([fails(500), fails(429)], ModelOverloaded),
        ([fails(500), fails(401)], ModelFailed),
        ([fails(401), fails(403)], AuthenticationFailed),
    ):
        models = [Named("m", failure) for failure in failures]
        _, error = heard(LoadBalance(*models))
        assert (type(error), [len(model.requests) for model in models]) == (raised, [1, 1])


@pytest.mark.parametrize(
    "fault", [fails(400), fails(422), fails(400, "litellm.ContextWindowExceededError: x")]
)
def test_a_request_that_is_refused_is_asked_of_nobody_else_and_nobody_rests(fault: Answer):
    roster, b = Roster(), Named("b")

    _, error = heard(LoadBalance(Named("a", fault), b, roster=roster))

    assert (error is not None, b.requests, roster.resting) == (True, [], {})


def test_what_is_no_failure_of_a_model_is_passed_on_and_nobody_rests():
    class Broken:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            raise ZeroDivisionError

    roster, b = Roster(), Named("b", says("4"))

    assert story(LoadBalance(Broken(), b, roster=roster)) == ["ZeroDivisionError"]
    assert (b.requests, roster.resting) == ([], {})


@pytest.mark.parametrize(
    "begun", [says("Hel"), thinks("hm"), calls("add", '{"a')], ids=["text", "thought", "call"]
)
def test_once_something_was_shown_the_error_is_passed_on_and_it_rests_all_the_same(begun: Answer):
    b = steady("b")
    balance = LoadBalance(Named("a", begun + cuts()), b, rest=60)

    events, error = heard(balance)

    assert (len(events), type(error), b.requests) == (1, StreamBroken, [])
    assert served(balance, 2) == "bb"


# --------------------------------------------------------------------------------------------------------------------- memory


def test_two_that_share_a_roster_share_what_they_learn():
    roster = Roster()
    failing = Named("a", fails(500))
    one, other = (
        LoadBalance(failing, steady("b"), roster=roster),
        LoadBalance(steady("a"), steady("b"), roster=roster),
    )

    assert served(one, 1) + served(other, 2) == "bbb"
    assert LoadBalance(steady("a")).roster is not LoadBalance(steady("a")).roster


def test_the_roster_shows_who_rests_and_for_how_long():
    balance = LoadBalance(Named("a", fails(500)), Named("b", waits(5) + says("4")), rest=30)

    async def main() -> str:
        await balance.call(HI)
        return repr(balance.roster)

    assert run_virtual(main()) == "Roster(resting={'a': 25.0})"


def test_from_many_threads_each_has_its_share():
    roster = Roster()
    found: list[str] = []

    def work() -> None:
        found.extend([roster.choose({"a": 3, "b": 1}) for _ in range(500)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert Counter(found) == {"a": 3000, "b": 1000}


# --------------------------------------------------------------------------------------------------------- faults, leaving, contract

EARLY = [
    fails(429, retry_after=3),
    fails(503),
    fails(401),
    cuts(),
    stalls(),
    stalls(headers=False),
    raw(b"<html>bad gateway</html>"),
    raw(b'data: {"error":{"message":"oops","code":"500"}}\n\n'),
    raw(b"data: [DONE]\n\n"),
]
LATE = [says("It ", "was ") + fault for fault in (cuts(), stalls(), fails(500), raw(b"data: {\n\n"))]
NESTINGS: dict[str, Any] = {
    "balance": LoadBalance,
    "retry around balance": lambda a, b: Retry(LoadBalance(a, b), jitter=most),
    "balance around retry": lambda a, b: LoadBalance(Retry(a, jitter=most), Retry(b, jitter=most)),
    "fallback around balance": lambda a, b: Fallback(LoadBalance(a), b),
    "balance around fallback": lambda a, b: LoadBalance(Fallback(a), Fallback(b)),
    "balance around balance": lambda a, b: LoadBalance(LoadBalance(a), LoadBalance(b)),
    "balance around hedge": lambda a, b: LoadBalance(Hedge(a, after=99), b),
}


@pytest.mark.parametrize("fault", EARLY, ids=lambda fault: str(fault.steps[0])[:40])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_in_any_nesting_each_fault_before_the_first_piece_leads_to_one_whole_answer(
    nesting: str, fault: Answer
):
    bad, good = ScriptedServer(otherwise=lambda _: fault), ScriptedServer(says("It is ", "4."))
    provider = NESTINGS[nesting](proxy(bad, timeout=9.0), proxy(good, "other"))

    events, error = heard(provider)

    assert error is None
    shown = [event for _, event in events if not isinstance(event, LLMRetry)]
    assert shown[:-1] == [ContentDelta(delta="It is "), ContentDelta(delta="4.")]
    retries = [event.attempt for _, event in events if isinstance(event, LLMRetry)]
    assert retries == list(range(1, len(bad.requests) + 1))
    assert (answer(events).attempts, answer(events).served_by) == (len(bad.requests) + 1, "other")
    assert len(good.requests) == 1
    assert (bad.open_connections, good.open_connections) == (0, 0)


@pytest.mark.parametrize("fault", LATE, ids=lambda fault: str(fault.steps[-1])[:40])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_in_any_nesting_each_fault_in_mid_stream_is_passed_on(nesting: str, fault: Answer):
    bad, good = ScriptedServer(otherwise=lambda _: fault), ScriptedServer()

    events, error = heard(NESTINGS[nesting](proxy(bad, timeout=9.0), proxy(good, "other")))

    assert error is not None
    assert "".join(getattr(event, "delta", "") for _, event in events) == "It was "
    assert (len(bad.requests), len(good.requests)) == (1, 0)
    assert (bad.open_connections, good.open_connections) == (0, 0)


@pytest.mark.parametrize("nesting", NESTINGS)
def test_leaving_closes_what_is_open_and_nobody_rests_for_it(nesting: str):
    a, b = Named("a", otherwise=lambda _: stalls()), Named("b")
    provider = NESTINGS[nesting](a, b)

    async def main() -> None:
        subscription = provider.call(HI).subscribe(lambda _: None)
        await asyncio.sleep(1)
        assert a.open_calls == 1
        subscription.dispose()
        await asyncio.sleep(9)

    run_virtual(main())
    assert (a.open_calls, a.disposed, b.requests) == (0, 1, [])
    assert getattr(provider, "roster", Roster()).resting == {}


def test_a_run_asks_the_next_one_in_each_of_its_turns():
    async def main() -> Any:
        agent = AgentLoop(
            llm_provider=LoadBalance(Named("a", calls("add")), Named("b", says("4"))), tools=[add]
        )
        return await agent.execute("Hi")

    assert run_virtual(main()).output == "4"


def add() -> int:
    """Add."""
    return 4


def rig(*answers: Answer) -> LLMRig:
    model = ScriptedModel(*answers, otherwise=lambda _: answers[-1])
    return LLMRig(
        LoadBalance(model, "other"), asked=lambda: len(model.requests), open=lambda: model.open_calls
    )


@pytest.mark.parametrize("check", llm_provider_contract)
def test_it_keeps_the_contract_of_a_provider(check: Any):
    run_virtual(check(rig))


# ---------------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (LoadBalance, "LoadBalance(): it takes providers, for example LoadBalance("),
        (lambda: LoadBalance("gpt-4o"), "LoadBalance: 'gpt-4o' is no provider; it takes an object with call(request), or, after the first, the name"),
        (lambda: LoadBalance([ScriptedModel()]), "LoadBalance: a list is no provider"),
        (lambda: LoadBalance(ScriptedModel(), "b", weights=(1,)), "LoadBalance(weights=(1,)): there must be a number above 0 for each of the 2 providers"),
        (lambda: LoadBalance(ScriptedModel(), weights=(0,)), "LoadBalance(weights=(0,)): there must be a number above 0"),
        (lambda: LoadBalance(ScriptedModel(), weights=("1",)), "LoadBalance(weights=('1',)): there must be a number above 0"),
        (lambda: LoadBalance(ScriptedModel(), weights=(float("nan"),)), "there must be a number above 0"),
        (lambda: LoadBalance(ScriptedModel(), weights=1), "LoadBalance(weights=1): there must be a number above 0"),
        (lambda: LoadBalance(ScriptedModel(), rest=-1), "LoadBalance(rest=-1): it must be a number of seconds, 0 or more; 0 leaves nobody out"),
        (lambda: LoadBalance(ScriptedModel(), roster={}), "LoadBalance(roster={}): it must be a Roster(), or left out"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_when_it_is_made(make: Any, said: str):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_it_is_a_value():
    a = Named("a")

    assert LoadBalance(a, "b", rest=5) == LoadBalance(a, "b", weights=[1, 1], rest=5)
    with pytest.raises(AttributeError):
        LoadBalance(a).rest = 2  # pyright: ignore[reportAttributeAccessIssue]
