"""The standard variables of OpenTelemetry, read as its specification and its Python library do."""

from __future__ import annotations

import os

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from looopy.errors import ConfigurationError
from looopy.observe.sending.addresses import environment
from looopy.observe.sending.diagnosis import Settings
from looopy.observe.sending.otlp import OTLPExporter, probe
from observe.receiver import Receiver

BASE, TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """Sets variables; none of OpenTelemetry's is set otherwise."""
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_nothing_set_means_the_local_collector():
    said = environment()
    assert (said.endpoint, said.headers, said.timeout, said.compression) == (
        "http://localhost:4318/v1/traces",
        {},
        10.0,
        "none",
    )
    assert (said.certificate, said.client_key, said.client_certificate) == (None, None, None)
    assert said.settings == Settings(
        f"{BASE}ENDPOINT", f"{BASE}HEADERS", f"{BASE}TIMEOUT", f"{BASE}CERTIFICATE", "/v1/traces"
    )


@pytest.mark.parametrize(
    "values",
    [
        {f"{BASE}ENDPOINT": "http://collector:4318"},
        {f"{BASE}ENDPOINT": "http://collector:4318/"},
        {f"{BASE}ENDPOINT": "http://collector:4318/prefix"},
        {f"{BASE}ENDPOINT": "http://collector:4318/prefix/", f"{TRACES}ENDPOINT": ""},
        {f"{TRACES}ENDPOINT": "https://other/"},
        {f"{BASE}ENDPOINT": "http://collector", f"{TRACES}ENDPOINT": "https://other/traces?x=1"},
    ],
)
def test_the_endpoint_is_the_librarys(variables, values):
    variables(**values)
    library = OTLPSpanExporter()
    assert environment().endpoint == library._endpoint
    library.shutdown()


def test_a_query_stays_at_the_end(variables):
    variables(**{f"{BASE}ENDPOINT": "http://collector:4318/x/?key=1"})
    assert environment().endpoint == "http://collector:4318/x/v1/traces?key=1"


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ({f"{BASE}HEADERS": "a=1,B=2"}, {"a": "1", "b": "2"}),
        ({f"{BASE}HEADERS": "a=1", f"{TRACES}HEADERS": "b=2"}, {"b": "2"}),
        ({f"{BASE}HEADERS": "authorization=Basic%20YWJjOmRlZg=="}, {"authorization": "Basic YWJjOmRlZg=="}),
        ({f"{BASE}HEADERS": "authorization=Basic YWJjOmRlZg=="}, {"authorization": "Basic YWJjOmRlZg=="}),
        ({f"{BASE}HEADERS": " a = 1 , , b=x%2Cy "}, {"a": "1", "b": "x,y"}),
    ],
)
def test_the_headers_are_the_librarys(variables, values, headers):
    variables(**values)
    assert environment().headers == headers
    library = OTLPSpanExporter()
    assert library._client._headers.items() >= headers.items()
    library.shutdown()


def test_a_header_that_is_none_is_left_out_and_said_without_its_value(variables, caplog):
    variables(**{f"{BASE}HEADERS": "a=1,secret,b c=secret"})
    assert environment().headers == {"a": "1"}
    assert [record.getMessage() for record in caplog.records] == [
        f"{BASE}HEADERS: header 2 is not like name=value, and is left out",
        f"{BASE}HEADERS: header 3 is not like name=value, and is left out",
    ]


@pytest.mark.parametrize("value", ["0.5", "30", "1e1"])
def test_a_timeout_is_in_seconds_as_in_the_library(variables, value):
    variables(**{f"{BASE}TIMEOUT": "7", f"{TRACES}TIMEOUT": value})
    library = OTLPSpanExporter()
    assert environment().timeout == library._client._timeout == float(value)
    library.shutdown()


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_is_said_and_the_default_taken(variables, caplog, value):
    variables(**{f"{BASE}TIMEOUT": value})
    assert environment().timeout == 10.0
    assert [record.getMessage() for record in caplog.records] == [
        f"{BASE}TIMEOUT is {value!r}, no number of seconds above 0: 10 is taken"
    ]


