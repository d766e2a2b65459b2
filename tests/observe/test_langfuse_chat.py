"""The chat view: messages of the GenAI conventions become OpenAI's chat format, for Langfuse alone, and nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.observe.langfuse import chat_view

SYSTEM, INPUT, OUTPUT = "gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def said(role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts), **more}


def seen(**attributes: Any) -> dict[str, Any]:
    """The chat view of these messages, as Python values."""
    names = {"system": SYSTEM, "input": INPUT, "output": OUTPUT}
    view = chat_view({names[key]: json.dumps(value) for key, value in attributes.items()})
    return {name.removeprefix("langfuse.observation."): json.loads(value) for name, value in view.items()}


def test_a_turn_with_tools_reads_as_openai_writes_it_and_all_else_stays() -> None:
    definitions = '[{"type":"function","name":"weather","description":"","parameters":{}}]'
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.tool.definitions": definitions,
        "gen_ai.usage.input_tokens": 12,
        SYSTEM: json.dumps([text("Be brief.")]),
        INPUT: json.dumps(
            [
                said("user", text("Oslo?")),
                said(
                    "assistant",
                    {"type": "reasoning", "content": "I need the weather."},
                    {"type": "tool_call", "id": "a", "name": "weather", "arguments": {"city": "Oslo"}},
                    {"type": "tool_call", "id": "b", "name": "time", "arguments": "{}"},
                ),
                said(
                    "tool",
                    {"type": "tool_call_response", "id": "a", "response": {"celsius": 4}},
                    {"type": "tool_call_response", "id": "b", "response": "noon"},
                ),
            ]
        ),
        OUTPUT: json.dumps(
            [
                said(
                    "assistant",
                    text("4 °C."),
                    {"type": "tool_call", "id": "c", "name": "done"},
                    finish_reason="tool_call",
                    tool_calls=[{"id": "c", "type": "function", "name": "done", "arguments": "{}"}],
                )
            ]
        ),
    }
    before = dict(attributes)

    view = chat_view(attributes)

    assert attributes == before
    assert {name: view[name] for name in view if not name.startswith("langfuse")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.tool.definitions": definitions,
        "gen_ai.usage.input_tokens": 12,
    }
    assert json.loads(view["langfuse.observation.input"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "thinking": [{"type": "thinking", "content": "I need the weather."}],
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                },
                {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": '{"celsius":4}'},
        {"role": "tool", "tool_call_id": "b", "content": "noon"},
    ]
    assert json.loads(view["langfuse.observation.output"]) == {
        "role": "assistant",
        "content": "4 °C.",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "done", "arguments": "{}"}}],
    }


@pytest.mark.parametrize("response", [0, False, None, "", [1]])
def test_a_tools_answer_is_shown_as_the_model_reads_it(response: Any) -> None:
    part = {"type": "tool_call_response", "id": "a", "response": response}
    content = response if isinstance(response, str) else json.dumps(response)
    assert seen(input=[said("tool", part)]) == {
        "input": [{"role": "tool", "tool_call_id": "a", "content": content}]
    }


def test_an_answer_of_a_tool_among_text_comes_before_it() -> None:
    part = {"type": "tool_call_response", "result": "ok"}
    assert seen(input=[said("user", text("So?"), part, name="Ada")]) == {
        "input": [
            {"role": "tool", "tool_call_id": "", "content": "ok"},
            {"role": "user", "content": "So?", "name": "Ada"},
        ]
    }


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (
            {"type": "uri", "modality": "image", "uri": "https://a.test/x.png"},
            {"type": "image_url", "image_url": {"url": "https://a.test/x.png"}},
        ),
        (
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "QUJD"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        ),
        (
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "", "name": "a.png"},
            {"type": "text", "text": "[blob: a.png, image/png, image]"},
        ),
        (
            {"type": "uri", "modality": "document", "mime_type": "application/pdf", "uri": "s3://a/b.pdf"},
            {"type": "text", "text": "[uri: application/pdf, document, s3://a/b.pdf]"},
        ),
        ({"type": "file", "file_id": "f-1"}, {"type": "text", "text": "[file: f-1]"}),
        ({"type": "new", "x": 1}, {"type": "text", "text": '{"type":"new","x":1}'}),
        ({"type": "text", "content": 7}, {"type": "text", "text": '{"type":"text","content":7}'}),
    ],
)
def test_other_parts_are_shown_or_named(part: dict[str, Any], shown: dict[str, Any]) -> None:
    assert seen(input=[said("user", text("Look:"), part)]) == {
        "input": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, shown]}]
    }


def test_instructions_alone_and_several_answers_have_their_place() -> None:
    assert seen(system=[text("A"), text("B")], output=[said("assistant", text("1")), said("assistant")]) == {
        "input": [
            {"role": "system", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}
        ],
        "output": [{"role": "assistant", "content": "1"}, {"role": "assistant", "content": None}],
    }
    assert seen(system=[], input=[], output=[]) == {}


def test_an_agents_span_shows_its_question_and_its_answer() -> None:
    assert seen(input=[said("user", text("Hi"))], output=[said("assistant", text("Hello"))]) == {
        "input": [{"role": "user", "content": "Hi"}],
        "output": {"role": "assistant", "content": "Hello"},
    }


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": "{}"},
        {INPUT: "[]", "langfuse.observation.input": "own"},
        {INPUT: "[]", "langfuse.observation.output": "own"},
        {INPUT: '[{"role":"user","parts":[{"type":"te'},
        {INPUT: '[{"role":"user","parts":[{"type":"text","content":NaN}]}]'},
        {INPUT: "[]", OUTPUT: "cut…"},
        {INPUT: "{}"},
        {INPUT: 5},
        {INPUT: ("a", "b")},
        {INPUT: "[[]]"},
        {INPUT: '["x"]'},
        {INPUT: '[{"parts":[]}]'},
        {INPUT: '[{"role":1,"parts":[]}]'},
        {INPUT: '[{"role":"user"}]'},
        {INPUT: '[{"role":"user","parts":null}]'},
        {INPUT: '[{"role":"user","parts":["x"]}]'},
        {INPUT: '[{"role":"user","parts":[{}]}]'},
        {INPUT: "[" * 300},
        {SYSTEM: "[1]"},
        {SYSTEM: '"Be brief."'},
    ],
)
def test_what_has_no_messages_or_none_that_can_be_read_is_the_same_object(attributes: dict[str, Any]) -> None:
    assert chat_view(attributes) is attributes


def test_the_deepest_json_that_can_be_read_is_shown() -> None:
    deep = "[" * 150 + "]" * 150
    view = chat_view(
        {INPUT: f'[{{"role":"tool","parts":[{{"type":"tool_call_response","response":{deep}}}]}}]'}
    )
    assert json.loads(view["langfuse.observation.input"])[0]["content"] == deep


TEXT = st.text(
    'ab"\\{}[]ü\ud800\n', max_size=5
)  # few letters: a table of all of Unicode takes seconds to make
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PARTS = st.dictionaries(
    st.sampled_from(
        ["type", "content", "id", "name", "arguments", "response", "modality", "uri", "mime_type"]
    ),
    st.sampled_from(["text", "tool_call", "tool_call_response", "reasoning", "blob", "uri", "image", ""])
    | JSON,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"role": TEXT | JSON, "parts": st.lists(PARTS | JSON, max_size=4) | JSON, "name": JSON},
    )
    | JSON,
    max_size=3,
)
VALUES = (
    (MESSAGES | st.lists(PARTS, max_size=3)).map(json.dumps)
    | st.tuples(MESSAGES.map(json.dumps), st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]])
    | TEXT
    | st.binary()
    | JSON
)


@given(st.dictionaries(st.sampled_from([SYSTEM, INPUT, OUTPUT, "a", "langfuse.observation.input"]), VALUES))
def test_whatever_a_span_carries_the_view_is_there_readable_and_final(attributes: dict[str, Any]) -> None:
    view = chat_view(attributes)

    assert chat_view(view) is view
    if view is not attributes:
        assert not {SYSTEM, INPUT, OUTPUT} & view.keys()
        assert view.get("a") is attributes.get("a")
        for name in ("langfuse.observation.input", "langfuse.observation.output"):
            json.loads(view.get(name, "0"), parse_constant=pytest.fail)
