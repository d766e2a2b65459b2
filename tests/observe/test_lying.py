"""Providers, spans, hooks and exporters that do what they must not: a run is not broken, hung or left open by any of them."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from looopy import ModelRejected, Retry, Run, TaskCanceled, watcher
from looopy.events import ToolComplete
from looopy.messages import ToolCall
from looopy.observe import instrument
from looopy.observe.content import Content
from looopy.ports import Embeddings, EmbedRequest, ToolDefinition
from looopy.testing import ScriptedModel, calls, fails, says
from observe.each import each_provider
from observe.watched import SPANS, Keeps, agent, answer, boom, sdk

VALID = trace.SpanContext(1, 2, is_remote=False)


class Odd(trace.NonRecordingSpan):
    """A span that is not what it should be, and whose trace a sampler took."""

    def __init__(self, **lies: Any) -> None:
        super().__init__(VALID)
        for name, lie in lies.items():
            setattr(self, name, lie)


class Odds(trace.TracerProvider):
    """Makes spans, by whatever it is given."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        make = self._make

        class Tracer(trace.NoOpTracer):
            def start_span(self, *_: Any, **__: Any) -> trace.Span:
                return make()

        return Tracer()


class Anything:
    """Has whatever it is asked for, and is whatever is wanted of it: what a mock of a span is."""

    def __getattr__(self, name: str) -> Anything:
        return self

    def __call__(self, *_: Any, **__: Any) -> Anything:
        return self


# ---------------------------------------------------------------------------------------------------------------- spans
@pytest.mark.parametrize(
    "make",
    [
        Anything,
        lambda: Odd(get_span_context=boom),
        lambda: Odd(get_span_context=lambda: None),
        lambda: Odd(get_span_context=Anything),
        lambda: Odd(is_recording=boom),
    ],
    ids=["a mock", "a context that raises", "no context", "a mock of a context", "a recording that raises"],
)
async def test_a_span_that_lies_leaves_its_run_unrecorded_and_is_said(said, make) -> None:
    with instrument(exporters=(), tracer_provider=Odds(make)):
        run = agent().execute("2 + 3?")
        assert await answer() == "5"
    assert len(run.trace_id) == 32
    assert len(said()) >= 1


