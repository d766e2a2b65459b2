"""Fallback: who is asked next and when, in mid-stream too, and that half an answer is never shown twice."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
import reactivex as rx
from providers.wrapping import HI, Named, answer, heard, most, proxy, story
from reactivex import Observable

from looopy import AgentLoop, Fallback, Limits, LiteLLMProvider, LLMProvider, Message, Retry, Usage
from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    LimitExceeded,
    ModelFailed,
    ModelOverloaded,
    ModelTimeout,
    StreamBroken,
)
from looopy.events import (
    ContentDelta,
    ContentReset,
    Failure,
    LLMEvent,
    LLMResponse,
    LLMRetry,
    ThoughtDelta,
    ToolCallDelta,
)
from looopy.messages import TextPart
from looopy.ports import LLMRequest
from looopy.providers.fallback import GO_ON
from looopy.providers.transport import HTTP
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

TOO_LONG = fails(400, "litellm.ContextWindowExceededError: too long")
REFUSED = fails(400, "litellm.ContentPolicyViolationError: no")


def test_a_wrapper_is_the_socket_that_it_wraps():
    assert isinstance(Fallback(ScriptedModel()), LLMProvider)
    assert (Fallback(Named("a"), Named("b")).model, Fallback(ScriptedModel()).model) == ("a", "")


def test_the_next_one_is_asked_at_once_and_the_answer_says_who_gave_it():
    assert story(Fallback(Named("a", fails(500)), Named("b", fails(429)), Named("c", says("4")))) == [
        "0: 1 ModelFailed, again in 0 a → b",
        "0: 2 ModelOverloaded, again in 0 b → c",
        "0: 4",
        "0: = 4, attempts 3 by c",
    ]


def test_the_event_says_who_failed_and_who_takes_over():
    events, _ = heard(Fallback(Named("a", fails(500, "oops")), Named("b", says("4"))))

    assert events[0][1] == LLMRetry(
        attempt=1,
        error=Failure(type="ModelFailed", message="API error 500 from a, as scripted: oops", retryable=True),
        model="a",
        next_model="b",
    )


def test_the_first_answers_where_it_can_and_nobody_else_is_asked():
    second = Named("b")

    assert story(Fallback(Named("a", says("4")), second)) == ["0: 4", "0: = 4, attempts 1 by a"]
    assert second.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529])
def test_the_next_one_is_asked_after_whatever_the_first_fails_with(status: int):
    assert story(Fallback(Named("a", fails(status)), Named("b", says("4"))))[-1] == "0: = 4, attempts 2 by b"


@pytest.mark.parametrize(
    ("on", "failure", "moves"),
    [
        (ContextTooLong, TOO_LONG, True),
        (ContextTooLong, fails(400), False),
        (ContentRefused, REFUSED, True),
        (ContentRefused, TOO_LONG, False),
        ([ModelOverloaded, ModelTimeout], fails(429), True),
        ([ModelOverloaded, ModelTimeout], fails(408), True),
        ([ModelOverloaded, ModelTimeout], fails(500), False),
    ],
)
def test_the_errors_after_which_the_next_one_is_asked_can_be_named(on: Any, failure: Answer, moves: bool):
    second = Named("b", says("4"))

    heard(Fallback(Named("a", failure), second, on=on))

    assert len(second.requests) == moves


def test_what_is_no_failure_of_a_model_is_passed_on():
    class Broken:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            raise ZeroDivisionError

    second = Named("b", says("4"))

    assert story(Fallback(Broken(), second)) == ["ZeroDivisionError"]
    assert second.requests == []


# ------------------------------------------------------------------------------------------------------- names and models


def test_a_name_is_another_model_of_the_provider_before_it():
    a, b = ScriptedModel(fails(500), fails(500)), ScriptedModel(fails(500), says("4"))

    assert story(Fallback(a, "a2", b, "b2")) == [
        "0: 1 ModelFailed, again in 0 ScriptedModel → a2",
        "0: 2 ModelFailed, again in 0 a2 → ScriptedModel#2",
        "0: 3 ModelFailed, again in 0 ScriptedModel#2 → b2",
        "0: 4",
        "0: = 4, attempts 4 by b2",
    ]
    assert [request.model for request in (*a.requests, *b.requests)] == ["", "a2", "", "b2"]


def test_a_request_for_another_model_is_meant_for_the_first():
    a, b = Named("a", fails(500)), Named("b", says("4"))

    assert (
        story(Fallback(a, b), replace(HI, model="a-large"))[0] == "0: 1 ModelFailed, again in 0 a-large → b"
    )
    assert [request.model for request in (*a.requests, *b.requests)] == ["a-large", ""]


ONE_LIST = ("a", "b", "c")


@pytest.mark.parametrize(
    ("own", "asked_for", "asked"),
    [("a", "", "abc"), ("b", "", "bac"), ("d", "", "dabc"), ("d", "b", "bac")],
)
def test_one_list_of_names_does_for_agents_on_any_of_them(own: str, asked_for: str, asked: str):
    server = ScriptedServer(*[fails(500)] * 4)

    story(Fallback(Retry(proxy(server, own), attempts=1), *ONE_LIST), replace(HI, model=asked_for))

    assert [request.body["model"] for request in server.requests] == list(asked)


def test_a_name_that_is_asked_at_the_same_address_already_is_left_out():
    server, other = ScriptedServer(*[fails(500)] * 3), ScriptedServer(*[fails(500)] * 2)
    elsewhere = LiteLLMProvider("http://elsewhere", "d", None, transport=HTTP(other.transport()))

    story(Fallback(proxy(server, "a"), proxy(server, "b"), "a", elsewhere, "a", "d"))

    assert [request.body["model"] for request in (*server.requests, *other.requests)] == ["a", "b", "d", "a"]


def test_a_list_of_the_own_model_alone_asks_nobody_else():
    assert story(Fallback(Named("a", says("4")), "a", accept=lambda response: False)) == [
        "0: 4",
        "0: = 4, attempts 1 by a",
    ]


def test_the_same_model_at_two_places_is_told_apart():
    assert story(Fallback(Named("a", fails(500)), Named("a", says("4"))))[-1] == "0: = 4, attempts 2 by a#2"


def test_a_fallback_within_says_who_it_was():
    inner = Fallback(Named("b", fails(500)), Named("c", says("4")))

    assert story(Fallback(Named("a", fails(500)), inner)) == [
        "0: 1 ModelFailed, again in 0 a → b",
        "0: 2 ModelFailed, again in 0 b → c",
        "0: 4",
        "0: = 4, attempts 3 by c",
    ]


# ------------------------------------------------------------------------------------------------------- when all have failed


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ([fails(500), fails(429)], ModelOverloaded),
        ([fails(500), fails(401)], ModelFailed),
        ([fails(401), TOO_LONG], ContextTooLong),
        ([fails(429), fails(500), TOO_LONG], ModelFailed),
    ],
)
def test_where_all_failed_the_error_is_the_last_that_may_pass_else_the_last(
    failures: list[Answer], raised: Any
):
    _, error = heard(Fallback(*[Named("m", failure) for failure in failures]))

    assert type(error) is raised


def test_the_error_that_may_pass_shows_the_last_one_as_its_cause():
    _, error = heard(Fallback(Named("a", fails(429)), Named("b", fails(401))))

    assert (type(error), type(error.__cause__)) == (ModelOverloaded, AuthenticationFailed)


# ----------------------------------------------------------------------------------------------------- refused and unfit answers

USED = Usage(input_tokens=10, output_tokens=5)


def test_an_answer_that_the_content_filter_left_nothing_of_is_given_by_the_next():
    filtered = says(finish_reason="content_filter", usage=USED, cost=0.5)

    events, _ = heard(Fallback(Named("a", filtered), Named("b", says("4", usage=USED, cost=0.25))))

    assert [event.error.type for _, event in events if isinstance(event, LLMRetry)] == ["ContentRefused"]
    assert answer(events) == LLMResponse(
        message=Message("assistant", "4", model="b"),
        model="b",
        usage=USED + USED,  # both were paid for
        cost=0.75,
        attempts=2,
        served_by="b",
    )


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ([says(finish_reason="content_filter")], {}),
        ([says("I w", finish_reason="content_filter"), says("4")], {}),
        ([thinks("hm") + says(finish_reason="content_filter"), says("4")], {}),
        ([says(finish_reason="content_filter"), says("4")], {"on": ModelOverloaded}),
    ],
)
def test_a_filtered_answer_is_passed_on_where_it_is_the_last_or_was_shown_or_not_asked_for(
    answers: list[Answer], options: Any
):
    events, error = heard(Fallback(*[Named("m", each) for each in answers], **options))

    assert (error, answer(events).finish_reason, answer(events).attempts) == (None, "content_filter", 1)


def has_digit(response: LLMResponse) -> bool:
    return any(letter.isdigit() for letter in response.message.text)


def test_an_answer_that_will_not_do_is_never_shown():
    assert story(
        Fallback(Named("a", thinks("hm") + says("Fo", "ur")), Named("b", says("4")), accept=has_digit)
    ) == [
        "0: 1 ModelFailed, again in 0 a → b",
        "0: 4",
        "0: = 4, attempts 2 by b",
    ]


def test_an_answer_that_will_do_is_shown_when_that_is_known():
    m = Marbles(d=ContentDelta, t=ToolCallDelta, Z=LLMResponse)
    first = Named("a", says("It is ", "4", every=2) + calls("add"))

    assert m.draw(Fallback(first, Named("b"), accept=has_digit).call(HI)) == "----(ddtZ|)"


def test_the_last_one_is_not_held_back_and_not_asked_for_more():
    m = Marbles(r=LLMRetry, d=ContentDelta, Z=LLMResponse)
    last = Named("b", says("Fo", "ur", every=2))

    assert m.draw(Fallback(Named("a", says("Four")), last, accept=has_digit).call(HI)) == "r-d-(dZ|)"


def test_nobody_pays_for_what_is_not_known():
    events, _ = heard(Fallback(Named("a", says("Four")), Named("b", says("4")), accept=has_digit))

    assert (answer(events).usage, answer(events).cost) == (None, None)


def test_what_is_held_back_may_break_off_unseen():
    assert story(Fallback(Named("a", says("It is") + cuts()), Named("b", says("4")), accept=has_digit)) == [
        "0: 1 StreamBroken, again in 0 a → b",
        "0: 4",
        "0: = 4, attempts 2 by b",
    ]


def test_with_restart_the_answer_is_shown_as_it_comes_and_taken_back_where_it_will_not_do():
    assert story(
        Fallback(
            Named("a", says("Four", every=1)), Named("b", says("4")), accept=has_digit, mid_stream="restart"
        )
    ) == [
        "1: Four",
        "1: 1 ModelFailed, again in 0 a → b",
        "1: reset",
        "1: 4",
        "1: = 4, attempts 2 by b",
    ]


def test_a_fallback_within_may_start_over_what_is_held_back():
    inner = Fallback(Named("a", says("It is 5") + cuts()), Named("b", says("It is 4")), mid_stream="restart")

    assert story(Fallback(inner, Named("c"), accept=has_digit)) == [
        "0: 1 StreamBroken, again in 0 a → b",
        "0: It is 4",
        "0: = It is 4, attempts 2 by b",
    ]


def test_an_answer_that_is_not_accepted_does_not_become_the_error_of_all():
    _, error = heard(Fallback(Named("a", says("Four")), Named("b", fails(401)), accept=has_digit))

    assert type(error) is AuthenticationFailed


def test_a_broken_accept_ends_the_call_and_does_not_hang_it():
    assert story(Fallback(Named("a", says("4")), Named("b"), accept=lambda response: 1 / 0 > 1)) == [
        "ZeroDivisionError"
    ]


# ------------------------------------------------------------------------------------------------------------ in mid-stream


@pytest.mark.parametrize(
    "begun", [says("It is "), thinks("hm"), calls("add", '{"a')], ids=["text", "thought", "call"]
)
def test_fail_passes_the_error_on_once_something_was_shown(begun: Answer):
    second = Named("b", says("4"))

    events, error = heard(Fallback(Named("a", begun + cuts()), second))

    assert (len(events), type(error), second.requests) == (1, StreamBroken, [])


@pytest.mark.parametrize(
    ("begun", "shown"),
    [(says("It is "), "It is "), (thinks("hm"), "(hm)"), (calls("add", '{"a'), 'add {"a')],
)
def test_restart_takes_back_what_was_shown_and_the_next_one_starts_over(begun: Answer, shown: str):
    a, b, c = Named("a", begun + cuts()), Named("b", fails(500)), Named("c", says("4"))

    assert story(Fallback(a, b, c, mid_stream="restart")) == [
        f"0: {shown}",
        "0: 1 StreamBroken, again in 0 a → b",
        "0: reset",
        "0: 2 ModelFailed, again in 0 b → c",
        "0: 4",
        "0: = 4, attempts 3 by c",
    ]
    assert b.requests == c.requests == [HI]


def test_continue_goes_on_from_what_was_shown():
    a = Named("a", thinks("hm") + says("It is") + cuts())
    b = Named("b", thinks(", so") + says(" 4, I") + cuts())
    c = Named("c", says(" think.", usage=USED))

    events, error = heard(Fallback(a, b, c, mid_stream="continue"))

    assert error is None
    assert [event for _, event in events if not isinstance(event, LLMRetry)][:-1] == [
        ThoughtDelta(delta="hm"),
        ContentDelta(delta="It is"),
        ThoughtDelta(delta=", so"),
        ContentDelta(delta=" 4, I"),
        ContentDelta(delta=" think."),
    ]
    assert answer(events) == LLMResponse(
        message=Message("assistant", "It is 4, I think.", reasoning="hm, so", model="c"),
        model="c",
        usage=USED,
        attempts=3,
        served_by="c",
    )
    assert [request.messages[1:] for request in (*a.requests, *b.requests, *c.requests)] == [
        (),
        (Message.assistant("It is"), Message.user(GO_ON)),
        (Message.assistant("It is 4, I"), Message.user(GO_ON)),
    ]


def test_continue_without_text_asks_as_before():
    b = Named("b", says("4"))

    events, _ = heard(Fallback(Named("a", thinks("hm") + cuts()), b, mid_stream="continue"))

    assert (answer(events).message.reasoning, answer(events).message.text) == ("hm", "4")
    assert b.requests == [HI]


def test_continue_starts_over_where_a_tool_call_had_begun():
    """Nobody can go on in the middle of another's arguments."""
    b = Named("b", calls("add", a=1))
    broken = says("I add. ") + calls("add", '{"a') + cuts()

    assert story(Fallback(Named("a", broken), b, mid_stream="continue")) == [
        "0: I add. ",
        '0: add {"a',
        "0: 1 StreamBroken, again in 0 a → b",
        "0: reset",
        '0: add {"a":1}',
        "0: = , attempts 2 by b",
    ]
    assert b.requests == [HI]


