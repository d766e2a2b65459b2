"""Recording where programs run agents: in threads, on several event loops, within agents, beside other instrumentations, sampled, or switched off."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from reactivex import Observable
from reactivex import operators as ops

from looopy import AgentLoop, LiteLLMProvider
from looopy.events import LLMResponse, ToolComplete
from looopy.messages import Message, ToolCall
from looopy.observe import Instrumentation, OTLPExporter, instrument
from looopy.ports import ToolDefinition
from looopy.providers.transport import HTTP
from looopy.state import LoopState
from looopy.testing import ScriptedServer, calls, says
from observe.each import each_provider
from observe.receiver import Receiver, Span, tree
from observe.watched import SPANS, TREE, add, agent, answer, light, sdk


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def recorded(receiver: Receiver, provider: Any, **options: Any) -> Instrumentation:
    return instrument(exporters=[OTLPExporter(receiver.traces_url)], tracer_provider=provider, **options)


def apart(spans: Sequence[Span]) -> list[str]:
    """Each trace drawn."""
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return [tree(each) for each in traces.values()]


# ------------------------------------------------------------------------------------------------------ threads and loops
@each_provider
def test_runs_on_the_background_loop_asked_for_by_many_threads_are_traces_of_their_own(
    receiver: Receiver, provider
) -> None:
    with recorded(receiver, provider()), ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(lambda _: agent().execute("2 + 3?").result(5).output, range(24)))
    assert outputs == ["5"] * 24
    assert apart(receiver.spans) == [TREE] * 24


@each_provider
def test_runs_on_two_event_loops_at_once_are_traces_of_their_own(receiver: Receiver, provider) -> None:
    together = threading.Barrier(2)

    async def several() -> list[str]:
        together.wait(5)
        return await asyncio.gather(*(answer() for _ in range(10)))

    with recorded(receiver, provider()), ThreadPoolExecutor(2) as threads:
        outputs = list(threads.map(lambda _: asyncio.run(several()), range(2)))
    assert outputs == [["5"] * 10] * 2
    assert apart(receiver.spans) == [TREE] * 20


@each_provider
def test_the_span_that_is_current_in_a_thread_is_above_the_runs_it_asks_for(
    receiver: Receiver, provider
) -> None:
    provider = provider()
    tracer = provider.get_tracer("web")

    def request(number: int) -> str:
        with tracer.start_as_current_span(f"GET /{number}"):
            return agent().execute("2 + 3?").result(5).output

    with recorded(receiver, provider), ThreadPoolExecutor(4) as threads:
        assert list(threads.map(request, range(8))) == ["5"] * 8
    below = "\n".join(f"  {line}" for line in TREE.splitlines())
    assert sorted(apart(receiver.spans)) == [f"GET /{number} [INTERNAL]\n{below}" for number in range(8)]


# ---------------------------------------------------------------------------------------------------------- nested agents
@each_provider
async def test_an_agent_within_a_tool_of_an_agent_is_below_that_tool(receiver: Receiver, provider) -> None:
    async def helper(task: str) -> str:
        """Help."""
        return await answer(agent(agent_id="helper"))

    def sync_helper(task: str) -> str:
        """Help from a thread."""
        return agent(agent_id="helper").execute(task).result(5).output

    script = calls("helper", task="a"), calls("sync_helper", task="b"), says("done")
    with recorded(receiver, provider()):
        assert await answer(agent(*script, tools=[helper, sync_helper])) == "done"
    inner = "\n".join(f"      {line}" for line in TREE.replace("clerk", "helper").splitlines())
    assert (
        tree(receiver.spans)
        == f"""\
