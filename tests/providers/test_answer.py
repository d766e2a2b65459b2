"""What LiteLLM, providers and gateways really stream becomes the same few events. Numbers in brackets: issues that met it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from providers.replay import DONE, HI, Reply, Wire, answered, chunk, deltas, heard, sse

from looopy.errors import ModelError, ModelFailed, StreamBroken
from looopy.events import ContentDelta, LLMEvent, LLMResponse, ThoughtDelta, ToolCallDelta, dumps, loads
from looopy.messages import Message, ToolCall, Usage
from looopy.testing.clock import run_virtual

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
    "cost": 0.5,
}


def said(text: str, **message: Any) -> LLMResponse:
    """An answer as everything in these tests comes back, but for what the test is about."""
    whole = Message("assistant", text, model="gpt-4o", **message)
    return LLMResponse(
        message=whole,
        model="gpt-4o",
        first_token=0.0,
        response_id="chatcmpl-1",
        call_id="call-1",
        seconds=0.0,
    )


# ------------------------------------------------------------------------------------------------------------ text


def test_text_comes_piece_by_piece_and_last_as_a_whole():
    stream = sse(chunk(role="assistant", content="He"), chunk(content="llo"), chunk("stop"))
    usage = sse({"id": "other", "model": "", "choices": [], "usage": USAGE})
    assert heard(stream + usage + DONE) == [
        ContentDelta(delta="He"),
        ContentDelta(delta="llo"),
        replace(
            said("Hello"),
            usage=Usage(input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2),
            cost=0.5,
        ),
    ]


@pytest.mark.parametrize(
    "delta",
    [
        {},
        None,
        {"content": ""},
        {"content": None},
        {"role": "assistant"},
        {"refusal": ""},
        {"content": 7},
        {"content": [7, {}]},
        "odd",
        [],
    ],
)
def test_a_delta_without_text_is_no_event(delta: object):
    odd = {"choices": [{"index": 0, "delta": delta}]}
    assert heard(sse(odd, chunk(content="Hi"), odd, chunk("stop")) + DONE) == [
        ContentDelta(delta="Hi"),
        said("Hi"),
    ]


def test_content_may_be_a_list_of_parts_of_text_and_thoughts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "Hel"},
        "lo",
        {"type": "reasoning", "reasoning": "!"},
    ]
    assert heard(deltas({"content": parts}, {"content": "."})) == [
        ThoughtDelta(delta="Hm"),
        ContentDelta(delta="Hel"),
        ContentDelta(delta="lo"),
        ThoughtDelta(delta="!"),
        ContentDelta(delta="."),
        said("Hello.", reasoning="Hm!"),
    ]


def test_a_refusal_is_the_text():
    assert heard(deltas({"refusal": "No."})) == [ContentDelta(delta="No."), said("No.")]


def test_of_several_choices_only_the_first_is_the_answer():
    other = {"choices": [{"index": 1, "delta": {"content": "B"}}]}
    both = {"choices": [{"delta": {"content": "b"}}, {"index": 1, "delta": {"content": "B"}}]}
    assert answered(sse(chunk(content="a"), other, both, chunk("stop")) + DONE) == said("ab")


def test_half_an_emoji_and_broken_utf8_are_replaced():
    stream = sse(chunk(content="a")) + b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
    stream += b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n' + sse(chunk("stop")) + DONE
    assert answered(stream) == said("a��")


def test_comments_and_odd_values_between_chunks_are_passed_over():
    stream = b": ping\n\n" + sse(chunk(content="a"), None, 7, "x", [], {}, {"choices": {}}) + b"data: \n\n"
    assert answered(stream + sse(chunk("stop")) + DONE) == said("a")


def test_what_comes_after_the_end_mark_is_not_read():
    assert answered(deltas({"content": "a"}) + sse(chunk(content="b")), sse(chunk(content="c"))) == said("a")


# -------------------------------------------------------------------------------------------------------- thoughts


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm", "reasoning": "Hm", "content": ""},
        {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "Hm"},
                {"type": "reasoning.encrypted"},
            ]
        },
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm"}]},
    ],
)
def test_thoughts_are_shown_once_whatever_fields_they_stand_in(delta: dict[str, object]):
    events = heard(deltas(delta, {"content": "a"}))
    assert events[:2] == [ThoughtDelta(delta="Hm"), ContentDelta(delta="a")]
    assert events[2].message.reasoning == "Hm"


def test_what_the_model_wants_back_is_kept_as_it_came():
    """Anthropic refuses thoughts without their signature (litellm#15601); redacted ones have no text."""
    stream = deltas(
        {
            "reasoning_content": "H",
            "thinking_blocks": [{"type": "thinking", "thinking": "H", "signature": None}],
        },
        {"reasoning_content": "m", "thinking_blocks": [{"type": "thinking", "thinking": "m"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": None}]},
        {"content": "", "thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "S"}]},
        # LiteLLM repeats the blocks here.
        {"thinking_blocks": [], "provider_specific_fields": {"thinking_blocks": [{"type": "thinking"}]}},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "R"}]},
        {
            "reasoning_content": "!",
            "thinking_blocks": [{"type": "thinking", "thinking": "!", "signature": "T"}],
        },
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "E", "index": 0}]},
        {"provider_specific_fields": {"citations": [1], "refusal": None, "x": 1}},
        {"content": "a", "provider_specific_fields": {"citations": [2], "x": 2}},
    )
    assert answered(stream).message.extra == {
        "reasoning_content": "Hm!",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Hm", "signature": "S"},
            {"type": "redacted_thinking", "data": "R"},
            {"type": "thinking", "thinking": "!", "signature": "T"},
        ],
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "E", "index": 0}],
        "provider_specific_fields": {"citations": [1, 2], "x": 2},
    }