def test_what_goes_on_may_have_parts():
    said = LLMResponse(message=Message("assistant", (TextPart("4."),)))

    events, _ = heard(
        Fallback(Named("a", says("It is ") + cuts()), Named("b", rx.of(said)), mid_stream="continue")
    )

    assert answer(events).message.content == (TextPart("It is "), TextPart("4."))


@pytest.mark.parametrize(
    ("begun", "before"),
    [
        (says("It is "), ["It is "]),
        (thinks("hm"), ["(hm)"]),
        (thinks("hm") + says("It is "), ["(hm)", "It is "]),
    ],
)
def test_a_fallback_within_that_starts_over_keeps_what_was_before_it(begun: Answer, before: list[str]):
    inner = Fallback(Named("b", says("five") + cuts()), Named("c", says("4.")), mid_stream="restart")

    events = story(Fallback(Named("a", begun + cuts()), inner, mid_stream="continue"))

    text = "".join(piece for piece in before if "(" not in piece)
    assert events == [
        *[f"0: {piece}" for piece in before],
        "0: 1 StreamBroken, again in 0 a → b",
        "0: five",
        "0: 2 StreamBroken, again in 0 b → c",
        "0: reset",
        *[f"0: {piece}" for piece in before],
        "0: 4.",
        f"0: = {text}4., attempts 3 by c",
    ]


