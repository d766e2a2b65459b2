"""What LiteLLM, providers and gateways really stream becomes the same few events. Numbers in brackets: issues that met it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from providers.replay import DONE, USAGE, Reply, Wire, answered, chunk, deltas, heard, said, sse

from looopy.errors import ModelFailed, StreamBroken
from looopy.events import ContentDelta, ThoughtDelta, dumps, loads
from looopy.messages import Message, Usage

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
        ([{"prompt_tokens": 9, "cache_creation_input_tokens": 5}], Usage(input_tokens=9, cache_creation_tokens=5)),
        ([{"prompt_tokens": 9, "prompt_tokens_details": {"cache_creation_tokens": 5}}], Usage(input_tokens=9, cache_creation_tokens=5)),
        ([{"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 5}}], Usage(input_tokens=9, cache_creation_tokens=5)),
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


def test_an_answer_out_of_the_proxys_cache_cost_nothing():
    """LiteLLM tells the price of the first time again, and the key of the cache at a hit only."""
    stream = sse(chunk(content="Hi"), chunk("stop") | {"usage": USAGE}) + DONE

    first, again = answered(stream), answered(stream, x_litellm_cache_key="9ab5")

    assert (first.cost, first.cached) == (0.5, False)
    assert (again.cost, again.cached, again.usage) == (0.0, True, first.usage)


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
