"""Gives what a meter has collected to an exporter, at an interval, on a thread of its own, and says once what goes wrong.

OpenTelemetry's own exporters say why they failed to their loggers alone, and again at every interval. What they say on this thread is overheard
instead, and told once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS,  # pyright: ignore[reportPrivateUsage]  the SDK's own readers have no other
)
from opentelemetry.context import attach, set_value
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from looopy.errors import words
from looopy.observe.sending.addresses import secrets_of_metrics
from looopy.observe.sending.diagnosis import shown
from looopy.observe.sending.outages import is_known
from looopy.redaction import redact

_log = logging.getLogger("looopy.observe")

_heard: ContextVar[deque[str] | None] = ContextVar("_heard", default=None)


def _overhear(record: logging.LogRecord) -> bool:
    """A filter for an exporter's logger: keeps what is said on a thread of ours, and lets everything else pass."""
    heard = _heard.get()
    if heard is None:
        return True
    heard.append(record.getMessage())
    return False


def interval(variable: str, default: float) -> float:
    """Seconds, from a variable of the environment that says milliseconds; the default where it says nothing of use."""
    said = os.environ.get(variable, "").strip()
    try:
        milliseconds = float(said or default * 1000)
    except ValueError:
        milliseconds = 0.0
    if milliseconds > 0:
        return milliseconds / 1000
    _log.warning(
        "%s=%r: it must be a number of milliseconds above 0; %g are taken", variable, said, default * 1000
    )
    return default


class Push:
    """Exports at an interval, from the first `begin` until `shutdown`. Nothing here raises.

    Args:
        collect: gives what there is to export, or None.
        exporter: makes the exporter, when it is first needed; a forked child makes its own.
        every: seconds from the end of one export to the next.
        timeout: seconds for one export; the exporter may know better.
    """

    def __init__(
        self,
        collect: Callable[[], MetricsData | None],
        exporter: Callable[[], MetricExporter],
        *,
        every: float,
        timeout: float,
    ) -> None:
        self._collect = collect
        self._make = exporter
        self._every = min(every, threading.TIMEOUT_MAX)
        self._milliseconds = timeout * 1000
        self._stopping = False
        self.reset()

    def reset(self) -> None:
        """Begin anew in a forked child: the thread, the exporter's connections and the locks are its parent's."""
        self._changed = (
            threading.Condition()
        )  # its lock can be taken again by a finalizer that runs meanwhile
        self._thread: threading.Thread | None = None
        self._exporter: MetricExporter | None = None
        self._asked = self._served = 0  # exports that were asked for, and how many of them are over
        self._worked, self._over = True, False
        self._outage = 0  # exports that failed since one worked
        self._said = False  # of this outage
        self.failures = 0
        """How many exports failed in this process."""

    def begin(self) -> None:
        """There is something to export from now on."""
        if self._thread:
            return
        with self._changed:
            if self._thread or self._stopping:
                return
            self._thread = threading.Thread(target=self._run, name="looopy-metrics", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads are to be had, or the interpreter is about to end
                self._thread = None
                self._failed(words(error))

    def flush(self, timeout: float) -> bool:
        """Export now, and wait for it at most `timeout` seconds: whether it worked."""
        with self._changed:
            if self._thread is None:
                return self._worked
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._served >= mine or self._over, _bounded(timeout))
            return self._served >= mine and self._worked

    def shutdown(self, timeout: float) -> bool:
        """Export for the last time, and wait for it at most `timeout` seconds: whether it worked. Later calls wait for the same."""
        with self._changed:
            self._stopping = True
            if self._thread is None:
                return self._worked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over, _bounded(timeout))
            return self._over and self._worked

    # ------------------------------------------------------------------------------------------------- on the thread
    def _run(self) -> None:
        attach(set_value(SUPPRESS, True))  # else an instrumented HTTP client would trace the sending
        heard: deque[str] = deque(maxlen=2)  # the last attempt's reason, and that there are no more attempts
        _heard.set(heard)
        stopping = False
        while not stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._asked > self._served, self._every)
                asked, stopping = self._asked, self._stopping
            heard.clear()
            self._export(heard)
            if stopping:
                self._close()
            with self._changed:
                self._served, self._over = asked, stopping
                self._changed.notify_all()

    def _export(self, heard: deque[str]) -> None:
        try:
            data = self._collect()
            if data is None:
                return None
            exporter = self._exporter
            if exporter is None:
                exporter = self._exporter = self._make()
                logging.getLogger(type(exporter).__module__).addFilter(_overhear)
            if self._stopping and is_known(url_of(exporter), unreachable=True):
                return self._failed("nobody is there")
            result = exporter.export(data, timeout_millis=self._milliseconds)  # pyright: ignore[reportUnknownMemberType]  its kwargs
        except Exception as error:
            return self._failed(words(error))
        if result is MetricExportResult.SUCCESS:
            return self._succeeded()
        return self._failed("; ".join(heard) or f"the exporter said {result!r}")

    def _close(self) -> None:
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            try:
                exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]  its kwargs
            except Exception as error:
                self._failed(words(error))

    def _failed(self, why: str) -> None:
        self._worked = False
        self.failures += 1
        self._outage += 1
        url = url_of(self._exporter)
        if not (self._said or is_known(url)):
            self._said = True
            _log.warning("%s (said once; tried again at every interval)", not_taken(url, why))

    def _succeeded(self) -> None:
        if self._said:
            _log.warning("metrics: are exported again, after %d failed", self._outage)
        self._worked, self._outage, self._said = True, 0, False


def url_of(exporter: MetricExporter | None) -> str:
    """Where OpenTelemetry's exporter sends, without credentials; empty for others, who do not say."""
    url = str(getattr(exporter, "_endpoint", ""))
    return url and shown(url)


def not_taken(url: str, why: str) -> str:
    """That metrics are not taken, and the mend.

    Args:
        url: where, without credentials; empty where that is not known.
        why: what the exporter said.
    """
    at = f" at {url}" if url else ""
    said = redact(" ".join(why.split()), *secrets_of_metrics())[:500].rstrip(".")
    return (
        f"OTLP: metrics are not taken{at} ({said}): where a backend takes traces only, set OTEL_METRICS_EXPORTER=none; else check "
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    )


def _bounded(timeout: float) -> float:
    return min(timeout, threading.TIMEOUT_MAX)
