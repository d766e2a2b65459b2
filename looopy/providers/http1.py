"""One HTTP/1.1 exchange: the request's bytes, and the answer as it comes.

`Exchange` listens to llhttp's parser on one side and is iterated over on the other; it touches no socket: `sockets.py`
feeds it and carries out what it asks for. The parser puts the pieces of a body straight into a list, and the reader
is woken once per read and takes them joined, so a burst of small HTTP chunks costs next to nothing for each.

Nothing here knows httpx, proxies, redirects, cookies or models. `transport.py` is what others import.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from looopy.errors import LooopyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

HOLD_BACK = 256 * 1024  # bytes on the wire that wait unread before the server is told to pause
HEADER_LIMIT = 64 * 1024  # bytes in a row that are no body: headers, trailers, chunk extensions
BODY_LIMIT = 1024 * 1024  # bytes that `read` returns unless told otherwise

_HEAD = re.compile(
    r"[A-Z]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^`|~\w-]+: [^\x00-\x08\n-\x1f\x7f]*\r\n)*", re.ASCII
)
_HEADER = re.compile(r"[!#$%&'*+.^`|~\w-]+: [^\x00-\x08\n-\x1f\x7f]*", re.ASCII)
_ERRNO = re.compile(r"\[Errno (\d+)\]")


class ConnectFailed(LooopyError):
    """No connection came about: refused, no such name, TLS. Internal: the provider maps it.

    Attributes:
        url: where to, without credentials and query.
        reason: in words, as "connection refused".
    """

    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot connect to {url}: {reason}")
        self.url = url
        self.reason = reason


class ConnectTimeout(LooopyError):
    """The connection, TLS included, was not there in time. Internal: the provider maps it.

    Attributes:
        url: where to, without credentials and query.
        seconds: the limit that passed.
    """

    retryable = True

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"no connection to {url} within {seconds:g} s")
        self.url = url
        self.seconds = seconds


class ConnectionBroken(LooopyError):
    """The answer ended too early, or was no HTTP. Internal: the provider maps it.

    Attributes:
        url: where to, without credentials and query.
        bytes_read: how much of the body had come; 0 also where the cut was in the headers.
        reason: in words, as "the server hung up in mid-body".
    """

    retryable = True

    def __init__(self, url: str, bytes_read: int, reason: str) -> None:
        super().__init__(f"{url}: {reason} ({bytes_read} bytes of the body had come)")
        self.url = url
        self.bytes_read = bytes_read
        self.reason = reason


class Origin(NamedTuple):
    """Whom a connection reaches; connections are kept by it."""

    secure: bool
    host: str  # ASCII, without brackets
    port: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, ready for the wire."""

    origin: Origin
    url: str  # for messages: without credentials and query
    data: bytes = field(repr=False)  # head and body, the key among them
    headers_only: bool = False  # HEAD: the answer announces a body that does not come


def request_head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Write the head of a request, and let nothing in that would make two requests of it.

    Raises:
        ValueError: a name or a value holds a character that HTTP forbids there, as a line break. The value is not
            in the message: it is usually a key with the newline of the file it was read from.
    """
    headers = list(headers)
    text = f"{method} {path} HTTP/1.1\r\n" + "".join([f"{name}: {value}\r\n" for name, value in headers])
    # Each line is well formed, and there are as many as were asked for: a value can hold a whole header otherwise.
    if _HEAD.fullmatch(text) is None or text.count("\n") != len(headers) + 1:
        raise ValueError(_what_is_wrong(headers) or f"{method!r} is not an HTTP method: use capital letters")
    return f"{text}\r\n".encode("utf-8", "surrogateescape")


def _what_is_wrong(headers: list[tuple[str, str]]) -> str | None:
    for name, value in headers:
        if _HEADER.fullmatch(f"{name}: ") is None:
            return f"{name!r} cannot be the name of an HTTP header: use letters, digits and hyphens"
        if _HEADER.fullmatch(f"{name}: {value}") is None:
            return (
                f"the value of the header {name!r} holds a line break or another control character: strip it"
            )
    return None


class Wire(Protocol):
    """What an exchange asks of its connection."""

    def pause(self) -> None:
        """Leave what comes in the kernel, which tells the server to wait."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def done(self, *, keep: bool) -> None:
        """The exchange has ended: lie idle, or close at once."""
        ...


