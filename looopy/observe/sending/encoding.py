"""Spans as the bytes that OTLP wants: protobuf, written by hand for this one message.

The library's `encode_spans` builds a protobuf object for every attribute, which costs several times what writing the bytes does, and drops an
attribute that protobuf cannot hold. Here it becomes text (`protobuf.py`). The field numbers are those of opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import TypeAlias, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceState,
)
from opentelemetry.util.types import AttributeValue

from looopy.observe import attributes as a
from looopy.observe.sending.protobuf import Names, Writer, block, utf8, varint

Rewrite = Callable[[Mapping[str, AttributeValue]], Mapping[str, AttributeValue]]

_Parts: TypeAlias = tuple[tuple[a.Attributes, ...], a.Attributes]
"""What a light span says: in the same words as others, and all the rest."""


_Blocks: TypeAlias = dict[int, bytes]
"""The steady attributes of the spans of one batch, as they are written: each mapping once, since nobody changes one. By identity: its span
keeps it as long as the batch is written."""


def _encoded(span: ReadableSpan, rewrite: Rewrite | None, blocks: _Blocks) -> bytes:
    """One span, without the tag and the length that a ScopeSpans puts before it.

    Args:
        span: an ended span.
        rewrite: gives the attributes to send in place of the span's own.
        blocks: what was written of other spans of the batch.

    Raises:
        Exception: what `rewrite` raises; or this is no span: it has no id, or an unknown kind.
    """
    # Of the class: what stands in for a light span, to hide something, hides it also from this.
    parts: Callable[[ReadableSpan], _Parts] | None = getattr(type(span), "parts", None)
    if parts is not None and rewrite is None:
        steady, attributes = parts(span)
    else:
        steady, attributes = (), _copied(span.attributes or {})
        if rewrite is not None:
            attributes = rewrite(attributes)
    context: SpanContext | None = span.context
    if context is None:
        raise ValueError("a span without an id")
    trace_id, span_id, _, _, state, _ = context  # its properties are functions in Python
    parent, kind, status, flags = span.parent, span.kind, span.status, _FROM_HERE
    out = [b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big")]
    if state is not DEFAULT_TRACE_STATE and state:
        out.append(block(b"\x1a", _trace_state(state)))
    if parent is not None:
        out += (b"\x22\x08", parent[1].to_bytes(8, "big"))
        if parent[2]:
            flags = _FROM_AFAR
    times = _TIMES(0x39, span.start_time or 0, 0x41, span.end_time or 0)
    out += (_NAMES[span.name], _AS_INTERNAL if kind is _INTERNAL else _KINDS[kind], times)
    for mapping in steady:
        key = id(mapping)
        out.append(blocks.get(key) or blocks.setdefault(key, _OF_SPAN.of(mapping)))
    _OF_SPAN.into(out, attributes)
    if events := span.events:
        out += map(_event, events)
    if links := span.links:
        out += map(_link, links)
    if parts is None:
        _dropped_into(out, span)
    out += (_NO_STATUS if status is UNSET else _status(status), b"\x85\x01", flags)
    return b"".join(out)


def _dropped_into(out: list[bytes], span: ReadableSpan) -> None:
    """How much of it the SDK has left out; a light span leaves nothing out."""
    for tag, dropped in (
        (b"\x50", span.dropped_attributes),
        (b"\x60", span.dropped_events),
        (b"\x70", span.dropped_links),
    ):
        if dropped:
            out += (tag, varint(dropped))


UNSET = Status()
"""Of most spans: known by its looks, since the code of a status is a property that takes two calls."""

_TIME = Struct("<BQ").pack
_TIMES = Struct("<BQBQ").pack
_NAMES = Names(b"\x2a")
_OF_SPAN, _OF_EVENT, _OF_LINK = Writer(b"\x4a"), Writer(b"\x1a"), Writer(b"\x22")
_OF_RESOURCE, _OF_SCOPE = Writer(b"\x0a"), Writer(b"\x1a")
_KINDS = {kind: bytes((0x30, kind.value + 1)) for kind in SpanKind}  # OTLP counts from 1: 0 is "unspecified"
_INTERNAL = SpanKind.INTERNAL  # as most are; both an enum's members and their hash are functions in Python
_AS_INTERNAL = _KINDS[_INTERNAL]


def _copied(attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    try:
        # The SDK's own mapping iterates in Python, with a lock, and is copied in C.
        return cast("dict[str, AttributeValue]", attributes).copy()
    except AttributeError:
        return attributes


def _trace_state(state: TraceState) -> bytes:
    return utf8(",".join(f"{key}={value}" for key, value in state.items()))


# Whether a context came from another process: the bits "it is known" and "it did".
_FROM_HERE = b"\x00\x01\x00\x00"
_FROM_AFAR = b"\x00\x03\x00\x00"
_NO_STATUS = b"\x7a\x00"


def _status(status: Status) -> bytes:
    if status.status_code is StatusCode.UNSET:
        return _NO_STATUS
    message = block(b"\x12", utf8(status.description)) if status.description else b""
    return block(b"\x7a", message + bytes((0x18, status.status_code.value)))


def _event(event: Event) -> bytes:
    out = [_TIME(0x09, event.timestamp), block(b"\x12", utf8(event.name))]
    _OF_EVENT.into(out, event.attributes or {})
    if event.dropped_attributes:
        out += (b"\x20", varint(event.dropped_attributes))
    return block(b"\x5a", b"".join(out))


def _link(link: Link) -> bytes:
    context = link.context
    out = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    _OF_LINK.into(out, link.attributes or {})
    if link.dropped_attributes:
        out += (b"\x28", varint(link.dropped_attributes))
    out += (b"\x35", _FROM_AFAR if context.is_remote else _FROM_HERE)
    return block(b"\x6a", b"".join(out))


# -------------------------------------------------------------------------------------------------------------- requests
_Groups = dict[bytes, dict[bytes, list[bytes]]]  # spans by scope by resource, all encoded


@dataclass(frozen=True, slots=True)
class Request:
    """The body of one HTTP request, and how many spans are in it."""

    body: bytes = field(repr=False)
    spans: int


@dataclass(slots=True)
class Encoded:
    """Spans made ready to send.

    Attributes:
        requests: what to send.
        broken: why a span could not be encoded, one error each; these are lost.
        bare: what `rewrite` raised; these spans are sent without attributes, since it may have been there to hide something.
    """

    requests: list[Request] = field(default_factory=list[Request])
    broken: list[Exception] = field(default_factory=list[Exception])
    bare: list[Exception] = field(default_factory=list[Exception])


def encode(
    spans: Iterable[ReadableSpan], rewrite: Rewrite | None = None, *, size: int = 1_000_000
) -> Encoded:
    """Encode spans as `ExportTraceServiceRequest`s, grouped by resource and scope.

    Args:
        spans: ended spans.
        rewrite: gives the attributes to send in place of a span's own.
        size: bytes; what would become longer is split into several requests. A longer span gets one of its own.
    """
    encoded = Encoded()
    groups: _Groups = {}
    # By identity first: the SDK's own hash of a resource prints it as JSON.
    known: dict[tuple[int, int], list[bytes]] = {}
    blocks: _Blocks = {}
    safe = None if rewrite is None else _guarded(rewrite, encoded.bare)
    for span in spans:
        try:
            content = _encoded(span, safe, blocks)
            resource, scope = span.resource, span.instrumentation_scope
            siblings = known.get((id(resource), id(scope)))
            if siblings is None:
                siblings = groups.setdefault(_resource(resource), {}).setdefault(_scope(scope), [])
                known[id(resource), id(scope)] = siblings
            siblings.append(content)
        except Exception as error:
            encoded.broken.append(error)
    encoded.requests += _packed(groups, size)
    return encoded


def _guarded(rewrite: Rewrite, mishaps: list[Exception]) -> Rewrite:
    def guarded(attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
        try:
            return rewrite(attributes)
        except Exception as error:
            mishaps.append(error)
            return {}

    return guarded


def _resource(resource: Resource) -> bytes:
    """Fields 1 and 3 of a ResourceSpans."""
    head = block(b"\x0a", _OF_RESOURCE.of(resource.attributes))
    return head + block(b"\x1a", utf8(resource.schema_url)) if resource.schema_url else head


def _scope(scope: InstrumentationScope | None) -> bytes:
    """Fields 1 and 3 of a ScopeSpans."""
    if scope is None:
        return b"\x0a\x00"
    name, version = block(b"\x0a", utf8(scope.name)), block(b"\x12", utf8(scope.version or ""))
    head = block(b"\x0a", name + version + _OF_SCOPE.of(scope.attributes or {}))
    return head + block(b"\x1a", utf8(scope.schema_url)) if scope.schema_url else head


def _packed(groups: _Groups, size: int) -> Iterator[Request]:
    """As one request if it fits; else each scope's spans in as many as it takes."""
    if sum(len(span) for scopes in groups.values() for spans in scopes.values() for span in spans) <= size:
        if groups:
            yield _request(groups)
        return
    for resource, scopes in groups.items():
        for scope, spans in scopes.items():
            for part in _parts(spans, size):
                yield _request({resource: {scope: part}})


def _parts(spans: list[bytes], size: int) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    filled = 0
    for span in spans:
        if part and filled + len(span) > size:
            yield part
            part, filled = [], 0
        part.append(span)
        filled += len(span)
    yield part


def _request(groups: _Groups) -> Request:
    """Lengths come before what they measure: so the pieces are measured level by level, and copied only once, at the end."""
    pieces: list[bytes] = []
    count = 0
    for resource, scopes in groups.items():
        of_resource = [resource]
        for scope, spans in scopes.items():
            of_scope = [scope]
            for span in spans:
                of_scope += (b"\x12" + varint(len(span)), span)
            of_resource += (b"\x12" + varint(sum(map(len, of_scope))), *of_scope)
            count += len(spans)
        pieces += (b"\x0a" + varint(sum(map(len, of_resource))), *of_resource)
    return Request(b"".join(pieces), count)
