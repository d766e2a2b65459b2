"""What the environment switches on and off, and that `instrument()` knows why nothing is sent."""

from __future__ import annotations

import os
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from looopy import ConfigurationError
from looopy.observe import instrument
from looopy.observe.switches import WHERE_TO
from observe.receiver import Receiver
from observe.watched import Keeps, answer, sdk

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
LANGFUSE = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch):
    """Set variables; no other of tracing is set."""
    for name in os.environ:
        if name.startswith(("OTEL_", "LANGFUSE_")):
            monkeypatch.delenv(name)

    def set_to(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, f"off, since no variable says where to send: {WHERE_TO}"),
        (
            {ENDPOINT: "http://localhost:1", "OTEL_SDK_DISABLED": "true"},
            f"off, with OTEL_SDK_DISABLED=true: unset that, and {WHERE_TO}",
        ),
        (
            LANGFUSE | {"LANGFUSE_TRACING_ENABLED": "false"},
            f"off, with LANGFUSE_TRACING_ENABLED=false: unset that, and {WHERE_TO}",
        ),
        (
            {ENDPOINT: "http://localhost:1", "OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"},
            f"off, with OTEL_TRACES_EXPORTER=none: unset that, and {WHERE_TO}",
        ),
    ],
)
async def test_why_nothing_is_sent_is_said_with_the_variable(
    variables: dict[str, str], why: str, set_to, said
) -> None:
    set_to(**variables)
    with instrument():
        assert await answer() == "5"
    assert said() == [
        f"instrument(): {why}. There are only logs; console=True would also draw each run in the terminal"
    ]


@pytest.mark.parametrize("off", [{"LANGFUSE_TRACING_ENABLED": "false"}, {"OTEL_SDK_DISABLED": "true"}])
async def test_a_program_that_wants_langfuse_goes_on_where_the_environment_switches_it_off(
    off: dict[str, str], set_to, said
) -> None:
    set_to(**LANGFUSE, **off)
    with instrument(langfuse=True):
        assert await answer() == "5"
    ((variable, value),) = off.items()
    (told,) = said()
    assert told.startswith(f"instrument(): off, with {variable}={value}: unset that")


async def test_the_environment_can_ask_for_runs_to_be_drawn(
    set_to, capsys: pytest.CaptureFixture[str], said
) -> None:
    set_to(OTEL_TRACES_EXPORTER="console")
    with instrument():
        assert await answer() == "5"
    assert "invoke_agent clerk" in capsys.readouterr().err
    assert said() == []

    with instrument(exporters=()):
        assert await answer() == "5"
    assert capsys.readouterr().err == ""


async def test_runs_can_be_drawn_and_sent(set_to, capsys: pytest.CaptureFixture[str]) -> None:
    with Receiver() as receiver:
        set_to(
            OTEL_TRACES_EXPORTER="otlp, console",
            OTEL_METRICS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        )
        with instrument() as recording:
            assert await answer() == "5"
            assert recording.flush()
            assert recording.delivered == 6
    assert "invoke_agent clerk" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- what it shows
@pytest.mark.parametrize(
    ("variables", "options", "where"),
    [
        ({}, {}, "nowhere"),
        ({}, {"console": True}, "the terminal"),
        ({}, {"tracer_provider": sdk()}, "your tracer provider"),
        ({}, {"meter_provider": MeterProvider(shutdown_on_exit=False)}, "your meter provider"),
        ({}, {"exporters": [Keeps()], "console": True}, "Keeps · the terminal"),
        ({ENDPOINT: "http://a:1"}, {}, "OTLP at http://a:1/v1/traces · metrics by OTLP"),
        ({ENDPOINT: "http://a:1", "OTEL_TRACES_EXPORTER": "none"}, {}, "metrics by OTLP"),
        (LANGFUSE, {"langfuse": "otlp"}, "Langfuse at https://cloud.langfuse.com"),
        (
            LANGFUSE,
            {"langfuse": "otlp", "tracer_provider": sdk()},
            "Langfuse at https://cloud.langfuse.com · your tracer provider",
        ),
    ],
)
def test_a_recording_shows_where_it_leads(
    variables: dict[str, str], options: dict[str, Any], where: str, set_to
) -> None:
    set_to(**variables)
    with instrument(**options) as recording:
        assert repr(recording) == f"<looopy.observe: {where}>"
    assert repr(recording) == "<looopy.observe: off>"


# ------------------------------------------------------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    ("argument", "given", "text"),
    [
        ("redact", 1, "it must be a function of a text and where it stands"),
        ("service_name", 3, "it must be text"),
        ("environment", b"test", "it must be text"),
        ("release", 1.5, "it must be text"),
        ("console", "yes", "it must be True or False"),
        ("legacy_attributes", 1, "it must be True or False"),
        ("capture_content", "span_only", "it must be True, False or None"),
        ("langfuse", "foo", "it must be True, False, None, 'package' or 'otlp'"),
        ("langfuse", 1, "it must be True, False, None, 'package' or 'otlp'"),
        ("max_content_chars", "1k", "it must be a number of characters above 0"),
        ("max_content_chars", 0, "it must be a number of characters above 0"),
        ("sample_rate", "0.5", "it must be a share of the traces, from 0 to 1"),
        ("sample_rate", True, "it must be a share of the traces, from 0 to 1"),
        ("sample_rate", 2, "it must be a share of the traces, from 0 to 1"),
    ],
)
def test_an_argument_that_cannot_work_is_said_with_what_it_must_be(
    argument: str, given: Any, text: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        instrument(**{argument: given})
    assert str(caught.value) == f"instrument({argument}={given!r}): {text}"
    assert caught.value.argument == argument


@pytest.mark.parametrize("given", [Keeps(), 1, [Keeps], ["otlp"]])
def test_what_is_no_exporter_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"pass span exporters of OpenTelemetry, made"):
        instrument(exporters=given)