@pytest.mark.parametrize("mid_stream", ["restart", "continue"])
def test_where_the_last_one_breaks_off_its_error_is_passed_on(mid_stream: Any):
    _, error = heard(
        Fallback(Named("a", fails(429)), Named("b", says("It is ") + cuts()), mid_stream=mid_stream)
    )

    assert type(error) is StreamBroken


@pytest.mark.parametrize(
    ("mid_stream", "output"), [("restart", "five"), ("continue", "It is five"), ("fail", "It is ")]
)
def test_what_a_run_keeps_of_a_broken_answer_is_what_was_shown_of_it(mid_stream: Any, output: str):
    provider = Fallback(
        Named("a", says("It is ") + cuts()), Named("b", says("five") + cuts()), mid_stream=mid_stream
    )

    async def main() -> Any:
        with pytest.raises(StreamBroken) as caught:
            await AgentLoop(llm_provider=provider).execute("Hi")
        return caught.value.result

    result = run_virtual(main())
    assert result.output == output
    assert result.messages[-1].model == ("a" if mid_stream == "fail" else "b")


# ----------------------------------------------------------------------------------------------------------------- clocks


def limited(provider: LLMProvider, **limits: float) -> Any:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        try:
            result = await AgentLoop(llm_provider=provider, limits=Limits(**limits)).execute("Hi")
        except LimitExceeded as error:
            return error.limit, loop.time()
        return result.output, loop.time()

    return run_virtual(main())


