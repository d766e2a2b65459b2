"""A light span is to whoever writes on it or reads it what a span of the SDK is."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, Status, StatusCode

from looopy import Limits, Message
from looopy.events import LLMEvent, LLMResponse
from looopy.messages import DataPart, FilePart, TextPart, ToolCall
from looopy.observe import OTLPExporter, instrument
from looopy.ports import LLMRequest
from looopy.testing import calls, says
from observe.children import ran
from observe.each import each_provider
from observe.receiver import Receiver
from observe.watched import SPANS, agent, answer, light, sdk

ELSEWHERE = SpanContext(1, 2, is_remote=True)


async def written(provider: Any, write: Callable[[Any], object], **options: Any) -> Any:
    """The span of a tool that writes on it while it is the current one."""
    spans = InMemorySpanExporter()

    def tool() -> str:
        write(trace.get_current_span())
        return "written"

    with instrument(exporters=[spans], tracer_provider=provider, **options):
        await answer(agent(calls("tool"), says("5"), tools=[tool]))
    (span,) = [span for span in spans.get_finished_spans() if span.name == "execute_tool tool"]
    return span


# --------------------------------------------------------------------------------------------------------------- reading
@each_provider
async def test_reading_an_open_span_loses_nothing_that_is_said_later(provider) -> None:
    read: list[dict] = []
    span = await written(provider(), lambda span: read.append(dict(span.attributes)), capture_content=True)

    assert read[0]["gen_ai.tool.name"] == "tool"
    assert "gen_ai.tool.call.result" not in read[0]
    assert span.attributes["gen_ai.tool.call.result"] == "written"


async def test_what_was_read_of_an_open_light_span_stays_as_it_was_read() -> None:
    read: list[Any] = []
    await written(light(), lambda span: read.append(span.attributes), capture_content=True)

    assert dict(read[0])["gen_ai.tool.name"] == "tool"
    assert "gen_ai.tool.call.result" not in read[0]


async def test_who_says_something_else_of_a_span_than_its_run_does_is_believed_once() -> None:
    with Receiver() as receiver:

        def tool() -> str:
            trace.get_current_span().set_attribute("gen_ai.agent.name", "somebody")
            return "written"

        exporter = OTLPExporter(receiver.traces_url)
        with instrument(exporters=[exporter], tracer_provider=light()):
            await answer(agent(calls("tool"), says("5"), tools=[tool]))
        named = {span.name: span.attributes["gen_ai.agent.name"] for span in receiver.spans}
    chat = "chat scripted-model"
    assert named == {
        "invoke_agent clerk": "clerk",
        "agent.iteration": "clerk",
        chat: "clerk",
        "execute_tool tool": "somebody",
    }


async def test_a_run_with_a_clock_of_its_own_is_recorded_like_any_other() -> None:
    spans = InMemorySpanExporter()
    with instrument(exporters=[spans], tracer_provider=light()):
        assert await answer(agent(limits=Limits(run_seconds=60))) == "5"
    assert len(spans.get_finished_spans()) == SPANS


@each_provider
async def test_nothing_more_is_said_of_a_span_that_somebody_has_ended(provider) -> None:
    span = await written(provider(), lambda span: span.end(), capture_content=True)

    assert "gen_ai.tool.name" in span.attributes
    assert "gen_ai.tool.call.result" not in span.attributes


async def test_what_stands_in_for_a_span_to_hide_something_hides_it() -> None:
    class Hidden:
        def __init__(self, span: Any) -> None:
            self._span = span

        def __getattr__(self, name: str) -> Any:
            return getattr(self._span, name)

        @property
        def attributes(self) -> dict[str, str]:
            return dict.fromkeys(self._span.attributes, "hidden")

    class Scrubs(OTLPExporter):
        def export(self, spans: Any) -> Any:
            return super().export([Hidden(span) for span in spans])

    with Receiver() as receiver:
        with instrument(
            exporters=[Scrubs(receiver.traces_url)], tracer_provider=light(), capture_content=True
        ):
            await answer()
        assert {value for span in receiver.spans for value in span.attributes.values()} == {"hidden"}
        assert len(receiver.spans) == SPANS


async def test_reading_an_open_span_does_not_wait_until_another_is_worked_out() -> None:
    main, working, go_on = threading.get_ident(), threading.Event(), threading.Event()

    def slow(text: str, where: str) -> str:
        if threading.get_ident() != main:
            working.set()
            assert go_on.wait(5)
        return text

    options: dict[str, Any] = {"exporters": [InMemorySpanExporter()], "capture_content": True}
    with instrument(tracer_provider=light(), redact=slow, **options) as recording:
        await answer()
        sending = threading.Thread(target=recording.flush)
        sending.start()
        assert working.wait(5)
        read: list[bool] = []

        def tool() -> None:
            read.append("gen_ai.tool.name" in getattr(trace.get_current_span(), "attributes", ()))
            go_on.set()

        await answer(agent(calls("tool"), says("5"), tools=[tool]))
        sending.join(5)
    assert read == [True]


async def test_a_hook_may_read_the_span_whose_text_it_is_given() -> None:
    current: list[Any] = []

    def names(text: str, where: str) -> str:
        return f"{text} of {current[0].attributes['gen_ai.tool.name']}" if current else text

    span = await written(light(), current.append, capture_content=True, redact=names)
    assert span.attributes["gen_ai.tool.call.result"] == "written of tool"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_while_its_parent_works_spans_out_sends_its_own() -> None:
    program = """
        parent, working, go_on = os.getpid(), threading.Event(), threading.Event()
        def slow(text, where):
            if os.getpid() == parent and threading.current_thread() is not threading.main_thread():
                working.set()
                assert go_on.wait(10)
            return text
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        recording = instrument(exporters=[InMemorySpanExporter()], capture_content=True, redact=slow)
        asyncio.run(answer())
        threading.Thread(target=recording.flush, daemon=True).start()
        assert working.wait(5)
        if not (child := os.fork()):
            asyncio.run(answer())
            tell(f"child: {recording.flush(5)}, {recording.delivered} spans")
            os._exit(0)
        os.waitpid(child, 0)
        go_on.set()
    """
    assert ran(program)[0] == "child: True, 6 spans\n"


async def test_what_cannot_be_said_of_a_span_is_left_out_and_reported_once(said) -> None:
    reason: Any = "eos"
    odd = LLMResponse(message=Message("assistant", "5"), finish_reason=reason)
    spans = InMemorySpanExporter()
    with instrument(exporters=[spans], tracer_provider=light(), capture_content=True):
        for _ in range(2):
            await answer(agent(llm_provider=Plug(odd)))
    chats = [span for span in spans.get_finished_spans() if span.name.startswith("chat")]
    assert [dict(chat.attributes or {}).get("gen_ai.operation.name") for chat in chats] == ["chat", "chat"]
    assert [text.split(":")[0] for text in said()] == [
        "something could not be said of a span; the rest of it is sent"
    ]


class Plug:
    """A model that says what it is made with."""

    model = "gpt-4o"

    def __init__(self, *events: LLMEvent) -> None:
        self.events = events

    def call(self, request: LLMRequest) -> rx.Observable[LLMEvent]:
        return rx.of(*self.events)


# --------------------------------------------------------------------------------------------------------------- writing
def writes(span: Any) -> None:
    """What people write, well and badly."""
    items: Any = ["a", 2, [True]]
    span.set_attribute("items", items)
    items.append("too late")
    span.set_attribute("object", {"x": object(), "y": Path("/tmp")})
    span.set_attribute("nothing", None)
    span.set_attribute(5, "a number is no key")
    span.set_attributes({"many": items, "": "no key either", "bytes": b"\x00"})
    span.add_event("event", {"nothing": None, "object": Path("/tmp"), "items": items})
    span.add_event("bare", timestamp=7)
    span.add_link(ELSEWHERE, {"items": items})
    span.add_link(INVALID_SPAN_CONTEXT)
    items.append("too late again")
    span.update_name("execute_tool tool")


async def test_what_others_write_on_it_is_cleaned_and_copied_as_on_a_span_of_the_sdk() -> None:
    spans = [await written(provider, writes) for provider in (light(), sdk())]

    def own(span: Any) -> tuple[object, ...]:
        mine = {k: v for k, v in span.attributes.items() if not str(k).startswith(("gen_ai.", "looopy."))}
        events = [(event.name, dict(event.attributes)) for event in span.events]
        return mine, events, [(link.context, dict(link.attributes)) for link in span.links]

    assert own(spans[0]) == own(spans[1])
    assert own(spans[0])[0]["items"] == ("a", 2, (True,))
    assert spans[0].events[1].timestamp == 7


async def test_a_value_that_no_exporter_can_write_costs_no_batch(said) -> None:
    out = io.StringIO()
    with instrument(exporters=[ConsoleSpanExporter(out=out)], tracer_provider=light()) as recording:

        def tool() -> None:
            trace.get_current_span().set_attribute("object", {"x": object()})  # pyright: ignore[reportArgumentType]

        await answer(agent(calls("tool"), says("5"), tools=[tool]))
        assert recording.flush()
        assert (recording.delivered, recording.lost) == (SPANS, 0)
    assert said() == []


class Mine(Exception):
    """An error of a module."""


def records(span: Any) -> None:
    for error in (KeyError("k"), Mine("my key is sk-1234567890abcdef1234")):
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            span.record_exception(caught, {"more": "of it"}, 7)


async def test_an_exception_is_recorded_as_on_a_span_of_the_sdk_but_without_credentials() -> None:
    light_one, sdk_one = [
        [(event.name, event.timestamp, dict(event.attributes)) for event in span.events]
        for span in [await written(provider, records) for provider in (light(), sdk())]
    ]
    sdk_one[0][2]["exception.message"] = "KeyError('k')"  # of a key alone nobody could tell what it is
    for _, _, attributes in sdk_one:
        for name in ("exception.message", "exception.stacktrace"):
            attributes[name] = attributes[name].replace("sk-1234567890abcdef1234", "***")
    assert light_one == sdk_one
    assert light_one[1][2]["exception.type"] == f"{Mine.__module__}.Mine"


# ------------------------------------------------------------------------------------------------------------ what is late
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@each_provider
async def test_a_redaction_goes_by_the_context_variables_of_its_run(provider) -> None:
    def hook(text: str, where: str) -> str:
        return f"{text} of {tenant.get()}"

    spans = InMemorySpanExporter()
    with instrument(exporters=[spans], tracer_provider=provider(), capture_content=True, redact=hook):

        async def runs(name: str) -> None:
            tenant.set(name)
            await answer()

        async with asyncio.TaskGroup() as group:
            group.create_task(runs("acme"))
            group.create_task(runs("globex"))
        tenant.set("initech")
    roots = [span for span in spans.get_finished_spans() if span.parent is None]
    assert sorted(dict(root.attributes or {})["output.value"] for root in roots) == [
        "5 of acme",
        "5 of globex",
    ]


def test_a_redaction_goes_by_them_also_where_another_thread_waits_for_the_run() -> None:
    spans = InMemorySpanExporter()
    provider, hook = light(), lambda text, where: tenant.get()

    def ask() -> None:
        tenant.set("acme")
        agent().execute("2 + 3?").result(5)

    with instrument(exporters=[spans], tracer_provider=provider, capture_content=True, redact=hook):
        copy_context().run(ask)
    roots = [span for span in spans.get_finished_spans() if span.parent is None]
    assert [dict(root.attributes or {})["output.value"] for root in roots] == ["acme"]


MUCH = 1_000_000


def huge() -> str:
    return "x" * MUCH


def many() -> list[dict[str, str]]:
    return [{"text": "x" * 1_000} for _ in range(MUCH // 1_000)]


class Forgetful:
    """A model that calls a tool and then answers, and keeps nothing of what it was asked."""

    model = "gpt-4o"

    def __init__(self, tool: str, said: str) -> None:
        self.tool, self.said = tool, said

    def call(self, request: LLMRequest) -> rx.Observable[LLMEvent]:
        answers = request.messages[-1].role == "tool"
        told = ToolCall(id="call-1", name=self.tool)
        message = Message.assistant(self.said * MUCH) if answers else Message.assistant(tool_calls=(told,))
        return rx.of(LLMResponse(message=message))


def small() -> str:
    return "small"


def broken() -> str:
    raise ValueError("x" * MUCH)


HEAVY: dict[str, tuple[str, Callable[[], Any]]] = {
    "a result": ("huge", lambda: "2 + 3?"),
    "a result in JSON": ("many", lambda: "2 + 3?"),
    "a prompt": ("small", lambda: "2 + 3?" + "x" * MUCH),
    "an image": (
        "small",
        lambda: Message.user((TextPart("2 + 3?"), FilePart(data="A" * MUCH, mime_type="image/png"))),
    ),
    "data": ("small", lambda: Message.user((DataPart({"rows": many()}),))),
    "an answer": ("small", lambda: "2 + 3?"),
    "what a tool failed on": ("broken", lambda: "2 + 3?"),
}


@pytest.mark.parametrize("what", HEAVY)
async def test_what_is_large_does_not_wait_whole_until_it_is_sent(what: str) -> None:
    tool, prompt = HEAVY[what]
    clerk = agent(
        llm_provider=Forgetful(tool, "5" if what == "an answer" else ""),
        tools=[huge, many, small, broken],
        max_result_chars=2 * MUCH,
    )
    go_on, spans = threading.Event(), InMemorySpanExporter()

    class Hangs(InMemorySpanExporter):
        def export(self, some: Any) -> Any:
            assert go_on.wait(30)
            return spans.export(some)

    with instrument(exporters=[Hangs()], tracer_provider=light(), capture_content=True) as recording:
        await clerk.execute(prompt())
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(10):
                await clerk.execute(prompt())
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        go_on.set()
        assert recording.flush()
    assert kept < 6 * MUCH  # of ten times as much and more
    roots = [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.parent is None]
    assert [root["looopy.status"] for root in roots] == ["completed"] * 11
    assert all(len(str(root["gen_ai.input.messages"])) < 20_000 for root in roots)


@each_provider
async def test_nothing_is_written_on_a_span_that_is_over(provider, caplog: pytest.LogCaptureFixture) -> None:
    spans: list[Any] = []

    def late(span: Any) -> None:
        span.end()
        spans.append(span)
        writes(span)
        span.update_name("late")
        span.set_status(StatusCode.ERROR, "late")
        span.end()

    span = await written(provider(), late)
    assert "items" not in span.attributes
    assert (span.name, list(span.events), list(span.links), span.status.status_code) == (
        "execute_tool tool",
        [],
        [],
        StatusCode.UNSET,
    )


@each_provider
async def test_who_says_that_all_is_well_has_the_last_word(provider) -> None:
    def write(span: Any) -> None:
        span.set_status(StatusCode.ERROR, "no")
        span.set_status(Status(StatusCode.UNSET))
        span.set_status(Status(StatusCode.OK))
        span.set_status(StatusCode.ERROR, "too late")

    span = await written(provider(), write)
    assert (span.status.status_code, span.status.description) == (StatusCode.OK, None)


# ------------------------------------------------------------------------------------------------------------ beginning
@each_provider
async def test_below_a_span_that_is_none_a_trace_begins(provider) -> None:
    spans = InMemorySpanExporter()
    with instrument(exporters=[spans], tracer_provider=provider()), trace.use_span(trace.INVALID_SPAN):
        assert await answer() == "5"
    assert [span.parent for span in spans.get_finished_spans()].count(None) == 1


async def test_what_a_sampler_says_of_a_trace_stands_on_its_root() -> None:
    class Says(Sampler):
        def should_sample(
            self, parent_context: Any, trace_id: Any, name: Any, *rest: Any, **more: Any
        ) -> Any:
            attributes = {**rest[1], "why": "chosen"}
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "says"

    spans = InMemorySpanExporter()
    with instrument(exporters=[spans], tracer_provider=light(Says())):
        assert await answer() == "5"
    *_, root = spans.get_finished_spans()
    assert (root.attributes["why"], root.attributes["gen_ai.agent.name"]) == ("chosen", "clerk")
