"""An answer of a type while it is being written."""

from __future__ import annotations

import time
from datetime import date
from enum import Enum
from typing import Any

import pytest
import reactivex as rx
from pydantic import BaseModel, field_validator

from looopy import AgentLoop, LLMResponse, Message, Output, partials
from looopy.errors import ConfigurationError, ModelFailed
from looopy.events import ContentDelta, ContentReset, Event, LLMCall, ToolCallDelta
from looopy.testing import ScriptedModel, calls, run_virtual, says


class Size(Enum):
    SMALL = "small"


class Item(BaseModel):
    name: str
    size: Size | None = None


class Order(BaseModel):
    by: str
    due: date
    items: list[Item] = []


def seen(output_type: Any, *events: Event) -> list[Any]:
    shown: list[Any] = []
    rx.of(*events).pipe(partials(output_type)).subscribe(shown.append)
    return shown


def text(*pieces: str) -> list[Event]:
    return [ContentDelta(delta=piece) for piece in pieces]


def test_an_object_grows_text_grows_and_what_is_half_written_waits() -> None:
    pieces = [
        '{"by": "A',
        "da",
        '", "due": "2026',
        '-01-02", "items": [',
        '{"name": "nut',
        '", "size": "sm',
        'all"}, {"na',
        "me",
        '": "b"}]}',
    ]

    assert seen(Order, *text(*pieces)) == [
        {"by": "A"},
        {"by": "Ada"},
        {"by": "Ada", "due": "2026-01-02", "items": []},
        {"by": "Ada", "due": "2026-01-02", "items": [{"name": "nut"}]},
        {"by": "Ada", "due": "2026-01-02", "items": [{"name": "nut", "size": "small"}, {}]},
        {"by": "Ada", "due": "2026-01-02", "items": [{"name": "nut", "size": "small"}, {"name": "b"}]},
    ]


def test_a_number_waits_until_it_cannot_go_on() -> None:
    assert seen(list[int], *text('{"result": [1', "2, -", "3", "]}")) == [[12], [12, -3]]


def test_an_answer_that_is_no_object_comes_without_its_wrap() -> None:
    assert seen(list[Item] | None, *text('{"res', 'ult": [', '{"name": "a"', "}]}")) == [[{"name": "a"}]]
    assert seen(list[Item], *text('[{"name": "a"}]')) == []


def test_prose_and_fences_around_it_are_passed_over() -> None:
    assert seen(Order, *text("Sure:\n``", "`json\n{", '"by": "A"', "}\n```\nBye {}")) == [{"by": "A"}]
    assert seen(Order, *text("I cannot.")) == []
    assert seen(Order, *text("{oops", '"by": "A"}')) == []


def test_it_begins_anew_with_each_answer() -> None:
    events = [
        LLMCall(iteration=1),
        *text('{"by": "A"}'),
        LLMCall(iteration=2),
        *text('{"by": "B'),
        ContentReset(),
        *text('{"by": "C"}'),
    ]

    assert seen(Order, *events) == [{"by": "A"}, {"by": "B"}, {"by": "C"}]


def test_the_arguments_of_the_call_that_gives_the_answer_are_it() -> None:
    def piece(call_id: str, delta: str, name: str = "final_answer") -> Event:
        return ToolCallDelta(call_id=call_id, tool_name=name, delta=delta)

    events = [
        *text('{"by": "no"'),
        piece("a", '{"path": "x"}', "delete"),
        piece("b", ""),
        piece("b", '{"by": "A', ""),
        *text("hm {"),
        piece("b", 'da"}'),
        piece("c", '{"by": "B"}'),
    ]

    assert seen(Order, *events) == [{"by": "no"}, {"by": "A"}, {"by": "Ada"}, {"by": "B"}]


def test_a_validator_that_breaks_shows_what_is_settled() -> None:
    class Shy(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, name: str) -> str:
            raise ZeroDivisionError

    assert seen(Shy, *text('{"name": "a', 'b"}')) == [{"name": "ab"}]


def test_a_run_shows_its_answer_as_it_is_written_and_then_has_it() -> None:
    async def main() -> None:
        said = says('{"by": "A"', ', "due": "2026-01-02"', "}", every=1)
        run = AgentLoop(llm_provider=ScriptedModel(said)).execute(
            "go", output_type=Output(Order, mode="prompt")
        )
        shown: list[Any] = []
        run.pipe(partials(Order)).subscribe(shown.append)

        assert (await run).output == Order(by="A", due=date(2026, 1, 2))
        assert shown == [{"by": "A"}, {"by": "A", "due": "2026-01-02"}]

    run_virtual(main())


async def test_a_tools_answer_is_shown_too() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(calls("final_answer", result=[1, 2]))).execute(
        "go", output_type=list[int]
    )

    assert await run.pipe(partials(list[int])) == [1, 2]


def test_errors_and_other_events_go_their_way() -> None:
    failed = ModelFailed("down")
    heard: list[Any] = []
    other = LLMResponse(message=Message.assistant("x"))
    rx.concat(rx.of(other), rx.throw(failed)).pipe(partials(Order)).subscribe(heard.append, heard.append)

    assert heard == [failed]


def test_text_has_no_partials() -> None:
    with pytest.raises(ConfigurationError, match="content-delta"):
        partials(str)


def test_a_long_answer_is_not_read_again_for_every_piece() -> None:
    """Reading it all for each of 20,000 pieces would take a minute."""
    pieces = text('{"result": [', *(f'"{n}", ' for n in range(20_000)), '"end"]}')
    began = time.process_time()

    shown = seen(list[str], *pieces)

    assert shown[-1] == [*map(str, range(20_000)), "end"]
    assert len(shown) < 1_000
    assert time.process_time() - began < 5