def test_a_retry_is_no_first_piece():
    waiting = Retry(Named("a", fails(500), says("4")), first_wait=10, jitter=most)

    assert limited(waiting, first_token_seconds=5) == ("first_token_seconds", 5)
    assert limited(
        Retry(Named("a", fails(500), says("4")), first_wait=4, jitter=most), first_token_seconds=5
    ) == ("4", 4)


@pytest.mark.parametrize(("mid_stream", "output"), [("restart", "4."), ("continue", "It is 4.")])
def test_the_next_model_is_not_silent_in_mid_answer_before_it_has_begun(mid_stream: Any, output: str):
    slow, hangs = waits(20) + says("4."), waits(20) + says("4.") + stalls()

    def fallback(last: Answer) -> Fallback:
        return Fallback(Named("a", says("It is ") + cuts()), Named("b", last), mid_stream=mid_stream)

    assert limited(fallback(slow), idle_seconds=3) == (output, 20)
    limit, at = limited(fallback(hangs), idle_seconds=3)
    assert (limit, 23 <= at <= 26) == ("idle_seconds", True)


# ------------------------------------------------------------------------------------------------ faults, leaving, contract

FAULTS = [
    fails(429, retry_after=3),
    fails(500),
    fails(503),
    cuts(),
    stalls(),
    stalls(headers=False),
    raw(b"<html>bad gateway</html>"),
    raw(b'data: {"error":{"message":"oops","code":"500"}}\n\n'),
    raw(b"data: [DONE]\n\n"),
    TOO_LONG,
    REFUSED,
    fails(401),
]
LATE = [says("It ", "was ") + fault for fault in (cuts(), stalls(), fails(500), raw(b"data: {\n\n"))]
NESTINGS: dict[str, Any] = {
    "retry around fallback": lambda a, b, **options: Retry(Fallback(a, b, **options), jitter=most),
    "fallback around retry": lambda a, b, **options: Fallback(Retry(a, jitter=most), Retry(b), **options),
    "fallback around fallback": lambda a, b, **options: Fallback(Fallback(a, **options), b, **options),
    "retry around retry": lambda a, b, **options: Fallback(
        Retry(Retry(a, attempts=2, jitter=most), attempts=2, jitter=most), b, **options
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.steps[0])[:40])
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
    assert answer(events).message.text == "It is 4."
    retries = [event.attempt for _, event in events if isinstance(event, LLMRetry)]
    assert retries == list(range(1, len(bad.requests) + 1))  # counted over all wrappers
    assert answer(events).attempts == len(bad.requests) + 1
    assert answer(events).served_by == "other"
    assert len(good.requests) == 1
    assert (bad.open_connections, good.open_connections) == (0, 0)


