"""What the environment switches on and off: whether anything is sent, and why not."""

from __future__ import annotations

import os

from looopy.observe.langfuse.account import switched_off

WHERE_TO = (
    "set OTEL_EXPORTER_OTLP_ENDPOINT (a collector's is http://localhost:4318), or LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY and, unless it "
    "is Langfuse's cloud, LANGFUSE_BASE_URL"
)
"""The advice where nothing is set."""

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES = "OTEL_TRACES_EXPORTER"


def disabled() -> bool:
    """Whether OpenTelemetry as a whole is switched off: then there are no traces and no metrics."""
    return _variable("OTEL_SDK_DISABLED").lower() == "true"


def sends_traces() -> bool:
    """Whether the environment wants traces to be sent by OTLP."""
    return _sends(_TRACES, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def sends_metrics() -> bool:
    """Whether the environment wants metrics to be sent by OTLP."""
    return _sends("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def draws() -> bool:
    """Whether the environment wants runs to be drawn in the terminal."""
    return not disabled() and "console" in _chosen(_TRACES)


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


def _sends(choice: str, endpoint: str) -> bool:
    if disabled():
        return False
    if chosen := _chosen(choice):
        return "otlp" in chosen
    return bool(_variable(_ENDPOINT) or _variable(endpoint))


def _chosen(choice: str) -> list[str]:
    """The exporters that a variable names."""
    return [name.strip() for name in _variable(choice).lower().split(",") if name.strip()]


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
