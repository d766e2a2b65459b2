"""Python values as JSON, and JSON as models write it: whatever comes in, nothing odd goes on."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
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
    Message,
    ToolCall,
    jsonable,
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