@pytest.mark.parametrize("fault", LATE, ids=lambda fault: str(fault.steps[-1])[:40])
@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("mid_stream", ["fail", "restart", "continue"])
def test_in_any_nesting_each_fault_in_mid_stream_is_passed_on_or_leads_to_one_whole_answer(
    mid_stream: Any, nesting: str, fault: Answer
):
    bad, good = ScriptedServer(otherwise=lambda _: fault), ScriptedServer(says("now ", "4."))
    provider = NESTINGS[nesting](proxy(bad, timeout=9.0), proxy(good, "other"), mid_stream=mid_stream)

    events, error = heard(provider)

    assert len(bad.requests) == 1
    assert (bad.open_connections, good.open_connections) == (0, 0)
    if mid_stream == "fail":
        assert (type(error) in (StreamBroken, ModelTimeout), len(good.requests)) == (True, 0)
        return
    assert error is None
    seen = ""
    for _, event in events:
        seen = "" if isinstance(event, ContentReset) else seen + getattr(event, "delta", "")
    whole = {"restart": "now 4.", "continue": "It was now 4."}[mid_stream]
    assert (seen, answer(events).message.text) == (whole, whole)
    assert (answer(events).attempts, answer(events).served_by) == (2, "other")


def test_a_retry_around_waits_as_long_as_any_of_the_models_asks_and_begins_with_the_first():
    a = Named("a", fails(429, retry_after=7), says("4"))
    b = Named("b", fails(401))

    assert story(Retry(Fallback(a, b), jitter=lambda: 0.0)) == [
        "0: 1 ModelOverloaded, again in 0 a → b",
        "0: 2 ModelOverloaded, again in 7",
        "7: 4",
        "7: = 4, attempts 3 by a",
    ]