def test_what_is_nested_deeper_than_an_event_can_hold_is_not_kept():
    deep = json.loads("[" * 190 + "]" * 190)
    answer = answered(deltas({"content": "a", "provider_specific_fields": {"deep": deep}}))
    assert answer == said("a")
    assert loads(dumps(answer)) == answer


# ----------------------------------------------------------------------------------------------------------- calls


def call(
    index: object = None, /, call_id: object = None, name: object = None, arguments: object = None
) -> dict[str, Any]:
    """A piece of a tool call; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {key: value for key, value in (("index", index), ("id", call_id)) if value is not None} | {
        "function": function
    }


def calls_of(
    *pieces: dict[str, Any] | list[dict[str, Any]], finish: str = "tool_calls"
) -> tuple[ToolCall, ...]:
    """The calls in an answer of these pieces, a list of them in one delta."""
    those = (chunk(tool_calls=piece if isinstance(piece, list) else [piece]) for piece in pieces)
    return answered(sse(*those, chunk(finish)) + DONE).tool_calls


A = ToolCall("a", "f", {"x": 1})
B = ToolCall("b", "g", {})


def test_a_tool_call_comes_in_pieces():
    stream = deltas(
        {"role": "assistant", "content": None, "tool_calls": [call(0, "a", "f", "")]},
        {"tool_calls": [call(0, arguments='{"x"')]},
        {"content": "", "tool_calls": [call(0, arguments=": 1}")]},
    )
    assert heard(stream) == [
        ToolCallDelta(call_id="a", tool_name="f", delta=""),
        ToolCallDelta(call_id="a", tool_name="f", delta='{"x"'),
        ToolCallDelta(call_id="a", tool_name="f", delta=": 1}"),
        # The stream says `stop` (litellm#12862); the calls decide.
        replace(said("", tool_calls=(A,)), finish_reason="tool_calls"),
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "")],
            id="index 0 for every call (litellm#14587)",
        ),
        pytest.param(
            [[call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "{}")]], id="whole calls in one delta"
        ),
        pytest.param([call(None, "a", "f", '{"x": 1}'), call(None, "b", "g", "{}")], id="no index"),
        pytest.param(
            [call(1, "a", "f", '{"x": 1}'), call(7, "b", "g", "{}")], id="indexes with gaps (litellm#32759)"
        ),
        pytest.param(
            [
                call(1, "a", "f", '{"x"'),
                call(0, "b", "g", "{"),
                call(1, arguments=": 1}"),
                call(0, arguments="}"),
            ],
            id="interleaved by index",
        ),
        pytest.param(
            [
                call(0, "a", "f", '{"x"'),
                call(0, "b", "g", "{"),
                call(0, "a", "f", ": 1}"),
                call(0, "b", "g", "}"),
            ],
            id="interleaved by id",
        ),
        pytest.param(
            [
                call(0, "a", "f", '{"x"'),
                call(0, "a", "f", ": 1}"),
                call(1, "b", "g"),
                call(1, "b", "g", "{}"),
            ],
            id="id and name repeated (litellm#20480)",
        ),
        pytest.param(
            [call(0, "a", "f", '{"x"'), call(0, "", "", ": 1}"), call(1, "b", "g", "")],
            id="empty id and name",
        ),
        pytest.param(
            [call("0", "a", "f", {"x": 1}), call([], "b", "g", None)],
            id="odd indexes, arguments as an object",
        ),
        pytest.param(
            [[call(0, "a", "f", '{"x": 1}'), call(1, "b", "g"), {}, {"function": 7}, 7]], id="empty pieces"
        ),
    ],
)
def test_calls_are_told_apart_however_they_are_numbered(pieces: list[Any]):
    assert calls_of(*pieces) == (A, B)


def test_calls_without_ids_get_their_own_and_keep_them():
    pieces = [
        call(0, None, "f", '{"x": 1}'),
        call(0, None, "f", '{"x"'),
        call(0, None, "", ": 2}"),
        call(0, None, "f", ""),
        call(0, None, "g", ""),
    ]
    calls = calls_of(*pieces)
    assert [(call.name, call.arguments) for call in calls] == [("f", {"x": 1}), ("f", {"x": 2}), ("g", {})]
    assert len({call.id for call in calls}) == 3
    assert all(call.id.startswith("call_") for call in calls)


def test_a_name_that_comes_again_before_the_arguments_are_whole_is_the_same_call():
    assert [c.arguments for c in calls_of(call(0, None, "f", '{"x"'), call(0, None, "f", ": 1}"))] == [
        {"x": 1}
    ]


def test_an_id_that_comes_late_does_not_split_the_call_or_change_what_was_shown():
    stream = deltas(
        {"tool_calls": [call(0, None, "f", "{")]},
        {"tool_calls": [call(0, "a", None, '"x": ')]},
        {"tool_calls": [call(0, "a", None, "1}")]},
        {"tool_calls": [call(0, "b", "g", "")]},
    )
    events = heard(stream)
    calls = events[-1].tool_calls
    assert [(c.name, c.arguments) for c in calls] == [("f", {"x": 1}), ("g", {})]
    assert [event.call_id for event in events[:-1]] == [calls[0].id] * 3 + ["b"]


def test_a_call_with_an_id_after_a_whole_one_without_is_another():
    assert [c.name for c in calls_of(call(0, None, "f", "{}"), call(0, "b", "g", "{}"))] == ["f", "g"]


def test_the_same_id_for_two_calls_is_made_two():
    first, second = calls_of(call(0, "a", "f", '{"x": 1}'), call(1, "a", "g", "{}"))
    assert first == A
    assert second == replace(B, id=second.id)
    assert second.id.startswith("a_")


def test_the_legacy_function_call_is_a_call():
    stream = deltas(
        {"function_call": {"name": "f", "arguments": '{"x"'}}, {"function_call": {"arguments": ": 1}"}}
    )
    (one,) = answered(stream).tool_calls
    assert one == replace(A, id=one.id)


def test_the_legacy_form_beside_the_current_one_is_not_a_second_call():
    both = {
        "function_call": {"name": "f", "arguments": '{"x": 1}'},
        "tool_calls": [call(0, "a", "f", '{"x": 1}')],
    }
    assert answered(deltas(both)).tool_calls == (A,)


@pytest.mark.parametrize("arguments", ["[1]", '{"x": ', "x=1", '{"x": 1}{"x": 2}'])
def test_arguments_that_cannot_be_read_are_told_to_the_model(arguments: str):
    (broken,) = calls_of(call(0, "a", "f", arguments))
    assert (broken.name, broken.arguments) == ("f", {})
    assert arguments in broken.problem


@pytest.mark.parametrize("arguments", ["", '{"x": "ab'])
def test_a_call_inside_which_the_length_limit_struck_is_not_run(arguments: str):
    whole, cut = calls_of(call(0, "b", "g", ""), call(1, "a", "f", arguments), finish="length")
    assert whole == B
    assert cut == ToolCall(
        "a",
        "f",
        {},
        "the answer reached its length limit inside this call, so its arguments are cut off; "
        f"call again with shorter arguments. They were: {arguments}",
    )


def test_a_call_that_was_whole_before_the_length_limit_struck_is_run():
    answer = answered(sse(chunk(tool_calls=[call(0, "a", "f", '{"x": 1}')]), chunk("length")) + DONE)
    assert (answer.tool_calls, answer.finish_reason) == ((A,), "length")


def test_a_call_that_names_no_tool_is_answered_rather_than_dropped():
    assert calls_of(call(0, "a", None, "{}")) == (
        ToolCall("a", "unknown", {}, "the call does not say which tool it is for"),
    )


# ------------------------------------------------------------------------------------------ finish, usage, model, cost


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ((None,), "stop"),
        (("",), "stop"),
        (("eos",), "stop"),
        (("tool_calls",), "stop"),
        (("MAX_TOKENS",), "length"),
        (("length", "stop"), "length"),
        (("stop", "content_filter"), "content_filter"),
        (("SAFETY",), "content_filter"),
        ((7,), "stop"),
    ],
)
def test_a_finish_reason_is_one_of_few_words(words: tuple[object, ...], meaning: str):
    stream = sse(chunk(content="a"), *(chunk(word) for word in words)) + DONE
    assert answered(stream) == replace(said("a"), finish_reason=meaning)


def test_text_after_the_finish_reason_still_counts():
    assert answered(sse(chunk(content="a"), chunk("stop"), chunk(content="b")) + DONE) == said("ab")


@pytest.mark.parametrize(
    ("usages", "meaning"),
    [
        ([USAGE, None], Usage(input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2)),
        ([{"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens": 1, "completion_tokens": 2}], Usage(input_tokens=1, output_tokens=2)),
        ([{"input_tokens": 4, "output_tokens": 5}], Usage(input_tokens=4, output_tokens=5)),
        ([{"prompt_tokens": 3.0, "completion_tokens": "x"}], Usage(input_tokens=3)),
        ([{"prompt_tokens": -3, "completion_tokens": 1e999}], Usage()),
        ([{"total_tokens": 3}], None),
        ([7], None),
        ([{}], None),
    ],
)  # fmt: skip
def test_the_last_usage_counts(usages: list[object], meaning: Usage | None):
    stream = (
        sse(chunk(content="a"), *({"choices": [], "usage": usage} for usage in usages), chunk("stop")) + DONE
    )
    assert answered(stream).usage == meaning


def test_usage_may_stand_in_a_vendors_field_or_beside_the_text():
    groq = sse(chunk(content="a"), chunk("stop") | {"x_groq": {"usage": USAGE}}) + DONE
    beside = sse(chunk(content=""), chunk(content="a") | {"usage": USAGE}, chunk("stop")) + DONE
    assert answered(groq) == answered(beside)


@pytest.mark.parametrize(
    ("cost", "meaning"), [(0.25, 0.25), ("0.25", 0.25), (0.0, 0.0), (None, None), (True, None), (-1, None), ("x", None), (1e999, None), (10**400, None)]
)  # fmt: skip
def test_the_streamed_cost_stands_in_the_usage(cost: object, meaning: float | None):
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "cost": cost}}
    stream = sse(chunk(content="a"), usage, chunk("stop")) + DONE
    # Streamed, the header is a sibling that misleads.
    assert answered(stream, x_litellm_response_cost="0.5").cost == meaning


@pytest.mark.parametrize(
    ("headers", "answering", "name"),
    [
        ({}, "gpt-4o", "gpt-4o"),
        ({"x_litellm_model_name": "openai/gpt-4o-2024"}, "openai/gpt-4o-2024", "gpt-4o"),
        (
            {
                "x_litellm_model_name": "anthropic/c",
                "x_litellm_model_group": "c",
                "x_litellm_attempted_fallbacks": "1",
            },
            "anthropic/c",
            "c",
        ),
        ({"x_litellm_attempted_fallbacks": "1"}, "gpt-4o", "gpt-4o"),
        ({"x_litellm_model_group": "openai/*", "x_litellm_attempted_fallbacks": "0"}, "gpt-4o", "gpt-4o"),
    ],
)
def test_the_model_that_answered_is_named(headers: dict[str, str], answering: str, name: str):
    """The chunks name what was asked for (litellm#22709); the message takes the name by which it could be asked again."""
    answer = answered(deltas({"content": "a"}), **headers)
    assert (answer.model, answer.message.model) == (answering, name)


def test_without_a_proxy_the_chunks_name_the_model_and_without_that_the_request_does():
    named = sse({"model": "gpt-4o-2024", "choices": [{"delta": {"content": "a"}}]}) + DONE
    nameless = sse({"choices": [{"delta": {"content": "a"}}]}) + DONE
    assert [answered(stream).model for stream in (named, nameless)] == ["gpt-4o-2024", "gpt-4o"]


# ------------------------------------------------------------------------------------------------ a whole completion

COMPLETION = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hi", "tool_calls": []},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


@pytest.mark.parametrize(("header", "cost"), [("0.5", 0.5), ("0.0", None), ("", None)])
def test_a_whole_completion_where_a_stream_was_asked_for_is_understood(header: str, cost: float | None):
    body = b"\n  " + json.dumps(COMPLETION).encode()
    assert heard(body[:2], body[2:9], body[9:], x_litellm_response_cost=header) == [
        ContentDelta(delta="Hi"),
        replace(said("Hi"), usage=Usage(input_tokens=1, output_tokens=2), cost=cost),
    ]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"choices": []}', b"[1]", b'{"id": "x", "usage": {"prompt_tokens": 1}}']
)
def test_json_that_is_no_completion_is_no_answer(body: bytes):
    with pytest.raises(ModelFailed, match="no answer in it; it began with") as caught:
        heard(body)
    assert caught.value.body == body.decode()


