"""Recording that is switched on twice, exchanged while runs are under way, or switched off: every span arrives, and arrives once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

from looopy import Run, watcher
from looopy.observe import OTLPExporter, instrument
from looopy.testing import calls, says
from observe.each import each_provider
from observe.receiver import Receiver, tree
from observe.watched import SPANS, TREE, Keeps, agent, answer, light, sdk


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


class Held:
    """A run whose tool waits: `async with Held() as run: …`, and it goes on after that."""

    def __init__(self) -> None:
        self._reached, self._released = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Run:
        async def wait() -> str:
            """Wait."""
            self._reached.set()
            await self._released.wait()
            return "waited"

        clerk = agent(calls("wait"), says("done"), tools=[wait])
        self.run = clerk.execute("wait").start()
        async with asyncio.timeout(5):
            await self._reached.wait()
        return self.run

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        async with asyncio.timeout(5):
            assert (await self.run).output == "done"


# ----------------------------------------------------------------------------------------------------------------- twice
@each_provider
async def test_asking_twice_for_the_same_is_asking_once(receiver: Receiver, provider) -> None:
    options: dict[str, Any] = {
        "exporters": [OTLPExporter(receiver.traces_url)],
        "tracer_provider": provider(),
    }
    with instrument(**options) as first:
        assert instrument(**options) is first
        assert await answer() == "5"
    assert tree(receiver.spans) == TREE


async def test_after_a_shutdown_the_same_arguments_switch_it_on_again(receiver: Receiver) -> None:
    provider = sdk()
    for _ in range(2):
        with instrument(exporters=[OTLPExporter(receiver.traces_url)], tracer_provider=provider):
            assert await answer() == "5"
        assert await answer() == "5"  # unrecorded
    assert tree(receiver.spans) == f"{TREE}\n{TREE}"


@each_provider
async def test_the_newest_arguments_win_and_a_run_under_way_is_recorded_to_its_end(provider) -> None:
    one, two = Keeps(), Keeps()
    provider = provider()
    first = instrument(exporters=[one], tracer_provider=provider)
    async with Held():
        second = instrument(exporters=[two], tracer_provider=provider)
        assert watcher.watcher() is second
        assert await answer() == "5"
    second.shutdown()
    first.shutdown()  # waits for what it still sends

    assert first.over
    assert Counter(one.names + two.names)["invoke_agent clerk"] == 2
    assert len(one.names + two.names) == 2 * SPANS


async def test_a_run_under_way_is_recorded_to_its_end_also_where_another_provider_takes_over() -> None:
    one, two = Keeps(), Keeps()
    instrument(exporters=[one], tracer_provider=light())
    async with Held():
        second = instrument(exporters=[two], tracer_provider=light())
        assert await answer() == "5"
    second.shutdown()

    assert len(one.names + two.names) == 2 * SPANS


async def test_an_exporter_that_is_passed_again_stays_open() -> None:
    keeps, provider = Keeps(), sdk()
    first = instrument(exporters=[keeps], tracer_provider=provider)
    assert await answer() == "5"
    with instrument(exporters=[keeps], tracer_provider=provider, capture_content=True) as second:
        first_is_over(first)
        assert await answer() == "5"
        assert second.flush()
        assert (len(keeps.names), keeps.closed) == (2 * SPANS, 0)
    assert keeps.closed == 1


def first_is_over(first: Any) -> None:
    """The one that gave way is sent by a thread of its own: wait for that."""
    for thread in threading.enumerate():
        if thread.name == "looopy-observe":
            thread.join(5)
    assert first.over


async def test_ten_exchanges_under_load_lose_no_span_and_double_none() -> None:
    exporters = [Keeps() for _ in range(10)]
    provider = light()
    running: list[Any] = []
    for each in exporters:
        last = instrument(exporters=[each], tracer_provider=provider)
        running += [agent().execute("2 + 3?").start() for _ in range(10)]
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert {(await run).output for run in running} == {"5"}
    last.shutdown()
    for thread in threading.enumerate():
        if thread.name == "looopy-observe":
            thread.join(5)

    assert sum(len(each.names) for each in exporters) == 100 * SPANS
    assert last.lost == 0


# ------------------------------------------------------------------------------------------------------------ switched off
async def test_spans_of_runs_under_way_end_with_the_recording_and_say_so(receiver: Receiver) -> None:
    recording = instrument(exporters=[OTLPExporter(receiver.traces_url)], tracer_provider=sdk())
    async with Held():
        recording.shutdown()
        assert (
            tree(receiver.spans)
            == """\
