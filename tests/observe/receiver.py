"""A real OTLP/HTTP receiver on a loopback port: it keeps what it is sent as plain values, and misbehaves as scripted.

with Receiver() as receiver:
    ...                                  # export to receiver.traces_url
    assert tree(receiver.wait(6)) == ...  # bounded wait for six spans

receiver.script(status(503, retry_after="0"), HTML, CLOSES)  # the next three requests; then it behaves again
receiver.always(status(401, "no such key"))                  # every request from now on
receiver.always(HELD); …; receiver.release()                 # answers nothing until released
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import socketserver
import ssl
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as ProtoMetric
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as ProtoStatus

SECONDS = 5.0  # the bound of every wait

PROTOBUF = {"content-type": "application/x-protobuf"}
TEXT = {"content-type": "text/plain; charset=utf-8"}


# ------------------------------------------------------------------------------------------------ what was received
@dataclass(frozen=True)
class Request:
    """One HTTP request; header names in lower case, sizes in bytes."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    size: int  # on the wire, that is compressed
    body: bytes = field(repr=False)  # decompressed


@dataclass(frozen=True)
class Happening:
    """An event of a span."""

    name: str
    attributes: Mapping[str, Any]
    time: int  # nanoseconds since 1970


@dataclass(frozen=True)
class Link:
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """A span in plain values: ids in hex, attributes as Python values, times in nanoseconds since 1970."""

    name: str
    kind: str  # "INTERNAL", "CLIENT" …
    trace_id: str
    span_id: str
    parent_id: str  # empty for a root
    attributes: Mapping[str, Any]
    status: str = "UNSET"  # "OK", "ERROR"
    message: str = ""
    events: Sequence[Happening] = ()
    links: Sequence[Link] = ()
    start: int = 0
    end: int = 0
    trace_state: str = ""
    resource: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""
    scope_version: str = ""
    schema_url: str = ""

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


@dataclass(frozen=True)
class Point:
    """One data point: `value` for a sum or gauge; count, sum, bounds and counts for a histogram."""

    attributes: Mapping[str, Any]
    value: float = 0
    count: int = 0
    sum: float = 0
    bounds: Sequence[float] = ()
    counts: Sequence[int] = ()


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str  # "sum", "gauge", "histogram"
    unit: str
    description: str
    points: Sequence[Point]
    scope: str = ""


def tree(spans: Sequence[Span], line: Callable[[Span], str] | None = None) -> str:
    """The spans as indented text, children below their parent in order of their start.

    A span whose parent is named but not among the spans is marked as an orphan. `line` says what one line shows.
    """
    show = line or _line
    known = {span.span_id for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def lines(parent: str, depth: int) -> list[str]:
        return [
            text
            for span in below.get(parent, [])
            for text in (
                "  " * depth + ("orphan: " if span.parent_id and not parent else "") + show(span),
                *lines(span.span_id, depth + 1),
            )
        ]

    return "\n".join(lines("", 0))


def _line(span: Span) -> str:
    status = "" if span.status == "UNSET" else f" {span.status}" + (f": {span.message}" * bool(span.message))
    return f"{span.name} [{span.kind}]{status}"


# --------------------------------------------------------------------------------------------------- how to misbehave
@dataclass(frozen=True)
class Reply:
    """What a request is answered; `after` is what happens before it: nothing, waiting for release, or the end."""

    code: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: PROTOBUF)
    after: Literal["", "held", "closes", "garbage"] = ""
    takes: bool = False  # whether its spans count as received


def status(code: int, text: str = "", retry_after: str = "", **headers: str) -> Reply:
    """An answer with this status and text; `retry_after` as the header is to read."""
    more = {"retry-after": retry_after} if retry_after else {}
    return Reply(
        code, text.encode(), TEXT | more | {name.replace("_", "-"): v for name, v in headers.items()}
    )


def redirect(location: str, code: int = 308) -> Reply:
    return Reply(code, b"", {"location": location})


