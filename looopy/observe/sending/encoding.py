"""Spans as the bytes that OTLP wants: protobuf, written by hand for this one message.

The library's `encode_spans` builds a protobuf object for every attribute, which costs several times what writing the bytes does, and drops an
attribute that protobuf cannot hold. Here it becomes text. The field numbers are those of opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any, TypeAlias, cast

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

from looopy.errors import words
from looopy.observe import attributes as a

Rewrite = Callable[[Mapping[str, AttributeValue]], Mapping[str, AttributeValue]]

_SHORT = 1024  # up to here, lengths and numbers are looked up
_DEPTH = 16  # of nested values: protobuf's readers refuse a message of more than about a hundred levels, and with it the batch
_INT_64 = range(-(2**63), 2**63)
_MASK = 2**64 - 1


def _varint(number: int) -> bytes:
    """A number from 0 up to 2**64 in protobuf's variable length."""
    if number < _SHORT:
        return _VARINTS[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(_SHORT)]


def _block(tag: bytes, content: bytes) -> bytes:
    """A field of bytes, text or a message; also when it is empty."""
    return tag + _varint(len(content)) + content


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it must not lose the whole text
        return text.encode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------------------ attributes
class _Names(dict[str, bytes]):
    """Names as a field of a message. There are few of them, unless somebody makes them up."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, name: str) -> bytes:
        field = _block(self._tag, _utf8(name))
        if len(self) < _SHORT:
            self[name] = field
        return field


def _text_head(size: int) -> bytes:
    """What comes before a text of this size that is an attribute's value."""
    length = _varint(size)
    return b"\x12" + _varint(1 + len(length) + size) + b"\x0a" + length


_KEYS = _Names(b"\x0a")
_TEXT_HEADS = [_text_head(size) for size in range(_SHORT)]


def _text_pair(name: str, text: str) -> bytes:
    """A KeyValue with a text, and the length before it."""
    key, raw = _KEYS[name], _utf8(text)
    size = len(raw)
    head = _TEXT_HEADS[size] if size < _SHORT else _text_head(size)
    size += len(key) + len(head)
    return b"".join((_VARINTS[size] if size < _SHORT else _varint(size), key, head, raw))


_known_pair = lru_cache(maxsize=128)(_text_pair)  # an agent has some twenty, a run two or three
_STEADY = frozenset(
    (
        a.AGENT_ID,
        a.AGENT_NAME,
        a.CONVERSATION,
        a.TASK,
        a.SESSION,
        a.USER,
        a.OPERATION,
        a.PROVIDER,
        a.MODEL,
        a.RESPONSE_MODEL,
        a.ADDRESS,
        a.KIND,
        a.PHOENIX_KIND,
        a.STATUS,
        a.TOOL,
        a.TOOL_TYPE,
        a.TOOL_DESCRIPTION,
        a.DEFINITIONS,
    )
)
"""What the spans of one run, or of one agent, say again and again."""


def _attributes(out: list[bytes], tag: bytes, attributes: Mapping[str, AttributeValue]) -> None:
    """Append each attribute as a KeyValue in the field `tag`. The exporter spends its time here, hence the tables."""
    for name, value in attributes.items():
        if type(value) is str:
            if name in _STEADY and len(value) < _SHORT:
                out += (tag, _known_pair(name, value))
                continue
            raw = value.encode() if value.isascii() else _utf8(value)
            size = len(raw)
            content = _TEXT_HEADS[size] if size < _SHORT else _text_head(size)
            size += len(content)
        else:
            raw = b""
            content = _VALUES.get(type(value), _other)(value)
            size = len(content)
        key = _KEYS[name]
        size += len(key)
        out += (tag, _VARINTS[size] if size < _SHORT else _varint(size), key, content, raw)


_Parts: TypeAlias = tuple[tuple[a.Attributes, ...], a.Attributes]


class _Blocks(dict[int, bytes]):
    """The steady attributes of the spans of one batch, as they are written: each mapping once, since nobody changes one."""

    def of(self, attributes: a.Attributes) -> bytes:
        """One mapping's. By identity: its span keeps it as long as the batch is written."""
        key = id(attributes)
        block = self.get(key)
        if block is None:
            block = self[key] = _pairs(b"\x4a", attributes)
        return block


def _pairs(tag: bytes, attributes: Mapping[str, AttributeValue]) -> bytes:
    out: list[bytes] = []
    _attributes(out, tag, attributes)
    return b"".join(out)


def _bool(value: bool) -> bytes:
    return b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"


def _int(value: int) -> bytes:
    if 0 <= value < _SHORT:
        return _SMALL_INTS[value]
    if value not in _INT_64:
        return _other(value)
    number = _varint(value & _MASK)
    return _INT_HEADS[len(number)] + number


def _float(value: float) -> bytes:
    return _FLOAT(b"\x12\x09\x21", value)


def _tuple(value: tuple[object, ...]) -> bytes:
    if len(value) == 1 and type(value[0]) is str:  # as most finish reasons are
        return _one_text(value[0])
    return _other(value)


@lru_cache(maxsize=64)
def _one_text(text: str) -> bytes:
    return _other([text])


def _other(value: object) -> bytes:
    return _block(b"\x12", _any(value, _DEPTH))


_FLOAT = Struct("<3sd").pack
_DOUBLE = Struct("<Bd").pack
_INT_HEADS = [bytes((0x12, 1 + size, 0x18)) for size in range(11)]
_SMALL_INTS = [_INT_HEADS[len(number)] + number for number in _VARINTS]
_VALUES: Mapping[type, Callable[[Any], bytes]] = {bool: _bool, int: _int, float: _float, tuple: _tuple}


