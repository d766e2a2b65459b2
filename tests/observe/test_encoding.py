"""What looopy writes is what the library's encoder writes, and more where that one gives up."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from looopy.observe.sending.encoding import encode
from observe.receiver import decode_spans

TEXT = st.text(max_size=12) | st.text(st.characters(codec="ascii"), min_size=120, max_size=140)
ODD_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # with halves of surrogate pairs
INT_64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = (
    TEXT | ODD_TEXT | st.booleans() | INT_64 | st.integers() | st.floats() | st.binary(max_size=9) | st.none()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(TEXT.filter(bool), VALUES, max_size=5)
IDS_64, IDS_128 = st.integers(1, 2**64 - 1), st.integers(1, 2**128 - 1)
TIMES = st.integers(0, 2**64 - 1)
COUNTS = st.integers(0, 2**32 - 1)
RESOURCES = [Resource({"service.name": "one", "n": 1}, "https://example.test/schema"), Resource({})]
SCOPES = [
    InstrumentationScope("looopy", "1.0", "https://example.test/schema", {"a": [1, None]}),
    InstrumentationScope("other"),
    None,
]
TRACE_STATES = [TraceState(), TraceState([("vendor", "x"), ("other", "y")])]


@st.composite
def bounded(draw):
    """Attributes as the SDK holds them, of which some were dropped."""
    held = BoundedAttributes(attributes=draw(ATTRIBUTES))
    held.dropped = draw(COUNTS)
    return held


@st.composite
def contexts(draw):
    return SpanContext(
        draw(IDS_128), draw(IDS_64), draw(st.booleans()), TraceFlags(1), draw(st.sampled_from(TRACE_STATES))
    )


@st.composite
def spans(draw):
    return ReadableSpan(
        name=draw(TEXT),
        context=draw(contexts()),
        parent=draw(st.none() | contexts()),
        resource=draw(st.sampled_from(RESOURCES)),
        attributes=draw(bounded() | st.none()),
        events=[
            Event(draw(TEXT), draw(bounded() | st.none()), draw(TIMES))
            for _ in range(draw(st.integers(0, 2)))
        ],
        links=[Link(draw(contexts()), draw(bounded() | st.none())) for _ in range(draw(st.integers(0, 2)))],
        kind=draw(st.sampled_from(SpanKind)),
        status=draw(
            st.sampled_from([Status(), Status(StatusCode.OK)])
            | TEXT.map(lambda x: Status(StatusCode.ERROR, x))
        ),
        start_time=draw(TIMES | st.none()),
        end_time=draw(TIMES | st.none()),
        instrumentation_scope=draw(st.sampled_from(SCOPES)),
    )


def encodable(value):
    """The value as the library can encode it: what it would drop becomes text."""
    match value:
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**63:
            return hex(value)
        case str():
            return value.encode("utf-8", "replace").decode()
        case list() | tuple():
            return [encodable(item) for item in value]
        case dict() | BoundedAttributes():
            return {encodable(key): encodable(item) for key, item in value.items()}
    return value


def mended(span):
    def held(attributes):
        if attributes is not None:
            bounded = BoundedAttributes(attributes=encodable(attributes))
            bounded.dropped = attributes.dropped
            return bounded
        return None

    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=held(span._attributes),
        events=[Event(event.name, held(event.attributes), event.timestamp) for event in span.events],
        links=[Link(link.context, held(link.attributes)) for link in span.links],
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def body(*spans, **options):
    encoded = encode(spans, **options)
    assert not encoded.broken
    (request,) = encoded.requests
    assert request.spans == len(spans)
    return request.body


def decoded(content):
    # As bytes, since a message with a NaN in it does not equal itself.
    return ExportTraceServiceRequest.FromString(content).SerializeToString(deterministic=True)


@settings(max_examples=60)
@given(st.lists(spans(), min_size=1, max_size=4))
def test_any_spans_are_read_back_as_from_the_librarys_encoder(some):
    expected = encode_spans([mended(span) for span in some]).SerializeToString(deterministic=True)
    assert decoded(body(*some)) == expected


def recorded(**options):
    """A tracer, and the list-like place where its ended spans are."""
    provider = TracerProvider(resource=RESOURCES[0], shutdown_on_exit=False, **options)
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return provider.get_tracer("looopy"), memory


def test_what_the_sdk_dropped_is_counted():
    limits = SpanLimits(max_span_attributes=1, max_events=1, max_links=1)
    tracer, memory = recorded(span_limits=limits)
    span = tracer.start_span("full")
    for n in range(3):
        span.set_attribute(f"n{n}", n)
        span.add_event(f"e{n}")
        span.add_link(SpanContext(1, n + 1, is_remote=True))
    span.end()
    some = memory.get_finished_spans()
    assert decoded(body(*some)) == encode_spans(some).SerializeToString(deterministic=True)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 1023, 1024, 16383, 16384, 2_100_000])
def test_a_text_of_any_length_arrives_whole(size):
    span = ReadableSpan(
        "n" * size, SpanContext(1, 2, is_remote=False), attributes={"text": "ä" + "x" * size, "n": size}
    )
    (read,) = decode_spans(body(span, size=10**9))
    assert (len(read.name), read.attributes) == (size, {"text": "ä" + "x" * size, "n": size})


def test_a_million_names_of_attributes_are_not_remembered():
    span = ReadableSpan(
        "many", SpanContext(1, 2, is_remote=False), attributes={f"name-{n}": n for n in range(2000)}
    )
    assert decode_spans(body(span))[0].attributes == {f"name-{n}": n for n in range(2000)}


class Unprintable:
    def __str__(self):
        raise ValueError("no words")


class Text(str):
    __slots__ = ()


def test_a_value_that_otlp_has_no_type_for_is_shown_as_text():
    span = ReadableSpan(
        "foreign",
        SpanContext(1, 2, is_remote=False),
        attributes={
            "half a pair": "a\ud800b",
            "set": {1},
            "unprintable": Unprintable(),
            "giant": 10**5000,
            "subclass": Text("words"),
            "not a number": math.inf,
            "numbers": {4: 5},
        },
    )
    assert decode_spans(body(span, rewrite=lambda attributes: attributes))[0].attributes == {
        "half a pair": "a?b",
        "set": "{1}",
        "unprintable": "<Unprintable: no words>",
        "giant": hex(10**5000),
        "subclass": "words",
        "not a number": math.inf,
        "numbers": {"4": 5},
    }


def test_a_nest_that_protobufs_readers_would_refuse_is_cut_with_text():
    def depth(value):
        return 1 + depth(value[0]) if isinstance(value, list) else 0

    nest = "end"
    for _ in range(60):
        nest = [nest]
    itself = {}
    itself["itself"] = itself
    span = ReadableSpan(
        "deep", SpanContext(1, 2, is_remote=False), attributes={"nest": nest, "itself": itself}
    )
    read = decode_spans(body(span))[0].attributes
    assert depth(read["nest"]) == 16
    assert "end" in str(read["nest"])
    assert "{'itself': {...}}" in str(read["itself"])


def test_a_rewrite_changes_what_is_sent_and_nothing_else():
    tracer, memory = recorded()
    tracer.start_span("chat", attributes={"secret": 1, "model": "m"}).end()
    (span,) = memory.get_finished_spans()
    sent = decode_spans(body(span, rewrite=lambda attributes: {"model": attributes["model"], "chat": "[]"}))
    assert sent[0].attributes == {"model": "m", "chat": "[]"}
    assert span.attributes == {"secret": 1, "model": "m"}


def test_a_rewrite_that_raises_costs_the_attributes_and_not_the_span():
    def rewrite(attributes):
        raise RuntimeError("no")

    tracer, memory = recorded()
    tracer.start_span("chat", attributes={"secret": 1}).end()
    encoded = encode(memory.get_finished_spans(), rewrite)
    assert [str(error) for error in encoded.bare] == ["no"]
    assert [(span.name, span.attributes) for span in decode_spans(encoded.requests[0].body)] == [("chat", {})]


def test_a_span_that_is_none_does_not_lose_the_others():
    good = ReadableSpan("good", SpanContext(1, 2, is_remote=False))
    encoded = encode([ReadableSpan("no id"), good, ReadableSpan("no kind", good.context, kind="client")])
    assert [type(error) for error in encoded.broken] == [ValueError, KeyError]
    assert [span.name for span in decode_spans(encoded.requests[0].body)] == ["good"]


class Pairs(Mapping):
    """A mapping that is no dict and has no `copy`."""

    def __getitem__(self, key):
        return {"a": 1}[key]

    def __iter__(self):
        return iter(["a"])

    def __len__(self):
        return 1


def test_attributes_in_any_mapping_are_taken():
    span = ReadableSpan("other", SpanContext(1, 2, is_remote=False), attributes=Pairs())
    assert decode_spans(body(span))[0].attributes == {"a": 1}


def test_many_spans_are_split_into_requests_of_a_size_that_servers_take():
    def span(name, size, scope):
        return ReadableSpan(
            name,
            SpanContext(1, 2, is_remote=False),
            resource=RESOURCES[0],
            attributes={"text": "x" * size},
            instrumentation_scope=scope,
        )

    one, other = SCOPES[:2]
    some = [
        span("a", 400, one),
        span("b", 400, one),
        span("c", 5000, one),
        span("d", 1, one),
        span("e", 1, other),
    ]
    encoded = encode(some, size=1000)
    names = [[span.name for span in decode_spans(request.body)] for request in encoded.requests]
    assert names == [["a", "b"], ["c"], ["d"], ["e"]]
    assert [request.spans for request in encoded.requests] == [2, 1, 1, 1]
    assert encode([]).requests == []


def test_names_that_somebody_makes_up_are_written_like_those_that_everybody_has():
    for number in range(300):
        made_up = ReadableSpan(
            name="a", context=SpanContext(1, 2, is_remote=False), attributes={f"name.{number}": "value"}
        )
        assert decoded(body(made_up)) == decoded(encode_spans([made_up]).SerializeToString())
