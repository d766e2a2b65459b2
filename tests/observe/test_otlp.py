"""The exporter over real HTTP: what arrives, what is tried again, and what is said when nothing arrives."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from looopy.errors import ConfigurationError
from looopy.observe.sending.otlp import OTLPExporter, probe
from observe.receiver import (
    CLOSES,
    GARBAGE,
    GOOD,
    HELD,
    HTML,
    SECONDS,
    Receiver,
    Reply,
    partial,
    redirect,
    status,
    tree,
)

FAILURE, SUCCESS = SpanExportResult.FAILURE, SpanExportResult.SUCCESS


def ended(*names):
    """Ended spans of these names."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("looopy")
    spans = [tracer.start_span(name, attributes={"gen_ai.agent.name": "math"}) for name in names]
    for span in spans:
        span.end()
    memory.export(spans)
    return memory.get_finished_spans()


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def said(caplog):
    """What looopy has said, one text for each warning."""
    caplog.set_level(logging.WARNING, "looopy.observe")

    def take():
        texts = [record.getMessage() for record in caplog.records if record.name == "looopy.observe"]
        caplog.clear()
        return texts

    return take


def exported(url, *names, **options):
    """Export spans with a new exporter: the result, and what it counted."""
    exporter = OTLPExporter(url, **options)
    result = exporter.export(ended(*names))
    exporter.shutdown()
    return result, exporter.delivered, exporter.lost


# -------------------------------------------------------------------------------------------------------- it delivers
def test_spans_of_a_batch_arrive(receiver):
    exporter = OTLPExporter(receiver.traces_url, headers={"X-Tenant": "a b"})
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with provider.get_tracer("looopy").start_as_current_span("root"):
        provider.get_tracer("looopy").start_span("child").end()
    assert provider.force_flush()
    assert exporter.force_flush()
    assert tree(receiver.wait(2)) == "root [INTERNAL]\n  child [INTERNAL]"
    provider.shutdown()
    (request,) = receiver.requests
    assert (request.path, exporter.delivered, exporter.lost) == ("/v1/traces", 2, 0)
    sent = {name: request.headers[name] for name in ("content-type", "x-tenant", "accept-encoding")}
    assert sent == {
        "content-type": "application/x-protobuf",
        "x-tenant": "a b",
        "accept-encoding": "identity",
    }
    assert request.headers["user-agent"].startswith("looopy/")


def test_gzip_makes_the_request_smaller(receiver):
    assert exported(receiver.traces_url, *"abcdefgh", compression="gzip") == (SUCCESS, 8, 0)
    (request,) = receiver.requests
    assert request.headers["content-encoding"] == "gzip"
    assert request.size < len(request.body)
    assert [span.name for span in receiver.spans] == list("abcdefgh")


def test_one_connection_serves_many_batches_and_one_that_the_server_closed_is_no_loss(receiver):
    exporter = OTLPExporter(receiver.traces_url)
    assert exporter.export(ended("a")) is SUCCESS
    receiver.hang_up()
    assert exporter.export(ended("b")) is SUCCESS
    exporter.shutdown()
    assert (exporter.delivered, [span.name for span in receiver.spans]) == (2, ["a", "b"])


def test_a_rewrite_is_sent_and_the_span_itself_is_untouched(receiver, said):
    spans = ended("chat")
    exporter = OTLPExporter(receiver.traces_url, rewrite=lambda attributes: {**attributes, "seen": True})
    assert exporter.export(spans) is SUCCESS
    assert receiver.spans[0].attributes == {"gen_ai.agent.name": "math", "seen": True}
    assert spans[0].attributes == {"gen_ai.agent.name": "math"}
    exporter.shutdown()
    assert said() == []


def test_a_rewrite_that_raises_is_said_once_and_costs_the_attributes_only(receiver, said):
    exporter = OTLPExporter(receiver.traces_url, rewrite=lambda attributes: attributes["missing"])
    assert [exporter.export(ended("chat")) for _ in range(2)] == [SUCCESS] * 2
    assert [span.attributes for span in receiver.spans] == [{}, {}]
    exporter.shutdown()
    assert said() == [
        "OTLP: rewrite= raised (KeyError('missing')): the spans were sent without attributes; mend the function"
    ]


