"""The words of a script, and the model that plays them."""

from __future__ import annotations

import asyncio

import pytest
from reactivex import operators as ops

from looopy.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContextTooLong,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
    UnknownModel,
    UnsupportedParameter,
)
from looopy.events import ContentDelta, LLMResponse, ThoughtDelta, ToolCallDelta
from looopy.messages import Message, ToolCall, Usage
from looopy.ports import LLMProvider, LLMRequest
from looopy.testing import (
    Answer,
    ScriptedModel,
    ScriptOver,
    calls,
    cuts,
    fails,
    raw,
    run_virtual,
    says,
    stalls,
    thinks,
    waits,
)

ASKED = LLMRequest(messages=(Message.user("2 + 2?"),))


def played(model, request=ASKED):
    """What one call emits; in virtual time, so that waits cost nothing."""

    async def play():
        events, over = [], asyncio.get_running_loop().create_future()
        model.call(request).subscribe(events.append, over.set_exception, lambda: over.set_result(events))
        return await over

    return run_virtual(play())


def test_an_answer_is_played_as_deltas_and_a_response_that_is_their_sum():
    usage = Usage(input_tokens=3, output_tokens=5)
    answer = thinks("hm") + says("I ", "add.", usage=usage, cost=0.5, model="big") + calls("add", a=1, b=2)
    call = ToolCall("call_1", "add", {"a": 1, "b": 2})
    assert played(ScriptedModel(answer)) == [
        ThoughtDelta(delta="hm"),
        ContentDelta(delta="I "),
        ContentDelta(delta="add."),
        ToolCallDelta(call_id="call_1", tool_name="add", delta='{"a":1,"b":2}'),
        LLMResponse(
            message=Message("assistant", "I add.", tool_calls=(call,), reasoning="hm", model="big"),
            finish_reason="tool_calls",
            model="big",
            usage=usage,
            cost=0.5,
        ),
    ]


def test_a_model_is_a_provider_and_remembers_what_it_was_asked():
    model = ScriptedModel(says("4"), says("5"))
    assert isinstance(model, LLMProvider)
    again = LLMRequest(messages=(Message.user("3 + 2?"),), model="other")
    answers = [played(model)[-1], played(model, again)[-1]]
    assert [(answer.message.text, answer.model) for answer in answers] == [
        ("4", "scripted-model"),
        ("5", "other"),
    ]
    assert model.requests == [ASKED, again]
    model.assert_complete()


def test_calls_are_numbered_over_the_life_of_a_model():
    model = ScriptedModel(calls("a") + calls("b"), calls("a"))
    ids = [call.id for _ in range(2) for call in played(model)[-1].message.tool_calls]
    assert ids == ["call_1", "call_2", "call_3"]


def test_arguments_can_be_written_as_text_broken_or_not():
    (call,) = played(ScriptedModel(calls("add", '{"a": ')))[-1].message.tool_calls
    assert (call.arguments, call.problem.split(" (")[0]) == ({}, "the arguments are not valid JSON")


def test_empty_pieces_are_left_out():
    assert says("", "4") == says("4")
    assert thinks("") == Answer()


def test_what_is_added_later_wins():
    answer = says("4", cost=0.1, finish_reason="length", model="a") + says(cost=0.2, model="b")
    assert (answer.cost, answer.reason, answer.model) == (0.2, "length", "b")


def test_pieces_come_as_the_script_waits():
    async def play():
        loop, seen = asyncio.get_running_loop(), []
        over = loop.create_future()
        model = ScriptedModel(waits(2) + says("a", "b", every=0.5))
        model.call(ASKED).subscribe(
            lambda event: seen.append((loop.time(), event.kind)), None, lambda: over.set_result(seen)
        )
        return await over

    assert run_virtual(play()) == [(2.5, "content-delta"), (3.0, "content-delta"), (3.0, "llm-response")]