# --------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize("ending", [sse(chunk("stop")), DONE, sse(chunk("stop"))[:-1], DONE[:-2]])
def test_either_a_finish_reason_or_the_end_mark_makes_an_answer_whole(ending: bytes):
    assert answered(sse(chunk(content="a")) + ending) == said("a")


def test_a_stream_that_only_stops_is_broken():
    with pytest.raises(StreamBroken) as caught:
        heard(sse(chunk(content="a"), chunk(content="b")))
    assert (caught.value.events_seen, caught.value.call_id, caught.value.retryable) == (2, "call-1", True)
    assert str(caught.value) == (
        "LiteLLM API error: the answer of model 'gpt-4o' from http://localhost:4000/v1/chat/completions broke off "
        "after 2 events: the stream ended without a finish reason and without [DONE]."
    )


def test_a_connection_that_breaks_before_the_end_breaks_the_answer():
    with pytest.raises(StreamBroken) as caught:
        heard(sse(chunk(role="assistant")), httpx.ReadError("reset"))
    assert caught.value.events_seen == 0
    assert str(caught.value).endswith("Nothing was shown yet, so trying again is safe.")


def test_a_connection_that_breaks_after_the_end_does_not_matter():
    assert answered(sse(chunk(content="a"), chunk("stop")), httpx.ReadError("reset")) == said("a")
    assert answered(deltas({"content": "a"}), httpx.ReadError("reset")) == said("a")