def test_what_is_no_span_is_lost_alone(receiver, said):
    exporter = OTLPExporter(receiver.traces_url)
    assert exporter.export([*ended("a"), object()]) is FAILURE
    assert (exporter.delivered, exporter.lost) == (1, 1)
    exporter.shutdown()
    assert said() == [
        (
            f"OTLP: could not export 1 span to {receiver.traces_url}: a span could not be encoded "
            "('object' object has no attribute 'attributes') (said once)"
        )
    ]


def test_a_batch_that_cannot_even_be_looked_at_is_lost_and_raises_nothing(receiver):
    class Broken(list):
        def __iter__(self):
            raise RuntimeError("no spans in here")

    exporter = OTLPExporter(receiver.traces_url)
    delivery = exporter.deliver(Broken([1, 2]))
    exporter.shutdown()
    assert (delivery.lost, delivery.words) == (2, "they could not be sent: no spans in here.")


def test_a_giant_span_is_never_sent(receiver, said):
    (span,) = ended("giant")
    exporter = OTLPExporter(receiver.traces_url, rewrite=lambda _: {"text": "x" * 2**26})
    assert exporter.export([span]) is FAILURE
    exporter.shutdown()
    assert receiver.requests == []
    assert "is never sent: capture less content" in said()[0]


def test_ten_threads_export_at_once_and_nothing_is_miscounted(receiver):
    exporter = OTLPExporter(receiver.traces_url)
    batches = [ended(f"{n}") for n in range(40)]
    threads = [
        threading.Thread(target=lambda n=n: [exporter.export(batch) for batch in batches[n::10]])
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    exporter.shutdown()
    assert (exporter.delivered, sorted(int(span.name) for span in receiver.spans)) == (40, list(range(40)))


def test_the_sending_of_traces_is_not_traced_itself(receiver, monkeypatch):
    """Instrumented HTTP clients ask the context for this key, else each export would make a span, which is exported …"""
    seen = []
    sent = httpx.HTTPTransport.handle_request

    def instrumented(transport, request):
        seen.append(otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY))
        return sent(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", instrumented)
    assert exported(receiver.traces_url, "a") == (SUCCESS, 1, 0)
    assert (seen, otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY)) == ([True], None)


