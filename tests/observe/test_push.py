"""The thread of the light meter: what happens between what is recorded and a receiver."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS
from opentelemetry.context import get_value
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

from looopy.observe.meters import LightMeters
from looopy.observe.sending.diagnosis import Failure
from looopy.observe.sending.outages import Outages
from observe.kept import PREFERENCE, RESOURCE, SECONDS, Kept, plain
from observe.receiver import GOOD, HELD, Receiver, status


@pytest.fixture
def meters() -> Iterator[Callable[..., LightMeters]]:
    """Makes meters that end with the test."""
    made: list[LightMeters] = []

    def make(*arguments: Any, **options: Any) -> LightMeters:
        made.append(LightMeters(*arguments, resource=RESOURCE, **options))
        return made[-1]

    yield make
    for each in made:
        each.shutdown(SECONDS)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Named before `meters`, so that it still listens to their last export."""
    with Receiver() as opened:
        yield opened


# ----------------------------------------------------------------------------------------------------------- the thread
def test_nothing_runs_before_the_first_record_and_nothing_after_the_last_export(meters: Any) -> None:
    kept = Kept()
    light = meters(kept)
    counter = light.create_counter("c", "", "")
    assert light.flush()
    assert kept.made == 0
    assert not any(thread.name == "looopy-metrics" for thread in threading.enumerate())

    counter.add(1, {})
    assert light.flush(SECONDS)
    assert (kept.made, len(kept.exports), kept.closed) == (1, 1, 0)

    assert light.shutdown(SECONDS)
    assert light.shutdown(SECONDS)
    assert (kept.made, len(kept.exports), kept.closed) == (1, 2, 1)
    counter.add(1, {"late": 1})
    assert not light.flush(SECONDS)
    assert len(kept.exports) == 2


def test_meters_that_are_shut_down_unused_start_nothing(meters: Any) -> None:
    kept = Kept()
    light = meters(kept)
    assert light.shutdown(SECONDS)
    light.create_counter("c", "", "").add(1, {})
    assert light.flush(SECONDS)
    assert kept.made == 0


def test_what_is_recorded_is_exported_at_every_interval(meters: Any) -> None:
    kept = Kept()
    meters(kept, every=0.01).create_counter("c", "", "").add(3, {"a": 1})
    kept.wait(3)
    first, second = plain(kept.exports[0]), plain(kept.exports[1])
    assert first == second
    assert first[-1]["c"][-1] == [{"attributes": {"a": 1}, "exemplars": [], "value": 3}]


def test_where_only_what_is_new_is_told_an_interval_without_any_exports_nothing(
    meters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFERENCE, "lowmemory")
    kept = Kept()
    light = meters(kept)
    light.create_counter("c", "", "").add(3, {})
    assert light.flush(SECONDS)
    assert light.flush(SECONDS)
    assert len(kept.exports) == 1


