"""Every way in which an export fails, over real connections, in words that say the mend."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from looopy.observe.sending.diagnosis import Answer, Failure, Settings, Target, of_answer, of_error
from looopy.observe.sending.otlp import OTLPExporter, probe
from looopy.observe.sending.outages import Outages
from observe.receiver import CLOSES, GARBAGE, HTML, Receiver, Reply, redirect, status

BASE = Settings("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", appended="/v1/traces")


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def told(url, **options):
    """What a probe of this URL is told, and the kind of it."""
    exporter = OTLPExporter(url, **{"timeout": 5, **options})
    delivery = probe(exporter)
    exporter.shutdown()
    return delivery.failures[0].kind, delivery.words


def answered(receiver, reply, path="/v1/traces", **options):
    """What is told of this reply, with the server's address written HOST."""
    receiver.always(reply)
    kind, text = told(receiver.url + path, **options)
    return kind, text.replace(receiver.url, "HOST")


# ----------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "it wants a credential ({code}), and none is sent: set headers=."),
        (
            {"settings": BASE},
            "it wants a credential ({code}), and none is sent: set OTEL_EXPORTER_OTLP_HEADERS (authorization=Bearer%20…; a space is written %20).",
        ),
        (
            {"settings": BASE, "headers": {"Authorization": "Bearer abcd"}},
            "the credential was refused ({code}): check OTEL_EXPORTER_OTLP_HEADERS (authorization=Bearer%20…; a space is written %20).",
        ),
        (
            {"name": "Langfuse", "headers": {"Authorization": "Basic abcd"}},
            (
                "the keys were refused ({code}): LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY must hold the public and the secret key of one project, "
                "of the same region or server (the EU's is https://cloud.langfuse.com, the US's https://us.cloud.langfuse.com)."
            ),
        ),
        (
            {"name": "Langfuse"},
            "it wants a credential ({code}), and none is sent: set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.",
        ),
    ],
)
def test_a_missing_or_refused_credential(receiver, code, options, text):
    assert answered(receiver, status(code), **options) == ("unauthorized", text.format(code=code))


def test_langfuse_is_known_by_its_url_also_when_the_standard_variables_name_it(receiver):
    kind, text = answered(receiver, status(401), "/api/public/otel/v1/traces", settings=BASE)
    assert kind == "unauthorized"
    assert "(authorization=Basic%20…, the base64 of public:secret key; a space is written %20)" in text


@pytest.mark.parametrize("code", [404, 405])
@pytest.mark.parametrize(
    ("path", "options", "mend"),
    [
        ("", {}, "the path of traces is /v1/traces: set endpoint= to 'HOST/v1/traces'"),
        ("/otlp/", {}, "the path of traces is /v1/traces: set endpoint= to 'HOST/otlp/v1/traces'"),
        (
            "/v1/traces",
            {},
            "check host and port in endpoint= (a collector takes OTLP over HTTP at port 4318)",
        ),
        (
            "/v1/traces/v1/traces",
            {"settings": BASE},
            "OTEL_EXPORTER_OTLP_ENDPOINT must not hold /v1/traces, which is added to it: set OTEL_EXPORTER_OTLP_ENDPOINT to 'HOST'",
        ),
        (
            "/ui/api/public/otel/v1/traces",
            {"name": "Langfuse"},
            "check LANGFUSE_BASE_URL; a Langfuse of your own takes OpenTelemetry since version 3.22",
        ),
        ("/v1/traces", {"name": "Langfuse"}, "set LANGFUSE_BASE_URL to 'HOST'"),
        (
            "/langfuse",
            {},
            "set endpoint= to 'HOST/api/public/otel/v1/traces'",
        ),
    ],
)
def test_a_wrong_path(receiver, code, path, options, mend):
    reply = status(code, "<html>Not found</html>")
    text = f"nothing takes traces at this path ({code}): {mend}."
    assert answered(receiver, reply, path, **options) == ("not-found", text)


def test_a_web_page_in_place_of_an_answer(receiver):
    text = (
        "a web page answered, so a user interface, a login or a proxy stands there and no receiver of OTLP: "
    )
    assert answered(receiver, HTML, "/project/1") == (
        "page",
        f"{text}the path of traces is /v1/traces: set endpoint= to 'HOST/project/1/v1/traces'. Its title: 'Sign in'.",
    )
    untitled = Reply(200, b"\n<!doctype html><body>", {"content-type": "application/octet-stream"})
    assert answered(receiver, untitled) == (
        "page",
        f"{text}check host and port in endpoint= (a collector takes OTLP over HTTP at port 4318).",
    )


