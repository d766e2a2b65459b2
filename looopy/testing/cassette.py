"""A model's answers on tape: recorded once, replayed byte for byte, so that a test of a real model needs no network.

`Recorded` and `Replayed` stand where HTTP requests are sent (`transport=` of a provider or an embedder), so everything above them is the real
thing: the pieces of a body come back as they came, and so do refusals and broken connections. `tape.py` has the file and how a request is
known again; nothing here knows models.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, Self, TypeAlias, get_args
from urllib.parse import urlsplit

from looopy.errors import ConfigurationError
from looopy.providers.transport import (
    BODY_LIMIT,
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    Reply,
    Transport,
    chosen,
    read,
)
from looopy.testing.tape import (
    CassetteMismatch,
    Compare,
    End,
    Exchange,
    Piece,
    Sent,
    credentials,
    differences,
    dump,
    load,
)

__all__ = ["CassetteMismatch", "Recorded", "Replayed", "cassette"]

Mode: TypeAlias = Literal["auto", "record", "replay"]
Pace: TypeAlias = Literal["at-once", "original"]

_LINES = 8  # differences that an error lists
_ANEW = "If that is as it should be, delete the file, or pass mode='record', to record it anew"


def cassette(
    path: str | Path,
    *,
    mode: Mode = "auto",
    transport: Transport | None = None,
    pace: Pace = "at-once",
    compare: Compare | None = None,
) -> Recorded | Replayed:
    """A transport that records the first time and replays from then on; use it as a `with` block.

    Args:
        path: the file, to be committed with the test.
        mode: "auto" records when the file is missing; "record" always, in place of what is there; "replay" never.
        transport: what sends the requests that are recorded; left out: one that the process shares.
        pace: how it is replayed: each piece "at-once", or after its "original" pause.
        compare: makes of a request's body (JSON) what is compared, where it differs in each run: leaves out the date in a prompt, say.

    Raises:
        ConfigurationError: there is no such mode or pace, or `transport` is none.
        CassetteMismatch: the file to be replayed is missing or no cassette.
    """
    for name, value, allowed in (("mode", mode, get_args(Mode)), ("pace", pace, get_args(Pace))):
        if value not in allowed:
            raise ConfigurationError(
                f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}", argument=name
            )
    if mode == "replay" or (mode == "auto" and Path(path).exists()):
        return Replayed(path, pace=pace, compare=compare)
    return Recorded(path, transport=transport)


class Recorded:
    """A `Transport` that passes requests on and keeps what comes back.

    As a `with` block it writes the cassette when the block ends, unless by an error. What is not written: the heads of requests, ids of
    sessions and traces, and credentials wherever they stand (`looopy.errors.redact`).

    Args:
        path: the file to write.
        transport: what sends the requests; left out: one that the process shares.

    Raises:
        ConfigurationError: `transport` is none.
    """

    def __init__(self, path: str | Path, *, transport: Transport | None = None) -> None:
        self.path = Path(path)
        self._transport = chosen(transport)
        self._exchanges: list[Exchange] = []
        self._secrets: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.save()

    def save(self) -> None:
        """Write what is recorded so far, whole or not at all; of an answer that still comes in, what there is of it."""
        with self._lock:
            content = dump(self._exchanges, self._secrets)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f"{self.path.name}.part")
            beside.write_bytes(content)
            beside.replace(self.path)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        connect_timeout: float | None = None,
    ) -> Reply:
        """As `Transport.send` says."""
        exchange, elapsed = Exchange(Sent.of(method, url, body)), _stopwatch()
        with self._lock:
            self._exchanges.append(exchange)
            self._secrets |= credentials(url, headers)
        try:
            reply = await self._transport.send(
                method, url, headers=headers, body=body, connect_timeout=connect_timeout
            )
        except ConnectTimeout:
            exchange.end = End("connect-timeout", elapsed())
            raise
        except (ConnectFailed, ConnectionBroken) as error:
            how = "refused" if isinstance(error, ConnectFailed) else "broken"
            exchange.end = End(how, elapsed(), error.reason)
            raise
        exchange.status, exchange.headers, exchange.at = reply.status, dict(reply.headers), elapsed()
        return _Recording(reply, exchange, elapsed)


class _Recording:
    """A reply whose pieces are written down as they pass."""

    def __init__(self, reply: Reply, exchange: Exchange, elapsed: Callable[[], float]) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply
        self._pieces = aiter(reply)
        self._exchange = exchange
        self._elapsed = elapsed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange, elapsed = self._exchange, self._elapsed
        try:
            data = await anext(self._pieces)
        except StopAsyncIteration:
            exchange.end = End("whole", elapsed())
            raise
        except ConnectionBroken as error:
            exchange.end = End("broken", elapsed(), error.reason)
            raise
        exchange.pieces.append(Piece(elapsed(), data))
        return data

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        body = await read(self, limit)
        await self.aclose()
        return body

    async def aclose(self) -> None:
        await self._reply.aclose()


class Replayed:
    """A `Transport` that answers from a cassette and opens no connection.

    Each exchange is played once: for a request, the first one left with its method, path and body. Of the body, the order of fields and the ids
    of sessions, traces and tool calls do not count. As a `with` block it checks at the end, unless that is an error, that nothing is left.

    Args:
        path: the file.
        pace: each piece "at-once", or after its "original" pause.
        compare: makes of a request's body (JSON) what is compared; of the recorded ones too.

    Raises:
        CassetteMismatch: the file is missing or no cassette.
    """

    def __init__(self, path: str | Path, *, pace: Pace = "at-once", compare: Compare | None = None) -> None:
        self.path = Path(path)
        self._pace: Pace = pace
        self._compare = compare
        self._exchanges = load(self.path)
        self._left: dict[str, deque[Exchange]] = {}
        self._lock = threading.Lock()
        for exchange in self._exchanges:
            self._left.setdefault(self._key(exchange.sent), deque()).append(exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.assert_complete()

    def assert_complete(self) -> None:
        """Check that every recorded request was made.

        Raises:
            CassetteMismatch: some were not.
        """
        with self._lock:
            left = [exchange.sent for queue in self._left.values() for exchange in queue]
        if left:
            raise CassetteMismatch(
                f"{self.path}: {len(left)} of {len(self._exchanges)} recorded requests were not made, {left[0]} among them. {_ANEW}"
            )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        connect_timeout: float | None = None,
    ) -> Reply:
        """As `Transport.send` says.

        Raises:
            CassetteMismatch: there is no such request on the cassette, or not once more.
        """
        exchange = self._take(Sent.of(method, url, body).hidden(credentials(url, headers)))
        playing = _Playing(exchange, url, _stopwatch() if self._pace == "original" else None)
        await playing.begin(connect_timeout)
        return playing

    def _key(self, sent: Sent) -> str:
        return json.dumps(sent.compared(self._compare), sort_keys=True)

    def _take(self, sent: Sent) -> Exchange:
        with self._lock:
            queue = self._left.get(self._key(sent))
            if queue:
                return queue.popleft()
        what = self._nearest(sent) if queue is None else "It is asked once more than it was recorded. "
        raise CassetteMismatch(f"{self.path} has no answer to {sent}. {what}{_ANEW}")

    def _nearest(self, sent: Sent) -> str:
        """The recorded request that differs least, and in what."""
        found: list[tuple[int, list[str]]] = []
        for number, exchange in enumerate(self._exchanges, 1):
            if str(exchange.sent) == str(sent):
                recorded, asked = exchange.sent.compared(self._compare), sent.compared(self._compare)
                found.append((number, list(differences(recorded[-1], asked[-1]))))
        if not found:
            known = ", ".join(dict.fromkeys(str(exchange.sent) for exchange in self._exchanges))
            return f"It has {known or 'nothing at all'}. "
        number, lines = min(found, key=lambda each: len(each[1]))
        more = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
        told = "".join(f"\n  {line}" for line in (*lines[:_LINES], *more))
        return f"Of the {len(self._exchanges)} recorded, number {number} differs least:{told}\n"


class _Playing:
    """A recorded reply."""

    def __init__(self, exchange: Exchange, url: str, elapsed: Callable[[], float] | None) -> None:
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._exchange = exchange
        self._elapsed = elapsed
        self._pieces = iter(exchange.pieces)
        self._bytes_read = 0
        self._closed = False

    async def begin(self, connect_timeout: float | None) -> None:
        """Wait for the head, or for what came in its place."""
        exchange = self._exchange
        if exchange.status:
            return await self._until(exchange.at)
        if exchange.end.how == "connect-timeout":
            await self._until(exchange.end.at)
            raise ConnectTimeout(self._url, connect_timeout or exchange.end.at)
        return await self._end()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise ConnectionBroken(self._url, self._bytes_read, "closed on this side")
        piece = next(self._pieces, None)
        if piece is None:
            return await self._end()
        await self._until(piece.at)
        self._bytes_read += len(piece.data)
        return piece.data

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        body = await read(self, limit)
        await self.aclose()
        return body

    async def aclose(self) -> None:
        self._closed = True

    async def _until(self, at: float) -> None:
        """Let others work, and wait for the original moment if that is the pace."""
        await asyncio.sleep(max(0.0, at - self._elapsed()) if self._elapsed else 0)

    async def _end(self) -> NoReturn:
        end = self._exchange.end
        if end.how == "left":
            # The client had left by then, and will again; what would have come nobody knows.
            await asyncio.get_running_loop().create_future()
        await self._until(end.at)
        if end.how == "refused":
            raise ConnectFailed(self._url, end.reason)
        if end.how == "broken":
            raise ConnectionBroken(self._url, self._bytes_read, end.reason)
        raise StopAsyncIteration


def _stopwatch() -> Callable[[], float]:
    """Seconds since now, on the running loop's clock."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    return lambda: loop.time() - start
