"""What runs look like from outside: traces, metrics and logs in OpenTelemetry's words, each a fold of a run's events.

`instrument()` is the one call that switches it on (`instrumentation.py`). Then `spans.py`, `metrics.py` and `logs.py` fold the events of each run,
`content.py` says what of a conversation is shown, and `pipeline.py` where it goes: `sending/` is the way out, `langfuse/` what is special there.
`pictures/` needs none of it: it draws a run from its events alone. Nothing here is loaded by `import looopy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from looopy.errors import MissingExtra

if TYPE_CHECKING:
    from looopy.observe.instrumentation import Instrumentation, instrument
    from looopy.observe.langfuse.experiment import task_of
    from looopy.observe.langfuse.scores import score, trace_url
    from looopy.observe.sending.otlp import OTLPExporter

_AT_FIRST_USE = {
    "Instrumentation": "instrumentation",
    "OTLPExporter": "sending.otlp",
    "instrument": "instrumentation",
    "score": "langfuse.scores",
    "task_of": "langfuse.experiment",
    "trace_url": "langfuse.scores",
}


def __getattr__(name: str) -> object:
    """What needs OpenTelemetry's SDK or an HTTP client is loaded when it is first used."""
    if name not in _AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_AT_FIRST_USE[name]}"), name)
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("opentelemetry.sdk"):
            raise
        raise MissingExtra(f"{__name__}.{name}", needs="opentelemetry-sdk", extra="otel") from missing
    except ValueError as error:  # the SDK reads its limits as it is imported
        from looopy.observe.options import misread  # noqa: PLC0415

        raise misread(error) from error


def __dir__() -> list[str]:
    return __all__


__all__ = ["Instrumentation", "OTLPExporter", "instrument", "score", "task_of", "trace_url"]