@pytest.mark.parametrize(
    ("to", "options", "mend"),
    [
        ("https://other.test/v1/traces?token=1", {}, "set endpoint= to 'https://other.test/v1/traces'."),
        (
            "https://other.test/v1/traces",
            {"settings": BASE},
            "set OTEL_EXPORTER_OTLP_ENDPOINT to 'https://other.test'.",
        ),
        ("/v2/traces", {}, "set endpoint= to 'HOST/v2/traces'."),
        (
            "https://id.test/login",
            {},
            "set endpoint= to 'https://id.test/login'. That looks like a login: the path is not open to programs.",
        ),
        ("", {}, "the server does not say to where."),
    ],
)
def test_a_redirect(receiver, to, options, mend):
    text = "it answered 308, a redirect, which is not followed since it would take the credentials along: "
    assert answered(receiver, redirect(to), **options) == ("redirect", text + mend)


def test_a_malformed_request_is_told_in_the_servers_own_words_without_secrets(receiver):
    reply = status(400, "span 1:\n  bad id  (sent by Bearer abc1234 of sk-1234567890ABCDEF)" + "!" * 400)
    kind, text = answered(receiver, reply, headers={"authorization": "Bearer abc1234"})
    assert kind == "malformed"
    assert text.startswith(
        "it refused the spans as malformed (400); if its text does not help, please report this to looopy. "
        "The server says: 'span 1: bad id (sent by Bearer *** of ***)!!!"
    )
    assert text.endswith("!…'.")
    assert len(text) < 450


def test_the_message_of_a_refusal_in_protobuf_is_found(receiver):
    reply = Reply(400, b"\x08\x03\x12\x10invalid trace id", {"content-type": "application/x-protobuf"})
    assert answered(receiver, reply)[1].endswith(" The server says: 'invalid trace id'.")
    empty = Reply(400, b"\x08\x03", {"content-type": "application/x-protobuf"})
    assert answered(receiver, empty)[1].endswith("report this to looopy.")


