"""What is said in a conversation: its values, their bytes, and whatever a model or a tool may put into them."""

from __future__ import annotations

import enum
import json
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from looopy.events import LLMResponse, ToolComplete, dumps, loads
from looopy.messages import (
    DataPart,
    FilePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    Usage,
    chat_format,
    jsonable,
    plain,
    read_arguments,
    render,
    whole,
)
from looopy.state import LoopState

LONE = "\ud83d"  # half of an emoji


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# ------------------------------------------------------------------------------------------------------------- jsonable


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Model(BaseModel):
    size: int


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "plain_value"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**80), -(2**80)),
        (0.5, 0.5),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ([math.nan, math.inf], ["NaN", "Infinity"]),
        ("", ""),
        (Colour.RED, "red"),
        ([Colour.RED, Number.ONE], ["red", 1]),
        (Number.ONE, 1),
        (Text("a"), "a"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1}, [1]),
        ({1: "a", None: "b", (2, 3): "c"}, {"1": "a", "None": "b", "2,3": "c"}),
        (b"\xff\xfe", "__4="),
        (Model(size=2), {"size": 2}),
        (Point(1, (2, 3)), {"x": 1, "y": [2, 3]}),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (timedelta(days=1), "P1D"),
        ([Decimal("1.50"), UUID(int=1), Path("a")], ["1.50", str(UUID(int=1)), "a"]),
        (frozenset([1]), [1]),
        ("a" + LONE, "a\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ({LONE: [LONE, math.nan, b"\xff"]}, {"\ufffd": ["\ufffd", "NaN", "_w=="]}),
    ],
    ids=repr,
)
def test_a_python_value_becomes_plain_json_values(value: object, plain_value: object) -> None:
    made = jsonable(value)

    assert made == plain_value
    assert type(made) in (type(None), bool, int, float, str, list, dict)


def raising() -> Iterator[int]:
    yield 1
    raise KeyError("x")


