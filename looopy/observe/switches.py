"""What the environment switches on and off: where things are sent, and why nothing is. Loads nothing, for programs that only ask."""

from __future__ import annotations

import os
from collections.abc import Iterator

WHERE_TO = (
    "set OTEL_EXPORTER_OTLP_ENDPOINT (a collector's is http://localhost:4318), or LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY and, unless it "
    "is Langfuse's cloud, LANGFUSE_BASE_URL"
)
"""The advice where nothing is set."""

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_KEYS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
_TRACES = "OTEL_TRACES_EXPORTER"
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_SAMPLER, _RATE = "OTEL_TRACES_SAMPLER", "LANGFUSE_SAMPLE_RATE"


def disabled() -> bool:
    """Whether OpenTelemetry as a whole is switched off: then there are no traces and no metrics."""
    return _variable("OTEL_SDK_DISABLED").lower() == "true"


def switched_off() -> bool:
    """Whether `LANGFUSE_TRACING_ENABLED` says that nothing shall be sent to Langfuse."""
    return _variable("LANGFUSE_TRACING_ENABLED").lower() == "false"


def sends_traces() -> str:
    """The variable by which traces are sent by OTLP; empty if none is."""
    return _sent_by(_TRACES, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def sends_metrics() -> str:
    """The variable by which metrics are sent by OTLP; empty if none is."""
    return _sent_by("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def sends_to_langfuse() -> str:
    """A variable with one of Langfuse's keys; empty if there is none, or tracing is switched off."""
    return "" if disabled() or switched_off() else next(filter(_variable, _KEYS), "")


def draws() -> bool:
    """Whether the environment wants runs to be drawn in the terminal."""
    return not disabled() and "console" in _chosen(_TRACES)


def captures_content() -> bool:
    """Whether the environment wants prompts, answers, arguments and results to be recorded."""
    # OpenTelemetry's own packages know span_only, event_only and span_and_event too.
    return _variable(_CAPTURE).lower() in ("true", "1", "span_only", "span_and_event")


def missing() -> Iterator[str]:
    """What will not be seen of a run, though traces arrive, and the mend."""
    if (sampler := _variable(_SAMPLER)).lower().removeprefix("parentbased_") == "always_off":
        yield f"no run is recorded, with {_SAMPLER}={sampler}: unset that"
    if sends_to_langfuse() and (rate := _variable(_RATE)) and rate.strip("0.") == "":
        yield f"no run goes to Langfuse, with {_RATE}={rate}: unset that"
    if not captures_content():
        yield f"messages, arguments and results are not recorded: set {_CAPTURE}=true, or pass capture_content=True"


def destinations() -> tuple[str, ...]:
    """One variable for each place that it names: OTLP, Langfuse and the terminal."""
    drawn = _TRACES if draws() else ""
    return tuple(dict.fromkeys(filter(None, (sends_traces() or sends_metrics(), sends_to_langfuse(), drawn))))


def why_off() -> str:
    """Why nothing is sent, and the mend; for where nothing is."""
    chosen = _variable(_TRACES)
    for off, variable in (
        (disabled(), "OTEL_SDK_DISABLED"),
        (switched_off(), "LANGFUSE_TRACING_ENABLED"),
        (bool(chosen), _TRACES),
    ):
        if off:
            return f"off, with {variable}={_variable(variable)}: unset that, and {WHERE_TO}"
    return f"off, since no variable says where to send: {WHERE_TO}"


def _sent_by(choice: str, endpoint: str) -> str:
    if disabled():
        return ""
    if chosen := _chosen(choice):
        return choice if "otlp" in chosen else ""
    return next(filter(_variable, (_ENDPOINT, endpoint)), "")


def _chosen(choice: str) -> list[str]:
    """The exporters that a variable names."""
    return [name.strip() for name in _variable(choice).lower().split(",") if name.strip()]


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
