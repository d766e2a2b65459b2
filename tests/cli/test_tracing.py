"""What `looopy doctor` finds of tracing: a test trace over real HTTP, and what comes back in words that say the mend."""

from __future__ import annotations

import os
import re
import sys

import pytest
from observe.langfuse_server import LangfuseServer
from observe.receiver import GOOD, HTML, Receiver, partial, status
from typer.testing import CliRunner

import looopy.observe
from looopy.cli.app import app

from .command import without_times

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
VARIABLES = (
    "set OTEL_EXPORTER_OTLP_ENDPOINT (a collector's is http://localhost:4318), or LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY and, unless "
    "it is Langfuse's cloud, LANGFUSE_BASE_URL; looopy.observe.instrument() sends there"
)


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch):
    """Set variables; no other of tracing or of the proxy is set."""
    for name in os.environ:
        if name.startswith(("OTEL_", "LANGFUSE_", "LITELLM_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")

    def set_to(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def langfuse(set_to):
    """Langfuse's server, and the variables of an account there."""
    with LangfuseServer() as server:
        account = server.account()
        set_to(LANGFUSE_PUBLIC_KEY=account.public_key, LANGFUSE_SECRET_KEY=account.secret_key)
        set_to(LANGFUSE_BASE_URL=server.url)
        yield server


def found() -> list[str]:
    """The lines about tracing."""
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.stderr == ""
    assert shown.exit_code == 1  # there is no proxy
    lines = without_times(shown.stdout).splitlines()
    return [line.replace(" tracing   ", "") for line in lines if line[2:9] == "tracing"]


def test_where_nothing_is_set_the_variables_are_named(set_to) -> None:
    assert found() == [f"– off, since no variable says where to send: {VARIABLES}"]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({ENDPOINT: "http://localhost:1", "OTEL_SDK_DISABLED": "true"}, "off, with OTEL_SDK_DISABLED=true"),
        ({ENDPOINT: "http://localhost:1", "OTEL_TRACES_EXPORTER": "none"}, "off, with OTEL_TRACES_EXPORTER=none"),
        ({"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_TRACING_ENABLED": "false"}, "off, with LANGFUSE_TRACING_ENABLED=false"),
    ],
)  # fmt: skip
def test_what_is_switched_off_is_said_with_the_variable(set_to, variables: dict[str, str], why: str) -> None:
    set_to(OTEL_METRICS_EXPORTER="none", **variables)
    assert found() == [f"– {why}: unset that, and {VARIABLES}"]


def test_runs_that_are_drawn_in_the_terminal_are_told(set_to) -> None:
    set_to(OTEL_TRACES_EXPORTER="console")
    assert found() == ["✔ each run is drawn in the terminal when it is over (from OTEL_TRACES_EXPORTER)"]


# ------------------------------------------------------------------------------------------------------------ OTLP
def test_a_test_trace_arrives_and_metrics_are_taken(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)

    assert found() == [
        "✔ OTLP: a test trace, looopy.doctor, arrived at http://127.0.0.1:…/v1/traces (from OTEL_EXPORTER_OTLP_ENDPOINT)",
        "✔ OTLP: metrics are taken there too",
    ]
    assert [span.name for span in receiver.spans] == ["looopy.doctor"]
    assert [request.path for request in receiver.requests] == ["/v1/traces", "/v1/metrics"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": ""},
            (
                "messages, arguments and results are not recorded: set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true, "
                "or pass capture_content=True"
            ),
        ),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
            "no run is recorded, with OTEL_TRACES_SAMPLER=parentbased_always_off: unset that",
        ),
    ],
)
def test_what_will_not_be_seen_of_runs_though_traces_arrive_is_noted(
    set_to, receiver: Receiver, variables: dict[str, str], said: str
) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.traces_url, **variables)

    assert found()[1:] == [f"– {said}"]


