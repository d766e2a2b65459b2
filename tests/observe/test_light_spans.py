"""A light span is to whoever writes on it or reads it what a span of the SDK is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from looopy import Message
from looopy.events import LLMEvent, LLMResponse
from looopy.observe import instrument
from looopy.ports import LLMRequest
from looopy.testing import calls, says
from observe.children import ran
from observe.watched import agent, answer, each_provider, light, said

__all__ = ["said"]  # a fixture


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
