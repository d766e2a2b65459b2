"""What `instrument` was asked for, as a value: checked, and compared, so that asking twice is asking once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from looopy.errors import ConfigurationError, words
from looopy.observe.content import Content, Redaction
from looopy.observe.switches import captures_content

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `instrument`, which says what each means.

    Attributes:
        content: what of a conversation is shown; None for nothing.

    Raises:
        ConfigurationError: one of them cannot work.
    """

    capture_content: bool | None = field(compare=False)
    redact: Redaction | None = field(compare=False)
    max_content_chars: int = field(compare=False)
    legacy_attributes: bool
    exporters: Sequence[SpanExporter] | None
    console: bool
    langfuse: bool | Literal["package", "otlp"] | None
    service_name: str
    environment: str
    release: str
    sample_rate: float | None
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    content: Content | None = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.exporters, Iterable):
            object.__setattr__(self, "exporters", tuple(self.exporters))
        for argument, (fits, rule) in _RULES.items():
            given = getattr(self, argument)
            if not fits(given):
                raise ConfigurationError(f"instrument({argument}={given!r}): {rule}", argument=argument)
        content = Content(redact=self.redact, max_chars=self.max_content_chars)
        captured = captures_content() if self.capture_content is None else self.capture_content
        object.__setattr__(self, "content", content if captured else None)


def misread(error: ValueError) -> ConfigurationError:
    """What to say where OpenTelemetry's SDK can make nothing of one of its variables, which its error names."""
    return ConfigurationError(
        f"instrument(): OpenTelemetry cannot be set up as its variables say: {words(error)}; change the variable, or unset it"
    )


def _is_text(given: object) -> bool:
    return given is None or isinstance(given, str)


def _is_truth(given: object) -> bool:
    return isinstance(given, bool)


def _are_exporters(given: object) -> bool:
    return given is None or (
        isinstance(given, tuple)
        and all(
            callable(getattr(each, "export", None)) and not isinstance(each, type)
            for each in cast("tuple[object, ...]", given)
        )
    )


def _is_share(given: object) -> bool:
    return given is None or (isinstance(given, int | float) and not _is_truth(given) and 0 <= given <= 1)


_TEXT = (_is_text, "it must be text")
_TRUTH = (_is_truth, "it must be True or False")
_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "capture_content": (lambda given: given is None or _is_truth(given), "it must be True, False or None"),
    "redact": (
        lambda given: given is None or callable(given),
        "it must be a function of a text and where it stands",
    ),
    "max_content_chars": (
        lambda given: isinstance(given, int) and not _is_truth(given) and given > 0,
        "it must be a number of characters above 0",
    ),
    "legacy_attributes": _TRUTH,
    "exporters": (
        _are_exporters,
        "pass span exporters of OpenTelemetry, made: exporters=[OTLPSpanExporter(…)]",
    ),
    "console": _TRUTH,
    "langfuse": (
        lambda given: given is None or _is_truth(given) or given in ("package", "otlp"),
        "it must be True, False, None, 'package' or 'otlp'",
    ),
    "service_name": _TEXT,
    "environment": _TEXT,
    "release": _TEXT,
    "sample_rate": (_is_share, "it must be a share of the traces, from 0 to 1"),
}