@pytest.mark.parametrize("pause", [stalls(), waits(5)])
def test_a_call_that_is_left_says_nothing_more_and_is_counted(pause):
    async def leave():
        model, seen = ScriptedModel(says("Hel") + pause), []
        subscription = model.call(ASKED).subscribe(seen.append)
        assert (model.open_calls, model.disposed) == (1, 0)
        subscription.dispose()
        subscription.dispose()
        await asyncio.sleep(10)
        return model.open_calls, model.disposed, seen

    assert run_virtual(leave()) == (0, 1, [ContentDelta(delta="Hel")])


@pytest.mark.parametrize("answer", [says("a", "b"), waits(1) + says("a", "b")])
def test_a_subscriber_that_leaves_at_the_first_piece_sees_no_more(answer):
    async def take_one():
        model = ScriptedModel(answer)
        seen = await model.call(ASKED).pipe(ops.take(1))
        await asyncio.sleep(10)
        return seen, model.open_calls

    assert run_virtual(take_one()) == (ContentDelta(delta="a"), 0)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (fails(400), ModelRejected),
        (fails(400, "litellm.ContextWindowExceededError: too long"), ContextTooLong),
        (fails(400, "litellm.UnsupportedParamsError: temperature"), UnsupportedParameter),
        (fails(400, "There are no healthy deployments for this model"), UnknownModel),
        (fails(401), AuthenticationFailed),
        (fails(408), ModelTimeout),
        (fails(418), ModelRejected),
        (fails(429, retry_after=2), ModelOverloaded),
        (fails(500), ModelFailed),
        (fails(503), ModelOverloaded),
        (waits(1) + fails(502), ModelFailed),
        (cuts(), ProxyUnreachable),
        (says("Hel") + cuts(), StreamBroken),
        (says("Hel") + fails(500), StreamBroken),
    ],
)
def test_a_scripted_failure_is_the_typed_error(answer, wanted):
    with pytest.raises(wanted, match="scripted") as caught:
        played(ScriptedModel(answer))
    assert type(caught.value) is wanted


def test_a_refusal_carries_what_a_retry_needs():
    with pytest.raises(ModelOverloaded) as caught:
        played(ScriptedModel(fails(429, "slow down", retry_after=2)))
    assert (caught.value.status, caught.value.retry_after, caught.value.retryable) == (429, 2, True)


def test_a_script_that_is_over_says_what_was_asked():
    model = ScriptedModel(says("4"))
    played(model)
    with pytest.raises(
        ScriptOver, match=r"has 1 answers and this is model call 2; it ends with user: '2 \+ 2\?'"
    ):
        played(model)
    with pytest.raises(ScriptOver, match="it ends with nothing"):
        played(model, LLMRequest(messages=()))


def test_answers_that_nobody_asked_for_are_named():
    model = ScriptedModel(says("4"), calls("add", a=1))
    played(model)
    with pytest.raises(ScriptOver, match=r"1 of 2 scripted answers were not asked for; the next is .*'add'"):
        model.assert_complete()


def test_a_function_answers_what_the_script_does_not():
    model = ScriptedModel(says("4"), otherwise=lambda request: says(request.messages[-1].text))
    assert [played(model)[-1].message.text for _ in range(2)] == ["4", "2 + 2?"]


def test_bytes_are_for_servers():
    with pytest.raises(ConfigurationError, match="use ScriptedServer"):
        ScriptedModel(says("4") + raw(b"garbage"))
    with pytest.raises(ConfigurationError, match="use ScriptedServer"):
        played(ScriptedModel(otherwise=lambda _: raw(b"garbage")))


@pytest.mark.parametrize(("answer", "word"), [(fails(500), "fails"), (stalls(), "stalls"), (cuts(), "cuts")])
def test_nothing_follows_the_end_of_an_answer(answer, word):
    with pytest.raises(ConfigurationError, match=rf"nothing can follow {word}\(…\)"):
        answer + says("more")