def circle() -> list[object]:
    around: list[object] = []
    around.append(around)
    return around


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "object"),
        ([1, object()], "object"),
        ([LONE, object()], "object"),
        ([LONE, circle()], "recursion"),
        ({LONE: object()}, "object"),
        (raising(), "KeyError"),
        (circle(), "Circular"),
        (nested(181), "recursion"),
        (nested(2000), "depth"),
        (10**5000, "out of range"),
        ([10**5000], "out of range"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_json_form_is_a_type_error_that_says_why(value: object, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        jsonable(value)


def test_a_value_at_the_limit_of_nesting_can_be_read_in_an_event_and_in_a_state() -> None:
    """A parser stops at 200 levels, and the envelope counts: what was let in could not be loaded again."""
    value = jsonable(nested(180))
    arguments, problem = read_arguments('{"a": ' + "[" * 179 + "]" * 179 + "}")
    said = Message.assistant(tool_calls=(ToolCall("c", "n", arguments),))

    assert problem == ""
    for event in (ToolComplete(result=value), LLMResponse(message=said)):
        assert loads(dumps(event)) == event
    state = LoopState(task_id="t", context_id="c", messages=(said,))
    assert LoopState.loads(state.dumps()) == state


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
surrogates = st.text(st.characters(categories=["Cs", "L"]))
python_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | surrogates
    | st.binary()
    | st.decimals()
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.sampled_from([object(), int, len, Ellipsis, Colour.RED, Number.ONE, Model(size=1), Point(1, (2,))]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Point, inner, inner)
        | st.builds(iter, st.lists(inner, max_size=4))
        | st.dictionaries(
            st.none() | st.text() | surrogates | st.integers() | st.floats() | st.binary() | st.dates(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(value=json_values)
def test_json_values_stay_as_they_are(value: object) -> None:
    assert jsonable(value) == value


@given(value=python_values)
def test_any_python_value_is_plain_json_or_a_type_error(value: object) -> None:
    try:
        made = jsonable(value)
    except TypeError:
        return
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert jsonable(made) == made
    render(made).encode()
    event = ToolComplete(result=made)
    assert loads(dumps(event)) == event


@given(text=st.text() | surrogates)
def test_whole_text_can_be_encoded_and_keeps_what_could_be(text: str) -> None:
    assert len(whole(text).encode()) >= 0
    assert whole(whole(text)) == whole(text)
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert whole(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), ("", ""), (0, "0"), (False, "false"), (None, "null"), ({"a": ["é"]}, '{"a":["é"]}')],
)
def test_a_model_reads_text_as_it_is_and_everything_else_as_json(value: object, text: str) -> None:
    assert render(value) == text


# ------------------------------------------------------------------------------------------------------- read_arguments


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1, "b": [true, null, "é"]}', {"a": 1, "b": [True, None, "é"]}),
        ('{"a": 1e400}', {"a": "Infinity"}),
        ('{"a": "\ud800"}', {"a": "\ufffd"}),
    ],
)
def test_arguments_are_read_as_a_model_wrote_them(text: str, arguments: dict[str, object]) -> None:
    assert read_arguments(text) == (arguments, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '{"a": ',
            "the arguments are not valid JSON (EOF while parsing a value at line 1 column 6); they were: {",
        ),
        ('{"a": NaN}', "the arguments are not valid JSON (expected value"),
        ("[1]", 'the arguments must be a JSON object such as {"name": "value"}, not list: [1]'),
        ("null", 'the arguments must be a JSON object such as {"name": "value"}, not NoneType: null'),
        ("1],[2", "the arguments are not valid JSON (trailing characters"),
        ('{"a":' + "[" * 190 + "]" * 190 + "}", "the arguments are not valid JSON (recursion limit"),
        ('{"a":' + "1" * 5000 + "}", "the arguments are not valid JSON (number out of range"),
        ("x" * 5_000_000, "the arguments are not valid JSON (expected value"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_wrong_with_arguments_is_said_in_words_for_the_model(text: str, problem: str) -> None:
    arguments, said = read_arguments(text)

    assert arguments == {}
    assert said.startswith(problem)
    assert len(said) < 700


@given(text=st.text() | surrogates | json_values.map(json.dumps) | st.text('{}[]":,0123456789eE.-+ntf\\u'))
@example(text="{" * 500)
@example(text='{"a":"\\ud800"}')
def test_any_text_is_arguments_or_a_problem(text: str) -> None:
    arguments, problem = read_arguments(text)

    assert not (arguments and problem)
    said = Message.assistant(tool_calls=(ToolCall("c", "n", arguments, problem),))
    event = LLMResponse(message=said)
    assert loads(dumps(event)) == event
    assert json.loads(said.wire)["tool_calls"][0]["function"]["arguments"] == render(arguments)


@given(value=st.dictionaries(st.text(), json_values))
def test_a_json_object_is_read_as_it_is(value: dict[str, object]) -> None:
    assert read_arguments(json.dumps(value)) == (value, "")


# ------------------------------------------------------------------------------------------------------------- messages

CALL = ToolCall("call_1", "add", {"a": 1})


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        (Message.system("Be brief."), {"role": "system", "content": "Be brief."}),
        (Message.user("Hi"), {"role": "user", "content": "Hi"}),
        (Message.user("Hi" + LONE), {"role": "user", "content": "Hi\ufffd"}),
        (Message.assistant("Hello"), {"role": "assistant", "content": "Hello"}),
        (Message.tool("4", tool_call_id="c"), {"role": "tool", "tool_call_id": "c", "content": "4"}),
        (
            Message.assistant(tool_calls=(CALL,)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a":1}'},
                    }
                ],
            },
        ),
        (
            Message("assistant", (), tool_calls=(CALL,)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a":1}'},
                    }
                ],
            },
        ),
        (
            Message.user((TextPart("Look:" + LONE), DataPart({"a": [1, "é"]}))),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:\ufffd"},
                    {"type": "text", "text": '{"a":[1,"é"]}'},
                ],
            },
        ),
    ],
)
def test_a_message_has_the_shape_of_openais_chat_format(message: Message, shape: dict[str, object]) -> None:
    assert chat_format(message) == shape
    assert json.loads(message.wire) == shape


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (
            FilePart("https://host/a.png", mime_type="image/png"),
            {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
        ),
        (
            FilePart.of(b"png", mime_type="image/png"),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        ),
        (
            FilePart.of(b"wav", mime_type="audio/wav"),
            {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
        ),
        (
            FilePart.of(b"mp3", mime_type="audio/mpeg"),
            {"type": "input_audio", "input_audio": {"data": "bXAz", "format": "mp3"}},
        ),
        (
            FilePart.of(b"wav", mime_type="audio/x-wav"),
            {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
        ),
        (
            FilePart("https://host/a.mp3", mime_type="audio/mpeg"),
            {"type": "file", "file": {"file_id": "https://host/a.mp3"}},
        ),
        (
            FilePart("https://host/a.pdf", mime_type="application/pdf", name="a.pdf"),
            {"type": "file", "file": {"file_id": "https://host/a.pdf", "filename": "a.pdf"}},
        ),
        (
            FilePart.of(b"pdf", mime_type="application/pdf", name="a.pdf"),
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "a.pdf"}},
        ),
        (
            FilePart.of(b"pdf", mime_type="application/pdf"),
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "file.pdf"},
            },
        ),
        (
            FilePart.of(b"?", mime_type="x/unheard-of"),
            {"type": "file", "file": {"file_data": "data:x/unheard-of;base64,Pw==", "filename": "file"}},
        ),
    ],
)
def test_a_file_is_shown_by_its_media_type(part: FilePart, shape: dict[str, object]) -> None:
    """An inline file without a name is refused by OpenAI (it then asks for a `file_id`), and sound is "mp3" there, not "mpeg"."""
    assert chat_format(Message.user((part,)))["content"] == [shape]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("add", "add"),
        ("functions.add", "functions_add"),
        ("", "_"),
        ("a b" * 40, ("a_b" * 40)[:64]),
        (LONE, "_"),
    ],
)
def test_a_tools_name_that_no_api_takes_back_is_mended_on_the_way(name: str, sent: str) -> None:
    """Else one invented name would make every further request of the conversation fail with 400."""
    message = Message.assistant(tool_calls=(replace(CALL, name=name),))

    assert chat_format(message)["tool_calls"][0]["function"]["name"] == sent


