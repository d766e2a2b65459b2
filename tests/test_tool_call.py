"""One tool call: from `tool-start` to exactly one end, whatever the tool does in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import reactivex as rx
from agents import Work, agent_with, awaiting, complete, doing, events_of, of_tools, outcome
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from looopy import AgentLoop, Limits
from looopy.errors import LimitExceeded, ToolFailed
from looopy.events import (
    Failure,
    InputRequired,
    Status,
    StatusUpdate,
    ToolComplete,
    ToolEvent,
    ToolProgress,
    ToolStart,
)
from looopy.messages import ToolCall
from looopy.ports import ToolContext
from looopy.reactive import from_awaitable
from looopy.testing import ScriptedModel, calls, says

# -------------------------------------------------------------------------------------------------------- ways to end


async def test_a_result_is_named_after_its_call_and_timed() -> None:
    run = agent_with(doing(lambda _, __: rx.of(ToolComplete(result=42)), "work")).execute("go")

    events = await events_of(run)

    assert of_tools(events) == [ToolStart(call_id="call_1", tool_name="work"), complete(42)]
    assert [event.seconds >= 0 for event in events if isinstance(event, ToolComplete)] == [True]


async def test_a_provider_that_completes_without_a_result_is_answered_for() -> None:
    failure = Failure(type="NoResult", message="the tool 'work' ended without a result")

    assert await outcome(lambda _, __: rx.empty()) == [complete(error=failure)]


def both_at_once(*events: ToolEvent, error: Exception | None = None) -> Work:
    """A provider that emits while it is being subscribed to, and does not stop when it is told to."""

    def subscribe(
        observer: abc.ObserverBase[ToolEvent], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        for event in events:
            observer.on_next(event)
        if error is None:
            observer.on_completed()
        else:
            observer.on_error(error)
        return Disposable()

    return lambda _call, _context: Observable(subscribe)


@pytest.mark.parametrize(
    "late", [ToolComplete(result=2), ToolProgress(note="late"), InputRequired(input_id="i")]
)
@pytest.mark.parametrize("make", [rx.of, lambda *events: both_at_once(*events)(ToolCall("", ""), None)])
async def test_only_the_first_end_counts(make: Callable[..., Any], late: ToolEvent) -> None:
    assert await outcome(lambda _, __: make(ToolComplete(result=1), late)) == [complete(1)]


async def test_an_error_after_the_end_is_no_error() -> None:
    work = both_at_once(ToolComplete(result=1), error=ValueError("late"))
    run = agent_with(doing(work, "work"), on_tool_error="raise").execute("go")

    assert of_tools(await events_of(run))[1:] == [complete(1)]
    assert run.status == "completed"


async def test_a_provider_that_raises_in_call_is_answered_for() -> None:
    def work(call: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        raise KeyError("no such row")

    assert await outcome(work) == [
        complete(error=Failure(type="KeyError", message="KeyError('no such row')"))
    ]


async def test_an_error_is_told_without_its_credentials() -> None:
    error = RuntimeError("401 for https://me:hunter22@host")
    failure = Failure(type="RuntimeError", message="401 for https://***@host")

    assert await outcome(lambda _, __: rx.throw(error)) == [complete(error=failure)]


async def test_a_tool_that_fails_by_itself_has_no_result() -> None:
    failure = Failure(type="Full", message="no room \ud83d")
    work: Work = lambda _, __: rx.of(ToolComplete(result="half", error=failure))  # noqa: E731

    assert await outcome(work) == [complete(error=replace(failure, message="no room \ufffd"))]


async def test_a_tool_must_not_write_what_only_the_loop_may() -> None:
    ended = StatusUpdate(status=Status(state="completed"), final=True)

    events = await outcome(lambda _, __: rx.of(ended, ToolComplete(result=1)))  # pyright: ignore[reportArgumentType]

    message = "the tool 'work' emitted a StatusUpdate; a tool emits ToolProgress, ArtifactUpdate, InputRequired or ToolComplete"
    assert events == [complete(error=Failure(type="TypeError", message=message))]


async def test_a_question_is_named_after_its_call_and_the_task_waits() -> None:
    run = agent_with(doing(lambda _, __: rx.of(InputRequired(input_id="i", prompt="sure?")), "work")).execute(
        "go"
    )

    events = await events_of(run)

    question = InputRequired(input_id="i", call_id="call_1", tool_name="work", prompt="sure?")
    assert of_tools(events)[1:] == [question]
    assert run.status == "input-required"


async def test_a_question_may_come_as_an_error() -> None:
    def work(_: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        return rx.of(ToolComplete(result=context.ask("sure?")))

    question = InputRequired(input_id="call_1", call_id="call_1", tool_name="work", prompt="sure?")
    assert await outcome(work, on_tool_error="raise") == [question]


async def test_an_unknown_tool_is_answered_with_the_one_that_was_meant() -> None:
    run = agent_with(doing(lambda _, __: rx.empty(), "add", "divide"), asks=calls("divde")).execute("go")

    completed = of_tools(await events_of(run))[-1]

    message = "there is no tool 'divde'. Did you mean 'divide'? The tools are: add, divide."
    assert completed == ToolComplete(
        call_id="call_1", tool_name="divde", error=Failure(type="UnknownTool", message=message)
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["add"], "there is no tool 'xyz'. The tools are: add."),
        ([], "there is no tool 'xyz'. There are no tools."),
    ],
)
async def test_an_unknown_tool_is_answered_with_those_that_there_are(names: list[str], message: str) -> None:
    run = agent_with(doing(lambda _, __: rx.empty(), *names), asks=calls("xyz")).execute("go")

    completed = of_tools(await events_of(run))[-1]

    assert isinstance(completed, ToolComplete)
    assert completed.error == Failure(type="UnknownTool", message=message)


async def test_arguments_that_cannot_be_read_never_reach_the_tool() -> None:
    tools = doing(lambda _, __: rx.empty(), "work")

    events = of_tools(await events_of(agent_with(tools, asks=calls("work", '{"a": ')).execute("go")))

    completed = events[-1]
    assert isinstance(completed, ToolComplete)
    assert completed.error is not None
    assert completed.error.type == "InvalidArguments"
    assert completed.error.message.startswith("the arguments are not valid JSON")
    assert tools.contexts == []


# -------------------------------------------------------------------------------------------------- limits and siblings


async def test_a_tool_that_takes_too_long_ends_the_task_and_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def wait() -> ToolEvent:
        try:
            return await asyncio.Event().wait() and ToolComplete()
        finally:
            cancelled.set()

    run = agent_with(doing(awaiting(wait), "work"), limits=Limits(tool_seconds=0.001)).execute("go")
    async with asyncio.timeout(5):
        with pytest.raises(LimitExceeded) as caught:
            await run
        await cancelled.wait()

    assert (caught.value.limit, caught.value.allowed, caught.value.spent) == ("tool_seconds", 0.001, 0.001)
    assert "Limits.tool_seconds=0.001: the tool 'work' took longer" in str(caught.value)
    answer = caught.value.result.messages[-1]
    assert answer.role == "tool"
    assert answer.text.startswith("Error: not finished: run stopped by Limits.tool_seconds")


async def test_the_clock_of_a_tool_stops_with_it() -> None:
    before = len(asyncio.get_running_loop()._scheduled)

    result = await agent_with(
        doing(lambda _, __: rx.of(ToolComplete()), "work"), limits=Limits(tool_seconds=3600)
    ).execute("go")

    left = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    assert (result.status, len(left) <= before) == ("completed", True)


async def test_a_tool_that_raises_ends_the_task_before_the_model_is_asked_again() -> None:
    async def fail() -> ToolEvent:
        raise ValueError("it broke")

    model = ScriptedModel(calls("work"), says("never asked for"))
    loop = AgentLoop(
        llm_provider=model,
        tool_providers=[doing(awaiting(fail), "work")],
        on_tool_error="raise",
    )

    with pytest.raises(ToolFailed, match="the tool 'work' raised ValueError: it broke"):
        await loop.execute("go")

    assert len(model.requests) == 1


async def test_a_tool_that_raises_ends_the_task_where_it_may_and_its_siblings_are_answered() -> None:
    cancelled = asyncio.Event()

    def work(call: ToolCall, _: ToolContext[Any]) -> Observable[ToolEvent]:
        async def act() -> ToolEvent:
            if call.name == "broken":
                raise ValueError("it broke")
            try:
                return await asyncio.Event().wait() and ToolComplete()
            finally:
                cancelled.set()

        return from_awaitable(act)

    run = agent_with(
        doing(work, "slow", "broken"),
        asks=calls("slow") + calls("broken") + calls("slow"),
        on_tool_error="raise",
    ).execute("go")
    async with asyncio.timeout(5):
        with pytest.raises(ToolFailed) as caught:
            await run
        await cancelled.wait()

    error = caught.value
    assert (str(error), error.tool, error.call_id) == (
        "the tool 'broken' raised ValueError: it broke",
        "broken",
        "call_2",
    )
    assert repr(error.__cause__) == "ValueError('it broke')"
    assert error.result.status == "failed"
    assert [
        (message.tool_call_id, message.text) for message in error.result.messages if message.role == "tool"
    ] == [
        ("call_1", "Error: not finished: the tool 'broken' raised ValueError: it broke"),
        ("call_2", "Error: it broke"),
        ("call_3", "Error: not finished: the tool 'broken' raised ValueError: it broke"),
    ]


@pytest.mark.parametrize(("cap", "together"), [(1, 1), (2, 2), (3, 3), (8, 5)])
async def test_no_more_calls_run_together_than_the_cap_and_the_results_keep_their_order(
    cap: int, together: int
) -> None:
    running: set[str] = set()
    most: list[int] = []
    full = asyncio.Event()

    def work(call: ToolCall, _: ToolContext[Any]) -> Observable[ToolEvent]:
        async def act() -> ToolEvent:
            running.add(call.id)
            most.append(len(running))
            if len(running) == together:
                full.set()
            await full.wait()  # nobody ends before as many run as may
            running.remove(call.id)
            return ToolComplete(result=call.arguments["n"])

        return from_awaitable(act)

    asks = calls("work", n=0)
    for n in range(1, 5):
        asks += calls("work", n=n)
    run = agent_with(doing(work, "work"), asks=asks, max_parallel_tools=cap).execute("go")
    async with asyncio.timeout(5):
        result = await run

    assert max(most) == together
    assert [message.text for message in result.messages if message.role == "tool"] == [
        "0",
        "1",
        "2",
        "3",
        "4",
    ]


async def test_a_status_says_how_the_task_ended_after_its_tools() -> None:
    events = await events_of(agent_with(doing(lambda _, __: rx.of(ToolComplete()), "work")).execute("go"))

    assert [event.status.state for event in events if isinstance(event, StatusUpdate)] == [
        "working",
        "completed",
    ]
