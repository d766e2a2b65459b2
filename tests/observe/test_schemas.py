"""Whatever is said, the attributes are what OpenTelemetry's conventions ask for, no longer than allowed, and the same each time."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looopy.messages import DataPart, FilePart, FinishReason, Message, Part, TextPart, ToolCall
from looopy.observe.content import Content
from looopy.ports import ToolDefinition

from .schemas import CONVENTIONS, SAMPLES, STRICT

TEXTS = st.text() | st.sampled_from(
    ["\x00" * 300, '"\\\n' * 300, "half \ud83d", "😀" * 200, "sk-abcdefABCDEF123456", "word " * 4_000, "[1]"]
)
ODD = st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**4_000, {1}, b"\xff", object, 2j])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | ODD,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(TEXTS, inner, max_size=8),
    max_leaves=40,
)
CALLS = st.builds(ToolCall, id=TEXTS, name=TEXTS, arguments=st.dictionaries(TEXTS, VALUES, max_size=5))
FILES = st.builds(FilePart, url=TEXTS | st.just("data:image/png;base64,aGk="), data=TEXTS, name=TEXTS)
PARTS: st.SearchStrategy[Part] = st.builds(TextPart, TEXTS) | st.builds(DataPart, VALUES) | FILES
CONTENTS = TEXTS | st.lists(PARTS, max_size=12).map(tuple)
ANSWERS = st.builds(
    Message,
    st.just("assistant"),
    CONTENTS,
    reasoning=TEXTS,
    tool_calls=st.lists(CALLS, max_size=6).map(tuple),
)
MESSAGES = (
    ANSWERS
    | st.builds(Message, st.sampled_from(["system", "user"]), CONTENTS)
    | st.builds(Message, st.just("tool"), CONTENTS, tool_call_id=TEXTS)
)
REASONS = st.sampled_from(["stop", "tool_calls", "length", "content_filter", "interrupted"])
TOOLS = st.builds(
    ToolDefinition,
    name=st.text("abc", min_size=1, max_size=64),
    description=TEXTS,
    parameters=st.dictionaries(TEXTS, st.just({"type": "string", "default": "half \ud83d"}), max_size=60).map(
        lambda properties: {"type": "object", "properties": properties}
    ),
)
HOOKS = st.sampled_from(
    [None, None, lambda text, where: text.upper(), lambda text, where: text * 3, lambda text, where: 1 / 0]
)
CONTENT = st.builds(
    Content, redact=HOOKS, max_chars=st.sampled_from([1, 100, 16_384, 10**7]), max_total=st.just(16_384)
)
LEAST = 16_384
MARKS = 1_000
"""Characters that the remarks about what was cut may take beyond a limit."""

thorough = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("name", "value", "by_conventions", "strictly"), SAMPLES)
def test_the_schemas_accept_and_refuse_what_the_conventions_own_ones_do(
    name: str, value: object, by_conventions: bool, strictly: bool
) -> None:
    assert CONVENTIONS[name].is_valid(value) is by_conventions
    assert STRICT[name].is_valid(value) is strictly


@thorough
@given(content=CONTENT, messages=st.lists(MESSAGES, max_size=12), answer=ANSWERS, reason=REASONS)
def test_every_conversation_has_the_form_of_the_conventions_and_fits(
    content: Content, messages: list[Message], answer: Message, reason: FinishReason
) -> None:
    transcript = content.transcript()
    for name, written in (
        ("gen_ai.system_instructions", transcript.system_instructions(messages) or "[]"),
        ("gen_ai.input.messages", transcript.input_messages(messages)),
        ("gen_ai.output.messages", transcript.output_messages(answer, reason)),
    ):
        value = json.loads(written, parse_constant=pytest.fail)
        STRICT[name].validate(value)
        CONVENTIONS[name].validate(value)
        written.encode()
        assert len(written) <= LEAST + MARKS


@thorough
@given(messages=st.lists(MESSAGES, min_size=1, max_size=8), hook=HOOKS)
def test_a_conversation_that_grew_is_written_as_one_that_was_there_at_once(
    messages: list[Message], hook: object
) -> None:
    content = Content(redact=hook)  # pyright: ignore[reportArgumentType]
    grown = content.transcript()
    for upto in range(len(messages)):
        grown.system_instructions(messages[:upto])
        grown.input_messages(messages[:upto])
        grown.output_messages(messages[upto])

    at_once = Content(redact=hook).transcript()  # pyright: ignore[reportArgumentType]
    assert grown.input_messages(messages) == at_once.input_messages(messages)
    assert grown.system_instructions(messages) == at_once.system_instructions(messages)


@thorough
@given(content=CONTENT, tools=st.lists(TOOLS, max_size=6))
def test_every_set_of_tools_has_the_form_of_the_conventions(
    content: Content, tools: list[ToolDefinition]
) -> None:
    written = content.transcript().tool_definitions(tools)

    assert bool(written) is bool(tools)
    shown = json.loads(written or "[]")
    CONVENTIONS["gen_ai.tool.definitions"].validate(shown)
    STRICT["gen_ai.tool.definitions"].validate([tool for tool in shown if tool["type"] != "remark"])
    assert len(written) <= LEAST + MARKS


@thorough
@given(content=CONTENT, arguments=st.dictionaries(TEXTS, VALUES, max_size=8))
def test_arguments_are_an_object_and_fit(content: Content, arguments: dict[str, object]) -> None:
    written = content.transcript().arguments(arguments)

    assert isinstance(json.loads(written, parse_constant=pytest.fail), dict)
    written.encode()
    assert len(written) <= LEAST + MARKS


@thorough
@given(content=CONTENT, result=VALUES)
def test_a_result_is_text_or_json_and_fits(content: Content, result: object) -> None:
    written = content.transcript().result(result)

    if not isinstance(result, str):
        json.loads(written, parse_constant=pytest.fail)
    written.encode()
    assert len(written) <= LEAST + MARKS
