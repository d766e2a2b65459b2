"""Tool calls are put together however a provider numbers, names and cuts them. Numbers in brackets: issues that met it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from providers.replay import DONE, answered, call, chunk, deltas, heard, said, sse

from looopy.events import ToolCallDelta
from looopy.messages import ToolCall


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


def test_a_name_that_comes_again_after_an_inner_brace_is_the_same_call():
    pieces = [call(0, None, "f", '{"x": {}'), call(0, None, "f", ', "y": 1}')]
    (only,) = calls_of(*pieces)
    assert (only.name, only.arguments) == ("f", {"x": {}, "y": 1})


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