def test_compression_is_gzip_or_none_and_another_is_said(variables, caplog):
    variables(**{f"{BASE}COMPRESSION": "none", f"{TRACES}COMPRESSION": "GZip"})
    assert environment().compression == "gzip"
    variables(**{f"{TRACES}COMPRESSION": "deflate"})
    assert environment().compression == "none"
    assert [record.getMessage() for record in caplog.records] == [
        f"{TRACES}COMPRESSION is 'deflate': looopy knows 'gzip' and 'none', and sends uncompressed"
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            "grpc",
            (
                "is 'grpc', which looopy does not speak: set it to 'http/protobuf' and the endpoint to port 4318 (gRPC's is 4317), "
                "or pass exporters=[…] with an exporter of your own"
            ),
        ),
        ("http", "is 'http': it should be 'http/protobuf'"),
    ],
)
def test_a_protocol_that_looopy_does_not_speak_is_refused_with_the_mend(variables, value, text):
    variables(**{f"{BASE}PROTOCOL": "http/protobuf", f"{TRACES}PROTOCOL": value})
    with pytest.raises(ConfigurationError) as caught:
        OTLPExporter.from_environment()
    assert (str(caught.value), caught.value.argument) == (f"{TRACES}PROTOCOL {text}", f"{TRACES}PROTOCOL")


def test_json_is_sent_as_protobuf_which_is_said(variables, caplog):
    variables(**{f"{BASE}PROTOCOL": "http/json"})
    assert environment().endpoint == "http://localhost:4318/v1/traces"
    assert [record.getMessage() for record in caplog.records] == [
        f"{BASE}PROTOCOL is 'http/json': looopy sends 'http/protobuf', to the same address"
    ]


def test_an_exporter_from_the_environment_delivers_and_names_the_variables_when_it_cannot(variables):
    with Receiver() as receiver:
        variables(
            **{f"{BASE}ENDPOINT": receiver.url, f"{BASE}HEADERS": "x-tenant=me", f"{BASE}COMPRESSION": "gzip"}
        )
        exporter = OTLPExporter.from_environment(
            rewrite=lambda attributes: {"n": len(attributes)}, name="Mine"
        )
        assert probe(exporter).ok
        exporter.shutdown()
    assert repr(exporter) == f"OTLPExporter('{receiver.traces_url}', name='Mine')"
    assert [span.attributes for span in receiver.spans] == [{"n": 1}]
    sent = receiver.requests[0].headers
    assert (sent["x-tenant"], sent["content-encoding"]) == ("me", "gzip")
    late = OTLPExporter.from_environment(name="Mine")
    assert f"set {BASE}ENDPOINT to where it is" in probe(late).words
    late.shutdown()


def test_the_files_of_the_certificates_are_read_from_the_environment(variables):
    variables(
        **{
            f"{BASE}CERTIFICATE": "/ca.pem",
            f"{BASE}CLIENT_KEY": "/key.pem",
            f"{TRACES}CLIENT_CERTIFICATE": "/cert.pem",
        }
    )
    said = environment()
    assert (said.certificate, said.client_key, said.client_certificate) == (
        "/ca.pem",
        "/key.pem",
        "/cert.pem",
    )
    with pytest.raises(ConfigurationError, match=r"check the files '/ca.pem', '/cert.pem', '/key.pem'"):
        OTLPExporter.from_environment()


def test_a_url_that_is_none_is_told_with_its_variable(variables):
    variables(**{f"{BASE}ENDPOINT": "collector:4318"})
    with pytest.raises(ConfigurationError) as caught:
        OTLPExporter.from_environment()
    assert str(caught.value) == (
        f"{BASE}ENDPOINT is 'collector:4318', no URL of http or https: it should be like 'http://localhost:4318'"
    )
