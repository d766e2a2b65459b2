"""The receiver that the other tests here stand on, against the library's own exporters."""

from __future__ import annotations

import http.client
import logging

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from observe.receiver import HTML, Link, Receiver, Span, status, tree

RESOURCE = Resource({"service.name": "test"})


@pytest.mark.parametrize("compression", Compression)
def test_spans_come_as_plain_values_and_as_a_tree(compression):
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    tracer = provider.get_tracer("looopy", "1.0", "https://example.test/schema")
    with Receiver() as receiver:
        provider.add_span_processor(
            SimpleSpanProcessor(OTLPSpanExporter(receiver.traces_url, compression=compression))
        )
        with tracer.start_as_current_span("root", attributes={"n": [1, 2]}, start_time=1) as root:
            root.add_event("noted", {"x": 1.5}, timestamp=2)
            child = tracer.start_span("child", kind=SpanKind.CLIENT, start_time=3)
            child.add_link(root.get_span_context(), {"why": "because"})
            child.set_status(Status(StatusCode.ERROR, "broken"))
            child.end(5)
        spans = receiver.wait(2)
        assert tree(spans) == "root [INTERNAL]\n  child [CLIENT] ERROR: broken"
        assert tree(spans[:1], line=lambda span: span.name) == "orphan: child"
        trace_id, root_id = spans[0].trace_id, spans[1].span_id
        assert spans[0] == Span(
            name="child",
            kind="CLIENT",
            trace_id=trace_id,
            span_id=spans[0].span_id,
            parent_id=root_id,
            attributes={},
            status="ERROR",
            message="broken",
            links=[Link(trace_id, root_id, {"why": "because"})],
            events=[],
            start=3,
            end=5,
            resource={"service.name": "test"},
            scope="looopy",
            scope_version="1.0",
            schema_url="https://example.test/schema",
        )
        assert spans[1].attributes == {"n": [1, 2]}
        provider.shutdown()


def test_metrics_come_as_plain_values():
    with Receiver() as receiver:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(receiver.metrics_url))
        provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
        meter = provider.get_meter("looopy")
        meter.create_counter("runs", "{run}").add(2, {"how": "completed"})
        meter.create_histogram("seconds", "s", explicit_bucket_boundaries_advisory=[1, 2]).record(1.5)
        provider.force_flush()
        receiver.wait(metrics=2)
        provider.shutdown()
    runs, seconds = receiver.metrics["runs"], receiver.metrics["seconds"]
    assert (runs.kind, runs.unit, runs.scope) == ("sum", "{run}", "looopy")
    assert [(point.attributes, point.value) for point in runs.points] == [({"how": "completed"}, 2)]
    assert [(point.count, point.sum, point.bounds, point.counts) for point in seconds.points] == [
        (1, 1.5, [1, 2], [0, 1, 0])
    ]


def test_it_misbehaves_as_scripted_and_then_behaves_again(caplog):
    def post(path, body, content_type="application/x-protobuf"):
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=5)
        connection.request("POST", path, body, {"content-type": content_type})
        answer = connection.getresponse()
        connection.close()
        return answer.status

    caplog.set_level(logging.CRITICAL)
    with Receiver() as receiver:
        receiver.script(status(503, "busy", retry_after="1"), HTML)
        assert [post("/v1/traces", b"") for _ in range(3)] == [503, 200, 200]
        assert post("/v1/traces", b"{}", "application/json") == 415
        assert post("/v1/traces", b"\xff") == 400
        assert post("/other", b"") == 404
        receiver.always(status(401))
        assert post("/v1/traces", b"") == 401
        with pytest.raises(AssertionError, match="0 of 1 spans"):
            receiver.wait(1, seconds=0.01)
        receiver.clear()
        assert (receiver.requests, receiver.spans) == ([], [])
