"""The light meter beside the SDK's: of the same records both tell the same points."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader

from looopy import AgentLoop, Retry, Usage
from looopy.events import Event
from looopy.observe.meters import SERIES, LaterMeter, LightMeters
from looopy.observe.metrics import Instruments, Meter, RunMeter
from looopy.testing import Answer, ScriptedModel, calls, cuts, fails, run_virtual, says, stalls, waits
from observe.kept import PREFERENCE, RESOURCE, SECONDS, Kept, plain
from observe.watched import boom
from observe.watching import left_at, watched

BOUNDS = (0.5, 1, 2)


class Both:
    """The SDK and the light meter, told the same."""

    def __init__(self, preference: str = "cumulative") -> None:
        temporality = (
            AggregationTemporality.CUMULATIVE if preference == "cumulative" else AggregationTemporality.DELTA
        )
        self.reader = InMemoryMetricReader(
            preferred_temporality={Counter: temporality, Histogram: temporality}
        )
        self.sdk = MeterProvider([self.reader], RESOURCE, shutdown_on_exit=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(PREFERENCE, preference)
            self.light = LightMeters(Kept(), resource=RESOURCE)

    def make(self) -> list[tuple[Any, Any, Any]]:
        found: list[Meter] = [self.sdk.get_meter("looopy", version("looopy")), self.light]
        return [
            (
                meter.create_histogram("h", "s", "A histogram.", explicit_bucket_boundaries_advisory=BOUNDS),
                meter.create_counter("c", "{c}", "A counter."),
                meter.create_up_down_counter("u", "{u}", "Up and down."),
            )
            for meter in found
        ]

    def agree(self) -> Any:
        """What both say."""
        ours = plain(self.light.collect())
        assert in_order(ours) == in_order(plain(self.reader.get_metrics_data()))
        return ours

    def close(self) -> None:
        self.light.shutdown(SECONDS)
        self.sdk.shutdown()


def in_order(said: Any) -> Any:
    """The same, the points of each metric in an order of their own."""
    if said is None:
        return None
    *rest, named = said
    return *rest, {name: (*of_it, sorted(points, key=repr)) for name, (*of_it, points) in named.items()}


@pytest.fixture
def both() -> Iterator[Both]:
    each = Both()
    yield each
    each.close()


# ------------------------------------------------------------------------------------------------------- the same points
SCRIPTS: dict[str, tuple[Answer, ...]] = {
    "two calls of a tool": (
        waits(0.5) + calls("nap") + says(usage=Usage(input_tokens=50, output_tokens=10), cost=0.25),
        says("Slept", " well.", usage=Usage(input_tokens=70, output_tokens=3), cost=0.125, every=0.25),
    ),
    "a retry": (fails(429), says("ok", usage=Usage(input_tokens=1, output_tokens=1))),
    "no tool of that name": (calls("no_such_tool"), says("Pity.")),
    "a stream that breaks": (says("Half") + cuts(),),
    "nothing works": (fails(401),),
}


async def nap() -> str:
    """Sleep."""
    return "rested"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_of_a_run_both_meters_tell_the_same(both: Both, script: tuple[Answer, ...]) -> None:
    runs = [Instruments(meters).run(agent="clerk", provider="litellm") for meters in (both.sdk, both.light)]
    agent = AgentLoop(agent_id="clerk", llm_provider=Retry(ScriptedModel(*script)), tools=[nap])
    run_virtual(watched(agent.execute("go"), lambda event: [run.on_event(event) for run in runs]))
    for run in runs:
        run.end()
    assert "gen_ai.invoke_agent.duration" in both.agree()[-1]


async def test_a_run_that_is_torn_down_took_no_longer_however_late_that_is_recorded(both: Both) -> None:
    instruments = Instruments(both.light)
    run = LaterMeter(lambda: instruments.run(agent="clerk", provider="litellm"), both.light)
    began: list[float] = []

    def seen(event: Event) -> None:
        began.append(event.timestamp.timestamp())
        run.on_event(event)

    await left_at("llm-call", AgentLoop(llm_provider=ScriptedModel(stalls())).execute("go"), seen)
    run.end()
    taken = time.time() - began[0]
    (canceled,) = plain(both.light.collect())[-1]["gen_ai.invoke_agent.duration"][-1]
    assert canceled["attributes"]["looopy.outcome"] == "canceled"
    assert 0 < canceled["sum"] <= taken


amounts = st.one_of(
    st.integers(-2, 3),
    st.integers(-20, 30).map(lambda eighths: eighths / 8),  # whose sums are exact in any order
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)
attributes = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", 1, 2]), max_size=3).flatmap(
    lambda chosen: st.permutations(list(chosen.items())).map(dict)
)
records = st.tuples(st.sampled_from([0, 1, 2]), amounts, attributes)


@given(
    rounds=st.lists(st.lists(records, max_size=12), min_size=1, max_size=3),
    preference=st.sampled_from(["cumulative", "delta", "lowmemory"]),
)
def test_whatever_is_recorded_both_meters_tell_the_same_at_every_reading(
    rounds: list[list[tuple[int, float, dict[str, Any]]]], preference: str
) -> None:
    both = Both(preference)
    instruments = both.make()
    for recorded in rounds:
        for which, amount, told in recorded:
            for histogram, counter, up_down in instruments:
                (histogram.record, counter.add, up_down.add)[which](amount, told)
        both.agree()
    both.close()


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_beyond_two_thousand_sets_of_attributes_the_rest_is_one(preference: str) -> None:
    both = Both(preference)
    for histogram, counter, _ in both.make():
        for number in (*range(SERIES + 5), 3, SERIES + 3):
            histogram.record(1, {"n": number})
        for number in range(2 * SERIES + 10):
            counter.add(1, {"n": number % (SERIES + 2), "again": number // (SERIES + 2)})
    *_, points = both.agree()[-1]["h"]
    assert len(points) == SERIES + 1
    assert (points[3]["count"], points[-1]["count"]) == (2, 6)
    assert points[-1]["attributes"] == {"otel.metric.overflow": True}
    both.agree()
    both.close()


def test_what_is_new_counts_from_the_last_reading() -> None:
    both = Both("delta")
    _, (_, counter, _) = both.make()

    def read() -> Any:
        data = both.light.collect()
        return data and data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]

    counter.add(1, {})
    first = read()
    assert read() is None
    counter.add(2, {})
    second = read()
    both.close()
    assert (first.value, second.value) == (1, 2)
    assert (
        first.start_time_unix_nano
        <= first.time_unix_nano
        < second.start_time_unix_nano
        < second.time_unix_nano
    )


def test_attributes_in_another_order_are_the_same(both: Both) -> None:
    for histogram, _, _ in both.make():
        histogram.record(1, {"a": 1, "b": 2})
        histogram.record(1, {"b": 2, "a": 1})
    *_, points = both.agree()[-1]["h"]
    assert [point["count"] for point in points] == [2]


def test_instruments_of_one_name_are_one(both: Both) -> None:
    light = both.light
    assert vars(Instruments(light)) == vars(Instruments(light))


def test_an_amount_that_cannot_be_is_left_out_and_said_once(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    light = both.light
    tokens = light.create_histogram("tokens", "", "", explicit_bucket_boundaries_advisory=(1,))
    for amount in (-1, 10**400, float("nan")):
        tokens.record(amount, {})
    assert light.collect() is None
    assert caplog.messages == ["metrics: tokens cannot be -1, which is left out (said once)"]


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_nothing_is_lost_or_counted_twice_while_threads_record_and_one_reads(preference: str) -> None:
    both = Both(preference)
    _, (histogram, counter, _) = both.make()
    seen: list[tuple[int, float]] = []
    done = threading.Event()

    def record() -> None:
        for first in range(0, 3_000, 5):
            run = LaterMeter(lambda: cast("Any", SimpleNamespace(on_event=note, end=bool)), both.light)
            for number in range(first, first + 5):
                run.on_event(cast("Any", number))
            run.end()

    def note(number: int) -> None:
        histogram.record(1, {"n": number % 7})
        counter.add(2, {"n": number % 7})

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()
            data = both.light.collect()
            metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else ()
            points = [point for metric in metrics for point in metric.data.data_points]
            counts = [point for point in points if isinstance(point, HistogramDataPoint)]
            assert all(point.count == point.sum == sum(point.bucket_counts) for point in counts)
            total = sum(point.value for point in points if not isinstance(point, HistogramDataPoint))
            seen.append((sum(point.count for point in counts), total))

    threads = [threading.Thread(target=record) for _ in range(4)]
    reader = threading.Thread(target=read)
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that one thread meets another in the midst of a record
    try:
        for thread in (reader, *threads):
            thread.start()
        for thread in threads:
            thread.join(20)
        done.set()
        reader.join(20)
    finally:
        sys.setswitchinterval(often)
    if preference == "cumulative":
        assert seen == sorted(seen)
        assert seen[-1] == (12_000, 24_000)
    else:
        assert tuple(map(sum, zip(*seen, strict=True))) == (12_000, 24_000)
    both.close()


def test_what_cannot_be_recorded_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    light = LightMeters(Kept(), resource=RESOURCE)
    counter = light.create_counter("c", "", "")

    def record(amount: Any) -> None:
        counter.add(amount or boom(), {})

    run: Any = LaterMeter(lambda: cast("Any", SimpleNamespace(on_event=record)), light)
    for amount in (0, 3, 0, 3):
        run.on_event(amount)
    assert light.shutdown(SECONDS)
    (text,) = caplog.messages
    assert text.startswith("metrics: something could not be recorded: boom, at watched.py:")
    assert light.collect().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value == 6


async def test_who_comes_in_between_while_events_are_measured_leaves_the_order_as_it_is(both: Both) -> None:
    """A signal or a finalizer, on the thread that is at it: here what makes a reading, in the middle of a fold."""

    class Interrupted(RunMeter):
        __slots__ = ()

        def on_event(self, event: Event) -> None:
            both.light.collect()
            super().on_event(event)

    instruments = Instruments(both.light)
    for _ in range(3):
        run = LaterMeter(
            partial(Interrupted, instruments, agent="clerk", provider="litellm", address="", port=0),
            both.light,
        )
        agent = AgentLoop(agent_id="clerk", llm_provider=ScriptedModel(says("Hi")))
        await watched(agent.execute("go"), run.on_event)
        run.end()
    data = both.light.collect()
    assert data is not None
    points = {m.name: m.data.data_points for m in data.resource_metrics[0].scope_metrics[0].metrics}
    assert [point.count for point in points["gen_ai.invoke_agent.duration"]] == [3]
    assert [point.value for point in points["looopy.runs.active"]] == [0]


class Odd(float):
    """A number of somebody's own, as arrays have them."""

    def __ge__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __gt__ = __le__ = __lt__ = __ge__  # type: ignore[assignment]


def test_a_number_of_a_foreign_type_spoils_no_other(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    light = both.light
    seconds = light.create_histogram("seconds", "s", "", explicit_bucket_boundaries_advisory=(1,))
    seen: list[tuple[int, float]] = []
    for amounts in ((Decimal("0.5"),), (0.5, Odd(0.5), 2), (True, 0.25)):
        for amount in amounts:
            seconds.record(cast("Any", amount), {})
        if data := light.collect():
            (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
            seen.append((point.count, point.sum))
    assert seen == [(2, 2.5), (4, 3.75)]
    assert caplog.messages == ["metrics: seconds cannot be Decimal('0.5'), which is left out (said once)"]
