"""One tool call: from `tool-start` to exactly one end, whatever the tool does in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from looopy import AgentLoop, InMemoryArtifactStore, Limits, dumps, loads
from looopy.errors import LimitExceeded, StoreFailed, ToolFailed
from looopy.events import (
    Artifact,
    ArtifactUpdate,
    Event,
    Failure,
    InputRequired,
    StatusUpdate,
    ToolComplete,
    ToolEvent,
    ToolProgress,
    ToolStart,
)
from looopy.messages import DataPart, TextPart, ToolCall
from looopy.ports import ToolContext, ToolDefinition
from looopy.reactive import from_aiter, from_awaitable
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, says

Work = Callable[[ToolCall, ToolContext[Any]], Observable[ToolEvent]]


@dataclass
class Tools:
    """A ToolProvider that does with a call whatever the test says."""

    work: Work
    names: Sequence[str] = ("work",)
    contexts: list[ToolContext[Any]] = field(default_factory=list)

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:
        return [ToolDefinition(name=name) for name in self.names]

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        self.contexts.append(context)
        return self.work(call, context)


def agent(*tools: Tools, asks: Any = None, **options: Any) -> AgentLoop:
    model = ScriptedModel(asks or calls("work"), says("done"))
    return AgentLoop(llm_provider=model, tool_providers=tools, **options)


async def events_of(run: Run) -> list[Event]:
    async with asyncio.timeout(5):
        return [event async for event in run]


def of_tools(events: list[Event]) -> list[Event]:
    """The events of tool calls, without what differs from run to run."""
    blank = {
        "task_id": "",
        "context_id": "",
        "seq": 0,
        "timestamp": ToolStart.__dataclass_fields__["timestamp"].default,
    }
    shown = [
        replace(event, **blank)
        for event in events
        if isinstance(event, ToolStart | ToolProgress | ToolComplete | InputRequired | ArtifactUpdate)
    ]
    return [replace(event, seconds=0.0) if isinstance(event, ToolComplete) else event for event in shown]


async def outcome(work: Work, **options: Any) -> list[Event]:
    """What is seen of one call of a tool, after its start."""
    events = of_tools(await events_of(agent(Tools(work), **options).execute("go")))
    assert events[0] == ToolStart(call_id="call_1", tool_name="work")
    return events[1:]


def complete(result: object = None, error: Failure | None = None) -> ToolComplete:
    return ToolComplete(call_id="call_1", tool_name="work", result=result, error=error)


def awaiting(act: Callable[[], Awaitable[ToolEvent]]) -> Work:
    return lambda _call, _context: from_awaitable(act)


# -------------------------------------------------------------------------------------------------------- ways to end


async def test_a_result_is_named_after_its_call_and_timed() -> None:
    run = agent(Tools(lambda _, __: rx.of(ToolComplete(result=42)))).execute("go")

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

    assert await outcome(work, on_tool_error="raise") == [complete(1)]


async def test_a_provider_that_raises_in_call_is_answered_for() -> None:
    def work(call: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        raise KeyError("no such row")

    assert await outcome(work) == [complete(error=Failure(type="KeyError", message="'no such row'"))]


async def test_an_error_is_told_without_its_credentials() -> None:
    error = RuntimeError("401 for https://me:hunter22@host")
    failure = Failure(type="RuntimeError", message="401 for https://***@host")

    assert await outcome(lambda _, __: rx.throw(error)) == [complete(error=failure)]


async def test_a_tool_that_fails_by_itself_has_no_result() -> None:
    failure = Failure(type="Full", message="no room \ud83d")
    work: Work = lambda _, __: rx.of(ToolComplete(result="half", error=failure))  # noqa: E731

    assert await outcome(work) == [complete(error=replace(failure, message="no room \ufffd"))]


async def test_a_question_is_named_after_its_call_and_the_task_waits() -> None:
    run = agent(Tools(lambda _, __: rx.of(InputRequired(input_id="i", prompt="sure?")))).execute("go")

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
    run = agent(Tools(lambda _, __: rx.empty(), ["add", "divide"]), asks=calls("divde")).execute("go")

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
    run = agent(Tools(lambda _, __: rx.empty(), names), asks=calls("xyz")).execute("go")

    completed = of_tools(await events_of(run))[-1]

    assert isinstance(completed, ToolComplete)
    assert completed.error == Failure(type="UnknownTool", message=message)


async def test_arguments_that_cannot_be_read_never_reach_the_tool() -> None:
    tools = Tools(lambda _, __: rx.empty())

    events = of_tools(await events_of(agent(tools, asks=calls("work", '{"a": ')).execute("go")))

    completed = events[-1]
    assert isinstance(completed, ToolComplete)
    assert completed.error is not None
    assert completed.error.type == "InvalidArguments"
    assert completed.error.message.startswith("the arguments are not valid JSON")
    assert tools.contexts == []


# ------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 11, "xxxxxxxxxx… [cut: 10 of 11 characters shown]"),
        ("x" * 10, "x" * 10),
        ([1] * 10, "[1,1,1,1,1… [cut: 10 of 21 characters shown]"),
        ([1, 2], [1, 2]),
        (10**20, 10**20),
        (None, None),
    ],
)
async def test_a_result_is_cut_to_what_a_model_can_read(value: object, shown: object) -> None:
    assert await outcome(lambda _, __: rx.of(ToolComplete(result=value)), max_result_chars=10) == [
        complete(shown)
    ]


async def test_a_very_long_result_is_cut_and_does_not_hold_the_run_up() -> None:
    events = await outcome(lambda _, __: rx.of(ToolComplete(result="é" * 5_000_000)))

    assert events == [complete("é" * 100_000 + "… [cut: 100,000 of 5,000,000 characters shown]")]


async def test_a_very_long_failure_is_cut_too() -> None:
    failure = Failure(type="E", message="x" * 5_000_000)

    events = await outcome(lambda _, __: rx.of(ToolComplete(error=failure)), max_result_chars=3)

    cut = replace(failure, message="xxx… [cut: 3 of 5,000,000 characters shown]")
    assert events == [complete(error=cut)]


async def test_a_result_that_has_no_json_form_is_a_failure_that_says_the_mend() -> None:
    events = await outcome(lambda _, __: rx.of(ToolComplete(result=object())))

    message = (
        "the tool 'work' returned a object that has no JSON form (Unable to serialize unknown type: <class 'object'>); "
        "return text, numbers, lists, dicts, dataclasses or pydantic models"
    )
    assert events == [complete(error=Failure(type="UnserializableResult", message=message))]


@settings(max_examples=40, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.integers() | st.floats() | st.binary() | st.text(st.characters()) | st.just(object()),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
async def test_whatever_a_tool_returns_every_event_survives_a_round_trip(value: object) -> None:
    events = await events_of(agent(Tools(lambda _, __: rx.of(ToolComplete(result=value)))).execute("go"))

    assert [loads(dumps(event)) for event in events] == events


# ------------------------------------------------------------------------------------------------------------ progress


async def test_progress_is_named_after_its_call_and_made_plain() -> None:
    odd = object()

    def work(_: ToolCall, __: ToolContext[Any]) -> Observable[ToolEvent]:
        return rx.of(
            ToolProgress(progress=0.5, note="half \ud83d", data={"on": date(2026, 1, 2)}),
            ToolProgress(data=odd),
            ToolComplete(),
        )

    named = ToolProgress(call_id="call_1", tool_name="work")
    assert await outcome(work) == [
        replace(named, progress=0.5, note="half \ufffd", data={"on": "2026-01-02"}),
        replace(named, data=repr(odd)),
        complete(),
    ]


async def test_progress_may_come_from_another_thread() -> None:
    def work(_: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def beside() -> None:
            context.progress(0.5, threading.current_thread().name)
            loop.call_soon_threadsafe(over.set)

        async def wait() -> ToolEvent:
            threading.Thread(target=beside, name="beside").start()
            await over.wait()
            return ToolComplete(result="ok")

        return from_awaitable(wait)

    progress = ToolProgress(call_id="call_1", tool_name="work", progress=0.5, note="beside")
    assert await outcome(work) == [progress, complete("ok")]


@pytest.mark.parametrize("store", [None, InMemoryArtifactStore()])
async def test_what_a_tool_says_after_its_end_is_not_heard(store: InMemoryArtifactStore | None) -> None:
    tools = Tools(lambda _, __: rx.of(ToolComplete(result=1)))
    run = agent(tools, artifact_store=store).execute("go", context_id="c")
    seen: list[Event] = []

    async for event in run:
        seen.append(event)
        if isinstance(event, ToolComplete):
            tools.contexts[0].progress(1.0, "late")
            tools.contexts[0].emit(ArtifactUpdate(artifact=Artifact(artifact_id="late")))
    tools.contexts[0].progress(1.0, "later")

    assert of_tools(seen)[1:] == [complete(1)]
    assert store is None or await store.list("c") == []


def test_what_a_tool_says_after_its_loop_was_closed_is_not_heard() -> None:
    tools = Tools(lambda _, __: rx.of(ToolComplete(result=1)))
    asyncio.run(events_of(agent(tools).execute("go")))

    tools.contexts[0].progress(1.0, "late")


async def test_a_tool_is_told_when_its_call_is_over() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> ToolEvent:
        begun.set()
        try:
            return await asyncio.Event().wait() and ToolComplete()
        finally:
            ended.set()

    tools = Tools(awaiting(wait))
    run = agent(tools).execute("go").start()
    async with asyncio.timeout(5):
        await begun.wait()
        assert not tools.contexts[0].cancelled()
        run.cancel()
        await ended.wait()

    assert tools.contexts[0].cancelled()


async def test_a_tool_knows_the_call_that_it_serves() -> None:
    tools = Tools(lambda _, __: rx.of(ToolComplete()))

    await agent(tools, deps="db").execute("go", task_id="t", context_id="c")

    seen = tools.contexts[0]
    assert (
        seen.task_id,
        seen.context_id,
        seen.call_id,
        seen.tool_name,
        seen.iteration,
        seen.deps,
        seen.inputs,
    ) == (
        "t",
        "c",
        "call_1",
        "work",
        1,
        "db",
        {},
    )


# ----------------------------------------------------------------------------------------------------------- artifacts


def report(*texts: str, append: bool = False) -> ArtifactUpdate:
    parts = tuple(TextPart(text) for text in texts)
    return ArtifactUpdate(artifact=Artifact(artifact_id="report", parts=parts), append=append)


@dataclass
class Gatekeeper:
    """An ArtifactStore that saves when the test lets it."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    kept: list[ArtifactUpdate] = field(default_factory=list)

    async def save(self, update: ArtifactUpdate, /) -> None:
        self.asked.set()
        await self.open.wait()
        self.kept.append(update)

    async def load(self, context_id: str, artifact_id: str, /) -> ArtifactUpdate | None:
        return None

    async def list(self, context_id: str, /) -> Sequence[str]:
        return []


