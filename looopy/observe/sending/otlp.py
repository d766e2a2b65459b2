"""An exporter of spans over OTLP/HTTP that costs little and says what goes wrong.

`encoding.py` and `protobuf.py` write the bytes, `addresses.py` knows where they go, `diagnosis.py` reads what comes back, `outages.py` says it. Here they are sent.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from random import SystemRandom
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESS,  # pyright: ignore[reportPrivateUsage]  the SDK's own exporters have no other
)
from opentelemetry.context import attach, detach, set_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from looopy.errors import ConfigurationError, words
from looopy.observe.forks import in_one_process
from looopy.observe.sending.addresses import ENDPOINT, TIMEOUT, Compression, address, environment, tls
from looopy.observe.sending.diagnosis import (
    LANGFUSE,
    Answer,
    Failure,
    Settings,
    Target,
    of_answer,
    of_error,
    shown,
)
from looopy.observe.sending.encoding import Encoded, Request, Rewrite, encode
from looopy.observe.sending.outages import Outages

_MOST = 64 * 2**20  # bytes of a request; the specification's default limit
_ANSWER = 65_536  # bytes of an answer that are read
_NOBODY = frozenset(
    {"refused-connection", "unknown-host"}
)  # what is said at once, not when all attempts are over
_CHANCE = SystemRandom()  # its own: a program that seeds `random` is not disturbed by a thread
_FIRST_WAIT = 0.5  # seconds before the second attempt, twice as many before each next


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of sending some spans.

    Attributes:
        delivered: how many spans the server took.
        lost: how many it did not.
        status: the last HTTP status; 0 where there was no answer.
        words: what went wrong and the mend, or that nothing did.
        failures: each thing that went wrong, for a program to read.
    """

    delivered: int
    lost: int
    status: int
    words: str
    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every span arrived."""
        return not self.lost


@dataclass(frozen=True, slots=True)
class _Taken:
    """A good answer, which may still reject some of the spans."""

    status: int
    rejected: int = 0
    message: str = ""


class _Process:
    """What belongs to one process: a fork's child must not use its parent's connections, nor its locks."""

    def __init__(self, outages: Outages) -> None:
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.hurried = threading.Event()
        self.outages = outages
        self.delivered = 0
        self.lost = 0
        self.unreachable = False
        self.transport: httpx.HTTPTransport | None = None


_Hopes: TypeAlias = Callable[[Failure, int], None]
"""Is told of spans that could not be sent, and are tried again."""


def _unsaid(_: Failure, __: int) -> None:
    pass


class OTLPExporter(SpanExporter):
    """Sends spans to an OpenTelemetry backend over HTTP, as protobuf.

    It never raises. Spans that cannot be delivered are counted in `lost`, and each kind of failure is said once, as a warning of the logger
    `looopy.observe`, together with the mend; as is that it works again. What may work in a moment is tried again, within `timeout`.

    Args:
        endpoint: the whole URL for traces, such as "http://localhost:4318/v1/traces".
        headers: sent with each request. Never shown.
        timeout: seconds for one batch, with all it takes.
        compression: "gzip" makes a batch several times smaller, for some CPU.
        certificate: file of the authority that signed the server's certificate.
        client_key: file of the key to `client_certificate`.
        client_certificate: file of the certificate to show to the server.
        rewrite: gives the attributes to send in place of a span's own; other exporters still get the span's.
        name: what messages call the backend.
        settings: what messages call the settings; by default these arguments, or Langfuse's variables if that is the name.

    Raises:
        ConfigurationError: the URL, a header or a certificate cannot be used.
    """

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        compression: Compression = "none",
        certificate: str | None = None,
        client_key: str | None = None,
        client_certificate: str | None = None,
        rewrite: Rewrite | None = None,
        name: str = "OTLP",
        settings: Settings | None = None,
    ) -> None:
        if timeout <= 0:
            raise ConfigurationError(
                f"timeout={timeout!r}: it must be a number of seconds above 0", argument="timeout"
            )
        langfuse = name == "Langfuse"
        settings = settings or (LANGFUSE if langfuse else Settings())
        to = address(endpoint, headers or {}, settings)
        self._url = to.url
        self._headers = {
            "user-agent": f"looopy/{version('looopy')}",
            **to.headers,
            "content-type": "application/x-protobuf",
            "accept-encoding": "identity",  # an answer is short; and its size is known before it is unpacked
        }
        if compression == "gzip":
            self._headers["content-encoding"] = "gzip"
        self._gzip = compression == "gzip"
        self._tls = tls(certificate, client_key, client_certificate, settings)
        self._rewrite = rewrite
        self._target = Target(
            url=shown(to.url),
            settings=settings,
            langfuse=langfuse or any(sign in to.url for sign in ("langfuse", "/api/public/otel")),
            authorized="authorization" in to.headers,
            seconds=timeout,
            secrets=to.secrets,
        )
        self._name = name
        self._timeout = timeout
        self._shut = False
        self._processes: dict[int, _Process] = {}

    @classmethod
    def from_environment(cls, *, rewrite: Rewrite | None = None, name: str = "OTLP") -> OTLPExporter:
        """The exporter that the variables `OTEL_EXPORTER_OTLP_*` and `OTEL_EXPORTER_OTLP_TRACES_*` describe.

        They are ENDPOINT, HEADERS, TIMEOUT (in seconds, as opentelemetry-python has it), COMPRESSION, CERTIFICATE, CLIENT_KEY,
        CLIENT_CERTIFICATE and PROTOCOL. Without any, spans go to `http://localhost:4318/v1/traces`.

        Args:
            rewrite: gives the attributes to send in place of a span's own.
            name: what messages call the backend.

        Raises:
            ConfigurationError: the protocol is gRPC, or a value cannot be used.
        """
        said = environment()
        return cls(
            said.endpoint,
            headers=said.headers,
            timeout=said.timeout,
            compression=said.compression,
            certificate=said.certificate,
            client_key=said.client_key,
            client_certificate=said.client_certificate,
            rewrite=rewrite,
            name=name,
            settings=said.settings,
        )

    reads_light_spans = True
    """It writes what it finds on a span, so that looopy's own need not be made the SDK's first."""

    def __repr__(self) -> str:
        return f"OTLPExporter({self.url!r}, name={self._name!r})"

    @property
    def url(self) -> str:
        """Where spans are sent, without credentials."""
        return self._target.url

    @property
    def delivered(self) -> int:
        """How many spans this process has delivered."""
        return self._process().delivered

    @property
    def lost(self) -> int:
        """How many spans this process could not deliver."""
        return self._process().lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, count them, and say through logging what hinders it."""
        return SpanExportResult.SUCCESS if self.send(spans).ok else SpanExportResult.FAILURE

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Do what `export` does, and say how many of them were taken."""
        process = self._process()

        def hopes(failure: Failure, spans: int) -> None:
            with process.lock:
                process.outages.hopes(failure, spans)

        delivery = self._guarded(spans, hopes)
        with process.lock:
            process.delivered += delivery.delivered
            process.lost += delivery.lost
            for failure in delivery.failures:
                process.outages.failed(failure)
            if delivery.ok:
                process.outages.worked()
        return delivery

    def deliver(self, spans: Sequence[ReadableSpan], *, retry: bool = True) -> Delivery:
        """Send spans and say what came of it, without counting or logging.

        Args:
            spans: ended spans.
            retry: whether to try again, within `timeout`, what may work in a moment.
        """
        return self._guarded(spans, _unsaid if retry else None)

    def _guarded(self, spans: Sequence[ReadableSpan], hopes: _Hopes | None) -> Delivery:
        # Else an instrumented HTTP client would trace the sending of traces.
        token = attach(set_value(SUPPRESS, True))
        try:
            return self._deliver(spans, hopes)
        except Exception as error:
            failure = of_error(self._target, error)
            return Delivery(0, len(spans), 0, failure.words, (replace(failure, spans=len(spans)),))
        finally:
            detach(token)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits in here."""
        del timeout_millis
        return True

    def hurry(self) -> None:
        """The program ends: wait no longer for a server that is not there."""
        self._process().hurried.set()

    def shutdown(self) -> None:
        """Give up waiting, and close the connections. Spans that come later are lost."""
        self._shut = True
        process = self._process()
        process.stopped.set()
        process.hurried.set()
        with process.lock:
            process.outages.over()
            if process.transport:
                process.transport.close()

    # --------------------------------------------------------------------------------------------------------- inside
    def _process(self) -> _Process:
        pid = os.getpid()
        # A parent's is kept, not dropped: that would close its connections under it.
        return self._processes.get(pid) or self._processes.setdefault(
            pid, _Process(Outages(self._name, self.url))
        )

    def _deliver(self, spans: Sequence[ReadableSpan], hopes: _Hopes | None) -> Delivery:
        if self._shut:
            closed = Failure("shut-down", "the exporter was shut down before they came", spans=len(spans))
            return Delivery(0, len(spans), 0, closed.words, (closed,))
        deadline = time.monotonic() + self._timeout
        encoded = encode(spans, self._rewrite)
        failures = _mishaps(encoded)
        delivered = status = 0
        for request in encoded.requests:
            outcome = self._send(request, deadline, hopes)
            status = outcome.status
            if isinstance(outcome, Failure):
                failures.append(replace(outcome, spans=request.spans))
                continue
            delivered += request.spans - outcome.rejected
            if outcome.rejected or outcome.message:
                failures.append(self._partial(outcome))
        lost = sum(failure.spans for failure in failures)
        told = " ".join(dict.fromkeys(failure.words for failure in failures))
        return Delivery(delivered, lost, status, told or f"{self.url} took them ({status})", tuple(failures))

    def _partial(self, taken: _Taken) -> Failure:
        said = self._target.quoted(taken.message)
        if not taken.rejected:
            return Failure("warned", f"{self.url} took the spans with a warning.{said}", status=taken.status)
        return Failure(
            "partly", f"it took a part of them only.{said}", spans=taken.rejected, status=taken.status
        )

    def _send(self, request: Request, deadline: float, hopes: _Hopes | None) -> _Taken | Failure:
        if len(request.body) > _MOST:
            return Failure(
                "too-large", f"a span of {len(request.body):,} bytes is never sent: capture less content"
            )
        body = gzip.compress(request.body, 1) if self._gzip else request.body  # fast, and much of it is text
        process = self._process()
        was_unreachable = process.unreachable
        wait = _FIRST_WAIT
        while True:
            outcome = self._attempt(process, body, deadline)
            if isinstance(outcome, _Taken):
                process.unreachable = False
                return replace(outcome, rejected=min(outcome.rejected, request.spans))
            process.unreachable = outcome.unreachable
            # A program that ends does not wait for a server that is not there; nor does one that waited for it the last time.
            hurried = process.hurried.is_set() or not threading.main_thread().is_alive()
            hopeless = outcome.unreachable and (was_unreachable or hurried)
            # A server that says "at once" is given the time all the same: it is not well.
            pause = max(_CHANCE.uniform(0.8, 1.2) * wait, outcome.retry_after or 0.0)
            if hopes is None or not outcome.retry or hopeless or time.monotonic() + pause > deadline:
                return outcome
            if outcome.kind in _NOBODY:
                hopes(outcome, request.spans)
            (process.hurried if outcome.unreachable else process.stopped).wait(pause)
            if self._shut:
                return outcome
            wait *= 2

    def _attempt(self, process: _Process, body: bytes, deadline: float) -> _Taken | Failure:
        try:
            answer = self._post(process, body, deadline)
        except Exception as error:
            return of_error(self._target, error)
        return of_answer(self._target, answer) or _taken(answer)

    def _post(self, process: _Process, body: bytes, deadline: float) -> Answer:
        with process.lock:
            if process.transport is None:
                # The bare transport: a client would follow redirects' cookies, and log each URL with what is behind its "?".
                with in_one_process():
                    process.transport = httpx.HTTPTransport(verify=self._tls or True, proxy=_proxy(self._url))
        left = max(0.001, deadline - time.monotonic())
        request = httpx.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=body,
            extensions={"timeout": httpx.Timeout(left).as_dict()},
        )
        response = process.transport.handle_request(request)
        content = bytearray()
        try:
            for piece in response.iter_raw():
                content += piece
                if len(content) > _ANSWER or time.monotonic() > deadline:
                    break  # enough to know
        finally:
            response.close()
        return Answer(response.status_code, response.headers, bytes(content))


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _mishaps(encoded: Encoded) -> list[Failure]:
    """What went wrong before anything was sent."""
    found: list[Failure] = []
    if encoded.broken:
        what = f"a span could not be encoded ({words(encoded.broken[0])})"
        found.append(Failure("no-span", what, spans=len(encoded.broken)))
    if encoded.bare:
        what = f"rewrite= raised ({words(encoded.bare[0])}): the spans were sent without attributes; mend the function"
        found.append(Failure("rewrite", what))
    return found


