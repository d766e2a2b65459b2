"""Tools that yield: generators of both kinds and Observables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import Disposable

from looopy.events import (
    Artifact,
    ArtifactUpdate,
    ToolComplete,
    ToolProgress,
)
from looopy.messages import ToolCall
from looopy.tools.function import FunctionTools, tool
from tools.calling import BOUND, Heard, call_context, heard

STEPS: list[Any] = [0, 0.5, "half", (0.75, "nearly"), 2, True, (3, "three"), {"rows": 3}]
SHOWN = [
    ToolProgress(progress=0.0),
    ToolProgress(progress=0.5),
    ToolProgress(note="half"),
    ToolProgress(progress=0.75, note="nearly"),
    ToolProgress(data=2),
    ToolProgress(data=True),
    ToolProgress(data=[3, "three"]),
    ToolProgress(data={"rows": 3}),
]


async def async_steps() -> AsyncIterator[Any]:
    for step in STEPS:
        yield step


def steps() -> Iterator[Any]:
    yield from STEPS


def observed_steps() -> Observable[Any]:
    return rx.from_iterable(STEPS)


def returned_steps() -> Any:
    return async_steps()


async def awaited_steps() -> Observable[Any]:
    return rx.from_iterable(STEPS)


@pytest.mark.parametrize("function", [async_steps, steps, observed_steps, returned_steps, awaited_steps])
async def test_each_item_is_shown_as_progress_and_the_last_one_is_the_result(
    function: Callable[..., Any],
) -> None:
    assert await heard(function).all() == [*SHOWN, ToolComplete(result={"rows": 3})]


async def test_events_are_shown_as_they_are_and_are_no_result() -> None:
    made = ArtifactUpdate(artifact=Artifact(artifact_id="a"))
    told = ToolProgress(progress=1.0, note="done")

    async def work() -> AsyncIterator[Any]:
        yield "the result"
        yield made
        yield told

    events = await heard(work).all()

    assert events == [ToolProgress(note="the result"), made, told, ToolComplete(result="the result")]


async def test_a_complete_answer_in_the_middle_ends_the_tool() -> None:
    closed: list[str] = []

    async def work() -> AsyncIterator[Any]:
        try:
            yield ToolComplete(result="enough")
            raise NotImplementedError
        finally:
            closed.append("closed")

    assert await heard(work).all() == [ToolComplete(result="enough")]
    assert closed == ["closed"]


async def test_a_generator_s_return_value_is_the_result() -> None:
    def work() -> Iterator[Any]:
        yield 0.5
        return "done"

    assert await heard(work).all() == [ToolProgress(progress=0.5), ToolComplete(result="done")]


async def test_a_tool_that_yields_nothing_answers_null() -> None:
    async def work() -> AsyncIterator[Any]:
        for each in ():
            yield each

    assert await heard(work).all() == [ToolComplete(result=None)]


async def test_an_item_without_json_form_is_shown_as_text_and_is_a_failure_as_a_result() -> None:
    async def work() -> AsyncIterator[Any]:
        yield object
        yield "fine"
        yield object

    shown = ToolProgress(data="<class 'object'>")
    events = await heard(work).all()

    assert events[:-1] == [shown, ToolProgress(note="fine"), shown]
    assert isinstance(events[-1], ToolComplete)
    assert events[-1].error is not None
    assert events[-1].error.type == "UnserializableResult"


@pytest.mark.parametrize("kind", ["async", "thread", "observable"])
async def test_progress_is_shown_before_the_tool_goes_on(kind: str) -> None:
    go_on = asyncio.Event() if kind != "thread" else threading.Event()

    async def async_work() -> AsyncIterator[Any]:
        yield "first"
        await go_on.wait()  # type: ignore[misc]
        yield "second"

    def thread_work() -> Iterator[Any]:
        yield "first"
        go_on.wait()
        yield "second"

    def observable_work() -> Observable[Any]:
        return rx.concat(rx.of("first"), rx.from_future(asyncio.ensure_future(second())))

    async def second() -> str:
        await go_on.wait()  # type: ignore[misc]
        return "second"

    work = {"async": async_work, "thread": thread_work, "observable": observable_work}[kind]
    listening = heard(tool(work, name="work"))
    async with asyncio.timeout(BOUND):
        await listening.any.wait()

    assert listening.events == [ToolProgress(note="first")]
    go_on.set()
    assert (await listening.all())[1:] == [ToolProgress(note="second"), ToolComplete(result="second")]


async def test_a_generator_runs_in_one_thread_from_its_first_step_to_its_last() -> None:
    def work() -> Iterator[Any]:
        yield str(threading.get_ident())
        yield str(threading.get_ident())

    first, second, _ = await heard(work).all()

    assert first == second != ToolProgress(note=str(threading.get_ident()))


async def test_items_from_a_foreign_thread_arrive_on_the_loop_s_thread() -> None:
    threads: list[bool] = []

    def work() -> Observable[str]:
        def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
            def emit() -> None:
                observer.on_next("a")
                observer.on_completed()

            threading.Thread(target=emit).start()
            return Disposable()

        return Observable(subscribe)

    calls = FunctionTools([work]).call(ToolCall("1", "work"), call_context())
    seen = calls.pipe(
        ops.do_action(lambda _: threads.append(threading.current_thread() is threading.main_thread()))
    )

    assert await Heard(seen).all() == [ToolProgress(note="a"), ToolComplete(result="a")]
    assert threads == [True, True]


async def test_time_operators_in_an_observable_run_on_the_loop() -> None:
    def work() -> Observable[str]:
        return rx.timer(0.0).pipe(
            ops.map(lambda _: str(threading.current_thread() is threading.main_thread()))
        )

    assert (await heard(work).all())[-1] == ToolComplete(result="True")