def test_a_retry_around_asks_again_after_all_was_taken_back():
    a = Named("a", says("It w") + cuts(), says("It is 4."))

    assert story(Retry(Fallback(a, Named("b", fails(500)), mid_stream="restart"), jitter=most)) == [
        "0: It w",
        "0: 1 StreamBroken, again in 0 a → b",
        "0: reset",
        "0: 2 ModelFailed, again in 0.5",
        "0.5: It is 4.",
        "0.5: = It is 4., attempts 3 by a",
    ]


def test_retries_within_come_before_the_next_model():
    m = Marbles(r=LLMRetry, d=ContentDelta, Z=LLMResponse)
    a, b = Named("a", fails(500), fails(500), fails(500)), Named("b", says("4"))

    assert m.draw(Fallback(Retry(a, first_wait=2, jitter=most), b).call(HI)) == "r-r---(rdZ|)"


@pytest.mark.parametrize("nesting", NESTINGS)
def test_leaving_closes_whatever_is_open(nesting: str):
    a, b = Named("a", otherwise=lambda _: stalls()), Named("b", otherwise=lambda _: stalls())

    async def main() -> None:
        subscription = NESTINGS[nesting](a, b).call(HI).subscribe(lambda _: None)
        await asyncio.sleep(1)
        assert a.open_calls == 1
        subscription.dispose()

    run_virtual(main())
    assert (a.open_calls, b.open_calls, a.disposed, b.requests) == (0, 0, 1, [])


def test_leaving_at_the_event_asks_nobody_else():
    b = Named("b", says("4"))

    async def main() -> None:
        subscription = rx.disposable.SerialDisposable()
        subscription.disposable = (
            Fallback(Named("a", waits(1) + fails(500)), b)
            .call(HI)
            .subscribe(lambda _: subscription.dispose())
        )
        await asyncio.sleep(9)

    run_virtual(main())
    assert b.requests == []


def same_model(*answers: Answer) -> LLMRig:
    model = ScriptedModel(*answers, otherwise=lambda _: answers[-1])
    return LLMRig(Fallback(model, "other"), asked=lambda: len(model.requests), open=lambda: model.open_calls)


def nested(*answers: Answer) -> LLMRig:
    model = ScriptedModel(*answers, otherwise=lambda _: answers[-1])
    provider = Retry(Fallback(Retry(model), "other", accept=lambda _: True))
    return LLMRig(provider, asked=lambda: len(model.requests), open=lambda: model.open_calls)


@pytest.mark.parametrize("check", llm_provider_contract)
def test_it_keeps_the_contract_of_a_provider(check: Any):
    run_virtual(check(same_model))


@pytest.mark.parametrize(
    "check", [check for check in llm_provider_contract if check.__name__ not in ("pieces_are_shown_as_they_come", "disposing_closes_the_request", "failures_are_typed")]
)  # fmt: skip
def test_a_nesting_that_holds_answers_back_keeps_the_rest_of_the_contract(check: Any):
    run_virtual(check(nested))


# ------------------------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Fallback, "Fallback(): it takes providers, for example Fallback("),
        (lambda: Fallback("gpt-4o"), "Fallback: 'gpt-4o' is no provider; it takes an object with call(request), or, after the first, the name of another model"),
        (lambda: Fallback(ScriptedModel(), " "), "Fallback: ' ' is no provider"),
        (lambda: Fallback(ScriptedModel(), ScriptedModel), "Fallback: the class ScriptedModel is no provider"),
        (lambda: Fallback([ScriptedModel()]), "is no provider"),
        (lambda: Fallback(ScriptedModel(), on="timeout"), "Fallback(on='timeout'): it takes classes of errors, for example ContextTooLong"),
        (lambda: Fallback(ScriptedModel(), on=5), "Fallback(on=5): it takes classes of errors"),
        (lambda: Fallback(ScriptedModel(), on=[ModelFailed, int]), "it takes classes of errors"),
        (lambda: Fallback(ScriptedModel(), accept=True), "Fallback(accept=True): it must be a function of the LLMResponse"),
        (lambda: Fallback(ScriptedModel(), mid_stream="resume"), "Fallback(mid_stream='resume'): it must be one of 'fail', 'restart', 'continue'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_when_it_is_made(make: Any, said: str):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_it_is_a_value():
    a = Named("a")

    assert Fallback(a, "b", on=ModelFailed) == Fallback(a, "b", on=(ModelFailed,))
    with pytest.raises(AttributeError):
        Fallback(a).mid_stream = "restart"  # pyright: ignore[reportAttributeAccessIssue]
