"""Which variables of the environment say where to send. Loads nothing, so that a program may ask which then sends nothing."""

from __future__ import annotations

import os

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_KEYS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")


def disabled() -> bool:
    """Whether OpenTelemetry's SDK is switched off, so that it makes no span."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def sends_traces() -> str:
    """The variable by which traces are sent by OTLP; empty if none is."""
    return _sent_by("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def sends_metrics() -> str:
    """The variable by which metrics are sent by OTLP; empty if none is."""
    return _sent_by("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def sends_to_langfuse() -> str:
    """A variable with one of Langfuse's keys; empty if there is none, or tracing there is switched off."""
    return "" if switched_off() else next(filter(_is_set, _KEYS), "")


def switched_off() -> bool:
    """Whether `LANGFUSE_TRACING_ENABLED` says that nothing shall be sent to Langfuse."""
    return os.environ.get("LANGFUSE_TRACING_ENABLED", "").strip().lower() == "false"


def destinations() -> tuple[str, ...]:
    """One variable for each place that it names: OTLP and Langfuse."""
    if disabled():
        return ()
    return tuple(filter(None, (sends_traces() or sends_metrics(), sends_to_langfuse())))


def _sent_by(choice: str, endpoint: str) -> str:
    if chosen := os.environ.get(choice, "").strip().lower():
        return choice if "otlp" in chosen.split(",") else ""
    return next(filter(_is_set, (_ENDPOINT, endpoint)), "")


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())
