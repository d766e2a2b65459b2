"""The end of a recording, wherever it strikes: in the middle of a beginning, from a signal, twice, or before a run is over."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from looopy import InMemoryStateStore, Run, TaskCanceled, watcher
from looopy.observe import Instrumentation, instrument, instrumentation
from looopy.observe.meters import LaterMeter, LightMeters
from looopy.state import LoopState
from looopy.testing import calls, says
from looopy.watcher import Watched
from observe.each import each_provider
from observe.kept import RESOURCE
from observe.kept import Kept as KeptMetrics
from observe.metered import Metered
from observe.receiver import Receiver, status
from observe.watched import SPANS, Keeps, agent, answer, boom, light, sdk

# -------------------------------------------------------------------------------------------------- signals at any moment
_OWN = str(Path("looopy", "observe"))


class Struck:
    """Does something, and something else in the middle of it, at its n-th step within looopy: what a signal's handler does.

    Where Python starts a thread it holds a lock of its own, and no handler may start one just then.
    """

    def __init__(self, what: Callable[[], object], handler: Callable[[], object], step: int) -> None:
        self._left = step
        self._handler = handler
        self.struck = self.over = False
        thread = threading.Thread(target=self._do, args=(what,), daemon=True)
        thread.start()
        thread.join(3)

    def _do(self, what: Callable[[], object]) -> None:
        sys.setprofile(self._strike)
        try:
            what()
            self.over = True
        finally:
            sys.setprofile(None)

    def _strike(self, frame: FrameType, *_: object) -> None:
        self._left -= _OWN in frame.f_code.co_filename
        if self._left == 0 and not self.struck:  # what the handler does is not counted
            self.struck = True
            self._handler()


def at_each_step(act: Callable[[int], Struck]) -> int:
    """Strike at one step after the other, until there is none left; how many there were."""
    step = 1
    while (struck := act(step)).struck:
        assert struck.over, f"it hangs when it is struck at step {step}"
        step += 1
    return step


def test_a_recording_may_be_switched_off_at_any_step_of_another_ones_beginning() -> None:
    provider = light()

    def act(step: int) -> Struck:
        first = instrument(exporters=[Keeps()], tracer_provider=provider)
        last: list[Any] = []
        struck = Struck(
            lambda: last.append(instrument(exporters=[Keeps()], tracer_provider=provider)),
            first.shutdown,
            step,
        )
        for each in (first, *last):
            each.shutdown()
        return struck

    assert at_each_step(act) > 50


@pytest.mark.parametrize("room", ["1", "2"])
def test_a_span_may_end_at_any_step_of_another_ones_end(
    monkeypatch: pytest.MonkeyPatch, said, room: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", room)

    def act(step: int) -> Struck:
        with instrument(exporters=[Keeps()], tracer_provider=light()) as recording:
            tracer = recording._spans.tracer
            some = [tracer.start_span("some") for _ in range(6)]

            def end() -> None:
                for span in some[:3]:
                    tracer.end_span(span)

            def handler() -> None:
                for span in some[3:]:
                    tracer.end_span(span)

            return Struck(end, handler, step)

    assert at_each_step(act) > 20


def test_a_fault_may_be_caught_at_any_step_of_catching_another_one(said) -> None:
    def act(step: int) -> Struck:
        with instrument(exporters=(), tracer_provider=sdk()) as recording:
            faults = recording._pipeline.faults

            def catch() -> None:
                try:
                    raise ValueError("broken")
                except ValueError as error:
                    faults.caught("something is lost", error, lost=1)

            struck = Struck(catch, catch, step)
            assert recording.lost == (2 if struck.struck else 1)
            return struck

    assert at_each_step(act) > 5


def test_a_reading_at_any_step_of_a_runs_end_measures_it_once() -> None:
    def act(step: int) -> Struck:
        seen: list[object] = []
        meters = LightMeters(KeptMetrics(), resource=RESOURCE)
        run = LaterMeter(lambda: cast("Any", SimpleNamespace(on_event=seen.append, end=seen.append)), meters)
        run.on_event(cast("Any", "event"))
        struck = Struck(run.end, meters.collect, step)
        meters.collect()
        assert len(seen) == 2
        meters.shutdown()
        return struck

    assert at_each_step(act) > 10


def test_who_switches_off_does_not_wait_for_another_thread_that_switches_on() -> None:
    """Else the handler of a signal waits for what that thread imports, and that thread for what the interrupted one imports."""
    keeps = Keeps()
    first = instrument(exporters=[keeps], tracer_provider=sdk())

    class Slow(Keeps):
        @property
        def reads_light_spans(self) -> bool:
            ending = threading.Thread(target=first.shutdown)
            ending.start()
            ending.join(5)
            self.waited = ending.is_alive()
            return False

    slow = Slow()
    with instrument(exporters=[slow], tracer_provider=sdk()):
        assert (slow.waited, keeps.closed) == (False, 1)


# -------------------------------------------------------------------------------------------- a loop that ends before a run
class SlowStore(InMemoryStateStore):
    """A store that never comes to the end of saving a task that has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.saving = asyncio.Event()

    async def save(self, state: LoopState, /, *, after: int) -> None:
        if not state.iteration:
            await super().save(state, after=after)
            return
        self.saving.set()
        await asyncio.Event().wait()