def test_a_connection_that_stays_open_after_the_end_mark_is_given_up_and_not_waited_for():
    wire = Wire(Reply([deltas({"content": "a"}), 3_600.0]))
    assert wire.ask()[-1] == replace(said("a"), seconds=0.25)
    assert wire.bodies[0].closed


@pytest.mark.parametrize(
    ("body", "began"),
    [
        (b"", "the body was empty"),
        (DONE, "it began with: data: [DONE]"),
        (sse(chunk(role="assistant", content=""), chunk("stop")) + DONE, "it began with: data: {"),
        (b"<html><style>p {}</style><title>Log in</title></html>", "it began with: Log in\n"),
        (b"Not found", "it began with: Not found\n"),
        (b": ping\n\n", "it began with: : ping\n"),
    ],
)
def test_a_success_without_an_answer_is_a_failure_that_may_be_tried_again(body: bytes, began: str):
    """Behind LiteLLM a broken upstream looks so (litellm#32086)."""
    with pytest.raises(ModelFailed) as caught:
        heard(body)
    assert caught.value.retryable
    assert began in str(caught.value)


@pytest.mark.parametrize("finish", ["content_filter", "length"])
def test_an_empty_answer_with_a_reason_is_an_answer(finish: Any):
    assert heard(sse(chunk(finish)) + DONE) == [replace(said(""), finish_reason=finish, first_token=None)]