def test_a_message_is_turned_into_bytes_once() -> None:
    message = Message("assistant", "Hi", extra={"thinking_blocks": [{"signature": "s"}]})

    assert message.wire is message.wire
    assert message.wire_back is message.wire_back
    assert json.loads(message.wire) == {"role": "assistant", "content": "Hi"}
    assert json.loads(message.wire_back) == {
        "role": "assistant",
        "content": "Hi",
        "thinking_blocks": [{"signature": "s"}],
    }


def test_what_a_provider_wants_back_never_replaces_what_was_said() -> None:
    message = Message("assistant", "Hi", extra={"content": "other", "role": "user", "score": math.nan})

    assert json.loads(message.wire_back) == {"role": "assistant", "content": "Hi", "score": None}
    assert Message.assistant("Hi").wire_back is not None
    assert json.loads(Message.assistant("Hi").wire_back) == {"role": "assistant", "content": "Hi"}


def test_the_kept_bytes_are_no_part_of_a_messages_value() -> None:
    used, fresh = Message.user("Hi"), Message.user("Hi")
    assert used.wire

    assert used == fresh
    assert repr(used) == repr(fresh)
    assert pickle.loads(pickle.dumps(used)) == fresh
    assert json.loads(replace(used, content="Bye").wire) == {"role": "user", "content": "Bye"}


def test_the_text_of_a_message_is_its_text_parts_joined() -> None:
    assert Message.user("Hi").text == "Hi"
    parts = (TextPart("a"), FilePart("https://host/"), DataPart(1), TextPart("b"))
    assert Message.user(parts).text == "ab"


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (TextPart(LONE), TextPart("\ufffd")),
        (DataPart({"when": date(2026, 1, 2)}), DataPart({"when": "2026-01-02"})),
        (FilePart("https://host/"), FilePart("https://host/")),
    ],
)
def test_a_plain_part_has_nothing_in_it_but_what_json_knows(part: Part, made: Part) -> None:
    assert plain(part) == made


def test_a_part_that_has_no_json_form_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        plain(DataPart(object()))


def test_usage_adds_up() -> None:
    one = Usage(input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4)

    assert one + one == Usage(input_tokens=2, output_tokens=4, cached_tokens=6, reasoning_tokens=8)
    assert (one.total_tokens, Usage().total_tokens) == (3, 0)


@pytest.mark.parametrize("make", [Message.user, lambda text: Message.tool(text, tool_call_id="c")])
@given(text=st.text() | surrogates)
def test_every_text_has_bytes(make: Callable[[str], Message], text: str) -> None:
    assert json.loads(make(text).wire)["content"] == whole(text)
