"""Functions as tools: what `tool` and `FunctionTools` take, and how each kind of function runs."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel

from looopy.errors import ConfigurationError
from looopy.events import (
    InputRequired,
    ToolComplete,
    ToolEvent,
)
from looopy.messages import ToolCall
from looopy.ports import ToolContext, ToolDefinition, ToolProvider
from looopy.state import LoopState
from looopy.tools.function import FunctionTools, tool
from tools.calling import BOUND, Heard, answer, call_context, failed, heard


@tool
def calculate(expression: str) -> float:
    """Work out an expression."""
    return float(expression)


@tool(name="find", description="Find it.", timeout=5)
async def search(query: str, *, limit: int = 3) -> list[str]:
    return [query] * limit


async def test_a_tool_is_still_the_function_that_it_was_made_of() -> None:
    assert calculate("3") == 3.0
    assert await search("a", limit=2) == ["a", "a"]
    assert inspect.signature(calculate) == inspect.signature(calculate.function)


def test_a_tool_can_be_told_a_name_a_description_and_a_timeout() -> None:
    assert (search.name, search.definition.description, search.timeout) == ("find", "Find it.", 5)


def test_a_tool_of_a_tool_keeps_what_is_not_said_anew() -> None:
    other = tool(search, name="look")
    same = tool(other, timeout=1)

    assert (other.name, other.definition.description, other.timeout) == ("look", "Find it.", 5)
    assert (same.name, same.definition.description, same.timeout) == ("look", "Find it.", 1)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_no_span_of_time_is_refused(timeout: float) -> None:
    with pytest.raises(
        ConfigurationError, match=r"tool 'calculate': timeout=.* must be a positive number of seconds"
    ):
        tool(calculate, timeout=timeout)


def test_a_provider_gives_the_definitions_in_order_and_is_a_tool_provider() -> None:
    def plain() -> None:
        raise NotImplementedError

    provider = FunctionTools([calculate, plain, search])
    state = LoopState(task_id="", context_id="")

    assert [each.name for each in provider.tools(state)] == ["calculate", "plain", "find"]
    assert provider.tools(state) is provider.tools(state)
    assert all(isinstance(each, ToolDefinition) for each in provider.tools(state))
    assert isinstance(provider, ToolProvider)
    assert repr(provider) == "FunctionTools(['calculate', 'plain', 'find'])"


def test_two_tools_of_one_name_are_refused_with_both_their_places() -> None:
    def one() -> None:
        raise NotImplementedError

    def two() -> None:
        raise NotImplementedError

    with pytest.raises(ConfigurationError) as raised:
        FunctionTools([one, tool(two, name="one")])

    places = [f"{__file__}:{each.__code__.co_firstlineno}" for each in (one, two)]
    assert str(raised.value) == (
        f"two tools are named 'one': the one at {places[0]} and the one at {places[1]}; "
        "give one of them another name with tool(function, name=…)"
    )


@pytest.mark.parametrize("thing", [3, "calculate", BaseModel])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="is no function: a tool is a function, a bound method or an object"
    ):
        FunctionTools([thing])


def test_the_same_tool_twice_is_one_tool() -> None:
    assert repr(FunctionTools([calculate, calculate])) == "FunctionTools(['calculate'])"


async def test_an_unknown_tool_is_answered_with_the_names_that_there_are() -> None:
    some, none = FunctionTools([calculate, search]), FunctionTools([])

    assert await Heard(some.call(ToolCall("1", "sqrt"), call_context())).all() == [
        failed("UnknownTool", "there is no tool 'sqrt'. The tools are: calculate, find")
    ]
    assert await Heard(none.call(ToolCall("1", "sqrt"), call_context())).all() == [
        failed("UnknownTool", "there is no tool 'sqrt'. The tools are: none")
    ]


class Box:
    def get(self, word: str) -> str:
        return word.upper()

    def __call__(self, word: str) -> str:
        return word.lower()


class AsyncBox:
    async def __call__(self, word: str) -> str:
        return word * 2


def in_a_thread(word: str) -> str:
    return f"{word}:{threading.current_thread() is threading.main_thread()}"


async def on_the_loop(word: str) -> str:
    return f"{word}:{threading.current_thread() is threading.main_thread()}"


def a_future(word: str) -> asyncio.Future[str]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(word)
    return future


def an_awaitable(word: str):
    return on_the_loop(word)


def positional(word: str, /, times: int, *, end: str) -> str:
    return word * times + end


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (in_a_thread, {"word": "a"}, "a:False"),
        (on_the_loop, {"word": "a"}, "a:True"),
        (a_future, {"word": "a"}, "a"),
        (an_awaitable, {"word": "a"}, "a:True"),
        (functools.partial(in_a_thread, "a"), {}, "a:False"),
        (functools.partial(on_the_loop, word="a"), {}, "a:True"),
        (functools.partial(AsyncBox()), {"word": "a"}, "aa"),
        (Box().get, {"word": "a"}, "A"),
        (Box(), {"word": "A"}, "a"),
        (AsyncBox(), {"word": "a"}, "aa"),
        (positional, {"end": ".", "times": 2, "word": "a"}, "aa."),
    ],
)
async def test_every_kind_of_callable_runs_with_the_model_s_arguments(
    function: Callable[..., Any], arguments: dict[str, Any], result: str
) -> None:
    assert await answer(function, arguments) == ToolComplete(result=result)


@dataclasses.dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (0, 0),
        (False, False),
        ("", ""),
        (None, None),
        ([], []),
        (Point(1, 2), {"x": 1, "y": 2}),
        ((1, {2}), [1, [2]]),
    ],
)
async def test_results_become_json_and_falsy_ones_stay_what_they_are(value: Any, result: Any) -> None:
    async def give() -> Any:
        return value

    def give_slowly() -> Any:
        return value

    for function in (give, give_slowly):
        event = await answer(function)
        assert event == ToolComplete(result=result)
        assert isinstance(event, ToolComplete)
        assert type(event.result) is type(result)


async def test_a_result_without_json_form_is_told_with_its_type_and_the_mend() -> None:
    async def give() -> object:
        return object()

    assert await answer(give) == failed(
        "UnserializableResult",
        "the tool 'give' returned a object that has no JSON form (Unable to serialize unknown type: <class 'object'>); "
        "return text, numbers, lists, dicts, dataclasses or pydantic models",
    )


async def test_a_coroutine_as_result_is_a_forgotten_await_and_is_told_so() -> None:
    async def look_up() -> str:
        return "rain"

    async def give() -> object:
        return look_up()

    assert await answer(give) == failed(
        "UnserializableResult",
        "the tool 'give' returned a coroutine that nobody awaited; write `return await …`",
    )


async def test_a_whole_answer_may_be_returned() -> None:
    said, asked = failed("Sorry", "not today"), InputRequired(input_id="1", prompt="Sure?")

    async def say() -> ToolComplete:
        return said

    def ask() -> InputRequired:
        return asked

    assert [await answer(say), await answer(ask)] == [said, asked]


async def test_a_thread_sees_the_caller_s_context_variables() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("seen")

    assert await answer(tool(lambda: variable.get("none"), name="read")) == ToolComplete(result="seen")


async def test_each_subscription_runs_the_tool_once() -> None:
    runs: list[int] = []

    async def count() -> int:
        runs.append(1)
        return len(runs)

    calls = FunctionTools([count]).call(ToolCall("1", "count"), call_context())
    assert runs == []
    assert [await Heard(calls).all(), await Heard(calls).all()] == [
        [ToolComplete(result=1)],
        [ToolComplete(result=2)],
    ]


def test_a_tool_runs_without_a_loop_of_the_caller_s_too() -> None:
    for timeout in (None, BOUND):
        events: list[ToolEvent] = []
        over = threading.Event()
        calls = tool(on_the_loop, timeout=timeout).call(
            ToolCall("1", "on_the_loop", {"word": "a"}), call_context()
        )
        calls.subscribe(events.append, on_completed=over.set)

        assert over.wait(BOUND)
        assert events == [ToolComplete(result="a:False")]


async def test_a_tool_is_given_the_context_of_its_call_wherever_it_asks_for_it() -> None:
    async def first(context: ToolContext[int], word: str) -> str:
        return f"{word}:{context.deps}"

    def positional_only(context: ToolContext, /, **words: str) -> str:
        return f"{words}:{context.call_id}"

    assert await answer(first, {"word": "a"}, deps=3) == ToolComplete(result="a:3")
    assert await answer(positional_only, {"context": "mine"}) == ToolComplete(result="{}:call")


async def test_a_tool_may_ask_and_its_question_is_the_event() -> None:
    async def delete(context: ToolContext[Any]) -> Any:
        return context.ask("Delete?", input_type="confirmation")

    def delete_in_thread(context: ToolContext[Any]) -> Any:
        return context.ask("Delete?", input_type="confirmation")

    async def delete_later(context: ToolContext[Any]) -> AsyncIterator[Any]:
        yield context.ask("Delete?", input_type="confirmation")

    asked = InputRequired(
        input_id="call", call_id="call", tool_name="tool", prompt="Delete?", input_type="confirmation"
    )
    for function in (delete, delete_in_thread, delete_later):
        assert await heard(function).all() == [asked]
    assert await answer(delete, inputs={"call": True}) == ToolComplete(result=True)