def test_a_run_whose_loop_is_closed_while_its_state_is_saved_is_over_in_the_record_too() -> None:
    meters, store, keeps = Metered(), SlowStore(), Kept()
    loop = asyncio.new_event_loop()

    async def begin() -> Run:
        run = agent(task_state_store=store).execute("2 + 3?").start()
        await asyncio.wait_for(store.saving.wait(), 5)
        return run

    with instrument(exporters=[keeps], tracer_provider=sdk(), meter_provider=meters.provider) as recording:
        run = loop.run_until_complete(begin())
        loop.close()
        with pytest.raises(TaskCanceled):
            run.result(5)

        assert recording.flush()
        assert keeps.statuses == {
            "invoke_agent clerk": CLOSED,
            "agent.iteration": CLOSED,
            "chat scripted-model": None,
        }
        assert instrumentation._under_way == set()
    (active,) = meters.metrics()["looopy.runs.active"].data.data_points
    assert active.value == 0


CLOSED = "TaskCanceled: the run's event loop was closed before it was over"


class Kept(Keeps):
    """Keeps what each span says that went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, str | None] = {}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.statuses |= {span.name: span.status.description for span in spans}
        return super().export(spans)


async def test_a_run_that_fails_before_its_first_event_leaves_no_span_open() -> None:
    """Its stream breaks as it is subscribed to, so no event of it will ever say how it ended."""
    keeps = Kept()
    with instrument(exporters=[keeps], tracer_provider=sdk()) as recording:
        mine = watcher.watcher()

        class Breaks:
            embed = boom

            def watch(self, *about: Any) -> Watched:
                return mine.watch(*about)._replace(context=cast("Any", SimpleNamespace(run=boom)))

        watcher.watch_with(Breaks())
        run = agent().execute("2 + 3?")
        with pytest.raises(RuntimeError, match="boom"):
            await run
        watcher.watch_with(mine)
        assert recording.flush()
    assert keeps.statuses == {"invoke_agent clerk": "RuntimeError"}


# ------------------------------------------------------------------------------------------------- who waits for what is sent
class Held(Keeps):
    """Holds what it is given until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        self.released.wait(5)
        return super().export(spans)


def ends(recording: Instrumentation) -> threading.Thread:
    """Switch it off, on a thread of its own."""
    thread = threading.Thread(target=recording.shutdown, daemon=True)
    thread.start()
    return thread


async def test_who_switches_off_second_waits_for_what_the_first_still_sends() -> None:
    recording = instrument(exporters=[held := Held()], tracer_provider=sdk())
    assert await answer() == "5"
    first = ends(recording)
    assert held.begun.wait(5)
    second = ends(recording)
    second.join(0.05)
    assert second.is_alive()
    held.released.set()
    second.join(5)
    assert len(held.names) == SPANS
    first.join(5)


async def test_the_end_of_the_program_waits_for_a_thread_that_is_switching_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(atexit, "register", asked.append)
    monkeypatch.setattr(atexit, "unregister", asked.remove)
    recording = instrument(exporters=[held := Held()], tracer_provider=sdk())
    assert await answer() == "5"
    first = ends(recording)
    assert held.begun.wait(5)
    assert asked == [recording.shutdown]
    held.released.set()
    first.join(5)
    assert asked == []


async def test_who_switches_off_waits_for_what_those_before_still_send() -> None:
    first = instrument(exporters=[held := Held()], tracer_provider=sdk())
    assert await answer() == "5"
    second = instrument(exporters=[Keeps()], tracer_provider=sdk())
    assert held.begun.wait(5)
    ending = ends(second)
    ending.join(0.05)
    assert ending.is_alive()
    held.released.set()
    ending.join(5)
    assert len(held.names) == SPANS
    assert first.delivered == SPANS


async def test_a_second_end_from_within_the_first_does_not_wait_for_it() -> None:
    class Again(Keeps):
        def shutdown(self) -> None:
            recording.shutdown(0)
            super().shutdown()

    recording = instrument(exporters=[again := Again()], tracer_provider=sdk())
    assert await answer() == "5"
    recording.shutdown()
    assert (again.closed, len(again.names)) == (1, SPANS)