def test_a_proxy_of_the_environment_is_used_unless_the_host_is_exempt(receiver, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", receiver.url)
    assert exported("http://collector.test/v1/traces", "a") == (SUCCESS, 1, 0)
    assert [request.path for request in receiver.requests] == ["http://collector.test/v1/traces"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert exported(receiver.traces_url, "b") == (SUCCESS, 1, 0)


# ----------------------------------------------------------------------------------------------------------- it retries
@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_what_may_work_in_a_moment_is_tried_again_when_the_server_says(receiver, said, code):
    receiver.script(status(code, "busy", retry_after="0.6"))
    start = time.monotonic()
    assert exported(receiver.traces_url, "a") == (SUCCESS, 1, 0)
    assert (len(receiver.requests), said(), time.monotonic() - start >= 0.6) == (2, [], True)


@pytest.mark.parametrize("when", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_server_that_wants_it_again_at_once_is_given_time_all_the_same(receiver, when):
    receiver.always(status(503, "busy", retry_after=when))
    assert exported(receiver.traces_url, "a", timeout=1) == (FAILURE, 0, 1)
    assert len(receiver.requests) == 2


def test_a_connection_that_breaks_is_tried_again_after_a_while(receiver):
    receiver.script(CLOSES)
    start = time.monotonic()
    assert exported(receiver.traces_url, "a") == (SUCCESS, 1, 0)
    assert (len(receiver.requests), time.monotonic() - start >= 0.4) == (2, True)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 415, 500, 501])
def test_what_will_not_work_is_not_tried_again(receiver, code):
    receiver.always(status(code, retry_after="0"))
    assert exported(receiver.traces_url, "a") == (FAILURE, 0, 1)
    assert len(receiver.requests) == 1


def test_no_wait_goes_past_the_timeout(receiver):
    receiver.always(status(503, retry_after="60"))
    start = time.monotonic()
    assert exported(receiver.traces_url, "a", timeout=5) == (FAILURE, 0, 1)
    assert (len(receiver.requests), time.monotonic() - start < 4) == (1, True)


def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(receiver, said):
    receiver.always(HELD)
    assert exported(receiver.traces_url, "a", timeout=0.1) == (FAILURE, 0, 1)
    assert said() == [
        f"OTLP: could not export 1 span to {receiver.traces_url}: no answer within 0.1 s: see to the server, or raise timeout=. (said once)"
    ]


def test_an_endless_answer_is_read_no_further_than_it_matters(receiver):
    receiver.always(Reply(200, b"\n" + b"x" * 10_000_000, takes=True))
    assert exported(receiver.traces_url, "a") == (SUCCESS, 1, 0)


def test_shutting_down_ends_the_wait_for_another_attempt(receiver):
    class Waited(threading.Event):
        def wait(self, timeout=None):
            waits.set()
            return super().wait(timeout)

    receiver.always(status(503, retry_after="30"))
    exporter, waits = OTLPExporter(receiver.traces_url, timeout=60), threading.Event()
    exporter._process().stopped = Waited()
    results = []
    thread = threading.Thread(target=lambda: results.append(exporter.export(ended("a"))))
    thread.start()
    assert waits.wait(5)
    exporter.shutdown()
    exporter.shutdown()
    thread.join(5)
    assert (results, exporter.lost) == ([FAILURE], 1)


def test_spans_that_come_after_the_shutdown_are_lost_and_counted(receiver, said):
    exporter = OTLPExporter(receiver.traces_url)
    exporter.shutdown()
    assert exporter.export(ended("a", "b")) is FAILURE
    assert (exporter.lost, receiver.requests) == (2, [])
    assert said() == [
        f"OTLP: could not export 2 spans to {receiver.traces_url}: the exporter was shut down before they came (said once)"
    ]


def free_port():
    with socket.socket() as probe_:
        probe_.bind(("127.0.0.1", 0))
        return probe_.getsockname()[1]


def test_a_receiver_that_is_not_there_is_waited_for_once_and_spans_arrive_when_it_comes(said):
    port = free_port()
    exporter = OTLPExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=1)
    begin = time.monotonic()
    exporter.export(ended("a"))
    first = time.monotonic()
    exporter.export(ended("b", "c"))
    second = time.monotonic()
    assert first - begin > 0.4  # it was tried again
    assert second - first < 0.4  # and not a second time
    with Receiver(port=port) as receiver:
        exporter.export(ended("d"))
        exporter.export(ended("e"))
        assert [span.name for span in receiver.spans] == ["d", "e"]
    exporter.shutdown()
    assert (exporter.delivered, exporter.lost) == (2, 3)
    assert said() == [
        not_yet(exporter.url),
        "OTLP: gave up, so 1 span was lost",
        f"OTLP: exported again to {exporter.url}, after 3 spans were lost",
    ]


def not_yet(url):
    return (
        f"OTLP: could not export 1 span to {url} yet: nobody listens there (connection refused): start the receiver, or set endpoint= to "
        "where it is; a container must publish the port. Trying again (said once)"
    )


class Ear(logging.Handler):
    """Does something at the first warning."""

    def __init__(self, act):
        super().__init__(logging.WARNING)
        self.act = act

    def emit(self, record):
        act, self.act = self.act, int
        act()


@pytest.fixture
def at_first_warning():
    ears = []

    def listen(act):
        ears.append(Ear(act))
        logging.getLogger("looopy.observe").addHandler(ears[-1])

    yield listen
    for ear in ears:
        logging.getLogger("looopy.observe").removeHandler(ear)


def test_a_receiver_that_comes_up_between_two_attempts_gets_the_spans_and_that_is_said(
    said, at_first_warning
):
    port = free_port()
    exporter = OTLPExporter(f"http://127.0.0.1:{port}/v1/traces")
    with contextlib.ExitStack() as stack:
        at_first_warning(lambda: stack.enter_context(Receiver(port=port)))
        assert exporter.export(ended("a")) is SUCCESS
    exporter.shutdown()
    assert said() == [not_yet(exporter.url), f"OTLP: exported to {exporter.url} after all"]


def test_a_shutdown_ends_the_wait_for_an_overloaded_receiver(receiver, said):
    receiver.script(status(503, retry_after="60"))
    exporter = OTLPExporter(receiver.traces_url, timeout=600)
    sending = threading.Thread(target=exporter.export, args=[ended("a")], daemon=True)
    sending.start()
    receiver.wait(requests=1)
    exporter.shutdown()
    sending.join(SECONDS)
    assert not sending.is_alive()
    assert (exporter.delivered, exporter.lost) == (0, 1)
    assert len(said()) == 1