def _any(value: object, depth: int) -> bytes:
    """An AnyValue of any type: a number too large, a nest too deep and a foreign object are shown as text."""
    match value:
        case str():
            return _block(b"\x0a", _utf8(value))
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int() if value in _INT_64:
            return b"\x18" + _varint(value & _MASK)
        case float():
            return _DOUBLE(0x21, value)
        case bytes():
            return _block(b"\x3a", value)
        case tuple() | list() | Sequence() if depth:  # the exact types first, since asking an ABC is slow
            items = cast("Sequence[object]", value)
            return _block(b"\x2a", b"".join([_block(b"\x0a", _any(item, depth - 1)) for item in items]))
        case Mapping() if depth:
            pairs = cast("Mapping[object, object]", value).items()
            return _block(b"\x32", b"".join([_block(b"\x0a", _pair(*pair, depth - 1)) for pair in pairs]))
        case _:
            return _block(b"\x0a", _utf8(_shown(value)))


def _pair(key: object, value: object, depth: int) -> bytes:
    return _KEYS[str(key)] + _block(b"\x12", _any(value, depth))


def _shown(value: object) -> str:
    try:
        return (
            hex(value) if isinstance(value, int) else str(value)
        )  # Python refuses to print a giant in decimal
    except Exception as error:
        return f"<{type(value).__name__}: {words(error)}>"


# ----------------------------------------------------------------------------------------------------------------- spans
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
        out.append(_block(b"\x1a", _trace_state(state)))
    if parent is not None:
        out += (b"\x22\x08", parent[1].to_bytes(8, "big"))
        flags = _flags(parent)
    times = _TIMES(0x39, span.start_time or 0, 0x41, span.end_time or 0)
    out += (_NAMES[span.name], _INTERNAL if kind is SpanKind.INTERNAL else _KINDS[kind], times)
    for mapping in steady:
        out.append(blocks.of(mapping))
    _attributes(out, b"\x4a", attributes)
    if dropped := span.dropped_attributes:
        out += (b"\x50", _varint(dropped))
    if events := span.events:
        out += map(_event, events)
    if dropped := span.dropped_events:
        out += (b"\x60", _varint(dropped))
    if links := span.links:
        out += map(_link, links)
    if dropped := span.dropped_links:
        out += (b"\x70", _varint(dropped))
    out += (_NO_STATUS if status is UNSET else _status(status), b"\x85\x01", flags)
    return b"".join(out)


UNSET = Status()
"""Of most spans: known by its looks, since the code of a status is a property that takes two calls."""

_TIME = Struct("<BQ").pack
_TIMES = Struct("<BQBQ").pack
_NAMES = _Names(b"\x2a")
_KINDS = {kind: bytes((0x30, kind.value + 1)) for kind in SpanKind}  # OTLP counts from 1: 0 is "unspecified"
_INTERNAL = _KINDS[SpanKind.INTERNAL]  # most are; the hash of an enum's member is a function in Python


def _copied(attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
    try:
        # The SDK's own mapping iterates in Python, with a lock, and is copied in C.
        return cast("dict[str, AttributeValue]", attributes).copy()
    except AttributeError:
        return attributes


def _trace_state(state: TraceState) -> bytes:
    return _utf8(",".join(f"{key}={value}" for key, value in state.items()))


def _flags(context: SpanContext) -> bytes:
    """Whether the context came from another process: the bits "it is known" and "it did"."""
    return b"\x00\x03\x00\x00" if context[2] else _FROM_HERE


_FROM_HERE = b"\x00\x01\x00\x00"
_NO_STATUS = b"\x7a\x00"


def _status(status: Status) -> bytes:
    if status.status_code is StatusCode.UNSET:
        return _NO_STATUS
    message = _block(b"\x12", _utf8(status.description)) if status.description else b""
    return _block(b"\x7a", message + bytes((0x18, status.status_code.value)))


def _event(event: Event) -> bytes:
    out = [_TIME(0x09, event.timestamp), _block(b"\x12", _utf8(event.name))]
    _attributes(out, b"\x1a", event.attributes or {})
    if event.dropped_attributes:
        out += (b"\x20", _varint(event.dropped_attributes))
    return _block(b"\x5a", b"".join(out))


def _link(link: Link) -> bytes:
    context = link.context
    out = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    _attributes(out, b"\x22", link.attributes or {})
    if link.dropped_attributes:
        out += (b"\x28", _varint(link.dropped_attributes))
    out += (b"\x35", _flags(context))
    return _block(b"\x6a", b"".join(out))


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
    blocks = _Blocks()
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
    head = _block(b"\x0a", _pairs(b"\x0a", resource.attributes))
    return head + _block(b"\x1a", _utf8(resource.schema_url)) if resource.schema_url else head


def _scope(scope: InstrumentationScope | None) -> bytes:
    """Fields 1 and 3 of a ScopeSpans."""
    if scope is None:
        return b"\x0a\x00"
    name, version = _block(b"\x0a", _utf8(scope.name)), _block(b"\x12", _utf8(scope.version or ""))
    head = _block(b"\x0a", name + version + _pairs(b"\x1a", scope.attributes or {}))
    return head + _block(b"\x1a", _utf8(scope.schema_url)) if scope.schema_url else head


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
                of_scope += (b"\x12" + _varint(len(span)), span)
            of_resource += (b"\x12" + _varint(sum(map(len, of_scope))), *of_scope)
            count += len(spans)
        pieces += (b"\x0a" + _varint(sum(map(len, of_resource))), *of_resource)
    return Request(b"".join(pieces), count)