class Exchange:
    """One answer as it comes: `status` and `headers` are there, the body is iterated over.

    It is also the parser's listener, hence the `on_` methods. Iterating yields what has come since the last time, as
    one piece; it raises `ConnectionBroken` where the answer is cut. Cancelling a wait closes the connection.
    """

    __slots__ = (
        "_broken",
        "_headers_only",
        "_held",
        "_keep",
        "_parser",
        "_pieces",
        "_quiet",
        "_to_eof",
        "_url",
        "_waiter",
        "_whole",
        "_wire",
        "bytes_read",
        "headers",
        "on_body",
        "raw_headers",
        "status",
    )

    def __init__(self, request: Request, wire: Wire) -> None:
        self.status = 0  # until the headers are complete
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.headers: Mapping[str, str] = {}  # names in lower case; of a repeated header the last value
        self.bytes_read = 0
        # Not the request itself: its body would stay in memory for as long as the answer takes.
        self._url = request.url
        self._headers_only = request.headers_only
        self._wire = wire
        self._pieces: list[bytes] = []
        self.on_body: Callable[[bytes], None] = self._pieces.append  # no Python frame per HTTP chunk
        self._held = 0  # bytes off the wire since the reader last took something
        self._quiet = 0  # bytes off the wire since there was last a piece of body among them
        self._keep = False
        self._to_eof = False
        self._whole = False
        self._broken: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    # ------------------------------------------------------------------------------------------------ the reader's side
    @property
    def unanswered(self) -> bool:
        """Whether not a single byte came back."""
        return self._quiet == 0 and self.status == 0

    async def started(self) -> None:
        """Wait for the headers."""
        while self.status == 0:
            await self._more()

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._whole:
                raise StopAsyncIteration
            await self._more()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.bytes_read += len(piece)
        if self._held > HOLD_BACK and not self._whole:
            self._wire.resume()
        self._held = 0
        return piece

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The rest of the body, at most `limit` bytes of it; what is over is not waited for."""
        body = await read(self, limit)
        await self.aclose()
        return body

    async def aclose(self) -> None:
        """Done with this answer: unless it has come to its end, the connection is closed at once."""
        self._pieces.clear()
        if not self._whole:
            self.fail("closed on this side")

    async def _more(self) -> None:
        if self._broken is not None:
            raise ConnectionBroken(self._url, self.bytes_read, self._broken)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.fail("cancelled on this side")
            raise
        finally:
            self._waiter = None

    # -------------------------------------------------------------------------------------------- the connection's side
    def feed(self, data: memoryview) -> None:
        """Parse what one read brought, and wake the reader once."""
        parser, pieces = self._parser, len(self._pieces)
        assert parser is not None, "a connection lets go of an exchange that has ended"
        self._held += len(data)
        self._quiet += len(data)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            return self.fail("the server switched protocols, which nobody asked for")
        except HttpParserError as error:
            if not self._whole:
                return self.fail(f"the answer is not HTTP/1.1: {error}")
            self._keep = False  # more came than one answer: whose it is, nobody can say
        if self._whole:
            return self._end()
        if len(self._pieces) > pieces:
            self._quiet = 0
        if self._quiet > HEADER_LIMIT:
            return self.fail(f"more than {HEADER_LIMIT} bytes of headers")
        if self._held > HOLD_BACK:
            self._wire.pause()
        return self._wake()

    def ended(self) -> None:
        """The server will send no more."""
        if self._to_eof:
            self._whole = True
            return self._end()
        return self.fail(f"the server hung up {self._where()}")

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.fail(f"the connection broke {self._where()}: {why(error or ConnectionResetError())}")

    def fail(self, reason: str) -> None:
        """End here: the connection cannot be used again."""
        # A cancellation can arrive after the last byte, when the connection may already serve somebody else.
        if self._broken is None and not self._whole:
            self._broken = reason
            self._keep = False
            self._end()

    def _where(self) -> str:
        return "in mid-body" if self.status else "before it answered"

    def _end(self) -> None:
        self._parser = None  # it holds us, we hold it
        self._wire.done(keep=self._keep)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------------------------------------------ the parser's side
    def on_message_begin(self) -> None:
        """Refuse what follows a whole answer: it would be taken for the next one's."""
        if self._whole:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but no trailer."""
        if self.status == 0:
            self.raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Let the reader have the answer's head, and settle how its body ends."""
        parser = self._parser
        assert parser is not None, "it is the parser that calls"
        status = parser.get_status_code()
        if status < 200:  # informational: the answer is still to come
            self.raw_headers.clear()
            return
        self.status = status
        self.headers = {
            name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers
        }
        self._to_eof = _ends_with_the_connection(self.headers)
        self._whole = self._headers_only
        # After HEAD the parser would take the next answer for the announced body.
        self._keep = parser.should_keep_alive() and not self._whole

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an informational one."""
        if self.status:
            self._whole = True


async def read(body: AsyncIterator[bytes], limit: int) -> bytes:
    """Gather a body, at most `limit` bytes of it."""
    pieces: list[bytes] = []
    size = 0
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= limit:
            break
    return b"".join(pieces)[:limit]


def _ends_with_the_connection(headers: Mapping[str, str]) -> bool:
    """Whether nothing but the end of the connection says where the body ends (RFC 9112, section 6.3)."""
    if "transfer-encoding" in headers:
        return headers["transfer-encoding"].rpartition(",")[2].strip().lower() != "chunked"
    return "content-length" not in headers


def why(error: BaseException) -> str:
    """The words of an error that kept a connection from being made, or ended it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return (error.strerror or str(error)).lower()
    if isinstance(error, ConnectionResetError):
        return "connection reset by peer"
    if isinstance(error, OSError):
        # Where a name has several addresses, asyncio joins their errors into one text without a number.
        numbers = [error.errno] if error.errno else [int(found) for found in _ERRNO.findall(str(error))]
        words = dict.fromkeys(os.strerror(number).lower() for number in numbers)
        return ", ".join(words) or str(error)
    return str(error)