def test_a_delivery_tries_again_and_says_nothing(said):
    exporter = OTLPExporter(f"http://127.0.0.1:{free_port()}/v1/traces", timeout=0.8)
    delivery = exporter.deliver(ended("a"))
    assert (delivery.delivered, delivery.lost) == (0, 1)
    assert said() == []
    exporter.shutdown()


def test_a_hurried_exporter_waits_no_longer_for_a_receiver_that_is_not_there(said, at_first_warning):
    exporter = OTLPExporter(f"http://127.0.0.1:{free_port()}/v1/traces", timeout=600)
    at_first_warning(exporter.hurry)
    results = []
    sending = threading.Thread(target=lambda: results.append(exporter.export(ended("a"))), daemon=True)
    sending.start()
    sending.join(SECONDS)
    assert results == [FAILURE]
    exporter.shutdown()
    assert said() == [not_yet(exporter.url), "OTLP: gave up, so 1 span was lost"]


def test_a_program_that_ends_does_not_wait_for_a_receiver_that_is_not_there():
    program = f"""
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from looopy.observe.sending.otlp import OTLPExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPExporter("http://127.0.0.1:{free_port()}/v1/traces", timeout=60)))
provider.get_tracer("looopy").start_span("last").end()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stderr.startswith("OTLP: could not export 1 span to http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_of_a_fork_exports_over_a_connection_of_its_own(receiver):
    exporter = OTLPExporter(receiver.traces_url)
    assert exporter.export(ended("parent")) is SUCCESS
    child = multiprocessing.get_context("fork").Process(
        target=lambda: exporter.export(ended("child", "child"))
    )
    child.start()
    child.join(10)
    assert child.exitcode == 0
    assert exporter.export(ended("parent")) is SUCCESS
    exporter.shutdown()
    assert [span.name for span in receiver.spans] == ["parent", "child", "child", "parent"]
    assert exporter.delivered == 2


# --------------------------------------------------------------------------------------------------- partial success
def test_spans_that_the_server_rejects_are_lost_and_its_reason_is_shown(receiver, said):
    receiver.script(partial(1, "span too old, key sk-lf-1234567890ABCDEF"))
    assert exported(receiver.traces_url, "a", "b", "c") == (FAILURE, 2, 1)
    assert said() == [
        (
            f"OTLP: could not export 1 span to {receiver.traces_url}: it took a part of them only. "
            "The server says: 'span too old, key ***'. (said once)"
        )
    ]


def test_a_warning_of_the_server_is_shown_once_and_costs_nothing(receiver, said):
    receiver.always(partial(0, "the names are long"))
    exporter = OTLPExporter(receiver.traces_url)
    assert [exporter.export(ended("a")) for _ in range(3)] == [SUCCESS] * 3
    exporter.shutdown()
    assert said() == [
        f"OTLP: {receiver.traces_url} took the spans with a warning. The server says: 'the names are long'."
    ]


@pytest.mark.parametrize(
    ("content_type", "content", "counted"),
    [
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}', (1, 1)),
        ("application/json", b'{"partialSuccess": {}}', (2, 0)),
        ("application/json", b"{}", (2, 0)),
        ("application/json", b"not json", (2, 0)),
        ("application/json", b"[]", (2, 0)),
        ("application/x-protobuf", b"\n\x00", (2, 0)),
        ("application/x-protobuf", b"\xff\xff", (2, 0)),
        ("text/plain", b"OK", (2, 0)),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"9"}}', (0, 2)),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":-9}}', (2, 0)),
    ],
)
def test_whatever_a_good_answer_says_is_read_or_passed_over(receiver, content_type, content, counted):
    receiver.always(Reply(200, content, {"content-type": content_type}))
    assert exported(receiver.traces_url, "a", "b")[1:] == counted


# --------------------------------------------------------------------------------------------------- it says it once
def test_an_outage_is_said_once_for_each_kind_and_once_when_it_is_over(receiver, said):
    exporter = OTLPExporter(receiver.traces_url, headers={"authorization": "Bearer abcdefgh"})
    receiver.script(*[status(401)] * 3, status(500), status(401), GOOD, GOOD)
    for _ in range(7):
        exporter.export(ended("a", "b"))
    exporter.shutdown()
    assert (exporter.delivered, exporter.lost) == (4, 10)
    assert said() == [
        f"OTLP: could not export 2 spans to {exporter.url}: the credential was refused (401): check headers=. (said once)",
        f"OTLP: could not export 2 spans to {exporter.url}: it answered 500: see the server's own log. (said once)",
        f"OTLP: exported again to {exporter.url}, after 10 spans were lost",
    ]


def test_no_credential_is_ever_said(receiver, said):
    key, login, query = "pk-SECRET-1", "user:pass%20word", "token=SECRET-2"
    url = receiver.traces_url.replace("//", f"//{login}@") + f"?{query}"
    team = "hny SECRET 3"
    receiver.always(
        status(400, f"bad {key} user:pass word {query} {query[6:]} {team} Basic dXNlcjpwYXNzIHdvcmQ=")
    )
    exporter = OTLPExporter(url, headers={"X-API-Key": key, "X-Honeycomb-Team": team})
    assert exporter.export(ended("a")) is FAILURE
    exporter.shutdown()
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
    assert (request.headers["x-api-key"], request.path) == (key, f"/v1/traces?{query}")
    (text,) = said()
    for secret in ("SECRET", "pass", "dXNlcj"):
        assert secret not in text
        assert secret not in repr(exporter)
    assert repr(exporter) == f"OTLPExporter('{receiver.traces_url}', name='OTLP')"


def test_an_address_that_can_be_none_loses_spans_and_says_so_but_nothing_else(said):
    assert exported("http://10.0.0.256:4318/v1/traces", "a")[0] == FAILURE
    (text,) = said()
    assert "http://10.0.0.256:4318/v1/traces" in text


def test_an_authorization_header_wins_over_the_login_in_the_url(receiver):
    exported(receiver.traces_url.replace("//", "//user:word@"), "a", headers={"Authorization": "Bearer abc"})
    assert receiver.requests[0].headers["authorization"] == "Bearer abc"


# ------------------------------------------------------------------------------------------------------------ the probe
def test_a_probe_sends_one_span_and_says_that_it_arrived(receiver):
    exporter = OTLPExporter(receiver.traces_url)
    delivery = probe(exporter)
    exporter.shutdown()
    assert (delivery.ok, delivery.status, delivery.words) == (True, 200, f"{exporter.url} took them (200)")
    (span,) = receiver.spans
    assert (span.name, span.scope, span.attributes) == (
        "looopy.doctor",
        "looopy",
        {"gen_ai.agent.name": "looopy doctor"},
    )
    assert span.parent_id == ""
    assert exporter.delivered == 0


@pytest.mark.parametrize(
    "reply", [status(503, retry_after="1"), CLOSES, GARBAGE, HTML, redirect("/elsewhere")]
)
def test_a_probe_says_at_once_what_is_wrong(receiver, said, reply):
    receiver.always(reply)
    exporter = OTLPExporter(receiver.traces_url)
    delivery = probe(exporter)
    exporter.shutdown()
    assert (delivery.ok, delivery.lost, len(receiver.requests)) == (False, 1, 1)
    assert delivery.words == delivery.failures[0].words
    assert said() == []  # that is the caller's to show


# ------------------------------------------------------------------------------------------------------ configuration
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"endpoint": "localhost:4318"},
            "endpoint is 'localhost:4318', no URL of http or https: it should be like 'http://localhost:4318/v1/traces'",
        ),
        (
            {"endpoint": "grpc://user:secret@host:1/?key=secret"},
            "endpoint is '***@host:1/?…', no URL of http or https: it should be like 'http://localhost:4318/v1/traces'",
        ),
        (
            {"endpoint": "http://host:port/", "name": "Langfuse"},
            "LANGFUSE_BASE_URL is 'http://host:port/', no URL of http or https: it should be like 'http://localhost:4318'",
        ),
        (
            {"headers": {"authorization": "secret\n"}},
            "headers: the header 'authorization' holds a line break or a character that HTTP does not take; was its value copied whole?",
        ),
        ({"timeout": 0}, "timeout=0: it must be a number of seconds above 0"),
        (
            {"client_key": "key.pem"},
            "client_key= needs client_certificate= too: the certificate that the key belongs to",
        ),
        (
            {"certificate": "/nowhere/ca.pem"},
            "the certificates for endpoint cannot be used (No such file or directory): check the files '/nowhere/ca.pem'",
        ),
    ],
)
def test_what_cannot_work_is_said_when_the_exporter_is_built(options, text):
    with pytest.raises(ConfigurationError) as caught:
        OTLPExporter(**options)
    assert str(caught.value) == text