async def test_where_no_thread_can_be_started_what_waits_is_sent_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the program ends Python starts none from 3.12 on."""
    with instrument(exporters=[keeps := Keeps()], tracer_provider=sdk()) as recording:
        assert await answer() == "5"

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        recording.shutdown()
        assert (len(keeps.names), keeps.closed, recording.lost) == (SPANS, 1, 0)


def test_a_span_that_is_on_its_way_while_another_takes_over_is_sent() -> None:
    """The exchange waits until the span is where it goes: else it would come after the last one that is sent there."""
    arriving, led = threading.Event(), threading.Event()
    provider, one, two = light(), Keeps(), Keeps()
    first = instrument(exporters=[one], tracer_provider=provider)
    destination = first._pipeline._destinations[0]

    def takes(_: int) -> bool:
        arriving.set()
        led.wait(0.1)
        return True

    destination._takes = takes
    tracer = first._spans.tracer
    ending = threading.Thread(target=lambda: tracer.end_span(tracer.start_span("slow")), daemon=True)
    ending.start()
    assert arriving.wait(5)
    with instrument(exporters=[two], tracer_provider=provider):
        first.shutdown()
        led.set()
        ending.join(5)
    assert (one.names, two.names, first.lost) == (["slow"], [], 0)


# ------------------------------------------------------------------------------------------------------- asked for twice
async def test_the_end_of_an_inner_with_of_the_same_leaves_the_outer_one_on() -> None:
    options: dict[str, Any] = {"exporters": [keeps := Keeps()], "tracer_provider": sdk()}
    with instrument(**options) as outer:
        with instrument(**options) as inner:
            assert inner is outer
        with outer:
            pass
        assert await answer() == "5"
    assert outer.over
    assert len(keeps.names) == SPANS


async def test_a_with_leaves_on_what_was_on_before_it() -> None:
    options: dict[str, Any] = {"exporters": [keeps := Keeps()], "tracer_provider": sdk()}
    recording = instrument(**options)
    for _ in range(2):
        with instrument(**options):
            pass
    assert await answer() == "5"
    recording.shutdown()
    assert len(keeps.names) == SPANS


def test_an_explicit_end_within_a_with_is_the_end() -> None:
    options: dict[str, Any] = {"exporters": [Keeps()], "tracer_provider": sdk()}
    with instrument(**options) as outer, instrument(**options) as inner:
        inner.shutdown()
        assert outer.over


@each_provider
async def test_after_the_program_has_ended_its_provider_the_same_arguments_switch_it_on_again(
    provider,
) -> None:
    options: dict[str, Any] = {"exporters": [keeps := Open()], "tracer_provider": provider()}
    first = instrument(**options)
    assert await answer() == "5"
    options["tracer_provider"].shutdown()
    assert len(keeps.names) == SPANS
    with instrument(**options) as second:
        assert (second is first, first.over) == (False, True)
        assert await answer() == "5"
    assert len(keeps.names) == 2 * SPANS


class Open(Keeps):
    """An exporter that can be used after its end, as one to a file or a list can."""

    def shutdown(self) -> None:
        pass


# ------------------------------------------------------------------------------------------------- metrics in an exchange
async def test_the_metrics_of_a_run_under_way_go_on_when_another_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        reached.set()
        await released.wait()
        return "waited"

    options: dict[str, Any] = {"exporters": (), "tracer_provider": sdk()}
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        instrument(**options)
        run = agent(calls("wait"), says("done"), tools=[wait]).execute("wait").start()
        async with asyncio.timeout(5):
            await reached.wait()
            with instrument(**options, capture_content=True) as second:
                released.set()
                assert (await run).output == "done"
                assert await asyncio.to_thread(second.flush)
        told = receiver.metrics
    (active,), (over,) = (
        told[name].points for name in ("looopy.runs.active", "gen_ai.invoke_agent.duration")
    )
    assert (active.value, over.count) == (0, 1)


async def test_metrics_of_something_else_are_told_apart_from_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {"exporters": (), "tracer_provider": sdk()}
    counts: list[int] = []
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        for release in ("1", "2"):
            recording = instrument(**options, release=release)
            assert await answer() == "5"
            assert await asyncio.to_thread(recording.flush)
            counts.append(receiver.metrics["gen_ai.invoke_agent.duration"].points[0].count)
        await asyncio.to_thread(recording.shutdown)
        with instrument(**options, release="2") as recording:
            assert await answer() == "5"
            assert await asyncio.to_thread(recording.flush)
            counts.append(receiver.metrics["gen_ai.invoke_agent.duration"].points[0].count)
    assert counts == [1, 1, 1]


# ----------------------------------------------------------------------------------------------------- what a flush says
async def test_a_flush_says_that_spans_were_refused_once() -> None:
    class Refuses(Keeps):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            super().export(spans)
            return SpanExportResult.SUCCESS if len(self.names) > SPANS else SpanExportResult.FAILURE

    with instrument(exporters=[Refuses()], tracer_provider=sdk()) as recording:
        said = [recording.flush()]
        for _ in range(2):
            assert await answer() == "5"
            said += [recording.flush(), recording.flush()]
    assert said == [True, False, True, True, True]


async def test_a_flush_says_what_was_refused_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    refused = threading.Semaphore(0)

    class Refuses(Keeps):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            refused.release()
            return SpanExportResult.FAILURE

    with instrument(exporters=[Refuses()], tracer_provider=sdk()) as recording:
        assert await answer() == "5"
        assert refused.acquire(timeout=5)
        assert recording.flush() is False


async def test_a_flush_says_that_metrics_were_refused(monkeypatch: pytest.MonkeyPatch, said) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        receiver.always(status(400))
        with instrument(exporters=(), tracer_provider=sdk()) as recording:
            assert await answer() == "5"
            assert await asyncio.to_thread(recording.flush) is False
            receiver.always(status(200))
            assert await asyncio.to_thread(recording.flush) is True
    assert len(said()) == 2
