"""What a tool says and makes on its way: progress, artifacts, and a result that a model can read."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest
import reactivex as rx
from agents import Work, agent_with, awaiting, complete, doing, events_of, of_tools, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable

from looopy import InMemoryArtifactStore, dumps, loads
from looopy.errors import StoreFailed, ToolFailed
from looopy.events import (
    Artifact,
    ArtifactUpdate,
    Event,
    Failure,
    ToolComplete,
    ToolEvent,
    ToolProgress,
    ToolStart,
)
from looopy.messages import DataPart, TextPart, ToolCall
from looopy.ports import ToolContext
from looopy.reactive import from_aiter, from_awaitable

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


@settings(max_examples=40)
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
    events = await events_of(
        agent_with(doing(lambda _, __: rx.of(ToolComplete(result=value)), "work")).execute("go")
    )

    assert [loads(dumps(event)) for event in events] == events


# ------------------------------------------------------------------------------------------------------------ progress


async def test_progress_is_named_after_its_call_and_made_plain() -> None:
    odd = object()

    def work(_: ToolCall, __: ToolContext[Any]) -> Observable[ToolEvent]:
        return rx.of(
            ToolProgress(progress=0.5, note="half \ud83d", data={"on": date(2026, 1, 2)}),
            ToolProgress(progress=math.nan, data=odd),
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
    tools = doing(lambda _, __: rx.of(ToolComplete(result=1)), "work")
    run = agent_with(tools, artifact_store=store).execute("go", context_id="c")
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
    tools = doing(lambda _, __: rx.of(ToolComplete(result=1)), "work")
    asyncio.run(events_of(agent_with(tools).execute("go")))

    tools.contexts[0].progress(1.0, "late")


async def test_a_tool_is_told_when_its_call_is_over() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> ToolEvent:
        begun.set()
        try:
            return await asyncio.Event().wait() and ToolComplete()
        finally:
            ended.set()

    tools = doing(awaiting(wait), "work")
    run = agent_with(tools).execute("go").start()
    async with asyncio.timeout(5):
        await begun.wait()
        assert not tools.contexts[0].cancelled()
        run.cancel()
        await ended.wait()

    assert tools.contexts[0].cancelled()


async def test_a_tool_knows_the_call_that_it_serves() -> None:
    tools = doing(lambda _, __: rx.of(ToolComplete()), "work")

    await agent_with(tools, deps="db").execute("go", task_id="t", context_id="c")

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
    tools = doing(way(report("one"), ToolProgress(note="two"), report("three", append=True)), "work")
    run = agent_with(tools, artifact_store=store).execute("go", task_id="t", context_id="c")
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

    run = agent_with(doing(lambda _, __: from_aiter(work), "work"), artifact_store=store).execute(
        "go", context_id="c"
    )
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
    run = agent_with(
        doing(streaming(report("one")), "work"), artifact_store=Broken(), on_tool_error="raise"
    ).execute("go")

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