def test_plain_http_to_a_port_of_https(receiver):
    assert answered(receiver, status(400, "Client sent an HTTP request to an HTTPS server.")) == (
        "malformed",
        (
            f"it wants TLS (400): set endpoint= to 'https://127.0.0.1:{receiver.port}/v1/traces'. "
            "The server says: 'Client sent an HTTP request to an HTTPS server.'."
        ),
    )


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (
            413,
            "too-large",
            (
                "a batch of spans is larger than it takes (413): raise the server's limit (nginx: client_max_body_size), "
                "or capture less content; OTEL_BSP_MAX_EXPORT_BATCH_SIZE makes batches smaller."
            ),
        ),
        (
            415,
            "wrong-type",
            (
                "it does not take protobuf (415), in which looopy sends: "
                "let an OpenTelemetry collector stand between, or choose the server's path for OTLP in http/protobuf."
            ),
        ),
        (429, "limited", "it takes no more for now (429): sample fewer traces, or raise your limit there."),
        (
            503,
            "overloaded",
            "it is overloaded or down (503), also after waiting: see to the server, or sample fewer traces.",
        ),
        (500, "broken", "it answered 500: see the server's own log."),
        (418, "refused", "it answered 418: the server does not want them."),
    ],
)
def test_other_refusals(receiver, code, kind, text):
    assert answered(receiver, status(code)) == (kind, text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    failure = of_answer(Target("http://localhost"), Answer(503, {"retry-after": value}, b""))
    assert (failure.retry, failure.retry_after) == (True, seconds)


def test_retry_after_as_a_date_to_come():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    failure = of_answer(Target("http://localhost"), Answer(429, {"retry-after": date}, b""))
    assert 90 < failure.retry_after <= 100


# ----------------------------------------------------------------------------------------------------------- no answer
def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert told(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces", settings=BASE) == (
            "refused-connection",
            (
                "nobody listens there (connection refused): start the receiver, or set OTEL_EXPORTER_OTLP_ENDPOINT to where it is; "
                "a container must publish the port."
            ),
        )


def test_a_host_that_nobody_knows(monkeypatch):
    def no_such_name(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_such_name)
    assert told("http://nowhere.test/v1/traces") == (
        "unknown-host",
        "no such host as 'nowhere.test' is known: check the name in endpoint=.",
    )


def test_a_connection_that_does_not_come_about(monkeypatch):
    def slow(*_, **__):
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", slow)
    assert told("http://10.255.255.1/v1/traces") == (
        "timeout",
        "no connection within 5 s: check host and port in endpoint=, and what firewall is between.",
    )


def test_a_connection_that_breaks(receiver):
    assert answered(receiver, CLOSES) == (
        "broken-connection",
        "the connection failed (Server disconnected without sending a response): see to the server, or to the proxy between.",
    )


def test_a_port_that_speaks_grpc(receiver):
    assert answered(receiver, GARBAGE) == (
        "no-http",
        "what answers there is no HTTP/1.1 server: check the port in endpoint=; OTLP over HTTP is at 4318, gRPC at 4317.",
    )


def test_the_port_of_grpc_is_known_by_its_number():
    error = garbage_error()
    failure = of_error(Target("http://localhost:4317/v1/traces"), error)
    assert failure.words == (
        "what answers there is no HTTP/1.1 server: Port 4317 is for gRPC: OTLP over HTTP, which looopy speaks, is at port 4318."
    )


def garbage_error():
    """What the HTTP client raises when the answer is no HTTP."""
    import httpx

    with Receiver() as receiver:
        receiver.always(GARBAGE)
        try:
            httpx.post(receiver.traces_url)
        except httpx.HTTPError as error:
            return error


# ------------------------------------------------------------------------------------------------------------------ TLS
@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A self-signed certificate for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command.split(), *names, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key


def server_side(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


def test_a_certificate_that_nobody_vouches_for_and_its_mend(files):
    with Receiver(tls=server_side(files)) as receiver:
        assert told(receiver.traces_url) == (
            "certificate",
            "its certificate is not trusted (self-signed certificate): set certificate= to the file of the authority that signed it.",
        )
        exporter = OTLPExporter(receiver.traces_url, certificate=files[0])
        assert probe(exporter).ok
        exporter.shutdown()


def test_a_server_that_wants_to_know_its_client(files):
    context = server_side(files)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files[0])
    with Receiver(tls=context) as receiver:
        exporter = OTLPExporter(
            receiver.traces_url, certificate=files[0], client_certificate=files[0], client_key=files[1]
        )
        assert probe(exporter).ok
        exporter.shutdown()


def test_https_to_a_port_of_plain_http(receiver):
    kind, text = told(receiver.traces_url.replace("http:", "https:"))
    assert kind == "tls"
    assert text.startswith("no TLS connection came about (")
    assert text.endswith(f"): if the server speaks plain HTTP, set endpoint= to '{receiver.traces_url}'.")


# -------------------------------------------------------------------------------------------------------------- outages
def test_what_is_on_and_off_is_not_said_over_and_over(caplog):
    caplog.set_level(logging.WARNING, "looopy.observe")
    now = [0.0]
    outages = Outages("OTLP", "http://localhost", clock=lambda: now[0])
    limited = Failure("limited", "no more for now", spans=1)
    for moment in (0, 300, 599, 601, 602, 3000):
        now[0] = moment
        outages.failed(limited)
        outages.worked()
    outages.failed(Failure("warned", "a remark"))
    outages.failed(Failure("warned", "a remark"))
    failed = "OTLP: could not export 1 span to http://localhost: no more for now (said once)"
    again = "OTLP: exported again to http://localhost, after "
    assert [record.getMessage() for record in caplog.records] == [
        *(failed, f"{again}1 span was lost"),
        *(failed, f"{again}3 spans were lost"),  # with those of which nothing was said
        *(failed, f"{again}2 spans were lost"),
        "OTLP: a remark",
    ]


def test_hope_is_said_once_and_what_becomes_of_it(caplog):
    caplog.set_level(logging.WARNING, "looopy.observe")
    down = Failure("refused-connection", "nobody listens there.", spans=2, retry=True, unreachable=True)
    outages = Outages("OTLP", "http://localhost")
    outages.hopes(down, 2)
    outages.worked()
    outages.hopes(down, 2)
    outages.worked()
    outages.failed(down)
    assert [record.getMessage() for record in caplog.records] == [
        "OTLP: could not export 2 spans to http://localhost yet: nobody listens there. Trying again (said once)",
        "OTLP: exported to http://localhost after all",
    ]


def test_what_was_lost_again_without_a_word_is_said_at_the_end(caplog):
    caplog.set_level(logging.WARNING, "looopy.observe")
    down = Failure("refused-connection", "nobody listens there.", spans=2, retry=True, unreachable=True)
    outages = Outages("OTLP", "http://localhost", clock=lambda: 0.0)
    for _ in range(3):
        outages.failed(down)
        assert outages.concern("http://localhost/v1/metrics", unreachable=True)
        outages.worked()
        assert not outages.concern("http://localhost/v1/metrics", unreachable=True)
    outages.over()
    outages.over()
    assert [record.getMessage() for record in caplog.records] == [
        "OTLP: could not export 2 spans to http://localhost: nobody listens there. (said once)",
        "OTLP: exported again to http://localhost, after 2 spans were lost",
        "OTLP: 4 spans were lost since, in the same way",
    ]
