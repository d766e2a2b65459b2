"""How a tool ends otherwise than with a result: it raises, it is late, it is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
import reactivex as rx
from pydantic import AfterValidator
from reactivex import Observable
from reactivex.disposable import Disposable

from looopy.events import (
    ToolComplete,
    ToolEvent,
    ToolProgress,
)
from looopy.messages import ToolCall
from looopy.ports import ToolContext
from looopy.tools.function import FunctionTools, tool
from tools.calling import BOUND, answer, call_context, failed, heard, until


class Broken(Exception):
    pass


class Rude(BaseException):
    pass


def raising(error: BaseException) -> list[Callable[..., Any]]:
    async def coroutine() -> None:
        raise error

    def thread() -> None:
        raise error

    async def async_generator() -> AsyncIterator[Any]:
        raise error
        yield

    def generator() -> Iterator[Any]:
        raise error
        yield

    return [coroutine, thread, async_generator, generator]


async def test_what_a_tool_raises_is_the_error_of_the_stream() -> None:
    error = Broken("no")

    def observable() -> Observable[Any]:
        return rx.throw(error)

    for function in [*raising(error), observable]:
        with pytest.raises(Broken) as raised:
            await heard(function).all()
        assert raised.value is error


async def test_a_validator_that_breaks_is_the_error_of_the_stream() -> None:
    async def give(number: Breaking) -> None:
        raise NotImplementedError

    with pytest.raises(Broken):
        await heard(give, {"number": 1}).all()


def _break(number: int) -> int:
    raise Broken


Breaking = Annotated[int, AfterValidator(_break)]


async def test_an_error_after_some_progress_comes_after_it() -> None:
    async def work() -> AsyncIterator[Any]:
        yield "first"
        raise Broken("no")

    listening = heard(work)
    with pytest.raises(Broken):
        await listening.all()
    assert listening.events == [ToolProgress(note="first")]


async def test_an_error_while_closing_after_the_answer_is_the_error_instead_of_it() -> None:
    async def work() -> AsyncIterator[Any]:
        try:
            yield ToolComplete(result="enough")
        finally:
            raise Broken("no")

    listening = heard(work)
    with pytest.raises(Broken):
        await listening.all()
    assert listening.events == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (asyncio.CancelledError(), "the tool raised CancelledError"),
        (KeyboardInterrupt("stop"), "the tool raised KeyboardInterrupt: stop"),
        (SystemExit(3), "the tool raised SystemExit: 3"),
        (Rude(), "the tool raised Rude"),
    ],
)
async def test_a_tool_cannot_end_the_loop_with_an_exception_that_is_not_meant_for_it(
    error: BaseException, message: str
) -> None:
    for function in raising(error):
        assert await answer(function) == failed(type(error).__name__, message)


@pytest.mark.parametrize("function", [0, 1])
async def test_stop_iteration_out_of_a_tool_is_an_ordinary_error(function: int) -> None:
    with pytest.raises(RuntimeError):
        await heard(raising(StopIteration())[function]).all()


async def test_an_observer_s_own_error_is_not_the_tool_s() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: told.append(said["exception"]))

    async def work() -> AsyncIterator[Any]:
        yield "first"
        raise NotImplementedError

    def refuse(event: ToolEvent) -> None:
        raise Broken(event)

    errors: list[Exception] = []
    FunctionTools([work]).call(ToolCall("1", "work"), call_context()).subscribe(refuse, errors.append)
    await until(lambda: bool(told))

    assert [type(each) for each in told] == [Broken]
    assert errors == []


async def test_a_timeout_is_a_failure_that_the_model_reads_whatever_kind_of_tool_it_is() -> None:
    release = threading.Event()
    told: list[bool] = []

    async def coroutine(context: ToolContext[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append(context.cancelled())

    async def async_generator(context: ToolContext[Any]) -> AsyncIterator[Any]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            told.append(context.cancelled())

    def observable(context: ToolContext[Any]) -> Observable[Any]:
        return Observable(
            lambda observer, scheduler=None: Disposable(lambda: told.append(context.cancelled()))
        )

    def thread(context: ToolContext[Any]) -> None:
        release.wait(BOUND)
        told.append(context.cancelled())

    def generator(context: ToolContext[Any]) -> Iterator[Any]:
        release.wait(BOUND)
        told.append(context.cancelled())
        yield

    for function in (coroutine, async_generator, observable, thread, generator):
        name = function.__name__
        event = await answer(tool(function, timeout=0.001))
        assert event == failed(
            "ToolTimeout", f"the tool {name!r} did not finish within 0.001 s", retryable=True
        )
        release.set()
        await until(lambda: told == [True])
        told.clear()
        release.clear()


async def test_a_tool_within_its_time_is_told_nothing_and_leaves_no_clock_behind() -> None:
    async def work(context: ToolContext[Any]) -> bool:
        return context.cancelled()

    limited = tool(work, timeout=BOUND)

    assert await answer(limited) == ToolComplete(result=False)
    assert await answer(limited, cancelled=lambda: True) == ToolComplete(result=True)
    pending = [each for each in vars(asyncio.get_running_loop())["_scheduled"] if not each.cancelled()]
    assert pending == []


@pytest.mark.parametrize("timeout", [None, BOUND])
async def test_disposing_cancels_an_async_tool_at_once(timeout: float | None) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    await dispose_after(begun, tool(work, timeout=timeout), ended)


async def test_disposing_closes_an_async_generator() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> AsyncIterator[Any]:
        try:
            yield "first"
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    await dispose_after(begun, work, ended)


async def test_disposing_disposes_of_an_observable() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    def work() -> Observable[Any]:
        def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
            begun.set()
            return Disposable(ended.set)

        return Observable(subscribe)

    await dispose_after(begun, work, ended)


async def test_disposing_closes_a_generator_at_its_next_step() -> None:
    loop = asyncio.get_running_loop()
    begun, ended, release = asyncio.Event(), asyncio.Event(), threading.Event()

    def work() -> Iterator[Any]:
        try:
            yield "first"
            loop.call_soon_threadsafe(begun.set)
            release.wait(BOUND)
            yield "second"
            raise NotImplementedError
        finally:
            loop.call_soon_threadsafe(ended.set)

    await dispose_after(begun, work, ended, release=release.set)


async def dispose_after(
    begun: asyncio.Event,
    function: Callable[..., Any],
    ended: asyncio.Event,
    *,
    release: Callable[[], None] = bool,
) -> None:
    listening = heard(function)
    async with asyncio.timeout(BOUND):
        await begun.wait()
    seen = list(listening.events)
    listening.subscription.dispose()
    await asyncio.sleep(0)
    release()
    async with asyncio.timeout(BOUND):
        await ended.wait()
    await asyncio.sleep(0)
    assert (listening.events, listening.over.is_set()) == (seen, False)