def test_the_variable_for_traces_alone_is_named_and_no_metrics_are_tried(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.traces_url)

    assert found() == [
        "✔ OTLP: a test trace, looopy.doctor, arrived at http://127.0.0.1:…/v1/traces (from OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)"
    ]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            status(401, "no such key"),
            ("the credential was refused (401): check OTEL_EXPORTER_OTLP_HEADERS (authorization=Bearer%20…; a space is written %20). "
            "The server says: 'no such key'."),
        ),
        (
            status(404),
            ("nothing takes traces at this path (404): check host and port in OTEL_EXPORTER_OTLP_ENDPOINT (a collector takes OTLP over "
            "HTTP at port 4318)."),
        ),
        (
            HTML,
            ("a web page answered, so a user interface, a login or a proxy stands there and no receiver of OTLP: check host and port in "
            "OTEL_EXPORTER_OTLP_ENDPOINT (a collector takes OTLP over HTTP at port 4318). Its title: 'Sign in'."),
        ),
    ],
)  # fmt: skip
def test_a_refused_test_trace_is_broken_and_its_mend_said(
    set_to, receiver: Receiver, reply, words: str
) -> None:
    set_to(
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20nobody-sees-this",
    )
    receiver.always(reply)

    assert found() == [f"✘ OTLP at http://127.0.0.1:…/v1/traces: {words}"]


def test_a_receiver_that_is_down_is_broken(set_to) -> None:
    with Receiver() as receiver:
        set_to(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)

    assert found() == [
        (
            "✘ OTLP at http://127.0.0.1:…/v1/traces: nobody listens there (connection refused): start the receiver, or set "
            "OTEL_EXPORTER_OTLP_ENDPOINT to where it is; a container must publish the port."
        )
    ]


def test_a_warning_of_the_server_is_a_note(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.traces_url)
    receiver.always(partial(0, "the name is odd"))

    assert found()[1:] == [
        "– OTLP at http://127.0.0.1:…/v1/traces: http://127.0.0.1:…/v1/traces took the spans with a warning. The server says: 'the name is odd'."
    ]


def test_variables_that_cannot_work_are_broken_and_odd_ones_are_noted(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.traces_url, OTEL_EXPORTER_OTLP_HEADERS="oops")
    odd = found()
    set_to(OTEL_EXPORTER_OTLP_PROTOCOL="grpc")

    assert odd[0] == "– OTLP: OTEL_EXPORTER_OTLP_HEADERS: header 1 is not like name=value, and is left out"
    assert odd[1].startswith("✔ OTLP: a test trace")
    assert found() == [
        (
            "✘ OTLP: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', which looopy does not speak: set it to 'http/protobuf' and the endpoint to port 4318 "
            "(gRPC's is 4317), or pass exporters=[…] with an exporter of your own"
        )
    ]