invoke_agent clerk [INTERNAL]
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]
    execute_tool helper [INTERNAL]
{inner}
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]
    execute_tool sync_helper [INTERNAL]
{inner}
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]"""
    )


# ------------------------------------------------------------------------------------------------------------- sampling
def proxied() -> tuple[AgentLoop, ScriptedServer]:
    """An agent, and the proxy that it asks."""
    server = ScriptedServer(calls("add", a=2, b=3), says("5"))
    provider = LiteLLMProvider("http://proxy:4000", "m", api_key=None, transport=HTTP(server.transport()))
    return AgentLoop(agent_id="clerk", llm_provider=provider, tools=[add]), server


async def test_a_run_that_is_not_sampled_has_a_trace_id_and_tells_the_proxy_so(receiver: Receiver) -> None:
    clerk, server = proxied()
    with recorded(receiver, light(ALWAYS_OFF)) as recording:
        async with asyncio.timeout(5):
            result = await clerk.execute("2 + 3?")
        assert recording.flush()

    parents = [request.headers["traceparent"] for request in server.requests]
    assert [parent[:36] for parent in parents] == [f"00-{result.trace_id}-"] * 2
    assert [parent[-3:] for parent in parents] == ["-00"] * 2
    assert receiver.requests == []


async def test_a_caller_that_is_not_sampled_is_followed(receiver: Receiver) -> None:
    clerk, server = proxied()
    above = trace.SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=trace.TraceFlags(0))
    with recorded(receiver, sdk()), trace.use_span(trace.NonRecordingSpan(above)):
        async with asyncio.timeout(5):
            result = await clerk.execute("2 + 3?")

    assert result.trace_id == f"{0xA1:032x}"
    assert [request.headers["traceparent"][-3:] for request in server.requests] == ["-00"] * 2
    assert receiver.requests == []


async def test_with_a_disabled_sdk_runs_go_on_and_nothing_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, said
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    clerk, _ = proxied()
    for provider in (sdk(), light()):
        clerk, _ = proxied()
        with recorded(receiver, provider) as recording:
            async with asyncio.timeout(5):
                result = await clerk.execute("2 + 3?")
            assert (result.output, len(result.trace_id)) == ("5", 32)
            assert recording.flush()
    assert (receiver.requests, said()) == ([], [])


async def test_where_no_spans_are_made_the_log_names_no_span_but_the_callers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "looopy.run")
    above = trace.SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=trace.TraceFlags(1))
    with instrument(exporters=()):
        assert await answer() == "5"
        unseen = {vars(record)["span_id"] for record in caplog.records}
        caplog.clear()
        with trace.use_span(trace.NonRecordingSpan(above)):
            assert await answer() == "5"
    assert unseen == {""}
    assert {vars(record)["span_id"] for record in caplog.records} == {f"{0xB2:016x}"}


class Composed:
    """A model and a tool whose authors compose Rx's operators: what each stage saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def _stage(self, item: Any) -> Observable[Any]:
        span: Any = trace.get_current_span()
        self.seen.append((span.name, threading.current_thread().name))
        return rx.of(item).pipe(ops.delay(0.001))

    def tools(self, state: LoopState, /) -> list[ToolDefinition]:
        return [ToolDefinition(name="look", description="Look.", parameters={"type": "object"})]

    def call(self, asked: Any, *_: Any) -> Observable[Any]:
        if isinstance(asked, ToolCall):
            return self._two_stages(ToolComplete(result="seen"))
        said = Message.assistant("", tool_calls=(ToolCall("1", "look"),))
        if any(message.role == "tool" for message in asked.messages):
            said = Message.assistant("done")
        return self._two_stages(LLMResponse(message=said))

    def _two_stages(self, last: Any) -> Observable[Any]:
        return rx.of(last).pipe(ops.flat_map(self._stage), ops.flat_map(self._stage))


@each_provider
async def test_each_stage_of_operators_is_within_its_span_and_on_the_loops_thread(
    receiver: Receiver, provider
) -> None:
    composed: Any = Composed()
    clerk = AgentLoop(agent_id="clerk", llm_provider=composed, tool_providers=[composed])
    with recorded(receiver, provider()):
        assert await answer(clerk) == "done"
    here = threading.current_thread().name
    assert composed.seen == [
        (name, here) for name in ("chat", "chat", *2 * ["execute_tool look"], "chat", "chat")
    ]