def test_an_empty_answer_that_cost_tokens_is_an_answer():
    assert answered(sse(chunk("stop") | {"usage": USAGE}) + DONE).message == Message(
        "assistant", model="gpt-4o"
    )


# ------------------------------------------------------------------------------------------------- whatever comes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["index", "id", "name", "function", "arguments", "text", "type", "thinking", "signature", "content", "message",
         "prompt_tokens", "cost", "delta", "error", "code"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
DELTAS = st.dictionaries(
    st.sampled_from(
        ["content", "role", "tool_calls", "function_call", "reasoning_content", "reasoning", "reasoning_details",
         "thinking_blocks", "provider_specific_fields", "refusal"]), VALUES, max_size=4,
)  # fmt: skip
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES,
        "model": VALUES,
        "usage": VALUES,
        "error": VALUES,
        "x_groq": VALUES,
        "detail": VALUES,
        "choices": VALUES
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"index": st.integers(0, 1), "delta": DELTAS | VALUES, "finish_reason": VALUES, "message": DELTAS}
            ),
            max_size=2,
        ),
    },
)  # fmt: skip


def outcome(*pieces: bytes) -> LLMResponse | ModelError:
    try:
        answer = answered(*pieces)
    except ModelError as error:
        return error
    assert loads(dumps(answer)) == answer
    return answer