def _taken(answer: Answer) -> _Taken:
    """Read a good answer: an `ExportTraceServiceResponse`, in protobuf or JSON, or nothing."""
    if answer.body in (b"", b"\n\x00", b"{}"):
        return _Taken(answer.status)
    try:
        if "json" in answer.headers.get("content-type", ""):
            said = json.loads(answer.body).get("partialSuccess", {})
            rejected, message = int(said.get("rejectedSpans", 0)), str(said.get("errorMessage", ""))
        else:
            # Rare, so this is not worth a reader of our own, nor protobuf's start-up when nobody answers so.
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
                ExportTraceServiceResponse,
            )

            partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
            rejected, message = partial.rejected_spans, partial.error_message
    except Exception:
        rejected, message = 0, ""
    return _Taken(answer.status, max(0, rejected), message)


def probe(exporter: OTLPExporter, *, trace_id: int | None = None) -> Delivery:
    """Send one test span, named `looopy.doctor`, and say what came of it. It is sent at once, and once.

    Args:
        exporter: what is to be tried.
        trace_id: of the span's trace; a new one when left out.
    """
    now = time.time_ns()
    ids = RandomIdGenerator()
    context = SpanContext(
        trace_id or ids.generate_trace_id(),
        ids.generate_span_id(),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    span = ReadableSpan(
        "looopy.doctor",
        context,
        resource=Resource.create(),
        attributes={"gen_ai.agent.name": "looopy doctor"},
        start_time=now,
        end_time=now,
        instrumentation_scope=InstrumentationScope("looopy", version("looopy")),
    )
    return exporter.deliver([span], retry=False)