def test_a_backend_that_takes_traces_only_is_told_apart(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    receiver.script(GOOD, status(404))

    assert found()[1:] == [
        (
            "✘ OTLP: metrics are not taken at http://127.0.0.1:…/v1/metrics (Failed to export metrics batch code: 404, reason: Not Found): where a backend takes traces only, "
            "set OTEL_METRICS_EXPORTER=none; else check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
        )
    ]


# --------------------------------------------------------------------------------------------------------- Langfuse
def test_a_test_trace_to_langfuse_can_be_looked_at(langfuse: LangfuseServer) -> None:
    (line,) = found()

    (span,) = langfuse.spans
    assert span.name == "looopy.doctor"
    assert re.sub(r"langfuse \d\S+", "langfuse 5", line) == (
        "✔ Langfuse: a test trace arrived at http://127.0.0.1:… (from LANGFUSE_BASE_URL); look at it: http://127.0.0.1:…/trace/…; "
        "runs go there by the package langfuse 5"
    )


def test_that_langfuse_gets_no_run_is_noted(langfuse: LangfuseServer, set_to) -> None:
    set_to(LANGFUSE_SAMPLE_RATE="0.0")
    assert found()[1:] == ["– no run goes to Langfuse, with LANGFUSE_SAMPLE_RATE=0.0: unset that"]


def test_the_page_that_is_named_is_that_of_the_test_trace(langfuse: LangfuseServer) -> None:
    shown = CliRunner().invoke(app, ["doctor"]).stdout
    assert f"{langfuse.url}/trace/{langfuse.spans[0].trace_id}" in shown


def test_without_its_package_langfuse_is_reached_by_otlp(
    langfuse: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langfuse", None)
    assert found()[0].endswith("; runs go there by OTLP")


def test_wrong_keys_of_langfuse_are_broken_and_not_shown(langfuse: LangfuseServer, set_to) -> None:
    set_to(LANGFUSE_SECRET_KEY="sk-lf-nobody-sees-this")
    (line,) = found()

    assert line.startswith(
        "✘ Langfuse at http://127.0.0.1:… (from LANGFUSE_BASE_URL): the keys were refused (401): "
        "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY must hold the public and the secret key of one project"
    )
    assert "nobody-sees" not in line


def test_half_an_account_is_broken(set_to) -> None:
    set_to(LANGFUSE_SECRET_KEY="sk-lf-nobody-sees-this")
    assert found() == [
        (
            "✘ Langfuse: LANGFUSE_SECRET_KEY is set and LANGFUSE_PUBLIC_KEY is not: Langfuse needs both keys, which are made together in the "
            "project's settings"
        )
    ]


def test_langfuse_under_both_names_is_tried_once(langfuse: LangfuseServer, set_to) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{langfuse.url}/api/public/otel/v1/traces")

    assert [line[:12] for line in found()] == ["✔ Langfuse: "]
    assert len(langfuse.spans) == 1


# ---------------------------------------------------------------------------------------------------------- packages
@pytest.fixture
def without_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    monkeypatch.delitem(sys.modules, "looopy.observe.pipeline", raising=False)
    monkeypatch.delattr(looopy.observe, "pipeline", raising=False)


@pytest.mark.usefixtures("without_sdk")
def test_a_missing_sdk_is_said_with_how_to_install_it(set_to) -> None:
    assert found() == [f"– off: opentelemetry-sdk is missing: pip install 'looopy[otel]'; then {VARIABLES}"]


@pytest.mark.usefixtures("without_sdk")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({ENDPOINT: "http://localhost:1"}, f"{ENDPOINT} is set"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://localhost:1"}, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set"),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, "OTEL_TRACES_EXPORTER is set"),
        ({"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", ENDPOINT: "http://x"}, f"{ENDPOINT} and LANGFUSE_PUBLIC_KEY are set"),
    ],
)  # fmt: skip
def test_a_missing_sdk_is_broken_where_a_variable_says_where_to_send(
    set_to, variables: dict[str, str], said: str
) -> None:
    set_to(**variables)
    assert found() == [f"✘ {said}, but opentelemetry-sdk is missing: pip install 'looopy[otel]'"]


@pytest.mark.usefixtures("without_sdk")
def test_without_the_sdk_what_is_switched_off_is_no_destination(set_to) -> None:
    set_to(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:1", OTEL_SDK_DISABLED="true")
    assert found()[0].startswith("– off, with OTEL_SDK_DISABLED=true: unset that, and set OTEL_EXPORTER_")


# ---------------------------------------------------------------------------------------------------------- alone
def test_tracing_alone_can_be_examined_and_decides_the_exit_code(set_to, receiver: Receiver) -> None:
    set_to(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.traces_url)
    good = CliRunner().invoke(app, ["doctor", "--tracing"])
    receiver.always(status(401))
    broken = CliRunner().invoke(app, ["doctor", "--tracing"])

    assert (good.exit_code, broken.exit_code) == (0, 1)
    assert without_times(good.stdout) == (
        "✔ tracing    OTLP: a test trace, looopy.doctor, arrived at http://127.0.0.1:…/v1/traces "
        "(from OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)\n\neverything that tracing needs is there\n"
    )
    assert broken.stdout.startswith("✘ tracing    OTLP at ")


def test_tracing_that_is_off_is_nothing_broken_and_said_to_be_off(set_to) -> None:
    shown = CliRunner().invoke(app, ["doctor", "--tracing"])

    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "tracing is off")


def test_a_missing_exporter_of_metrics_is_said(
    set_to, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    assert found()[1:] == [
        (
            "✘ OTLP: sending metrics by OTLP needs opentelemetry-exporter-otlp-proto-http: pip install 'looopy[otel]'; or set "
            "OTEL_METRICS_EXPORTER=none"
        )
    ]