def partial(rejected: int, message: str = "") -> Reply:
    """Accepted, but `rejected` spans of it were not; 0 with a message is a warning."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return Reply(200, answer.SerializeToString(), takes=True)


GOOD = Reply(takes=True)
HTML = Reply(
    200,
    b"<!DOCTYPE html><html><title>Sign in</title></html>",
    {"content-type": "text/html; charset=utf-8"},
)
HELD = Reply(after="held", takes=True)  # answers only after `release()`
CLOSES = Reply(after="closes")  # the connection ends without an answer
GARBAGE = Reply(after="garbage")  # bytes that are no HTTP: what a gRPC port says


# ------------------------------------------------------------------------------------------------------ the receiver
class Receiver:
    """A context manager that listens while it is open. Everything it kept stays readable afterwards."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._tls, self._port = tls, port
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._script: deque[Reply] = deque()
        self._always = GOOD
        self._requests: list[Request] = []
        self._spans: list[Span] = []
        self._metrics: dict[str, Metric] = {}
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", self._port), self)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket,
                server_side=True,
                do_handshake_on_connect=False,  # that is the connection's thread's business
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.release()
        self.hang_up()
        self._server.server_close()  # joins the threads of the connections
        self._thread.join(SECONDS)

    @property
    def url(self) -> str:
        """The base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT."""
        host = "https://localhost" if self._tls else "http://127.0.0.1"
        return f"{host}:{self.port}"

    @property
    def traces_url(self) -> str:
        return f"{self.url}/v1/traces"

    @property
    def metrics_url(self) -> str:
        return f"{self.url}/v1/metrics"

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    @property
    def spans(self) -> list[Span]:
        """All spans taken so far, in the order they came."""
        with self._changed:
            return list(self._spans)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Each metric by name, as last reported."""
        with self._changed:
            return dict(self._metrics)

    def wait(
        self, spans: int = 0, *, requests: int = 0, metrics: int = 0, seconds: float = SECONDS
    ) -> list[Span]:
        """Wait until so many spans were taken, requests came, and metrics are known; gives the spans."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: (
                    len(self._spans) >= spans
                    and len(self._requests) >= requests
                    and len(self._metrics) >= metrics
                ),
                seconds,
            )
            assert reached, (
                f"within {seconds:g} s came {len(self._requests)} of {requests} requests, {len(self._metrics)} of "
                f"{metrics} metrics and {len(self._spans)} of {spans} spans:\n{tree(self._spans)}"
            )
            return list(self._spans)

    def clear(self) -> None:
        """Forget what was kept."""
        with self._changed:
            self._requests.clear()
            self._spans.clear()
            self._metrics.clear()

    def script(self, *replies: Reply) -> None:
        """Answer the next requests so; afterwards as `always` says."""
        with self._changed:
            self._script.extend(replies)

    def always(self, reply: Reply) -> None:
        """Answer every request so that the script says nothing of."""
        self._released.clear()
        with self._changed:
            self._always = reply

    def release(self) -> None:
        """Let held requests, and later ones, be answered."""
        self._released.set()

    def hang_up(self) -> None:
        """Break every open connection."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            _break(connection)

    # ---------------------------------------------------------------------------------- called by the connections
    def connected(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.add(connection)

    def left(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.discard(connection)

    def answer(self, request: Request) -> Reply:
        """Keep a request, and say what it is answered."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            reply = self._script.popleft() if self._script else self._always
        if reply.after == "held":
            self._released.wait(SECONDS)
        if not reply.takes:
            return reply
        if request.path.partition("?")[0].rpartition("/")[2] not in _SIGNALS:
            return status(404, f"no such page: {request.path}")
        if request.headers.get("content-type") != "application/x-protobuf":
            return status(415, "only application/x-protobuf is spoken here")
        try:
            self._keep(request)
        except DecodeError as error:
            return status(400, f"no protobuf: {error}")
        return reply

    def _keep(self, request: Request) -> None:
        if request.path.partition("?")[0].endswith("traces"):
            spans = list(decode_spans(request.body))
            with self._changed:
                self._spans += spans
                self._changed.notify_all()
        else:
            metrics = {metric.name: metric for metric in decode_metrics(request.body)}
            with self._changed:
                self._metrics |= metrics
                self._changed.notify_all()


_SIGNALS = ("traces", "metrics")


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing joins them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for the machine's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave when they like."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.receiver.connected(self.connection)

    def finish(self) -> None:
        self.server.receiver.left(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test reads `requests`."""

    def do_POST(self) -> None:
        wire = self.rfile.read(int(self.headers.get("content-length", "0")))
        body = _OPENED[self.headers.get("content-encoding", "identity")](wire)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.receiver.answer(Request(self.command, self.path, headers, len(wire), body))
        if reply.after in ("closes", "garbage"):
            if reply.after == "garbage":
                self.wfile.write(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00")
            self.close_connection = True
            return
        self.send_response(reply.code)
        for name, value in {**reply.headers, "content-length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


_OPENED: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is over already
        # Not an SSLSocket's own shutdown, which would first say goodbye to a client that may not listen.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


# ---------------------------------------------------------------------------------------------------------- decoding
def decode_spans(body: bytes) -> Sequence[Span]:
    """The spans of an ExportTraceServiceRequest."""
    return [
        Span(
            name=span.name,
            kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=_attributes(span.attributes),
            status=ProtoStatus.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            message=span.status.message,
            events=[
                Happening(event.name, _attributes(event.attributes), event.time_unix_nano)
                for event in span.events
            ],
            links=[
                Link(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
                for link in span.links
            ],
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            trace_state=span.trace_state,
            resource=_attributes(group.resource.attributes),
            scope=part.scope.name,
            scope_version=part.scope.version,
            schema_url=part.schema_url,
        )
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for part in group.scope_spans
        for span in part.spans
    ]


def decode_metrics(body: bytes) -> Sequence[Metric]:
    """The metrics of an ExportMetricsServiceRequest."""
    return [
        Metric(
            name=metric.name,
            kind=metric.WhichOneof("data"),
            unit=metric.unit,
            description=metric.description,
            points=_points(metric),
            scope=part.scope.name,
        )
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for part in group.scope_metrics
        for metric in part.metrics
    ]


def _points(metric: ProtoMetric) -> Sequence[Point]:
    points = getattr(metric, metric.WhichOneof("data")).data_points
    if metric.WhichOneof("data") == "histogram":
        return [
            Point(
                _attributes(point.attributes),
                count=point.count,
                sum=point.sum,
                bounds=list(point.explicit_bounds),
                counts=list(point.bucket_counts),
            )
            for point in points
        ]
    return [
        Point(_attributes(point.attributes), getattr(point, point.WhichOneof("value"))) for point in points
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    """By name. What came twice, which no backend must be sent, is shown as both."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = _value(pair.value)
        found[pair.key] = ("twice", found[pair.key], value) if pair.key in found else value
    return found


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, which)