def emitting(*events: ToolEvent) -> Work:
    """A tool that says some things through its context, and then ends."""

    def work(_: ToolCall, context: ToolContext[Any]) -> Observable[ToolEvent]:
        async def say() -> ToolEvent:
            for event in events:
                assert isinstance(event, ToolProgress | ArtifactUpdate)
                context.emit(event)
            return ToolComplete(result="ok")

        return from_awaitable(say)

    return work


def streaming(*events: ToolEvent) -> Work:
    """A tool that says the same as items of its stream."""
    return lambda _, __: rx.of(*events, ToolComplete(result="ok"))


@pytest.mark.parametrize("way", [streaming, emitting])
async def test_an_artifact_is_kept_before_it_is_shown_and_what_follows_waits(
    way: Callable[..., Work],
) -> None:
    store = Gatekeeper()
    tools = Tools(way(report("one"), ToolProgress(note="two"), report("three", append=True)))
    run = agent(tools, artifact_store=store).execute("go", task_id="t", context_id="c")
    seen: list[Event] = []
    run.subscribe(seen.append)
    async with asyncio.timeout(5):
        await store.asked.wait()
        assert of_tools(seen) == [ToolStart(call_id="call_1", tool_name="work")]

        store.open.set()
        result = await run

    assert result.output == "done"
    assert of_tools(seen)[1:] == [
        report("one"),
        ToolProgress(call_id="call_1", tool_name="work", note="two"),
        report("three", append=True),
        complete("ok"),
    ]
    own = {"task_id": "t", "context_id": "c"}
    assert store.kept == [replace(report("one"), **own), replace(report("three", append=True), **own)]


