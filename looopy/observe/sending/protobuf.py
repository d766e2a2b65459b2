"""Values as protobuf, written by hand: numbers, blocks, and attributes as OTLP's KeyValue. `encoding.py` makes spans of them.

An attribute that protobuf cannot hold becomes text. The field numbers are those of opentelemetry/proto/common/v1/common.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, cast

from opentelemetry.util.types import AttributeValue

from looopy.errors import words

_SHORT = 1024  # up to here, lengths and numbers are looked up
_SMALL, _FEW = 512, 128  # sizes of texts, and names of attributes, up to which the two together are
_DEPTH = 16  # of nested values: protobuf's readers refuse a message of more than about a hundred levels, and with it the batch
_INT_64 = range(-(2**63), 2**63)
_MASK = 2**64 - 1


def varint(number: int) -> bytes:
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


def block(tag: bytes, content: bytes) -> bytes:
    """A field of bytes, text or a message; also when it is empty."""
    return tag + varint(len(content)) + content


def utf8(text: str) -> bytes:
    """A text as it stands in a field."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it must not lose the whole text
        return text.encode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------------------ attributes
class Names(dict[str, bytes]):
    """Names as a field of a message. There are few of them, unless somebody makes them up."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, name: str) -> bytes:
        field = block(self._tag, utf8(name))
        if len(self) < _SHORT:
            self[name] = field
        return field


_KEYS = Names(b"\x0a")


class _Heads(dict[int, bytes]):
    """What comes before a text that is the value of one name, by the text's size."""

    def __init__(self, tag: bytes, name: str) -> None:
        super().__init__()
        self._tag, self._key = tag, _KEYS[name]

    def __missing__(self, size: int) -> bytes:
        length = varint(size)
        value = b"\x12" + varint(1 + len(length) + size) + b"\x0a" + length
        head = self._tag + varint(len(self._key) + len(value) + size) + self._key + value
        if size < _SMALL:
            self[size] = head
        return head


class Writer(dict[str, _Heads]):
    """Writes attributes, each as a KeyValue in one field of a message. The exporter spends its time here, hence the tables.

    Args:
        tag: of the field.
    """

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, name: str) -> _Heads:
        heads = _Heads(self._tag, name)
        if len(self) < _FEW:
            self[name] = heads
        return heads

    def into(self, out: list[bytes], attributes: Mapping[str, AttributeValue]) -> None:
        """Append them."""
        for name, value in attributes.items():
            if type(value) is str:
                try:
                    raw = value.encode()
                except UnicodeEncodeError:
                    raw = utf8(value)
                out += (self[name][len(raw)], raw)
            else:
                content, key = _VALUES.get(type(value), _other)(value), _KEYS[name]
                size = len(key) + len(content)
                out += (self._tag, _VARINTS[size] if size < _SHORT else varint(size), key, content)

    def of(self, attributes: Mapping[str, AttributeValue]) -> bytes:
        """They alone."""
        out: list[bytes] = []
        self.into(out, attributes)
        return b"".join(out)


def _bool(value: bool) -> bytes:
    return b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"


def _int(value: int) -> bytes:
    if 0 <= value < _SHORT:
        return _SMALL_INTS[value]
    if value not in _INT_64:
        return _other(value)
    number = varint(value & _MASK)
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
    return block(b"\x12", _any(value, _DEPTH))


_FLOAT = Struct("<3sd").pack
_DOUBLE = Struct("<Bd").pack
_INT_HEADS = [bytes((0x12, 1 + size, 0x18)) for size in range(11)]
_SMALL_INTS = [_INT_HEADS[len(number)] + number for number in _VARINTS]
_VALUES: Mapping[type, Callable[[Any], bytes]] = {bool: _bool, int: _int, float: _float, tuple: _tuple}


def _any(value: object, depth: int) -> bytes:
    """An AnyValue of any type: a number too large, a nest too deep and a foreign object are shown as text."""
    match value:
        case str():
            return block(b"\x0a", utf8(value))
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int() if value in _INT_64:
            return b"\x18" + varint(value & _MASK)
        case float():
            return _DOUBLE(0x21, value)
        case bytes():
            return block(b"\x3a", value)
        case tuple() | list() | Sequence() if depth:  # the exact types first, since asking an ABC is slow
            items = cast("Sequence[object]", value)
            return block(b"\x2a", b"".join([block(b"\x0a", _any(item, depth - 1)) for item in items]))
        case Mapping() if depth:
            pairs = cast("Mapping[object, object]", value).items()
            return block(b"\x32", b"".join([block(b"\x0a", _pair(*pair, depth - 1)) for pair in pairs]))
        case _:
            return block(b"\x0a", utf8(_shown(value)))


def _pair(key: object, value: object, depth: int) -> bytes:
    return _KEYS[str(key)] + block(b"\x12", _any(value, depth))


def _shown(value: object) -> str:
    try:
        return (
            hex(value) if isinstance(value, int) else str(value)
        )  # Python refuses to print a giant in decimal
    except Exception as error:
        return f"<{type(value).__name__}: {words(error)}>"
