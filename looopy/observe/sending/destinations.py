"""What hangs on a tracer provider: exporters with a queue before each, which are counted and can be exchanged.

How many spans came through is known at any time, and ends are bounded in time. Through an `Outlet` spans find the newest destinations, since a
provider lets nothing go that was added to it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS,  # pyright: ignore[reportPrivateUsage]  the SDK's own exporters have no other
)
from opentelemetry.context import Context, attach, detach, set_value
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags, TracerProvider

from looopy.errors import ConfigurationError, words
from looopy.observe.forks import forget_in_forks
from looopy.observe.sending.otlp import OTLPExporter

_log = logging.getLogger("looopy.observe")
_BATCH = 512  # spans of a request, as the SDK has it
_DELAY = 5000  # milliseconds that a span waits at most until it is sent, as the SDK has it
_QUEUE = 16_384  # spans that may wait to be sent; the SDK's 2,048 is what four hundred runs at once make


class Destination:
    """An exporter, the queue before it with the thread that empties it, and how many spans came through.

    As OpenTelemetry's batch processor, whose variables it reads, but it counts what it has no room for, and putting a span in costs a sixth.

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
        self._batch = min(self._room, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH))
        self._seconds = bounded(_number("OTEL_BSP_SCHEDULE_DELAY", _DELAY) / 1000)
        self._closed = False
        self.forked()
        forget_in_forks(self)

    def forked(self) -> None:
        """In a fork's child: what waits to be sent, the parent sends, and its thread is not here."""
        self._waiting: deque[ReadableSpan] = deque()
        self._dropped = 0
        # The handler of a signal may come in between, on the same thread: none of the three makes it wait for what it interrupted.
        self._counting, self._sending = threading.RLock(), threading.RLock()
        self._due: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sent.seen = self._sent.delivered = self._sent.lost = 0

    @property
    def delivered(self) -> int:
        """Spans that the exporter has taken."""
        return self._sent.delivered

    @property
    def lost(self) -> int:
        """Spans that the exporter has refused, for which there was no room, or that were too late."""
        late = (
            self._sent.seen - self._sent.delivered - self._sent.lost + len(self._waiting)
            if self._closed
            else 0
        )
        return self._sent.lost + self._dropped + late

    def take(self, span: ReadableSpan) -> None:
        """Put a span that has ended into the queue, if there is room."""
        if self._takes is not None and span.context is not None and not self._takes(span.context.trace_id):
            return
        waiting = self._waiting
        ahead = len(waiting)
        if ahead >= self._room or self._closed:
            self._drop()
            return
        waiting.append(span)
        if self._thread is None:
            self._begin()
        if ahead + 1 >= self._batch and self._due.empty():
            self._due.put(None)

    def _drop(self) -> None:
        with self._counting:
            self._dropped += 1
            first = self._dropped == 1 and not self._closed
        if first:
            _log.warning(
                "%s: spans are lost, since %s wait to be sent already: raise OTEL_BSP_MAX_QUEUE_SIZE, or sample (sample_rate=) (said once)",
                self.name,
                f"{self._room:,}",
            )

    def _begin(self) -> None:
        with self._counting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="looopy-spans", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        due = self._due
        while not self._closed:
            try:
                due.get(timeout=self._seconds)
                least = self._batch
            except Empty:
                least = 1
            self._send(least=1 if self._closed else least)

    def _send(self, *, least: int = 1) -> None:
        """Send batches, for as long as so many spans wait."""
        with self._sending:
            token = attach(
                set_value(SUPPRESS, True)
            )  # what the exporter asks of the network is no part of a trace
            try:
                while len(self._waiting) >= least:
                    some = range(min(self._batch, len(self._waiting)))
                    self._sent.export([self._waiting.popleft() for _ in some])
            finally:
                detach(token)

    def flush(self) -> None:
        """Send what is in the queue; blocks."""
        self._send()

    def spare(self) -> None:
        """Leave the exporter open at the end: somebody else goes on with it."""
        self._sent.spared = True

    def hurry(self) -> None:
        """The program ends."""
        if isinstance(self.exporter, OTLPExporter):
            self.exporter.hurry()

    def shutdown(self) -> None:
        """Send what is in the queue, and stop; blocks."""
        self._send()
        self._sent.shutdown()

    def close(self) -> None:
        """No more is taken or waited for; say how many spans never came to the exporter."""
        self._closed = True
        self._due.put(None)
        if left := self.lost - self._sent.lost:
            _log.warning(
                "%d of %d spans were not sent to %s: there was no room in the queue, or no time at the end; raise OTEL_BSP_MAX_QUEUE_SIZE, "
                "sample (sample_rate=), or call flush() before the program ends",
                left,
                self.delivered + self.lost,
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
        # Unless somebody has an `export` of his own: it knows how many of them were taken.
        self._counts = (
            exporter
            if isinstance(exporter, OTLPExporter) and type(exporter).export is OTLPExporter.export
            else None
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.seen += len(spans)
        if self._counts is not None:
            delivery = self._counts.send(spans)
            self.delivered += delivery.delivered
            self.lost += delivery.lost
            return SpanExportResult.SUCCESS if delivery.ok else SpanExportResult.FAILURE
        try:
            result = self._exporter.export(
                spans if self._reads_light else [_readable(span) for span in spans]
            )
        except BaseException as error:  # also SystemExit: the thread that sends has to go on
            return self._refused(f"it raised {words(error)}", spans)
        if result is SpanExportResult.FAILURE:
            return self._refused("its own log may say why", spans)
        self.delivered += len(spans)  # one written by hand may return nothing
        return SpanExportResult.SUCCESS

    def _refused(self, why: str, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.lost += len(spans)
        if not self._said:
            self._said = True
            _log.warning(
                "%s did not take %d spans, which are lost: %s (said once)", self._name, len(spans), why
            )
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self.spared:
            return
        self.spared = True  # once is enough
        try:
            self._exporter.shutdown()
        except BaseException as error:
            _log.warning("%s could not be shut down: it raised %s", self._name, words(error))


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
        ended: whether its provider was shut down since it was led anywhere.
    """

    def __init__(self) -> None:
        self.newest: SpanContext | None = None
        self.ended = False
        self._to: tuple[Destination, ...] = ()
        self.forked()
        forget_in_forks(self)

    def forked(self) -> None:
        """In a fork's child: the parent's threads are not here, and so hold nothing."""
        # Held while a span is handed on: who leads elsewhere knows afterwards that no span is on its way to where it led before.
        self._leading = threading.RLock()

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
        with self._leading:
            self._to, self.ended = tuple(destinations), False

    def leave(self, destinations: Sequence[Destination]) -> None:
        """Lead there no longer; where it leads elsewhere already, it goes on doing so."""
        with self._leading:
            self._to = tuple(each for each in self._to if each not in destinations)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span begins: nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        self.newest = here = span.context
        if here is not None and here[3] & TraceFlags.SAMPLED:  # its properties are functions in Python
            with self._leading:
                for destination in self._to:
                    destination.take(span)

    def shutdown(self) -> None:
        """The provider ends: send what is waiting."""
        with self._leading:
            destinations, self._to, self.ended = self._to, (), True
        for destination in destinations:
            destination.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is waiting."""
        return at_once([destination.flush for destination in self._to], timeout_millis / 1000)


_outlets: WeakKeyDictionary[object, Outlet] = WeakKeyDictionary()


def at_once(actions: Sequence[Callable[[], object]], seconds: float) -> bool:
    """Do things that block, each in a thread of its own, and wait so long at most; whether all were done by then."""
    threads = [threading.Thread(target=action, name="looopy-observe", daemon=True) for action in actions]
    for thread, action in zip(threads, actions, strict=True):
        try:
            thread.start()
        except RuntimeError:  # as the program ends there are no new threads from Python 3.12 on, and sometimes there are too many
            action()
    until = time.monotonic() + seconds
    for thread in threads:
        if thread.ident is not None:
            thread.join(bounded(until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def bounded(seconds: float) -> float:
    """A time that can be waited for, whatever was asked for."""
    return max(0.0, min(seconds, threading.TIMEOUT_MAX))