invoke_agent clerk [INTERNAL] ERROR: Abandoned: recording stopped before the run was over
  agent.iteration [INTERNAL] ERROR: Abandoned: recording stopped before the run was over
    chat scripted-model [CLIENT]
    execute_tool wait [INTERNAL] ERROR: Abandoned: recording stopped before the run was over"""
        )
    assert len(receiver.spans) == 4
    assert recording.lost == 0


async def test_spans_of_a_run_that_began_before_an_exchange_end_with_the_recording_too() -> None:
    one, two = Keeps(), Keeps()
    instrument(exporters=[one], tracer_provider=light())
    async with Held():
        second = instrument(exporters=[two], tracer_provider=sdk())
        second.shutdown()
        assert sorted(one.names + two.names) == [
            "agent.iteration",
            "chat scripted-model",
            "execute_tool wait",
            "invoke_agent clerk",
        ]


def test_a_recording_that_is_stopped_by_another_thread_leaves_no_span_open() -> None:
    """Run with `sys.setswitchinterval(1e-5)`, it failed one time in ten while nothing kept the two threads apart."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(20):
            provider, counts = sdk(), Counts()
            provider.add_span_processor(counts)
            recording = instrument(exporters=[Keeps()], tracer_provider=provider)
            runs = [agent().execute("2 + 3?").start() for _ in range(10)]
            assert counts.begun.wait(5)
            recording.shutdown()
            assert {run.result(5).output for run in runs} == {"5"}
            assert counts.open == set()
    finally:
        sys.setswitchinterval(switch)


class Counts(SpanProcessor):
    """Knows the spans that are open."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.begun = threading.Event()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.open.add(span.context.span_id)
        if span.name.startswith("execute_tool"):
            self.begun.set()

    def on_end(self, span: ReadableSpan) -> None:
        self.open.discard(span.context.span_id)


async def test_switching_off_twice_is_switching_off_once(said) -> None:
    keeps = Keeps()
    recording = instrument(exporters=[keeps], tracer_provider=sdk())
    with recording:
        assert await answer() == "5"
        recording.shutdown()
    recording.shutdown()
    assert recording.flush() is True

    assert (keeps.closed, len(keeps.names), said()) == (1, SPANS, [])


async def test_a_recording_that_gave_way_switches_nothing_off() -> None:
    provider, keeps = sdk(), Keeps()
    first = instrument(exporters=[Keeps()], tracer_provider=provider)
    with instrument(exporters=[keeps], tracer_provider=provider):
        first.shutdown()
        assert await answer() == "5"
    assert len(keeps.names) == SPANS


# ---------------------------------------------------------------------------------------------------------- a full queue
async def test_spans_for_which_there_is_no_room_are_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch, said
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    begun, released = threading.Event(), threading.Event()

    class Slow(Keeps):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            begun.set()
            released.wait(5)
            return super().export(spans)

    slow = Slow()
    recording = instrument(exporters=[slow], tracer_provider=light())
    tracer = recording._pipeline.tracer
    for _ in range(100):
        tracer.end_span(tracer.start_span("first"))
    assert begun.wait(5)
    for _ in range(9_900):
        tracer.end_span(tracer.start_span("second"))
    assert recording.lost == 9_800
    released.set()
    recording.shutdown()

    assert (recording.delivered, recording.lost, len(slow.names)) == (200, 9_800, 200)
    assert said() == [
        "Slow: spans are lost, since 100 wait to be sent already: raise OTEL_BSP_MAX_QUEUE_SIZE, or sample (sample_rate=) (said once)",
        (
            "9800 of 10000 spans were not sent to Slow: there was no room in the queue, or no time at the end; raise "
            "OTEL_BSP_MAX_QUEUE_SIZE, sample (sample_rate=), or call flush() before the program ends"
        ),
    ]


@pytest.mark.parametrize("size", ["", "many", "0", "-3"])
async def test_an_odd_size_of_the_queue_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", size)
    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk()) as recording:
        assert await answer() == "5"
        assert len(keeps.names) + recording.lost <= SPANS