async def test_a_langfuse_link_that_cannot_be_made_breaks_no_run(
    monkeypatch: pytest.MonkeyPatch, said
) -> None:
    """The flags of a span's context are asked for it, after the spans were made."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")

    class Flagless:
        is_valid, trace_id, span_id = True, 1, 2

        @property
        def trace_flags(self) -> Any:
            return boom()

    with instrument(exporters=(), langfuse="otlp", tracer_provider=sdk()) as recording:
        recording._spans.tracer._tracer = Odds(lambda: Odd(get_span_context=Flagless)).get_tracer()
        assert await answer() == "5"
    assert said()[0].startswith("a run could not be recorded: boom, at watched.py:")


async def test_a_run_that_cannot_begin_ends_with_the_error() -> None:
    class Raises:
        watch = embed = boom

    before = watcher.watch_with(Raises())
    try:
        run = agent().execute("2 + 3?")
        with pytest.raises(RuntimeError, match="boom"):
            await run
    finally:
        watcher.watch_with(before)
    assert isinstance(run, Run)
    assert run.done


# -------------------------------------------------------------------------------------- what is no Exception, and raised
END = [SystemExit, asyncio.CancelledError, GeneratorExit]


@each_provider
@pytest.mark.parametrize("error", END)
async def test_a_hook_that_exits_drops_the_text_and_ends_neither_the_run_nor_the_sending(
    said, provider, error: type[BaseException]
) -> None:
    def hook(text: str, where: str) -> str:
        if where == "user":
            raise error(text)
        return text

    with instrument(
        exporters=[keeps := Keeps()], tracer_provider=provider(), capture_content=True, redact=hook
    ) as recording:
        assert await answer() == "5"
        assert recording.flush()
    assert len(keeps.names) == SPANS
    (text,) = said()
    assert f"hook raised {error.__name__}: each text that it fails on is left out" in text


def test_an_interrupt_of_a_person_goes_through_a_hook_that_runs_just_then() -> None:
    def hook(text: str, where: str) -> str:
        raise KeyboardInterrupt

    transcript = Content(redact=hook).transcript()
    with pytest.raises(KeyboardInterrupt):
        transcript.failure("it failed")


@pytest.mark.parametrize("error", [*END, KeyboardInterrupt])
async def test_an_exporter_that_exits_loses_its_batch_and_the_next_one_is_sent_by_the_same_thread(
    monkeypatch: pytest.MonkeyPatch, said, error: type[BaseException]
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    came = threading.Semaphore(0)
    threads: list[str] = []

    class Exits(Keeps):
        def export(self, spans: Sequence[Any]) -> Any:
            threads.append(threading.current_thread().name)
            came.release()
            if len(threads) == 1:
                raise error("gone")
            return super().export(spans)

        def shutdown(self) -> None:
            raise error("gone")

    exits = Exits()
    with instrument(exporters=[exits], tracer_provider=sdk()) as recording:
        tracer = recording._spans.tracer
        for _ in range(2):
            tracer.end_span(tracer.start_span("one"))
            assert came.acquire(timeout=5)
        assert not recording.flush()
        assert (recording.delivered, recording.lost, threads) == (1, 1, ["looopy-spans"] * 2)
    assert said() == [
        "Exits did not take 1 spans, which are lost: it raised gone (said once)",
        "Exits could not be shut down: it raised gone",
    ]


# ------------------------------------------------------------------------------------- spans that cannot be written on
METHODS = ["set_status", "set_attribute", "set_attributes", "update_name"]


class Unwritable(trace.TracerProvider):
    """Makes spans of the SDK, on some of which one thing cannot be written, and knows which are open."""

    def __init__(self, method: str, name: str) -> None:
        self._tracer, self._method, self._name = sdk().get_tracer("tests"), method, name
        self.spans: list[Any] = []

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        return self

    def start_span(self, name: str, *rest: Any, **options: Any) -> trace.Span:
        span = self._tracer.start_span(name, *rest, **options)
        if name.startswith(self._name):
            setattr(span, self._method, boom)
        self.spans.append(span)
        return span

    @property
    def open(self) -> list[str]:
        return [span.name for span in self.spans if span.end_time is None]


async def breaks() -> str:
    """Break."""
    raise ValueError("broken")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["invoke_agent", "agent.iteration", "chat", "attempt", "execute_tool"])
async def test_a_span_that_cannot_be_written_on_ends_and_so_do_the_others(
    said, method: str, name: str
) -> None:
    provider = Unwritable(method, name)
    with instrument(exporters=(), tracer_provider=provider, capture_content=True):
        flaky = Retry(ScriptedModel(fails(429), calls("breaks"), says("5")), first_wait=0.001)
        assert await answer(agent(llm_provider=flaky, tools=[breaks])) == "5"
        assert provider.open == []
        assert len(provider.spans) == SPANS + 1

        run = agent(fails(400)).execute("2 + 3?")
        async with asyncio.timeout(5):
            with pytest.raises(ModelRejected):
                await run
        assert provider.open == []
    assert [text for text in said() if "boom, at watched.py" not in text] == []


async def test_the_spans_of_a_run_that_is_cancelled_end_also_where_one_cannot_be_written_on(said) -> None:
    reached = asyncio.Event()

    async def wait() -> None:
        """Wait."""
        reached.set()
        await asyncio.Event().wait()

    provider = Unwritable("set_status", "execute_tool")
    with instrument(exporters=(), tracer_provider=provider):
        run = agent(calls("wait"), tools=[wait]).execute("wait").start()
        async with asyncio.timeout(5):
            await reached.wait()
            run.cancel()
            with pytest.raises(TaskCanceled):
                await run
    assert provider.open == []
    statuses = {span.name: span.status.status_code.name for span in provider.spans}
    assert statuses == {
        "invoke_agent clerk": "ERROR",
        "agent.iteration": "ERROR",
        "chat scripted-model": "UNSET",
        "execute_tool wait": "UNSET",
    }
    assert len(said()) == 1


async def test_a_span_that_can_neither_end_nor_say_what_it_is_is_counted_as_lost(said) -> None:
    class Ghost(trace.NonRecordingSpan):
        end = boom
        gone = False

        def is_recording(self) -> bool:
            return True

        def get_span_context(self) -> trace.SpanContext:
            return boom() if self.gone else super().get_span_context()

    with instrument(exporters=[Keeps()], tracer_provider=sdk()) as recording:
        ghost = Ghost(VALID)
        ghost.gone = True
        recording._spans.tracer.end_span(ghost)
        assert recording.lost == 1
    assert len(said()) == 1


# ------------------------------------------------------------------------------------------------------------ embeddings
class Embeds:
    """An embedder that is asked through the watcher, as looopy's own is."""

    model = "e"

    async def embed(self, texts: Any, /, **_: Any) -> Embeddings:
        ask = self.ask
        watching = watcher.watcher()
        assert watching is not None
        return await watching.embed(self, EmbedRequest(texts=texts), ask)

    async def ask(self, request: EmbedRequest) -> Embeddings:
        with trace.get_tracer("tests", tracer_provider=self.provider).start_as_current_span("http"):
            return Embeddings(vectors=(array("f", [1.0]),))

    def __init__(self, provider: trace.TracerProvider) -> None:
        self.provider = provider


