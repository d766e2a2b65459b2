"""Whatever fails in the recording of runs, no run notices; each loss is counted, and said once."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from looopy import LiteLLMEmbedder, Retry, watcher
from looopy.errors import ConfigurationError
from looopy.events import LLMRetry
from looopy.observe import OTLPExporter, instrument
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedModel, ScriptedServer, calls, embeds, fails, says, stalls
from observe.each import each_provider
from observe.receiver import CLOSES, GARBAGE, HELD, HTML, SECONDS, Receiver, Reply, partial, status, tree
from observe.watched import SPANS, TREE, Keeps, agent, answer, boom, light, sdk


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


# ------------------------------------------------------------------------------------------------------------ exporters
@each_provider
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (status(401), "it wants a credential (401)"),
        (HTML, "a web page answered"),
        (GARBAGE, "what answers there is no HTTP/1.1 server"),
        (CLOSES, "the connection failed"),
        (status(503), "it is overloaded or down (503)"),
        (HELD, "no answer within 0.3 s"),
    ],
)
async def test_whatever_the_receiver_answers_runs_are_untouched_and_their_spans_counted(
    receiver: Receiver, said, provider, reply: Reply, words: str
) -> None:
    receiver.always(reply)
    exporter = OTLPExporter(receiver.traces_url, timeout=0.3)
    with instrument(exporters=[exporter], tracer_provider=provider()) as recording:
        outputs = [await answer() for _ in range(3)]
        assert not recording.flush()

        assert outputs == ["5"] * 3
        assert (recording.delivered, recording.lost) == (0, 3 * SPANS)
    (text,) = said()
    assert text.startswith(f"OTLP: could not export {3 * SPANS} spans to {receiver.traces_url}: {words}")


async def test_a_receiver_that_is_down_and_comes_back_is_said_twice_in_all(said) -> None:
    with Receiver() as receiver:
        port = receiver.port
    exporter = OTLPExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=0.3)
    with instrument(exporters=[exporter], tracer_provider=sdk()) as recording:
        for _ in range(2):
            assert await answer() == "5"
            assert not recording.flush()
        with Receiver(port=port) as receiver:
            assert await answer() == "5"
            assert recording.flush()
            assert tree(receiver.spans) == TREE
        assert (recording.delivered, recording.lost) == (SPANS, 2 * SPANS)

    refused, again = said()
    assert "nobody listens there (connection refused)" in refused
    assert again == f"OTLP: exported again to {exporter.url}, after {2 * SPANS} spans were lost"


async def test_a_slow_receiver_holds_no_run_and_gets_all_of_them(receiver: Receiver, said) -> None:
    receiver.always(HELD)
    with instrument(exporters=[OTLPExporter(receiver.traces_url)], tracer_provider=light()) as recording:
        assert await answer() == "5"
        assert recording.flush(0) is False
        receiver.wait(requests=1)
        assert [await answer() for _ in range(5)] == ["5"] * 5
        receiver.release()
        assert recording.flush()

        assert (recording.delivered, recording.lost) == (6 * SPANS, 0)
    assert said() == []


async def test_at_the_end_of_the_program_nobody_waits_for_a_receiver_that_is_not_there(
    said, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        url = receiver.traces_url
    exporters = [OTLPExporter(url, timeout=60), keeps := Keeps()]
    recording = instrument(exporters=exporters, tracer_provider=sdk())
    assert await answer() == "5"
    monkeypatch.setattr(threading, "main_thread", threading.Thread)  # one that is not alive
    recording.shutdown(timeout=SECONDS)

    assert (len(keeps.names), recording.delivered, recording.lost) == (SPANS, SPANS, SPANS)
    (text,) = said()
    assert text.startswith(f"OTLP: could not export {SPANS} spans to {url}: nobody listens there")


async def test_an_exporter_that_raises_loses_its_spans_and_no_run(said) -> None:
    class Broken(Keeps):
        export = boom

    with instrument(exporters=[Broken(), keeps := Keeps()], tracer_provider=sdk()) as recording:
        for _ in range(2):
            assert await answer() == "5"
            assert not recording.flush()

        assert (recording.delivered, recording.lost) == (2 * SPANS, 2 * SPANS)
    assert len(keeps.names) == 2 * SPANS
    assert said() == ["Broken did not take 6 spans, which are lost: it raised boom (said once)"]


async def test_an_exporter_that_says_no_loses_its_spans_and_one_that_says_nothing_has_taken_them(
    said,
) -> None:
    class Odd(Keeps):
        def __init__(self, result: Any) -> None:
            super().__init__()
            self.export = lambda spans: result

    exporters = [Odd(SpanExportResult.FAILURE), Odd(None)]
    with instrument(exporters=exporters, tracer_provider=sdk()) as recording:
        for _ in range(2):
            assert await answer() == "5"
            assert not recording.flush()

        assert (recording.delivered, recording.lost) == (2 * SPANS, 2 * SPANS)
    assert said() == ["Odd did not take 6 spans, which are lost: its own log may say why (said once)"]


async def test_an_exporter_that_never_returns_holds_neither_runs_nor_the_end(said) -> None:
    released = threading.Event()

    class Stuck(Keeps):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            released.wait(5)
            return super().export(spans)

    recording = instrument(exporters=[Stuck()], tracer_provider=sdk())
    assert await answer() == "5"
    assert recording.flush(0.05) is False
    assert await answer() == "5"
    recording.shutdown(0.05)
    (text,) = said()
    released.set()

    assert text.startswith("12 of 12 spans were not sent to Stuck: ")
    assert recording.lost == 2 * SPANS


async def test_an_exporter_that_raises_when_it_ends_is_said_and_that_is_all(said) -> None:
    class Broken(Keeps):
        shutdown = boom

    broken = Broken()
    with instrument(exporters=[broken], tracer_provider=sdk()):
        assert await answer() == "5"

    assert len(broken.names) == SPANS
    assert said() == ["Broken could not be shut down: it raised boom"]


# ---------------------------------------------------------------------------------------- providers, samplers, processors
class Breaks(SpanProcessor):
    """Raises at the start, or the end, of spans whose names begin so."""

    def __init__(self, method: str, name: str) -> None:
        self._name = name
        setattr(self, method, self._break)

    def _break(self, span: Any, *_: Any, **__: Any) -> None:
        if span.name.startswith(self._name):
            raise RuntimeError("boom")


async def test_a_tracer_that_raises_leaves_runs_unrecorded_and_is_said_once(said) -> None:
    class Tracer(trace.NoOpTracer):
        start_span = boom

    class Provider(trace.TracerProvider):
        def get_tracer(self, *_: object, **__: object) -> trace.Tracer:
            return Tracer()

    with instrument(exporters=(), tracer_provider=Provider()) as recording:
        run = agent().execute("2 + 3?")
        async with asyncio.timeout(5):
            result = await run
        assert await answer() == "5"

        assert (result.output, len(result.trace_id)) == ("5", 32)
        assert recording.lost == 2
    (text,) = said()
    assert re.fullmatch(
        r"a span could not be begun, and is lost: boom, at watched\.py:\d+ \(said once\)", text
    )


@each_provider
async def test_a_sampler_that_raises_leaves_runs_unrecorded_and_is_said_once(said, provider) -> None:
    class Unsure(Sampler):
        should_sample = boom

        def get_description(self) -> str:
            return "unsure"

    with instrument(exporters=[keeps := Keeps()], tracer_provider=provider(sampler=Unsure())) as recording:
        assert [await answer() for _ in range(2)] == ["5"] * 2
        assert recording.lost == 2
    assert keeps.names == []
    assert len(said()) == 1


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("invoke_agent", ""),
        (
            "agent.iteration",
            "invoke_agent clerk\n  chat scripted-model\n  execute_tool add\n  chat scripted-model",
        ),
        ("chat", "invoke_agent clerk\n  agent.iteration\n    execute_tool add\n  agent.iteration"),
        (
            "execute_tool",
            "invoke_agent clerk\n  agent.iteration\n    chat scripted-model\n  agent.iteration\n    chat scripted-model",
        ),
    ],
)
async def test_a_processor_that_raises_at_the_start_of_a_span_costs_that_span_alone(
    receiver: Receiver, said, name: str, left: str
) -> None:
    provider = sdk()
    provider.add_span_processor(Breaks("on_start", name))
    exporter = OTLPExporter(receiver.traces_url)
    with instrument(exporters=[exporter], tracer_provider=provider) as recording:
        assert await answer() == "5"
        assert recording.flush()
        assert recording.lost == {"invoke_agent": 1, "agent.iteration": 2, "chat": 2, "execute_tool": 1}[name]
    assert tree(receiver.spans, lambda span: span.name) == left
    assert len(said()) == 1


@pytest.mark.parametrize("name", ["invoke_agent", "agent.iteration", "chat", "execute_tool"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_processor_that_raises_at_the_end_of_a_span_costs_that_span_at_most(
    receiver: Receiver, said, name: str, first: bool
) -> None:
    provider = sdk()
    if first:
        provider.add_span_processor(Breaks("on_end", name))
    exporter = OTLPExporter(receiver.traces_url)
    with instrument(exporters=[exporter], tracer_provider=provider) as recording:
        if not first:
            provider.add_span_processor(Breaks("on_end", name))
        assert await answer() == "5"
        assert recording.flush()
        ended = {"invoke_agent": 1, "agent.iteration": 2, "chat": 2, "execute_tool": 1}[name]
        assert recording.lost == (ended if first else 0)
        assert recording.delivered == SPANS - recording.lost
    assert len(said()) == 1


def test_a_provider_that_lets_nobody_take_its_spans_is_said_with_the_mend() -> None:
    with pytest.raises(ConfigurationError) as caught:
        instrument(exporters=[Keeps()], tracer_provider=trace.NoOpTracerProvider())
    assert str(caught.value) == (
        "spans cannot be taken from a NoOpTracerProvider, which has no add_span_processor: let it export them itself, with "
        "instrument(exporters=(), langfuse=False)"
    )


async def test_spans_that_a_sampler_only_records_are_not_sent() -> None:
    class Records(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "records"

    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk(sampler=Records())) as recording:
        assert await answer() == "5"
    assert (keeps.names, recording.delivered, recording.lost) == ([], 0, 0)


async def test_a_program_may_flush_and_end_its_own_provider(said) -> None:
    provider, keeps = sdk(), Keeps()
    with instrument(exporters=[keeps], tracer_provider=provider) as recording:
        assert await answer() == "5"
        assert await asyncio.to_thread(provider.force_flush)
        assert len(keeps.names) == SPANS
        assert await answer() == "5"
        await asyncio.to_thread(provider.shutdown)
        assert len(keeps.names) == 2 * SPANS
        assert await answer() == "5"
    assert (keeps.closed, recording.lost) == (1, 0)
    assert said() == []


async def test_a_provider_that_makes_no_tracer_is_said_to_who_passes_it_and_nothing_is_left_behind() -> None:
    class Provider(trace.TracerProvider):
        get_tracer = boom

    with pytest.raises(RuntimeError, match="boom"):
        instrument(exporters=(), tracer_provider=Provider())
    assert watcher.watcher() is None


# --------------------------------------------------------------------------------------------------------------- metrics
class Meter(metrics.NoOpMeter):
    """A meter whose instruments raise."""

    class Instrument:
        add = record = boom

    def create_counter(self, *_: Any, **__: Any) -> Any:
        return self.Instrument()

    create_histogram = create_up_down_counter = create_counter


class Meters(metrics.MeterProvider):
    def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
        return Meter("broken")


async def test_a_meter_that_raises_costs_no_span_and_is_said_once(said) -> None:
    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk(), meter_provider=Meters()):
        assert [await answer() for _ in range(2)] == ["5"] * 2
    assert len(keeps.names) == 2 * SPANS
    (text,) = said()
    assert text.startswith("an event could not be recorded: boom, at watched.py:")


async def test_a_meter_that_raises_at_the_end_of_an_abandoned_run_costs_no_span(said) -> None:
    class Late(Meter):
        begun: ClassVar[list[object]] = []

        class Instrument:
            def add(self, amount: float, *_: object) -> None:
                if Late.begun and amount < 0:
                    boom()

            def record(self, *_: object) -> None:
                if Late.begun:
                    boom()

    class Lates(Meters):
        def get_meter(self, *_: Any, **__: Any) -> metrics.Meter:
            return Late("late")

    reached, released = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        reached.set()
        await released.wait()
        return "waited"

    keeps = Keeps()
    recording = instrument(exporters=[keeps], tracer_provider=sdk(), meter_provider=Lates())
    run = agent(calls("wait"), says("done"), tools=[wait]).execute("wait").start()
    async with asyncio.timeout(5):
        await reached.wait()
        Late.begun.append(run)
        recording.shutdown()
        released.set()
        assert (await run).output == "done"
    assert len(keeps.names) == 4
    (text,) = said()
    assert text.startswith("the end of a run could not be recorded: boom")


# ---------------------------------------------------------------------------------------------------------------- models
async def test_a_model_that_cannot_say_its_parameters_is_asked_all_the_same(said) -> None:
    class Odd(ScriptedModel):
        parameters = boom

    odd = Odd(calls("add", a=2, b=3), says("5"))
    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk()) as recording:
        assert await answer(agent(llm_provider=odd)) == "5"
        assert recording.lost == 2
    assert len(keeps.names) == SPANS - 2
    (text,) = said()
    assert text.startswith("a model call could not be recorded: boom")


@pytest.mark.parametrize(("name", "spans"), [("base_url", ["invoke_agent clerk"]), ("model", [])])
async def test_a_model_that_cannot_say_what_it_is_is_asked_and_its_run_unrecorded(
    said, name: str, spans: list[str]
) -> None:
    class Odd:
        def __init__(self) -> None:
            self.call = ScriptedModel(calls("add", a=2, b=3), says("5")).call
            self.asked = 0

        def raises_at_first(self) -> str:
            self.asked += 1
            return boom() if self.asked == 1 else ""

    setattr(Odd, name, property(Odd.raises_at_first))
    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk(), meter_provider=Meters()):
        assert await answer(agent(llm_provider=Odd())) == "5"
    assert keeps.names == spans
    (text,) = said()
    assert text.startswith("a run could not be recorded: boom")


# ------------------------------------------------------------------------------------------------------------ embeddings
async def test_texts_are_embedded_whatever_the_tracer_does(said) -> None:
    server = ScriptedServer(otherwise=embeds)
    embedder = LiteLLMEmbedder("http://proxy:4000", "e", api_key=None, transport=HTTP(server.transport()))
    for method in ("on_start", "on_end"):
        provider = sdk()
        provider.add_span_processor(Breaks(method, "embeddings"))
        with instrument(exporters=[Keeps()], tracer_provider=provider) as recording:
            async with asyncio.timeout(5):
                assert len((await embedder.embed(["one", "two"])).vectors) == 2
            assert recording.lost == 1
    assert len(said()) == 2


async def test_of_a_batch_that_is_taken_in_part_each_part_is_counted(receiver: Receiver, said) -> None:
    receiver.script(partial(2, "too old"))
    exporter = OTLPExporter(receiver.traces_url)
    with instrument(exporters=[exporter], tracer_provider=light()) as recording:
        assert await answer() == "5"
        assert not recording.flush()
        assert (recording.delivered, recording.lost) == (SPANS - 2, 2)
    assert len(said()) == 1


async def test_a_recording_that_is_hurried_gives_up_at_once_on_a_receiver_that_is_not_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exporter = OTLPExporter("http://127.0.0.1:9/v1/traces", timeout=600)
    with instrument(exporters=[exporter], tracer_provider=light()) as recording:
        assert await answer() == "5"
        recording.hurry()
    assert (recording.delivered, recording.lost) == (0, SPANS)
    assert [text.partition(":")[0] for text in caplog.messages] == ["OTLP"]


async def test_spans_that_cannot_be_written_on_end_all_the_same(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opentelemetry.sdk.trace.Span.set_attribute", boom)
    model = Retry(ScriptedModel(fails(429), stalls()), first_wait=0.001)
    exporter = OTLPExporter(receiver.traces_url)
    with instrument(exporters=[exporter], tracer_provider=sdk()):
        run = agent(llm_provider=model).execute("go").start()
        async for event in run:
            if isinstance(event, LLMRetry):
                asyncio.get_running_loop().call_later(0.02, run.cancel)
    assert sorted(span.name.split()[0] for span in receiver.spans) == [
        "agent.iteration", "attempt", "chat", "invoke_agent",
    ]  # fmt: skip


async def test_what_a_provider_was_when_it_was_asked_is_measured(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.metrics_url)
    model: Any = ScriptedModel(says("5"), says("5"))
    with instrument(exporters=(), tracer_provider=light()) as recording:
        for model.model in ("anthropic/claude-sonnet-4-5", "openai/gpt-5"):
            assert await answer(agent(llm_provider=model)) == "5"
        assert await asyncio.to_thread(recording.flush)
    points = receiver.metrics["gen_ai.client.operation.duration"].points
    assert {point.attributes["gen_ai.provider.name"] for point in points} == {"anthropic", "openai"}
