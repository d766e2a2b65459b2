"""Odd times and variables: what cannot work is said with the mend, and everything else works."""

from __future__ import annotations

import sys
import threading
from math import inf, nan

import pytest

from looopy import observe
from looopy.errors import ConfigurationError
from looopy.observe import instrument
from observe.watched import SPANS, Keeps, answer, sdk


@pytest.mark.parametrize("timeout", [inf, 1e300])
async def test_one_may_wait_for_ever(timeout: float) -> None:
    recording = instrument(exporters=[keeps := Keeps()], tracer_provider=sdk())
    assert await answer() == "5"
    assert recording.flush(timeout)
    recording.shutdown(timeout)
    recording.shutdown(timeout)
    assert (len(keeps.names), keeps.closed) == (SPANS, 1)


@pytest.mark.parametrize("timeout", [-1, -inf, nan])
async def test_a_time_that_is_none_is_no_time(timeout: float) -> None:
    recording = instrument(exporters=[], tracer_provider=sdk())
    recording.flush(timeout)
    recording.shutdown(timeout)
    assert recording.over


@pytest.mark.parametrize("variable", ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE"])
@pytest.mark.parametrize("value", ["9" * 30, "-1", "x", ""])
def test_spans_are_sent_whatever_the_variables_of_the_queue_say(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    came = threading.Semaphore(0)

    class Tells(Keeps):
        def export(self, spans):
            came.release()
            return super().export(spans)

    with instrument(exporters=[Tells()], tracer_provider=sdk()) as recording:
        tracer = recording._spans.tracer
        for _ in range(3):
            tracer.end_span(tracer.start_span("one"))
            tracer.end_span(tracer.start_span("two"))
            assert came.acquire(timeout=5)


def test_a_limit_that_the_sdk_cannot_read_is_said_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x")
    with pytest.raises(ConfigurationError) as caught:
        instrument(exporters=[Keeps()], release="odd")
    assert str(caught.value) == SAID


SAID = (
    "instrument(): OpenTelemetry cannot be set up as its variables say: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer "
    "but got x; change the variable, or unset it"
)


def test_a_limit_that_the_sdk_cannot_even_be_imported_with_is_said_with_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x")
    for name in ("looopy.observe.sending.otlp", "opentelemetry.sdk.trace"):  # as if nobody had asked for them
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError) as caught:
        _ = observe.OTLPExporter
    assert str(caught.value) == SAID