@each_provider
async def test_what_is_asked_for_embeddings_comes_below_their_span(provider) -> None:
    provider, kept = provider(), Parents()
    with instrument(exporters=[kept], tracer_provider=provider) as recording:
        before = trace.get_current_span()
        assert (await Embeds(provider).embed(("one",))).dimensions == 1
        assert trace.get_current_span() is before
        assert recording.flush()
    assert kept.below == [("http", "embeddings e"), ("embeddings e", "")]


class Parents(Keeps):
    """Keeps which span is below which."""

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        names = {span.context.span_id: span.name for span in spans}
        self.below = [(span.name, names[span.parent.span_id] if span.parent else "") for span in spans]
        return super().export(spans)


@pytest.mark.parametrize("name", ["model", "base_url"])
async def test_an_embedder_that_cannot_say_what_it_is_is_asked_all_the_same(said, name: str) -> None:
    class Odd(Embeds):
        pass

    setattr(Odd, name, property(boom))
    with instrument(exporters=[Keeps()], tracer_provider=sdk()) as recording:
        assert (await Odd(sdk()).embed(("one",))).dimensions == 1
        assert recording.lost == 1
    (text,) = said()
    assert text.startswith("texts were embedded unrecorded: boom, at watched.py:")


async def test_an_answer_that_is_none_reaches_who_asked_and_its_span_ends(said) -> None:
    class Wrong(Embeds):
        async def ask(self, request: EmbedRequest) -> Any:
            return "no embeddings"

    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk()):
        assert await Wrong(sdk()).embed(("one",)) == "no embeddings"
    assert keeps.names == ["embeddings e"]
    assert len(said()) == 1


@pytest.mark.parametrize("method", ["set_status", "set_attribute"])
async def test_a_failure_of_an_embedder_stays_its_own_where_its_span_cannot_be_written_on(
    said, method: str
) -> None:
    class Fails(Embeds):
        async def ask(self, request: EmbedRequest) -> Any:
            raise LookupError("no such model")

    provider = Unwritable(method, "embeddings")
    with (
        instrument(exporters=(), tracer_provider=provider),
        pytest.raises(LookupError, match="no such model"),
    ):
        await Fails(provider).embed(("one",))
    assert provider.open == []
    assert len(said()) == 1


async def test_embedding_that_is_given_up_from_elsewhere_ends_its_span_without_a_word(caplog) -> None:
    class Waits(Embeds):
        async def ask(self, request: EmbedRequest) -> Any:
            await asyncio.sleep(0)

    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk()):
        embedding = Waits(sdk()).embed(("one",))
        copy_context().run(embedding.send, None)
        embedding.close()
    assert keeps.names == ["embeddings e"]
    assert caplog.records == []


@pytest.mark.parametrize("name", ["invoke_agent clerk", "chat scripted-model", "execute_tool add"])
async def test_a_processor_that_says_it_was_cancelled_ends_no_run(said, name: str) -> None:
    class Cancelled(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.name == name:
                raise asyncio.CancelledError

    provider = sdk()
    provider.add_span_processor(Cancelled())
    with instrument(exporters=(), tracer_provider=provider):
        assert await answer() == "5"
    assert len(said()) == 1


@pytest.mark.parametrize("recorded", [False, True])
async def test_tools_that_are_a_future_work_watched_as_they_do_unwatched(recorded: bool) -> None:
    class Futures:
        def tools(self, state: Any) -> list[ToolDefinition]:
            return [ToolDefinition(name="add")]

        def call(self, call: ToolCall, context: Any) -> Any:
            return asyncio.ensure_future(asyncio.sleep(0, ToolComplete(result="5")))

    with instrument(exporters=(), tracer_provider=sdk()) if recorded else nullcontext():
        clerk = agent(tools=[], tool_providers=[Futures()])
        result = await clerk.execute("2 + 3?")
    assert [message.text for message in result.messages if message.role == "tool"] == ["5"]