def test_the_environment_gives_interval_and_timeout(
    meters: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_TIMEOUT", "soon")
    kept = Kept()
    meters(kept).create_counter("c", "", "").add(3, {})
    kept.wait(2)
    assert caplog.messages == [
        "OTEL_METRIC_EXPORT_TIMEOUT='soon': it must be a number of milliseconds above 0; 30000 are taken"
    ]


def test_an_endless_interval_exports_when_asked_only(meters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "inf")
    kept = Kept()
    light = meters(kept)
    light.create_counter("c", "", "").add(3, {})
    assert light.flush(float("inf"))
    assert len(kept.exports) == 1


def test_exporting_is_not_traced(meters: Any) -> None:
    seen: list[object] = []
    light = meters(Kept(lambda: seen.append(get_value(SUPPRESS)) or MetricExportResult.SUCCESS))
    light.create_counter("c", "", "").add(1, {})
    assert light.flush(SECONDS)
    assert seen == [True]


def test_meters_begin_anew_when_told_to(meters: Any) -> None:
    kept = Kept()
    light = meters(kept)
    counter, histogram = (
        light.create_counter("c", "", ""),
        light.create_histogram("h", "", "", explicit_bucket_boundaries_advisory=()),
    )
    counter.add(1, {})
    histogram.record(1, {})
    light.shutdown(SECONDS)
    light.reset()
    assert light.collect() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_exports_what_is_its_own_by_a_thread_of_its_own(
    receiver: Receiver, meters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.metrics_url)
    light = meters()
    counter = light.create_counter("c", "", "")
    counter.add(100, {})
    assert light.flush(SECONDS)
    receiver.clear()
    child = os.fork()
    if child == 0:  # pragma: no cover  the child reports by its exit code
        try:
            counter.add(1, {})
            os._exit(0 if light.shutdown(SECONDS) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [point.value for point in receiver.metrics["c"].points] == [1]
    assert light.flush(SECONDS)
    assert [point.value for point in receiver.metrics["c"].points] == [100]


def test_without_a_thread_nothing_is_exported_and_that_is_said(
    meters: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    kept = Kept()
    light = meters(kept)
    counter = light.create_counter("c", "", "")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        counter.add(1, {})
    assert not light.flush(SECONDS)
    assert light.failures == 1
    assert caplog.messages == [said("can't start new thread")]

    counter.add(1, {"a": 1})
    assert light.flush(SECONDS)
    assert caplog.messages[1:] == ["metrics: are exported again, after 1 failed"]


# -------------------------------------------------------------------------------------------------- exporters that fail
def said(why: str, at: str = "") -> str:
    return (
        f"OTLP: metrics are not taken{at} ({why}): where a backend takes traces only, set OTEL_METRICS_EXPORTER=none; else check "
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT (said once; tried again at every interval)"
    )


@pytest.mark.parametrize(
    ("fails", "why"),
    [
        (
            OSError("Bearer sk-0123456789abcdef0123456789 was refused\nby all"),
            "Bearer *** was refused by all",
        ),
        (MetricExportResult.FAILURE, "the exporter said <MetricExportResult.FAILURE: 1>"),
        (None, "the exporter said None"),
    ],
)
def test_an_exporter_that_fails_is_said_once_and_so_is_that_it_works_again(
    meters: Any, caplog: pytest.LogCaptureFixture, fails: object, why: str
) -> None:
    light = meters(Kept(fails, fails, fails))
    light.create_counter("c", "", "").add(1, {})
    assert [light.flush(SECONDS) for _ in range(5)] == [False, False, False, True, True]
    assert light.failures == 3
    assert caplog.messages == [said(why), "metrics: are exported again, after 3 failed"]


def test_an_exporter_that_cannot_be_made_is_made_again(meters: Any, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    causes = [ImportError("no such package")]

    def make() -> MetricExporter:
        if causes:
            raise causes.pop()
        return kept

    light = meters(make)
    light.create_counter("c", "", "").add(1, {})
    assert [light.flush(SECONDS), light.flush(SECONDS)] == [False, True]
    assert caplog.messages == [said("no such package"), "metrics: are exported again, after 1 failed"]


def test_an_exporter_that_cannot_be_closed_is_said(meters: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Kept):
        def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
            raise OSError("stuck")

    light = meters(Stuck())
    light.create_counter("c", "", "").add(1, {})
    assert not light.shutdown(SECONDS)
    assert caplog.messages == [said("stuck")]


def test_nobody_waits_longer_for_a_slow_exporter_than_they_said(meters: Any) -> None:
    release = threading.Event()
    kept = Kept(lambda: release.wait(SECONDS) and MetricExportResult.SUCCESS)
    light = meters(kept)
    light.create_counter("c", "", "").add(1, {})
    assert not light.flush(0.01)
    assert not light.shutdown(0.01)
    release.set()
    assert light.shutdown(SECONDS)
    assert (len(kept.exports), kept.closed) == (2, 1)


# ------------------------------------------------------------------------------------------- by the library's exporter
def test_a_receiver_gets_what_was_recorded(
    receiver: Receiver, meters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    light = meters()
    histogram = light.create_histogram("h", "s", "Seconds.", explicit_bucket_boundaries_advisory=(0.5, 1, 2))
    for amount in (0.25, 1, 1.5):
        histogram.record(amount, {"a": "x", "b": 1})
    light.create_up_down_counter("u", "{u}", "Up and down.").add(-2, {})
    assert light.shutdown(SECONDS)
    assert [
        (m.name, m.kind, m.unit, m.description, m.scope, [asdict(p) for p in m.points])
        for m in receiver.metrics.values()
    ] == [
        (
            "h",
            "histogram",
            "s",
            "Seconds.",
            "looopy",
            [
                {
                    "attributes": {"a": "x", "b": 1},
                    "value": 0,
                    "count": 3,
                    "sum": 2.75,
                    "bounds": [0.5, 1, 2],
                    "counts": [1, 1, 1, 0],
                }
            ],
        ),
        (
            "u",
            "sum",
            "{u}",
            "Up and down.",
            "looopy",
            [{"attributes": {}, "value": -2, "count": 0, "sum": 0, "bounds": (), "counts": ()}],
        ),
    ]


def test_why_the_librarys_exporter_failed_is_said_once_in_its_words(
    receiver: Receiver, meters: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    light = meters(lambda: OTLPMetricExporter(receiver.metrics_url))
    light.create_counter("c", "", "").add(1, {})
    receiver.script(status(401), status(401))
    assert [light.flush(SECONDS) for _ in range(3)] == [False, False, True]
    assert caplog.messages == [
        said("Failed to export metrics batch code: 401, reason: Unauthorized", f" at {receiver.metrics_url}"),
        "metrics: are exported again, after 2 failed",
    ]


def test_where_nobody_listens_the_reason_is_said_once(meters: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver() as receiver:
        url = receiver.metrics_url
    light = meters(lambda: OTLPMetricExporter(url, timeout=1.3))  # enough for a second attempt
    light.create_counter("c", "", "").add(1, {})
    assert not light.flush(SECONDS)
    (message,) = caplog.messages
    assert message.startswith(f"OTLP: metrics are not taken at {url} (")
    assert "Connection refused" in message


@pytest.mark.parametrize("path", ["/v1/traces", "/elsewhere/v1/traces"])
def test_what_traces_have_said_of_the_same_server_is_not_said_again(
    path: str, receiver: Receiver, meters: Any, caplog: pytest.LogCaptureFixture
) -> None:
    traces = Outages("OTLP", f"{receiver.url}{path}")
    light = meters(lambda: OTLPMetricExporter(receiver.metrics_url))
    light.create_counter("c", "", "").add(1, {})
    receiver.script(status(401), status(401), GOOD, status(401))

    traces.failed(Failure("unauthorized", "it wants a credential", spans=1))
    assert not light.flush(SECONDS)
    traces.worked()
    assert not light.flush(SECONDS)
    assert light.flush(SECONDS)
    traces.failed(Failure("overloaded", "it is down", spans=1))
    assert not light.flush(SECONDS)
    assert light.flush(SECONDS)

    assert [message for message in caplog.messages if "metrics" in message] == [
        said("Failed to export metrics batch code: 401, reason: Unauthorized", f" at {receiver.metrics_url}"),
        "metrics: are exported again, after 2 failed",
    ]


def test_the_last_export_does_not_wait_for_a_server_of_which_traces_have_said_that_it_is_not_there(
    meters: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver() as receiver:
        url = receiver.metrics_url
    traces = Outages("OTLP", url)
    traces.failed(Failure("refused-connection", "nobody listens there", spans=1, unreachable=True))
    light = meters(lambda: OTLPMetricExporter(url, timeout=60))
    light.create_counter("c", "", "").add(1, {})
    assert not light.shutdown(SECONDS)
    assert light.failures == 1
    assert caplog.messages == [f"OTLP: could not export 1 span to {url}: nobody listens there (said once)"]


def test_what_others_export_is_still_said_by_their_exporters(
    receiver: Receiver, meters: Any, caplog: pytest.LogCaptureFixture
) -> None:
    light = meters(lambda: OTLPMetricExporter(receiver.metrics_url))
    light.create_counter("c", "", "").add(1, {})
    assert light.flush(SECONDS)
    receiver.script(status(400))
    data = light.collect()
    assert data is not None
    OTLPMetricExporter(receiver.metrics_url).export(data)
    assert caplog.messages == ["Failed to export metrics batch code: 400, reason: Bad Request"]


def test_a_receiver_that_does_not_answer_holds_nobody_up(receiver: Receiver, meters: Any) -> None:
    receiver.always(HELD)
    light = meters(lambda: OTLPMetricExporter(receiver.metrics_url))
    light.create_counter("c", "", "").add(1, {})
    assert not light.flush(0.05)
    light.create_counter("c", "", "").add(1, {})
    receiver.release()
    assert light.shutdown(SECONDS)
    assert [point.value for point in receiver.metrics["c"].points] == [2]


@pytest.mark.parametrize("of", ["", "METRICS_"])
def test_what_an_exporter_says_shows_nothing_of_what_it_sends_along(
    meters: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    login, query = "bob:pw%20OTEL888", "token=QRY555"
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{of}ENDPOINT", f"http://{login}@collector:4318/?{query}")
    monkeypatch.setenv(
        f"OTEL_EXPORTER_OTLP_{of}HEADERS", "x-honeycomb-team=hny%20444,authorization=Bearer zzz9999,a=b"
    )
    error = f"refused: bob:pw OTEL888 {login} pw OTEL888 {query} QRY555 hny 444 hny%20444 zzz9999"
    light = meters(Kept(RuntimeError(error)))
    light.create_counter("c", "", "").add(1, {})
    assert not light.flush(SECONDS)
    assert caplog.messages == [said("refused: *** *** *** *** *** *** *** ***")]


def test_an_address_that_is_none_hides_nothing_and_breaks_nothing(
    meters: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[collector")
    light = meters(Kept(RuntimeError("no address")))
    light.create_counter("c", "", "").add(1, {})
    assert not light.flush(SECONDS)
    assert caplog.messages == [said("no address")]
