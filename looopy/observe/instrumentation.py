"""`instrument`: the one call that switches tracing, metrics and logs on for every agent of the process.

It decides what is recorded (`spans.py`, `metrics.py`, `logs.py`) and puts itself in the place where runs begin (`looopy.watcher`). Where the spans
go is `pipeline.py`, which alone knows OpenTelemetry's SDK.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, Self
from weakref import WeakSet

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from looopy import watcher
from looopy.errors import MissingExtra
from looopy.events import Event, Failure
from looopy.observe import attributes
from looopy.observe.carried import called_from
from looopy.observe.content import Content, Redaction
from looopy.observe.embeddings import embedded
from looopy.observe.faults import Faults
from looopy.observe.forks import end_with_fork, end_with_process, forget_in_forks
from looopy.observe.logs import RunLog, heard
from looopy.observe.meters import LaterMeter, LightMeters
from looopy.observe.metrics import Instruments, RunMeter
from looopy.observe.options import Options
from looopy.observe.pictures.timeline import Origin
from looopy.observe.pipeline import Pipeline
from looopy.observe.sending.destinations import bounded
from looopy.observe.spans import RunSpans, Spans
from looopy.observe.switches import draws, why_off
from looopy.ports import Embedder, Embeddings, EmbedRequest
from looopy.setup import Setup
from looopy.state import LoopState
from looopy.watcher import Caller, Watched

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from looopy.observe.pictures.drawing import Drawings

_log = logging.getLogger("looopy.observe")
_GOODBYE = 5.0  # seconds that the end of the program waits for the last spans

_building = threading.RLock()
"""Held by who switches on, who imports much: nobody who switches off may wait for it."""

_lock = threading.RLock()
"""Held for a moment, by who switches on or off. The handler of a signal may come in between, on the same thread."""

_newest: Instrumentation | None = None
_under_way: set[_Watch] = set()
"""The runs that are recorded now, also those that began under an instrumentation that has given way."""

_leaving: WeakSet[threading.Thread] = WeakSet()
"""Send what those still have that have given way."""


def instrument(
    *,
    capture_content: bool | None = None,
    redact: Redaction | None = None,
    max_content_chars: int = 16_384,
    legacy_attributes: bool = False,
    exporters: Sequence[SpanExporter] | None = None,
    console: bool = False,
    langfuse: bool | Literal["package", "otlp"] | None = None,
    service_name: str = "",
    environment: str = "",
    release: str = "",
    sample_rate: float | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Instrumentation:
    """Record the runs that begin from now on: traces, metrics and logs, for every agent of the process.

    With nothing passed, the environment decides: `OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables of OpenTelemetry send OTLP over HTTP,
    `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY` send to Langfuse. Spans are sent in batches by a thread of their own, and what is left at
    the end of the program. Whatever happens to them, no run notices; what is lost is said once, with the mend, to the logger `looopy.observe`.

    A second call with the same arguments changes nothing, and neither does the end of its `with`. One with others takes the place of the first,
    whose spans are sent.

    Args:
        capture_content: whether prompts, answers, arguments and results go on the spans; left out, the variable
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT decides, and else they do not.
        redact: is given each text before it goes on a span, and where it stands, and returns what shall stand there.
        max_content_chars: longer texts are cut, with a mark.
        legacy_attributes: also the names that were in use before 2025, such as `gen_ai.system` and `gen_ai.usage.prompt_tokens`.
        exporters: where to send spans, instead of where the environment says; `()` for nowhere.
        console: also draw each run on stderr when it is over, with the agents that its tools called; needs the extra `cli` beside `otel`, and no
            backend. OTEL_TRACES_EXPORTER=console does the same.
        langfuse: False: not to Langfuse, whatever the environment says; True: it is an error if the environment does not say where. Spans go there
            by the `langfuse` package where it is installed, else by OTLP; "package" and "otlp" choose.
        service_name: OTEL_SERVICE_NAME, else "looopy".
        environment: `deployment.environment.name`; left out, Langfuse alone is told one: LANGFUSE_TRACING_ENVIRONMENT.
        release: `service.version`, of your program; left out, Langfuse alone is told one: LANGFUSE_RELEASE.
        sample_rate: the share of traces that are recorded, 0 to 1; left out, OTEL_TRACES_SAMPLER, and else all.
        tracer_provider: your own; left out, the global one if there is one, and else, if spans go anywhere, one that is made here and becomes
            the global one.
        meter_provider: the same for metrics. Where there is none, metrics are sent if OTLP is.

    Returns:
        What can send all there is (`flush`), and switch recording off again (`shutdown`, or the end of the first `with`).

    Raises:
        ConfigurationError: an argument or a variable cannot work; the message says which and the mend.
        MissingExtra: a package is needed that is not installed.
    """
    console = console or (exporters is None and draws())
    global _newest  # noqa: PLW0603  one for the process
    options = Options(
        capture_content=capture_content,
        redact=redact,
        max_content_chars=max_content_chars,
        legacy_attributes=legacy_attributes,
        exporters=exporters,
        console=console,
        langfuse=langfuse,
        service_name=service_name,
        environment=environment,
        release=release,
        sample_rate=sample_rate,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    with _building:
        before = _newest
        if before is not None and before.options == options and before.asked_again():
            return before
        new = Instrumentation(options, Pipeline(options, before and before.meters))
        if not (new.records or console or exporters is not None):
            _log.warning(
                "instrument(): %s. There are only logs; console=True would also draw each run in the terminal",
                why_off(),
            )
        with _lock:
            _newest = new
            watcher.watch_with(new)
        if before is not None:
            before.give_way(new)
    return new


class Instrumentation:
    """Recording that is on; `instrument` makes it.

    Attributes:
        options: what `instrument` was given.
        over: whether it is switched off.
    """

    def __init__(self, options: Options, pipeline: Pipeline) -> None:
        self.options = options
        self.over = False
        self._closing = threading.RLock()
        self._closed = False
        self._inside, self._kept = 0, False
        self._pipeline = pipeline
        self._spans = Spans(
            tracer=pipeline.tracer,
            faults=pipeline.faults,
            content=options.content,
            legacy=options.legacy_attributes,
        )
        self._drawings = _drawings(options.content) if options.console else None
        self._instruments = Instruments(pipeline.meter_provider) if pipeline.meter_provider else None
        pipeline.open()
        forget_in_forks(self)
        end_with_process(self)

    def __repr__(self) -> str:
        where = (*self._pipeline.where, *(["the terminal"] if self.options.console else ()))
        return f"<looopy.observe: {'off' if self.over else ' · '.join(where) or 'nowhere'}>"

    def __enter__(self) -> Self:
        with _lock:
            self._inside += 1
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            self._inside -= 1
            last = not (self._inside or self._kept)
        if last:
            self.shutdown()

    def asked_again(self) -> bool:
        """Whether it is on, so that the same arguments ask for it. Where it was on outside of a `with`, the end of one leaves it on."""
        with _lock:
            self._kept = self._kept or not self._inside
            return not (self.over or self._pipeline.ended)

    @property
    def records(self) -> bool:
        """Whether anybody gets spans or metrics: a destination, or a provider of the program's own."""
        return bool(self._pipeline.where)

    @property
    def meters(self) -> LightMeters | None:
        """What adds up the metrics, for who takes over; None where nothing does, or no longer."""
        return None if self.over else self._pipeline.meters

    @property
    def delivered(self) -> int:
        """How many spans have arrived, as far as the exporters can tell."""
        return self._pipeline.delivered

    @property
    def lost(self) -> int:
        """How many spans have not arrived and never will."""
        return self._pipeline.lost

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what is waiting to be sent, and wait for it; for the end of a test, a job or a request. Blocks: not for an event loop's thread.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether all of it was sent in that time and taken, and so was what was sent since the last flush.
        """
        return self._pipeline.flush(timeout)

    def hurry(self) -> None:
        """The program is about to end: what is sent from now on waits for no server that is not there. Where nobody says so, the end itself does."""
        self._pipeline.hurry()

    def shutdown(self, timeout: float = _GOODBYE) -> None:
        """Record nothing from now on, and send what is there; later calls only wait for that. The spans of runs under way end here, and say so.

        Args:
            timeout: seconds to wait at most; what is not sent by then is lost, and said.
        """
        until = time.monotonic() + timeout
        with _lock:
            before, self.over = self.over, True
            if watcher.watcher() is self:
                watcher.watch_with(None)
        if not before:
            for watch in tuple(_under_way):
                watch.end()
        self._close(timeout)
        for thread in tuple(_leaving):
            thread.join(bounded(until - time.monotonic()))

    def forked(self) -> None:
        """In a fork's child: the runs under way are the parent's."""
        global _building, _lock
        _building, _lock, self._closing = threading.RLock(), threading.RLock(), threading.RLock()
        for watch in _under_way:
            watch.folds = ()  # one that goes on here as well would be told twice
        _under_way.clear()
        if self._drawings is not None:
            self._drawings = _drawings(self.options.content)
        if not self.over:
            end_with_fork(self)

    def give_way(self, new: Instrumentation) -> None:
        """Let another take over, the spans of runs under way included; what is waiting here is sent by a thread of its own."""
        with _lock:
            if self.over:
                return
            self.over = True
            self._pipeline.give_way(new._pipeline)
        leaving = threading.Thread(target=self._close, args=(_GOODBYE,), name="looopy-observe", daemon=True)
        leaving.start()
        _leaving.add(leaving)

    def _close(self, timeout: float) -> None:
        """Send what is there, once; who comes second waits for the first, unless it interrupts that."""
        if not self._closing.acquire(timeout=bounded(timeout)):
            return
        try:
            if not self._closed:
                self._closed = True
                self._pipeline.shutdown(timeout)
                atexit.unregister(self.shutdown)  # not before: the end of the program has to wait for this
        finally:
            self._closing.release()

    def watch(self, setup: Setup, state: LoopState, caller: Caller, /) -> Watched:
        """Take an execution in hand, just before its first event."""
        spans: RunSpans | None = None
        try:
            spans = self._spans.of(setup, state, caller)
            account = self._pipeline.account
            url = ""
            if account is not None and spans.recorded and account.samples(int(spans.trace_id, 16)):
                url = account.trace_url(spans.trace_id)
            watch = _Watch(spans, self._folds(setup, state, caller, spans), self._pipeline.faults)
        except Exception as error:
            self._pipeline.faults.caught("a run could not be recorded", error)
            if spans is not None:
                spans.end()
            return Watched(plugs={}, see=_nothing, context=copy_context(), trace_id=caller.trace_id)
        _under_way.add(watch)
        return Watched(
            plugs=spans.plugs(setup),
            see=watch.see,
            context=spans.within(),
            trace_id=spans.trace_id,
            trace_url=url,
            end=watch.end,
        )

    async def embed(
        self,
        embedder: Embedder,
        request: EmbedRequest,
        ask: Callable[[EmbedRequest], Awaitable[Embeddings]],
        /,
    ) -> Embeddings:
        """Let texts be embedded, within a span."""
        return await embedded(self._spans.tracer, self._pipeline.faults, embedder, request, ask)

    def _folds(self, setup: Setup, state: LoopState, caller: Caller, spans: RunSpans) -> list[Fold]:
        """What looks at a run's events."""
        folds: list[Fold] = [spans]
        if self._instruments is not None:
            model = str(getattr(setup.llm_provider, "model", ""))
            address, port = attributes.server(setup.llm_provider)
            meter = partial(
                _meter, self._instruments, agent=state.agent_id, model=model, address=address, port=port
            )
            meters = self._pipeline.meter_provider
            folds.append(LaterMeter(meter, meters) if isinstance(meters, LightMeters) else meter())
        if heard():
            folds.append(RunLog(agent=state.agent_id, trace_id=spans.trace_id, span_id=spans.span_id))
        if self._drawings is not None:
            parent, call_id = called_from(caller.context)
            origin = Origin(
                agent=state.agent_id,
                iterations=state.iteration,
                trace_id=spans.trace_id,
                parent=parent,
                call_id=call_id,
            )
            folds.append(self._drawings.of(state.task_id, origin))
        return folds


def _meter(instruments: Instruments, *, agent: str, model: str, address: str, port: int) -> RunMeter:
    return instruments.run(agent=agent, provider=attributes.provider_name(model), address=address, port=port)


def _drawings(content: Content | None) -> Drawings:
    try:
        from looopy.observe.pictures.drawing import Drawings
    except MissingExtra as missing:
        raise MissingExtra("instrument(console=True)", needs="rich", extra="otel,cli") from missing
    return Drawings(content)


class Fold(Protocol):
    """Looks at the events of one run, one after the other."""

    def on_event(self, event: Event) -> None:
        """Fold one in."""
        ...

    def end(self) -> None:
        """The stream is torn down; most have heard of the end already."""
        ...


class _Watch:
    """One run that is recorded: it shows the run's events to the folds.

    Attributes:
        spans: the run's.
        folds: what looks at its events; nothing any more when it is over.
        faults: what was kept from the run.
    """

    __slots__ = ("faults", "folds", "spans")

    def __init__(self, spans: RunSpans, folds: Sequence[Fold], faults: Faults) -> None:
        self.spans = spans
        self.folds = folds
        self.faults = faults

    def see(self, event: Event) -> None:
        """Show an event to the folds."""
        for fold in self.folds:
            try:
                fold.on_event(event)
            except (Exception, CancelledError) as error:  # a processor's own: nobody cancels what never waits
                self.faults.caught("an event could not be recorded", error)

    def end(self, why: Exception | None = None) -> None:
        """Nothing more will be seen of this run, because of an error where there is one."""
        _under_way.discard(self)
        folds, self.folds = self.folds, ()
        if folds and why is not None:
            self.spans.end(Failure.of(why))
        for fold in folds:
            try:
                fold.end()
            except (Exception, CancelledError) as error:
                self.faults.caught("the end of a run could not be recorded", error)


def _nothing(_: Event) -> None:
    """Who sees nothing."""
