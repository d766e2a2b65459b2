"""What `looopy doctor` finds of tracing: it sends a test trace to where `instrument()` would send, and reads the answer."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal

from looopy.cli.finding import Finding
from looopy.errors import ConfigurationError, MissingExtra
from looopy.observe.langfuse.account import Account
from looopy.observe.switches import (
    WHERE_TO,
    destinations,
    disabled,
    draws,
    missing,
    sends_metrics,
    sends_traces,
    why_off,
)

_SENDS = "looopy.observe.instrument() sends there"


def examine_tracing() -> Iterator[Finding]:
    """Try each destination that the environment names. Blocks until each has answered, or its time is over."""
    if disabled():
        yield _finding("note", f"{why_off()}; {_SENDS}")
        return
    try:
        import_module("looopy.observe.pipeline")  # needs the SDK
    except MissingExtra:
        yield _missing()
        return
    found: list[Finding] = []
    try:
        account = Account.from_environment()
    except ConfigurationError as error:
        account = None
        found.append(_finding("broken", f"Langfuse: {error}"))
    if sends_traces():
        found += _otlp(account)
    if account is not None:
        found += _langfuse(account)
    if sends_metrics() and all(each.verdict != "broken" for each in found):
        found.append(_metrics())
    if draws():
        found.append(
            _finding("good", "each run is drawn in the terminal when it is over (from OTEL_TRACES_EXPORTER)")
        )
    if (sends_traces() or account) and all(each.verdict != "broken" for each in found):
        found += (_finding("note", each) for each in missing())
    yield from found or [_finding("note", f"{why_off()}; {_SENDS}")]


def _finding(verdict: Literal["good", "broken", "note"], text: str) -> Finding:
    return Finding(verdict, "tracing", text)


def _missing() -> Finding:
    """The SDK is not there: broken, if somebody wants to use it."""
    missing = "opentelemetry-sdk is missing: pip install 'looopy[otel]'"
    if not (wanted := destinations()):
        return _finding("note", f"off: {missing}; then {WHERE_TO}; {_SENDS}")
    said = " and ".join(wanted)
    return _finding("broken", f"{said} {'is' if len(wanted) == 1 else 'are'} set, but {missing}")


def _otlp(account: Account | None) -> Iterator[Finding]:
    from looopy.observe.sending.addresses import environment  # noqa: PLC0415  needs the SDK
    from looopy.observe.sending.otlp import OTLPExporter, probe  # noqa: PLC0415

    with _heard("looopy.observe") as warnings:
        try:
            exporter = OTLPExporter.from_environment()
        except ConfigurationError as error:
            yield _finding("broken", f"OTLP: {error}")
            return
    yield from (_finding("note", f"OTLP: {warning}") for warning in warnings)
    if account is not None and exporter.url == account.endpoint:
        return  # the same place under both names
    delivery = probe(exporter)
    exporter.shutdown()
    if delivery.ok:
        where = f"{exporter.url} (from {environment().settings.endpoint})"
        yield _finding("good", f"OTLP: a test trace, looopy.doctor, arrived at {where}")
    if delivery.failures:
        yield _finding("note" if delivery.ok else "broken", f"OTLP at {exporter.url}: {delivery.words}")


def _langfuse(account: Account) -> Iterator[Finding]:
    from looopy.observe.sending.otlp import probe  # noqa: PLC0415  as above

    exporter = account.exporter()
    trace = uuid.uuid4()
    delivery = probe(exporter, trace_id=trace.int)
    exporter.shutdown()
    variable = next(
        (name for name in ("LANGFUSE_BASE_URL", "LANGFUSE_HOST") if os.environ.get(name, "").strip()), ""
    )
    where = f"{account.base_url} ({f'from {variable}' if variable else 'its cloud, since LANGFUSE_BASE_URL is not set'})"
    if not delivery.ok:
        yield _finding("broken", f"Langfuse at {where}: {delivery.words}")
        return
    by = "OTLP" if find_spec("langfuse") is None else f"the package langfuse {version('langfuse')}"
    seen = account.trace_url(trace.hex)
    yield _finding(
        "good", f"Langfuse: a test trace arrived at {where}; look at it: {seen}; runs go there by {by}"
    )


def _metrics() -> Finding:
    from looopy.observe.pipeline import probe_metrics  # noqa: PLC0415  as above
    from looopy.observe.sending.push import not_taken  # noqa: PLC0415

    try:
        with _heard("opentelemetry.exporter") as warnings:  # which is all that their exporter says
            taken, url = probe_metrics()
    except ConfigurationError as missing:
        return _finding("broken", f"OTLP: {missing}; or set OTEL_METRICS_EXPORTER=none")
    if taken:
        return _finding("good", "OTLP: metrics are taken there too")
    said = warnings[-1] if warnings else "no reason is given"
    return _finding("broken", not_taken(url, said))


@contextmanager
def _heard(name: str) -> Generator[list[str]]:
    """What a logger warns of meanwhile, for the diagnosis instead of the log."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, ear = logging.getLogger(name), Ear(logging.WARNING)
    passed_on, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)
        logger.propagate = passed_on
