"""What `instrument` was asked for, as a value: compared, so that asking twice is asking once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from looopy.errors import ConfigurationError, words
from looopy.observe.content import Content

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `instrument`, which says what each means."""

    content: Content | None
    legacy_attributes: bool
    exporters: tuple[SpanExporter, ...] | None
    console: bool
    langfuse: bool | Literal["package", "otlp"] | None
    service_name: str
    environment: str
    release: str
    sample_rate: float | None
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None

    def check(self) -> None:
        """Say what cannot work.

        Raises:
            ConfigurationError: a number is out of its range, or an exporter is none.
        """
        if self.sample_rate is not None and not 0 <= self.sample_rate <= 1:
            raise ConfigurationError(
                f"instrument(sample_rate={self.sample_rate!r}): a share of the traces, from 0 to 1",
                argument="sample_rate",
            )
        for exporter in self.exporters or ():
            if isinstance(exporter, type) or not callable(getattr(exporter, "export", None)):
                raise ConfigurationError(
                    f"instrument(exporters=[{exporter!r}]): pass span exporters of OpenTelemetry, made: exporters=[OTLPSpanExporter(…)]",
                    argument="exporters",
                )


def misread(error: ValueError) -> ConfigurationError:
    """What to say where OpenTelemetry's SDK can make nothing of one of its variables, which its error names."""
    return ConfigurationError(
        f"instrument(): OpenTelemetry cannot be set up as its variables say: {words(error)}; change the variable, or unset it"
    )


def wanted(capture_content: bool | None) -> bool:
    """Whether content is captured: what was said, or else the variable."""
    if capture_content is not None:
        return capture_content
    # OpenTelemetry's own packages know span_only, event_only and span_and_event too.
    return os.environ.get(_CAPTURE, "").strip().lower() in ("true", "1", "span_only", "span_and_event")
