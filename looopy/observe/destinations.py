"""What hangs on a tracer provider: exporters with a queue before each, which are counted and can be exchanged.

The SDK's own batch processor does the queueing and the sending. Around it: how many spans came through, ends that are bounded in time, and an
`Outlet` that spans find the newest destinations through, since a provider lets nothing go that was added to it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import TracerProvider

from looopy.errors import ConfigurationError, words

_log = logging.getLogger("looopy.observe")
_QUEUE = 16_384  # spans that may wait to be sent; the SDK's 2,048 is what four hundred runs at once make


class Destination:
    """An exporter, the queue before it, and how many spans came through.

    Args:
        name: where it sends, in words.
        exporter: what sends.
        takes: whether it wants a trace, by its id; None for all of them.
    """

    def __init__(
        self, name: str, exporter: SpanExporter, *, takes: Callable[[int], bool] | None = None
    ) -> None:
        self.name = name
        self._takes = takes
        self._taken = 0
        self._exporter = _Counted(exporter)
        sized = "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ
        self._batches = BatchSpanProcessor(self._exporter, max_queue_size=None if sized else _QUEUE)

    @property
    def delivered(self) -> int:
        """Spans that the exporter has taken."""
        return self._exporter.delivered

    @property
    def lost(self) -> int:
        """Spans that the exporter has refused."""
        return self._exporter.lost

    def take(self, span: ReadableSpan) -> None:
        """Put a span that has ended into the queue."""
        if self._takes is not None and span.context is not None and not self._takes(span.context.trace_id):
            return
        self._taken += 1
        self._batches.on_end(span)

    def flush(self) -> bool:
        """Send what is in the queue; blocks."""
        return self._batches.force_flush()

    def shutdown(self) -> None:
        """Send what is in the queue, and stop; blocks."""
        self._batches.shutdown()

    def report(self) -> None:
        """Say how many spans never came to the exporter."""
        if left := self._taken - self.delivered - self.lost:
            _log.warning(
                "%d of %d spans were not sent to %s: there was no room in the queue, or no time at the end; raise OTEL_BSP_MAX_QUEUE_SIZE, "
                "sample (sample_rate=), or call flush() before the program ends",
                left,
                self._taken,
                self.name,
            )


class _Counted(SpanExporter):
    """An exporter that never raises, and counts."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.delivered = self.lost = 0
        self._reads_light = bool(getattr(exporter, "reads_light_spans", False))
        self._exporter = exporter
        self._said = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(
                spans if self._reads_light else [_readable(span) for span in spans]
            )
        except Exception as error:
            result = SpanExportResult.FAILURE
            if not self._said:
                self._said = True
                _log.warning("%s raised %s: spans are lost", type(self._exporter).__name__, words(error))
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        else:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _readable(span: ReadableSpan) -> ReadableSpan:
    """The span as the SDK has it; one of looopy's own (`tracer.LightSpan`) makes one."""
    made = getattr(span, "readable", None)
    return cast("ReadableSpan", made()) if callable(made) else span


@runtime_checkable
class TakesProcessors(Protocol):
    """A tracer provider that lets its spans be taken: that of the SDK, or one like it."""

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Tell a processor of the spans that begin and end."""
        ...


class Outlet(SpanProcessor):
    """The one processor that is added to a provider; the spans that end go on to whatever it leads to at that time."""

    def __init__(self) -> None:
        self._to: tuple[Destination, ...] = ()

    @classmethod
    def of(cls, provider: TracerProvider) -> Outlet:
        """The provider's outlet, added to it at the first use.

        Raises:
            ConfigurationError: it is no provider of the SDK, so that nothing can be added to it.
        """
        if not isinstance(provider, TakesProcessors):
            raise ConfigurationError(
                f"spans cannot be taken from a {type(provider).__name__}, which has no add_span_processor: let it export them itself, with "
                "instrument(exporters=(), langfuse=False)",
                argument="tracer_provider",
            )
        if provider not in _outlets:
            _outlets[provider] = cls()
            provider.add_span_processor(_outlets[provider])
        return _outlets[provider]

    def lead_to(self, destinations: Sequence[Destination]) -> None:
        """Let spans that end from now on go there, and only there."""
        self._to = tuple(destinations)

    def leave(self, destinations: Sequence[Destination]) -> None:
        """Lead there no longer; where it leads elsewhere already, it goes on doing so."""
        self._to = tuple(each for each in self._to if each not in destinations)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span begins: nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        if span.context is not None and span.context.trace_flags.sampled:
            for destination in self._to:
                destination.take(span)

    def shutdown(self) -> None:
        """The provider ends: send what is waiting."""
        destinations, self._to = self._to, ()
        for destination in destinations:
            destination.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is waiting."""
        return at_once([destination.flush for destination in self._to], timeout_millis / 1000)


_outlets: WeakKeyDictionary[object, Outlet] = WeakKeyDictionary()


def at_once(actions: Sequence[Callable[[], object]], seconds: float) -> bool:
    """Do things that block, each in a thread of its own, and wait so long at most; whether all were done by then."""
    threads = [threading.Thread(target=action, name="looopy-observe", daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
