"""The stand-in model: it reads the prompt, asks for a calculator, and says what it is."""

from __future__ import annotations

import datetime as dt
import gc
import json
import os
import subprocess
import sys
from enum import Enum
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from looopy import AgentLoop, ConfigurationError, LLMRequest, Output, StandInProvider
from looopy.messages import FilePart, Message, TextPart
from looopy.testing.script import Call
from looopy.testing.server import Received
from looopy.testing.smallest import smallest
from looopy.testing.standin import (
    MODEL,
    WHO,
    StandInEmbedder,
    expressions_in,
    serving_stand_in,
    stand_in_answer,
)


def calculate(expression: str) -> float:
    """Work out an arithmetic expression.

    Args:
        expression: for example "2 + 2".
    """
    return {"15 * 23 + 47": 392.0, "12 / 5": 2.4, "2 + 2": 4}[expression]


def evaluate(expression: str) -> str:
    """Another name for it."""
    return f"about {calculate(expression)}"


def search(query: str) -> str:
    """Something else."""
    return ""


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Calculate 15 * 23 + 47", ["15 * 23 + 47"]),
        ("What is 15 × 23 + 47?", ["15 * 23 + 47"]),
        ("(2+3)^2", ["(2+3)**2"]),
        ("12 / 5", ["12 / 5"]),
        ("84 ÷ 2 and 6·7.", ["84 / 2", "6 * 7"]),
        ("9\u22124", ["9 - 4"]),
        ("\u22123 * 2", ["-3 * 2"]),
        ("what is 2 plus 2", ["2 + 2"]),
        ("5 minus -3, then 3 times 4", ["5 - -3", "3 * 4"]),
        ("2 to the power of 10 divided by 4", ["2**10 / 4"]),
        ("3 x 4", ["3 * 4"]),
        ("1,000,000 + 5", ["1000000 + 5"]),
        ("(what is 2+2)", ["2+2"]),
        ("In 2024 15 * 3?", ["15 * 3"]),
        ("17 % 5", ["17 % 5"]),
        ("-5 degrees, version 1.2.3, on 2024-01-05, 15% of 200", []),
        ("((((((1", []),
        ("0()^0", []),
        ("2(3) + 4", ["(3) + 4"]),
        ("()*2 - 1", ["2 - 1"]),
        ("hello", []),
        ("", []),
    ],
)
def test_arithmetic_is_found_as_people_write_it(prompt, found):
    assert list(expressions_in(prompt)) == found


@given(st.text(alphabet="0123456789.+-*/%^()x, \tab"))
def test_what_is_found_is_always_arithmetic(text):
    for expression in expressions_in(text):
        compile(expression, "prompt", "eval")
        assert not set(expression) - set("0123456789.+-*/%() \t")


@pytest.mark.parametrize("text", ["1 " * 20_000, "(-" * 20_000, "1+" * 20_000, ")" * 20_000, "9" * 20_000])
@pytest.mark.timeout(10)
def test_a_huge_prompt_is_read_in_reasonable_time(text):
    list(expressions_in(text))


def answer_to(prompt, *tools):
    return AgentLoop(llm_provider="stand-in", tools=tools).execute(prompt)


async def test_arithmetic_is_worked_out_by_the_tool_and_told():
    result = await answer_to("Calculate 15 * 23 + 47", calculate)
    assert result.output == "The result of 15 × 23 + 47 is 392."
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "assistant"]
    assert (result.cost, result.usage.input_tokens > 0, result.usage.output_tokens > 0) == (None, True, True)


async def test_several_expressions_are_several_calls():
    result = await answer_to("12 / 5 and 2 + 2", search, calculate)
    assert result.output == "The result of 12 ÷ 5 is 2.4. The result of 2 + 2 is 4."


async def test_any_tool_with_one_text_called_expression_is_a_calculator():
    assert (await answer_to("2 + 2", evaluate)).output == "The result of 2 + 2 is about 4."


async def test_a_failed_calculation_is_told():
    output = (await answer_to("1 + 1", calculate)).output
    assert output.startswith("I could not work out 1 + 1: ")


async def test_without_a_calculator_it_says_what_it_would_need():
    assert (await answer_to("2 + 2", search)).output == (
        f"I see the arithmetic 2 + 2, but I work it out with a tool `calculate(expression)`, and was offered search. {WHO}"
    )
    assert "was offered none." in (await answer_to("2 + 2")).output


async def test_without_arithmetic_it_says_what_it_is():
    assert (await answer_to("Who are you?", calculate)).output == WHO
    assert "LITELLM_URL" in WHO


async def test_it_reads_the_newest_message_and_only_the_text_of_it():
    parts = (TextPart("2 + 2"), FilePart(url="http://localhost/3+3.png", mime_type="image/png"))
    assert (await answer_to(Message.user(parts), calculate)).output == "The result of 2 + 2 is 4."


async def test_it_answers_under_its_own_name_word_by_word():
    run = answer_to("Hello", calculate)
    events = [event async for event in run]
    deltas = [event.delta for event in events if event.kind == "content-delta"]
    (response,) = [event for event in events if event.kind == "llm-response"]
    assert deltas[:3] == ["I", " am", " looopy's"]
    assert (response.model, response.message.model) == (MODEL, MODEL)
    assert (StandInProvider().model, repr(StandInProvider())) == (MODEL, "StandInProvider()")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"


class Tree(BaseModel):
    left: Tree | Leaf
    right: Tree | None
    more: list[Tree] = []