@pytest.mark.parametrize("way", [streaming, emitting])
async def test_without_a_store_an_artifact_is_only_shown(way: Callable[..., Work]) -> None:
    assert await outcome(way(report("one"), report("two"))) == [report("one"), report("two"), complete("ok")]


async def test_what_a_tool_made_before_it_failed_is_kept() -> None:
    store = InMemoryArtifactStore()

    async def work() -> AsyncIterator[ToolEvent]:
        yield report("one")
        raise ValueError("it broke")

    run = agent(Tools(lambda _, __: from_aiter(work)), artifact_store=store).execute("go", context_id="c")
    events = of_tools(await events_of(run))

    assert events[1:] == [report("one"), complete(error=Failure(type="ValueError", message="it broke"))]
    assert await store.list("c") == ["report"]


class Broken(Gatekeeper):
    async def save(self, update: ArtifactUpdate, /) -> None:
        raise OSError("postgresql://app:hunter22@db is down")


@pytest.mark.parametrize("way", [streaming, emitting])
async def test_an_artifact_that_could_not_be_kept_is_not_shown_and_the_model_is_told(
    way: Callable[..., Work],
) -> None:
    message = "the artifact 'report' could not be saved in Broken: postgresql://***@db is down"
    failure = Failure(type="StoreFailed", message=message, retryable=True)

    assert await outcome(way(report("one")), artifact_store=Broken()) == [complete(error=failure)]


