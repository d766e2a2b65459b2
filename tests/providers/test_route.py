"""Route: which of several models a request is for."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from providers.wrapping import HI, Named, answer, heard, most, proxy, story

from looopy import (
    AgentLoop,
    Fallback,
    FilePart,
    Hedge,
    LLMProvider,
    LoadBalance,
    Message,
    Retry,
    Route,
    ToolDefinition,
)
from looopy.errors import ConfigurationError
from looopy.events import ContentDelta, LLMRetry
from looopy.messages import DataPart, TextPart
from looopy.ports import LLMRequest
from looopy.providers.route import has_images, has_tools, longer_than
from looopy.testing import (
    Answer,
    LLMRig,
    ScriptedModel,
    ScriptedServer,
    cuts,
    fails,
    llm_provider_contract,
    raw,
    run_virtual,
    says,
    stalls,
)

PICTURE = FilePart(data="A" * 4000, mime_type="image/png")
SEEN = LLMRequest(messages=(Message.user((TextPart("What is it?"), PICTURE)),))
WITH_TOOLS = replace(HI, tools=(ToolDefinition(name="add"),))
LONG = LLMRequest(messages=(Message.user("word " * 1000),))


def steady(name: str) -> Named:
    return Named(name, otherwise=lambda _: says(name))


def by_conditions() -> Route:
    return Route(
        {"vision": has_images, "long": longer_than(1000), "tools": has_tools},
        cheap=steady("cheap"),
        vision=steady("vision"),
        long=steady("long"),
        tools=steady("tools"),
    )


def served(route: LLMProvider, request: LLMRequest = HI) -> str:
    return answer(heard(route, request)[0]).served_by


def test_a_wrapper_is_the_socket_that_it_wraps():
    assert isinstance(Route({}, a=ScriptedModel()), LLMProvider)


@pytest.mark.parametrize(
    ("request_", "who"),
    [
        (HI, "cheap"),
        (SEEN, "vision"),
        (LONG, "long"),
        (WITH_TOOLS, "tools"),
        (replace(WITH_TOOLS, messages=LONG.messages), "long"),
        (replace(SEEN, messages=(*LONG.messages, *SEEN.messages)), "vision"),
    ],
)
def test_the_first_condition_that_holds_decides_and_else_the_first_route_is_taken(
    request_: LLMRequest, who: str
):
    assert served(by_conditions(), request_) == who


def test_a_function_may_choose_by_name_or_give_a_provider():
    inside = {"HI": "b", "other": steady("c")}
    route = Route(lambda request: inside[request.messages[0].text], a=steady("a"), b=steady("b"))

    def ask(text: str) -> str:
        return served(route, LLMRequest(messages=(Message.user(text),)))

    assert (ask("HI"), ask("other")) == ("b", "c")


def test_it_chooses_at_each_subscription():
    names = iter(["a", "b", "a"])
    call = Route(lambda _: next(names), a=steady("a"), b=steady("b")).call(HI)

    async def main() -> list[Any]:
        return [(await call).served_by for _ in range(3)]  # pyright: ignore[reportAttributeAccessIssue]

    assert run_virtual(main()) == ["a", "b", "a"]


def test_a_text_is_another_model_of_the_provider_before_it():
    a, c = ScriptedModel(otherwise=lambda _: says("4")), Named("c", says("4"))
    names = iter(["one", "two", "three"])
    route = Route(lambda _: next(names), one=a, two="large", three=c)

    assert [served(route, replace(HI, model="own")) for _ in range(3)] == ["ScriptedModel", "large", "c"]
    assert [request.model for request in (*a.requests, *c.requests)] == ["own", "large", "own"]


def test_what_the_chosen_one_does_is_passed_on():
    route = Route({}, a=Named("a", fails(500), says("It ") + cuts(), says("4")), b=Named("b"))

    assert [story(route) for _ in range(3)] == [
        ["ModelFailed"],
        ["0: It ", "StreamBroken"],
        ["0: 4", "0: = 4, attempts 1 by a"],
    ]


# ------------------------------------------------------------------------------------------------------------------ conditions


@pytest.mark.parametrize(
    ("request_", "tools"),
    [(HI, False), (WITH_TOOLS, True), (replace(WITH_TOOLS, tool_choice="required"), True), (replace(WITH_TOOLS, tool_choice="none"), False)],
)  # fmt: skip
def test_tools_count_where_the_model_may_call_them(request_: LLMRequest, tools: bool):
    assert has_tools(request_) is tools


@pytest.mark.parametrize(
    ("parts", "images"),
    [
        ((TextPart("a"),), False),
        ((FilePart(data="A", mime_type="image/webp"),), True),
        ((FilePart(url="http://x/y.png", mime_type="image/png"),), True),
        ((FilePart(data="A", mime_type="application/pdf"),), False),
        ((DataPart({"image/": 1}),), False),
    ],
)
def test_images_are_files_of_that_kind_anywhere_in_the_conversation(parts: Any, images: bool):
    conversation = (Message.system("Hi"), Message.user(parts), Message.assistant("Yes?"))

    assert has_images(LLMRequest(messages=conversation)) is images


@pytest.mark.parametrize(
    ("request_", "longer"),
    [(HI, False), (LONG, True), (SEEN, True), (replace(HI, tools=(ToolDefinition(name="add", description="x" * 4000),)), True)],
)  # fmt: skip
def test_long_is_what_has_more_tokens_than_that_by_estimate(request_: LLMRequest, longer: bool):
    assert longer_than(1000)(request_) is longer
    assert not longer_than(1300)(request_)


# ------------------------------------------------------------------------------------------------------------- wrong choices


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("c", "Route: 'c' was chosen, and there is no such route; there are 'a', 'b'"),
        (None, "Route: None is no provider; it takes an object with call(request), or is the name of a route: 'a', 'b'"),
        (ScriptedModel, "Route: the class ScriptedModel is no provider"),
    ],
)  # fmt: skip
def test_a_wrong_choice_fails_the_call_and_says_what_there_is(choice: Any, said: str):
    events, error = heard(Route(lambda _: choice, a=ScriptedModel(), b="b"))

    assert (events, type(error)) == ([], ConfigurationError)
    assert said in str(error)


def test_a_function_that_raises_fails_the_call():
    assert story(Route(lambda _: 1 / 0, a=ScriptedModel())) == ["ZeroDivisionError"]  # pyright: ignore[reportArgumentType]
    assert story(Route({"b": lambda _: 1 / 0 > 1}, a=ScriptedModel(), b="b")) == ["ZeroDivisionError"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Route({}), "Route(): it takes providers, for example Route({'vision': has_images}, cheap="),
        (lambda: Route({}, a="gpt-4o"), "Route: 'gpt-4o' is no provider; it takes an object with call(request), or, after the first, the name"),
        (lambda: Route({}, a=ScriptedModel(), b=" "), "Route: ' ' is no provider"),
        (lambda: Route({"c": has_tools}, a=ScriptedModel(), b="b"), "Route: there is a condition for 'c', and no such route; there are 'a', 'b'"),
        (lambda: Route({"a": True}, a=ScriptedModel()), "Route: the condition for 'a' must be a function of the request, for example has_images"),
        (lambda: Route("a", a=ScriptedModel()), "Route: it chooses by a function of the request, or by conditions for routes, for example Route("),
        (lambda: Route(dict, a=ScriptedModel()), "Route: it chooses by a function"),
        (lambda: longer_than(-1), "longer_than(-1): it takes a whole number of tokens, for example longer_than(100_000)"),
        (lambda: longer_than(1e5), "longer_than(100000.0): it takes a whole number"),
        (lambda: longer_than(True), "longer_than(True): it takes a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_when_it_is_made(make: Any, said: str):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


# ------------------------------------------------------------------------------------------------------- nesting, leaving, contract

FAULTS = [
    fails(429, retry_after=3),
    fails(503),
    cuts(),
    stalls(),
    raw(b'data: {"error":{"message":"oops"}}\n\n'),
]
NESTINGS: dict[str, Any] = {
    "route of fallbacks": lambda a, b: Route({}, one=Fallback(a, b), two=b),
    "fallback of routes": lambda a, b: Fallback(Route({}, one=a), Route({}, one=b)),
    "retry around route": lambda a, b: Retry(Route(_alternately(), one=a, two=b), jitter=most),
    "hedge of routes": lambda a, b: Hedge(Route({}, one=a), Route({}, one=b), after=2),
    "balance of routes": lambda a, b: LoadBalance(Route({}, one=a), Route({}, one=b)),
}


def _alternately() -> Any:
    names = iter(["one", "two"] * 9)
    return lambda _: next(names)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.steps[0])[:40])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_in_any_nesting_each_fault_before_the_first_piece_leads_to_one_whole_answer(
    nesting: str, fault: Answer
):
    bad, good = ScriptedServer(otherwise=lambda _: fault), ScriptedServer(says("It is ", "4."))

    events, error = heard(NESTINGS[nesting](proxy(bad, timeout=9.0), proxy(good, "other")))

    assert error is None
    assert [event for _, event in events if not isinstance(event, LLMRetry)][:-1] == [
        ContentDelta(delta="It is "),
        ContentDelta(delta="4."),
    ]
    assert [event.attempt for _, event in events if isinstance(event, LLMRetry)] == [1]
    assert (answer(events).attempts, answer(events).served_by) == (2, "other")
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    assert (bad.open_connections, good.open_connections) == (0, 0)


def test_leaving_closes_the_request():
    model = Named("a", stalls())

    async def main() -> None:
        subscription = Route({}, a=model).call(HI).subscribe(lambda _: None)
        await asyncio.sleep(1)
        assert model.open_calls == 1
        subscription.dispose()

    run_virtual(main())
    assert model.open_calls == 0


def test_a_run_may_ask_another_model_at_each_turn():
    async def main() -> list[Any]:
        agent = AgentLoop(llm_provider=by_conditions())
        return [(await agent.execute(prompt)).output for prompt in ("Hi", "word " * 1000)]

    assert run_virtual(main()) == ["cheap", "long"]


def rig(*answers: Answer) -> LLMRig:
    model = ScriptedModel(*answers, otherwise=lambda _: answers[-1])
    return LLMRig(
        Route({"tools": has_tools}, other=ScriptedModel(), tools=model),
        asked=lambda: len(model.requests),
        open=lambda: model.open_calls,
    )


@pytest.mark.parametrize("check", llm_provider_contract)
def test_it_keeps_the_contract_of_a_provider(check: Any):
    run_virtual(check(rig))


def test_it_is_a_value():
    a, conditions = Named("a"), {"b": has_tools}
    route = Route(conditions, a=a, b="b")

    assert route == Route({"b": has_tools}, a=a, b="b")
    assert route.providers == (a, "b")
    conditions.clear()
    assert route == Route({"b": has_tools}, a=a, b="b")
    with pytest.raises(AttributeError):
        route.routes = {}  # pyright: ignore[reportAttributeAccessIssue]