class Everything(BaseModel):
    text: str
    short: str = Field(max_length=3)
    long: str = Field(min_length=12)
    day: dt.date
    count: int
    some: int = Field(ge=3)
    share: float = Field(gt=0, lt=1)
    debt: int = Field(lt=-10)
    dozens: int = Field(gt=0, multiple_of=12)
    yes: bool
    colour: Colour
    pair: tuple[int, str]
    two: list[Colour] = Field(min_length=2)
    named: dict[str, int]
    only: Literal["this"]
    anything: Any
    tree: Tree


@pytest.mark.parametrize("mode", ["tool", "native"])
async def test_a_typed_program_starts_on_it_with_a_small_value_that_fits(mode):
    run = AgentLoop(llm_provider="stand-in").execute("Hi", output_type=Output(Everything, mode=mode))
    result = await run
    assert {message.model for message in result.messages if message.role == "assistant"} == {MODEL}
    assert (
        result.output.model_dump()
        == Everything(
            text="stand-in",
            short="sta",
            long="stand-in....",
            day=dt.date(2000, 1, 1),
            count=0,
            some=3,
            share=0.125,
            debt=-11,
            dozens=12,
            yes=False,
            colour=Colour.RED,
            pair=(0, "stand-in"),
            two=[Colour.RED, Colour.RED],
            named={},
            only="this",
            anything=None,
            tree=Tree(left=Leaf(), right=None),
        ).model_dump()
    )


async def test_it_works_first_where_a_typed_answer_may_call_tools():
    run = AgentLoop(llm_provider="stand-in", tools=[calculate]).execute("2 + 2", output_type=int)
    events = [event async for event in run]
    assert [event.tool_name for event in events if event.kind == "tool-start"] == [
        "calculate",
        "final_answer",
    ]
    assert (await run).output == 0


def test_a_schema_that_has_no_end_gets_nothing():
    assert (smallest({"anyOf": [{"$ref": "#"}]}), smallest({"$ref": "#"})) == (None, None)


async def test_it_answers_under_its_own_name_also_where_another_model_is_asked_for():
    request = LLMRequest(messages=(Message.user("Hi"),), model="gpt-4o-mini")
    response = await StandInProvider().call(request)
    assert (response.model, response.message.model, response.message.text) == (MODEL, MODEL, WHO)


async def test_looopy_stand_in_puts_it_in_the_place_of_every_named_model(monkeypatch):
    monkeypatch.setenv("LOOOPY_STAND_IN", "1")
    monkeypatch.delenv("LITELLM_URL", raising=False)
    agent = AgentLoop(llm_provider="gpt-4o-mini", tools=[calculate])
    events = [event async for event in agent.execute("2 + 2")]
    assert {event.model for event in events if event.kind == "llm-response"} == {MODEL}
    assert events[-1].status.message.text == "The result of 2 + 2 is 4."


def test_looopy_stand_in_is_said_once_in_the_log():
    program = """
from looopy import AgentLoop
AgentLoop(llm_provider="stand-in")  # somebody asked for it: nothing to say
print("made", flush=True)
AgentLoop(llm_provider="gpt-4o-mini")
AgentLoop(llm_provider="claude-haiku-4-5")
"""
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LOOOPY_STAND_IN": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=25,
        check=True,
    )
    assert shown.stdout.splitlines() == [
        "made",
        "LOOOPY_STAND_IN=1: looopy's stand-in, which is no language model, answers in place of each model that is given by its name; unset it for real ones",
    ]


@pytest.mark.parametrize("value", ["", "0"])
def test_looopy_stand_in_that_is_empty_or_0_changes_nothing(monkeypatch, value):
    monkeypatch.setenv("LOOOPY_STAND_IN", value)
    for name in ("LITELLM_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no address of a LiteLLM proxy"):
        AgentLoop(llm_provider="gpt-4o-mini")


async def test_a_stand_in_that_stands_for_long_keeps_no_more_than_the_newest_requests():
    gc.collect()
    before = sum(isinstance(each, Received) for each in gc.get_objects())  # of other tests
    provider, embedder = StandInProvider(), StandInEmbedder()
    answers = [await provider.call(LLMRequest(messages=(Message.user("Hi"),))) for _ in range(150)]
    for _ in range(150):
        await embedder.embed(["a cat"])

    assert len({answer.response_id for answer in answers}) == 150
    assert sum(isinstance(each, Received) for each in gc.get_objects()) - before < 210


def test_looopy_stand_in_is_1_or_nothing(monkeypatch):
    monkeypatch.setenv("LOOOPY_STAND_IN", "yes")
    with pytest.raises(ConfigurationError, match="LOOOPY_STAND_IN='yes': set it to 1") as caught:
        AgentLoop(llm_provider="gpt-4o-mini")
    assert caught.value.argument == "LOOOPY_STAND_IN"


def test_a_request_that_forbids_tools_is_heeded_and_one_without_messages_is_answered():
    tools = [{"type": "function", "function": {"name": "calculate", "parameters": {"properties": {"x": {}}}}}]
    asked = {"messages": [{"role": "user", "content": "2 + 2"}], "tools": tools}
    assert stand_in_answer(asked).steps == (Call("calculate", '{"x":"2 + 2"}'),)
    assert stand_in_answer({**asked, "tool_choice": "none"}).asks == ()
    assert stand_in_answer({}).reason == "stop"
    other = [{"type": "function", "function": {"name": "calculate"}}]
    assert stand_in_answer({**asked, "tools": other}).asks == ()


def test_it_is_served_on_a_port_at_a_readable_pace():
    with serving_stand_in(every=0.001) as url:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        events = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).text.split("\n\n")
        models = httpx.get(f"{url}/v1/models", trust_env=False).json()
    words = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-2]]
    assert "".join(words) == WHO
    assert [model["id"] for model in models["data"]] == [MODEL]