async def test_an_artifact_that_could_not_be_kept_ends_the_task_where_tools_may_raise() -> None:
    run = agent(Tools(streaming(report("one"))), artifact_store=Broken(), on_tool_error="raise").execute("go")

    with pytest.raises(ToolFailed, match="'work' raised StoreFailed") as caught:
        await run

    assert isinstance(caught.value.__cause__, StoreFailed)
    assert isinstance(caught.value.__cause__.__cause__, OSError)


@pytest.mark.parametrize("store", [None, InMemoryArtifactStore()])
async def test_an_artifact_holds_plain_values_only(store: InMemoryArtifactStore | None) -> None:
    def made(data: object) -> ArtifactUpdate:
        return ArtifactUpdate(artifact=Artifact(artifact_id="report", parts=(DataPart(data),)))

    options = {"artifact_store": store}
    assert await outcome(streaming(made({"on": date(2026, 1, 2)})), **options) == [
        made({"on": "2026-01-02"}),
        complete("ok"),
    ]
    message = "the artifact 'report' has no JSON form: Unable to serialize unknown type: <class 'object'>"
    assert await outcome(streaming(made(object())), **options) == [
        complete(error=Failure(type="TypeError", message=message))
    ]


# -------------------------------------------------------------------------------------------------- limits and siblings


async def test_a_tool_that_takes_too_long_ends_the_task_and_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def wait() -> ToolEvent:
        try:
            return await asyncio.Event().wait() and ToolComplete()
        finally:
            cancelled.set()

    run = agent(Tools(awaiting(wait)), limits=Limits(tool_seconds=0.001)).execute("go")
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

    result = await agent(
        Tools(lambda _, __: rx.of(ToolComplete())), limits=Limits(tool_seconds=3600)
    ).execute("go")

    left = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    assert (result.status, len(left) <= before) == ("completed", True)


async def test_a_tool_that_raises_ends_the_task_before_the_model_is_asked_again() -> None:
    model = ScriptedModel(calls("work"), says("never asked for"))
    loop = AgentLoop(
        llm_provider=model,
        tool_providers=[Tools(lambda _, __: rx.throw(ValueError("it broke")))],
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

    run = agent(
        Tools(work, ["slow", "broken"]),
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
    run = agent(Tools(work), asks=asks, max_parallel_tools=cap).execute("go")
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
    events = await events_of(agent(Tools(lambda _, __: rx.of(ToolComplete()))).execute("go"))

    assert [event.status.state for event in events if isinstance(event, StatusUpdate)] == [
        "working",
        "completed",
    ]