@settings(max_examples=200, deadline=None)
@given(st.lists(CHUNKS | VALUES, max_size=4), st.booleans())
def test_any_json_gives_an_answer_or_a_typed_error(values: list[Any], streamed: bool):
    body = sse(*values) + DONE if streamed else json.dumps(values[0] if values else None).encode()
    assert isinstance(outcome(body), LLMResponse | ModelError)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=4), st.sampled_from([b"", b"data: ", b"{", b"data: {"]))
def test_any_bytes_give_a_typed_error_or_an_answer(portions: list[bytes], start: bytes):
    assert isinstance(outcome(start, *portions), LLMResponse | ModelError)


VALID = (
    deltas(
        {"role": "assistant", "reasoning_content": "Hm"},
        {"content": "é"},
        {"tool_calls": [call(0, "a", "f", '{"x"')]},
        {"tool_calls": [call(0, arguments=": 1}")]},
    )[: -len(DONE)]
    + b": ping\n\n"
    + sse({"choices": [], "usage": USAGE})
    + DONE
)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(VALID)), max_size=6))
def test_a_stream_gives_the_same_events_however_it_is_split(cuts: list[int]):
    places = [0, *sorted(cuts), len(VALID)]
    assert heard(*(VALID[start:end] for start, end in pairwise(places))) == heard(VALID)


def test_a_stream_cut_at_any_byte_is_the_answer_or_one_typed_error():
    whole = answered(VALID)
    finish = VALID.index(b'"finish_reason"')
    for cut in range(len(VALID)):
        ended = outcome(VALID[:cut])
        if isinstance(ended, LLMResponse):
            assert cut > finish
            assert ended in (whole, replace(whole, usage=None, cost=None))
        else:
            assert isinstance(ended, StreamBroken | ModelFailed)


def test_the_first_event_is_there_before_the_rest_of_the_burst_is_parsed():
    """The last chunk is no JSON: had the burst been parsed as a whole, no event would have come before its error."""
    seen: list[LLMEvent] = []
    ends: list[Exception] = []

    async def main() -> None:
        stream = sse(*(chunk(content="a") for _ in range(2_000))) + b"data: {]\n\n"
        first, over = asyncio.Event(), asyncio.Event()
        Wire(Reply([stream])).provider().call(HI).subscribe(
            lambda event: (seen.append(event), first.set()),
            lambda error: (ends.append(error), over.set()),
            over.set,
        )
        await first.wait()
        assert len(seen) == 1
        await over.wait()

    run_virtual(main())
    assert seen == [ContentDelta(delta="a")] * 2_000
    assert [type(error) for error in ends] == [StreamBroken]
