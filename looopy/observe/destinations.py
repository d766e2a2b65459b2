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
from opentelemetry.trace import SpanContext, TracerProvider

from looopy.errors import ConfigurationError, words
from looopy.observe.forks import forget_in_forks
from looopy.observe.otlp import OTLPExporter

_log = logging.getLogger("looopy.observe")
_BATCH = 512  # spans of a request, as the SDK has it
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
        self.exporter = exporter
        self._takes = takes
        self._sent = _Counted(exporter, name)
        self._room = _number("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE)
        self._closed = False
        self.forked()
        forget_in_forks(self)
        self._batches = BatchSpanProcessor(
            self._sent,
            max_queue_size=self._room,
            max_export_batch_size=min(self._room, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH)),
        )

    def forked(self) -> None:
        """In a fork's child: what waits to be sent, the parent sends, and the SDK's queue here is empty."""
        self._lock = threading.Lock()
        self._taken = self._dropped = 0
        self._sent.seen = self._sent.delivered = self._sent.lost = 0

    @property
    def delivered(self) -> int:
        """Spans that the exporter has taken."""
        return self._sent.delivered

    @property
    def lost(self) -> int:
        """Spans that the exporter has refused, for which there was no room, or that were too late."""
        return self._taken - self.delivered if self._closed else self._sent.lost + self._dropped

    def take(self, span: ReadableSpan) -> None:
        """Put a span that has ended into the queue, if there is room; the SDK would drop an older one, and not count it."""
        if self._takes is not None and span.context is not None and not self._takes(span.context.trace_id):
            return
        with self._lock:
            self._taken += 1
            if fits := self._taken - self._dropped - self._sent.seen <= self._room:
                first = False
            else:
                self._dropped += 1
                first = self._dropped == 1
        if fits:
            self._batches.on_end(span)
        elif first:
            _log.warning(
                "%s: spans are lost, since %s wait to be sent already: raise OTEL_BSP_MAX_QUEUE_SIZE, or sample (sample_rate=) (said once)",
                self.name,
                f"{self._room:,}",
            )

    def flush(self) -> bool:
        """Send what is in the queue; blocks."""
        return self._batches.force_flush()

    def spare(self) -> None:
        """Leave the exporter open at the end: somebody else goes on with it."""
        self._sent.spared = True

    def shutdown(self) -> None:
        """Send what is in the queue, and stop; blocks."""
        self._batches.shutdown()

    def close(self) -> None:
        """No more is waited for; say how many spans never came to the exporter, and how many it refused."""
        self._closed = True
        if left := self._taken - self.delivered - self._sent.lost:
            _log.warning(
                "%d of %d spans were not sent to %s: there was no room in the queue, or no time at the end; raise OTEL_BSP_MAX_QUEUE_SIZE, "
                "sample (sample_rate=), or call flush() before the program ends",
                left,
                self._taken,
                self.name,
            )


def _number(variable: str, otherwise: int) -> int:
    """A number above 0 from the environment."""
    try:
        return max(1, int(os.environ.get(variable, "") or otherwise))
    except ValueError:
        return otherwise


class _Counted(SpanExporter):
    """An exporter that never raises, and counts.

    Attributes:
        seen: spans that came here.
        delivered: of these, those that the exporter has taken.
        lost: and those that it has not.
        spared: whether it stays open at the end.
    """

    def __init__(self, exporter: SpanExporter, name: str) -> None:
        self.seen = self.delivered = self.lost = 0
        self.spared = False
        self._reads_light = bool(getattr(exporter, "reads_light_spans", False))
        self._exporter = exporter
        self._name = name
        self._said = isinstance(exporter, OTLPExporter)  # which says what is wrong itself

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.seen += len(spans)
        try:
            result = self._exporter.export(
                spans if self._reads_light else [_readable(span) for span in spans]
            )
        except Exception as error:
            result = self._refused(f"it raised {words(error)}", spans)
        else:
            if result is not SpanExportResult.SUCCESS:
                result = self._refused("its own log may say why", spans)
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        else:
            self.lost += len(spans)
        return result

    def _refused(self, why: str, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self._said:
            self._said = True
            _log.warning(
                "%s did not take %d spans, which are lost: %s (said once)", self._name, len(spans), why
            )
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self.spared:
            return
        try:
            self._exporter.shutdown()
        except Exception as error:
            _log.warning("%s could not be shut down: it raised %s", self._name, words(error))

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
    """The one processor that is added to a provider; the spans that end go on to whatever it leads to at that time.

    Attributes:
        newest: the span that came last.
    """

    def __init__(self) -> None:
        self.newest: SpanContext | None = None
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
        self.newest = span.context
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
