"""Server-sent events out of bytes that come in any portions.

Knows the line format of https://html.spec.whatwg.org/multipage/server-sent-events.html and nothing of JSON, of HTTP or of models.
`transport.py` hands in bytes, `chat.py` takes the data of the events.
"""

from __future__ import annotations

from collections.abc import Iterator

_NEWLINE = ord("\n")
_BOM = b"\xef\xbb\xbf"


class ErrorData(bytes):
    """The data of an event that the server named `error`."""


class Events:
    """The events of one stream.

    `feed` takes each portion as it comes and yields the data of the events that it completes, one at a time: the second is not looked
    for before the first was taken. `flush` yields what a missing last blank line holds back.
    """

    __slots__ = ("_after_cr", "_data", "_name", "_rest")

    def __init__(self) -> None:
        self._rest: list[
            bytes
        ] = []  # the line that is not whole yet, in pieces: joining each time would be quadratic
        self._data: list[bytes] = []  # the data lines of the event that is not whole yet
        self._name = b""
        self._after_cr = False

    def feed(self, portion: bytes) -> Iterator[bytes]:
        """The data of each event that this portion completes, without the `data:` in front."""
        buffer = self._whole_lines(portion)
        start, size = 0, len(buffer)
        find, starts_with = buffer.find, buffer.startswith
        while (end := find(b"\n", start)) >= 0:
            after = end + 1
            # What every server sends, in one step: a single line of data and a blank line.
            if (
                after < size
                and buffer[after] == _NEWLINE
                and not self._data
                and starts_with(b"data: ", start)
            ):
                data = buffer[start + 6 : end]
                start = after + 1
                yield self._named(data) if self._name else data
                continue
            line = buffer[start:end]
            start = after
            if line:
                self._field(line)
            elif self._data:
                yield self._event()
            else:
                self._name = b""
        if start < size:
            self._rest = [buffer[start:]]

    def flush(self) -> Iterator[bytes]:
        """The last event, when the stream ended without the blank line behind it."""
        if self._rest:
            self._field(b"".join(self._rest))
            self._rest = []
        if self._data:
            yield self._event()

    def _whole_lines(self, portion: bytes) -> bytes:
        """What was left and this portion, every line end a line feed; empty while the line that was left is not whole."""
        if self._after_cr and portion:
            portion = portion.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in portion:
            self._after_cr = portion.endswith(b"\r")
            portion = portion.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not self._rest:
            return portion
        self._rest.append(portion)
        if b"\n" not in portion:
            return b""
        buffer = b"".join(self._rest)
        self._rest = []
        return buffer

    def _field(self, line: bytes) -> None:
        name, _, value = line.removeprefix(_BOM).lstrip(b" \t").partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.strip()

    def _event(self) -> bytes:
        data = b"\n".join(self._data)
        self._data.clear()
        return self._named(data)

    def _named(self, data: bytes) -> bytes:
        name, self._name = self._name, b""
        return ErrorData(data) if name == b"error" else data