# -------------------------------------------------------------------------------------------- another's instrumentation
async def test_spans_of_others_are_above_and_below_and_every_processor_gets_all_of_them(
    receiver: Receiver,
) -> None:
    theirs = InMemorySpanExporter()
    provider = sdk()
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    tracer = provider.get_tracer("http")

    async def fetch(url: str) -> str:
        """Fetch a page."""
        with tracer.start_as_current_span(f"GET {url}", kind=trace.SpanKind.CLIENT):
            await asyncio.sleep(0)
        trace.get_current_span().set_attribute("http.calls", 1)
        return "page"

    with recorded(receiver, provider), tracer.start_as_current_span("POST /ask", kind=trace.SpanKind.SERVER):
        here = trace.get_current_span()
        assert await answer(agent(calls("fetch", url="a.com"), says("done"), tools=[fetch])) == "done"
        assert trace.get_current_span() is here
    expected = """\
POST /ask [SERVER]
  invoke_agent clerk [INTERNAL]
    agent.iteration [INTERNAL]
      chat scripted-model [CLIENT]
      execute_tool fetch [INTERNAL]
        GET a.com [CLIENT]
    agent.iteration [INTERNAL]
      chat scripted-model [CLIENT]"""
    assert tree(receiver.spans) == expected
    (tool,) = [span for span in receiver.spans if span.name == "execute_tool fetch"]
    assert tool.attributes["http.calls"] == 1
    assert sorted(span.name for span in theirs.get_finished_spans()) == sorted(
        span.name for span in receiver.spans
    )


async def test_a_processor_of_others_that_comes_later_gets_looopys_spans_too(receiver: Receiver) -> None:
    theirs = InMemorySpanExporter()
    provider = light()
    with recorded(receiver, provider):
        assert await answer() == "5"
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        assert await answer() == "5"
    assert len(receiver.spans) == 2 * SPANS
    assert len(theirs.get_finished_spans()) == SPANS


async def test_one_that_comes_in_the_middle_of_a_run_gets_what_begins_from_then_on(
    receiver: Receiver,
) -> None:
    theirs = InMemorySpanExporter()
    provider = light()

    def add(a: int, b: int) -> int:
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        return a + b

    with recorded(receiver, provider):
        assert await answer(agent(tools=[add])) == "5"
    assert tree(receiver.spans) == TREE
    assert [span.name for span in theirs.get_finished_spans()] == ["chat scripted-model", "agent.iteration"]


# ------------------------------------------------------------------------------------------------------------- content
async def test_a_redaction_that_raises_drops_the_content_and_no_span(receiver: Receiver, said) -> None:
    def hide(text: str, where: str) -> str:
        raise LookupError(text)

    with recorded(receiver, sdk(), capture_content=True, redact=hide):
        assert await answer() == "5"
    assert tree(receiver.spans) == TREE
    assert "2 + 3?" not in str([span.attributes for span in receiver.spans])
    root = next(span for span in receiver.spans if span.name == "invoke_agent clerk")
    assert root.attributes["input.value"] == "[content dropped: the redaction hook raised LookupError]"
    assert len(said()) == 1


async def test_results_without_a_json_form_and_giant_messages_cost_no_span(receiver: Receiver, said) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("not even that")

    def odd() -> Any:
        """Give something odd."""
        return {"odd": Odd(), "bytes": b"\xff", "half": "\ud800", "nan": float("nan")}

    giant = "x" * 5_000_000
    script = calls("odd"), says(giant)
    with recorded(receiver, sdk(), capture_content=True) as recording:
        assert (
            await answer(agent(*script, tools=[odd]), metadata={"half": "\ud800", "deep": [[[[1]]]]}) == giant
        )
        assert recording.flush()
        assert (recording.delivered, recording.lost) == (SPANS, 0)
    root = next(span for span in receiver.spans if span.name == "invoke_agent clerk")
    assert root.attributes["output.value"].startswith("x" * 16_000)
    assert len(root.attributes["output.value"]) < 17_000
    assert said() == []
