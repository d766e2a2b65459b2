"""The arguments that a model gives: read, or answered field by field."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

from looopy.events import (
    ToolComplete,
    ToolEvent,
)
from looopy.messages import ToolCall
from looopy.tools.function import FunctionTools, tool
from tools.calling import Heard, answer, call_context, failed, heard


def in_a_thread(word: str) -> str:
    raise NotImplementedError


async def on_the_loop(word: str) -> str:
    raise NotImplementedError


def even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


class Item(BaseModel, extra="forbid"):
    name: str
    count: int = 1


async def order(
    query: str,
    limit: int = 3,
    items: list[Item] | None = None,
    pairs: Annotated[int, AfterValidator(even)] = 0,
    letters: str = "",
) -> str:
    return f"{query} {limit} {items} {pairs}"


async def test_arguments_are_read_as_pydantic_reads_them() -> None:
    given = {"query": "q", "limit": "3", "items": [{"name": "pen"}]}

    assert await answer(order, given) == ToolComplete(result="q 3 [Item(name='pen', count=1)] 0")


async def test_wrong_arguments_are_told_field_by_field_and_never_run_the_function() -> None:
    given = {
        "querry": "q",
        "limit": "ten",
        "items": [{"name": "pen"}, {"name": 3, "cuont": 2}, {}],
        "pairs": 3,
        "letters": ["x" * 300],
        "zzz": 1,
    }

    assert await answer(order, given) == failed(
        "InvalidArguments",
        "9 problems with the arguments of 'order':\n"
        "- query: missing, and it is required\n"
        "- limit: Input should be a valid integer, unable to parse string as an integer, got 'ten'\n"
        "- items[1].name: Input should be a valid string, got 3\n"
        "- items[1].cuont: Extra inputs are not permitted, got 2\n"
        "- items[2].name: missing, and it is required\n"
        "- pairs: Value error, 3 is odd, got 3\n"
        f"- letters: Input should be a valid string, got ['{'x' * 198}…\n"
        "- querry: unexpected argument; did you mean 'query'? The arguments are: query, limit, items, pairs, letters\n"
        "- zzz: unexpected argument; The arguments are: query, limit, items, pairs, letters",
    )


async def test_one_problem_is_told_in_the_singular_and_hundreds_are_cut() -> None:
    async def ping() -> str:
        raise NotImplementedError

    many = {f"a{number}": 1 for number in range(30)}
    one, thirty = await answer(ping, {"host": "a"}), await answer(ping, many)

    assert one == failed(
        "InvalidArguments",
        "1 problem with the arguments of 'ping':\n- host: unexpected argument; there are no arguments",
    )
    assert isinstance(thirty, ToolComplete)
    assert thirty.error is not None
    lines = thirty.error.message.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (
        22,
        "30 problems with the arguments of 'ping':",
        "- and 10 more",
    )


@pytest.mark.parametrize("function", [on_the_loop, in_a_thread])
async def test_wrong_arguments_and_unreadable_ones_are_answered_by_every_kind_of_tool(function: Any) -> None:
    provider = FunctionTools([function])
    call = ToolCall("1", function.__name__, {}, problem="the arguments are not valid JSON")

    assert await Heard(provider.call(call, call_context())).all() == [
        failed("InvalidArguments", "the arguments are not valid JSON")
    ]
    assert await answer(function) == failed(
        "InvalidArguments",
        f"1 problem with the arguments of '{function.__name__}':\n- word: missing, and it is required",
    )


async def test_a_schema_of_one_s_own_leaves_the_check_of_names() -> None:
    @tool(schema={"type": "object", "properties": {"when": {"type": "string"}}})
    async def remind(when, text: int = 0) -> Any:
        return [when, text]

    assert await answer(remind, {"when": "now", "text": "as it came"}) == ToolComplete(
        result=["now", "as it came"]
    )
    assert await answer(remind, {"whne": "now"}) == failed(
        "InvalidArguments",
        "2 problems with the arguments of 'remind':\n- when: missing, and it is required\n"
        "- whne: unexpected argument; did you mean 'when'? The arguments are: when, text",
    )


async def test_a_tool_cannot_change_the_call_that_is_in_the_history() -> None:
    async def drain(values: list[Any], options: dict[str, Any]) -> int:
        values[0].clear()
        options["inner"].clear()
        return len(values)

    given: dict[str, Any] = {"values": [[1]], "options": {"inner": [1]}}

    assert await answer(drain, given) == ToolComplete(result=1)
    assert given == {"values": [[1]], "options": {"inner": [1]}}


TEXT = st.text(st.characters(), max_size=8)  # lone surrogates too
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["query", "limit", "items", "pairs", "letters", "self"]) | TEXT


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6))
@settings(max_examples=200)
def test_any_json_object_as_arguments_is_answered(arguments: dict[str, Any]) -> None:
    async def anything(query: str, items: list[Item] | None = None, **rest: Any) -> str:
        return f"{query!r} {rest!r}"

    async def call() -> list[list[ToolEvent]]:
        return [await heard(function, arguments).all() for function in (order, anything)]

    for events in asyncio.run(call()):
        assert [type(event) for event in events] == [ToolComplete]
