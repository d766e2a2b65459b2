"""The sockets of one event loop: each in use by one exchange, or kept for the next.

`Pool` opens, keeps and closes; a `Connection` is asyncio's protocol between a socket and an `Exchange` of `http1.py`.
Connections have no task, no stream objects and no receive buffer of their own: all of a loop read into one. The idle
ones are held in order of their last use, newest first, so taking, keeping and expiring each cost the same whether ten
are held or a thousand. `transport.py` stands above and decides which loop has which pool.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

from looopy.providers.http1 import ConnectFailed, ConnectionBroken, ConnectTimeout, Exchange, why

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from looopy.providers.http1 import Origin, Request

READ_SIZE = 64 * 1024  # bytes a read may bring; more would hold the first event of a burst back
RACE = 1.0  # seconds in which a keep-alive race shows itself; see `Pool.exchange`


class Connection(asyncio.BufferedProtocol):
    """One socket. It belongs to one exchange at a time, or lies idle in its pool."""

    __slots__ = ("_exchange", "_pool", "_transport", "idle_since", "origin")

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0  # the loop's clock
        self._pool = pool
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport  # from `connection_made` on

    def begin(self, request: Request) -> Exchange:
        """Send a request; its answer comes to the exchange."""
        exchange = self._exchange = Exchange(request, self)
        self._transport.write(request.data)
        return exchange

    def done(self, *, keep: bool) -> None:
        """The exchange has ended: lie idle, or close at once."""
        transport = self._transport
        self._exchange = None
        # A server that answers before it has read everything will take the rest for the next request, or hang up.
        if keep and not transport.is_closing() and transport.get_write_buffer_size() == 0:
            self._pool.keep(self)
        else:
            transport.abort()

    def pause(self) -> None:
        """Leave the rest in the kernel, which tells the server to wait."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close at once, whatever is going on."""
        if self._exchange is not None:
            self._exchange.fail("the event loop is shutting down")
        else:
            self._transport.abort()

    # ------------------------------------------------------------------------------------------- asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected, TLS included."""
        # Other event loops' transports need not be subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._pool.members.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer of all; the size that asyncio hints at is unknown to it as well."""
        del sizehint
        return self._pool.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read."""
        if self._exchange is not None:
            self._exchange.feed(self._pool.buffer[:nbytes])
        else:  # an idle connection has nothing to say: perhaps a 408, perhaps the rest of a forged answer
            self._pool.forget(self)
            self.close()

    def eof_received(self) -> None:
        """The server will send no more; asyncio closes the socket next."""
        self._pool.forget(self)
        if self._exchange is not None:
            self._exchange.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whichever side."""
        self._pool.forget(self)
        self._pool.members.discard(self)
        if self._exchange is not None:
            self._exchange.lost(exc)


class Pool:
    """The connections of one event loop.

    There is no upper limit to the connections in use: how much runs at once is the caller's decision, and a hidden
    queue in front of a model would look like a slow model.

    Args:
        tls: the context for https, asked for when the first such connection is made.
        max_idle: connections kept for each origin; the one unused for longest gives way.
        idle_seconds: how long an unused connection is kept.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext], *, max_idle: int, idle_seconds: float) -> None:
        # One buffer for all: the parser copies out of it before the next read can start.
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.members: set[Connection] = set()
        self._tls = tls
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._idle: dict[Origin, OrderedDict[Connection, None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._pid = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether this process made it: a forked child leaves its parent's sockets alone."""
        return self._pid == os.getpid()

    async def exchange(self, request: Request, connect_timeout: float | None) -> Exchange:
        """Send a request and wait for the head of its answer.

        A request that met a connection which the server was just closing is sent once more, on a new one. Nobody
        can tell that from a server that read the request and died of it, and a model's answer is billed; so it is done
        only where the race is by far the likelier: the connection had been used before, not a byte came back, and the
        loss showed within a second. A server that closes an idle connection has not read what is still on its way, and
        the news takes one round trip; a server that died while a model worked on it mostly needs longer.

        Raises:
            ConnectFailed, ConnectTimeout: there is no connection.
            ConnectionBroken: the server hung up before the headers were complete, or sent no HTTP.
        """
        if (kept := self._newest(request.origin)) is not None:
            clock = asyncio.get_running_loop().time
            sent = clock()
            exchange = kept.begin(request)
            try:
                await exchange.started()
                return exchange
            except ConnectionBroken:
                if not exchange.unanswered or clock() - sent > RACE:
                    raise
        exchange = (await self._connected(request, connect_timeout)).begin(request)
        await exchange.started()
        return exchange

    def keep(self, connection: Connection) -> None:
        """Hold a connection for the next exchange with its origin."""
        if self._closed:
            return connection.close()
        idle = self._idle.setdefault(connection.origin, OrderedDict())
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle[connection] = None
        if len(idle) > self._max_idle:
            idle.popitem(last=False)[0].close()
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_seconds, self._expire, loop)
        return None

    def forget(self, connection: Connection) -> None:
        """An idle connection is none any more."""
        if (idle := self._idle.get(connection.origin)) is not None:
            idle.pop(connection, None)

    def close(self) -> None:
        """Close every connection, in use or not, and keep none from now on."""
        self._closed = True
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
        # A forked child closes none: its loop shares the parent's epoll, and would unregister the parent's sockets.
        for connection in list(self.members) if self.usable else ():
            connection.close()

    def _newest(self, origin: Origin) -> Connection | None:
        # The newest is the likeliest to be alive, and lets the others grow old enough to be closed.
        idle = self._idle.get(origin)
        if not idle:
            return None
        # A loop that was blocked expires nothing meanwhile, so look at the age here as well.
        age = asyncio.get_running_loop().time() - next(reversed(idle)).idle_since
        return idle.popitem()[0] if age < self._idle_seconds else None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = None
        now = loop.time()
        oldest = [idle for idle in self._idle.values() if idle]
        for idle in oldest:
            while idle and next(iter(idle)).idle_since + self._idle_seconds <= now:
                idle.popitem(last=False)[0].close()
        waiting = [next(iter(idle)).idle_since for idle in oldest if idle]
        if waiting:
            self._sweep = loop.call_at(min(waiting) + self._idle_seconds, self._expire, loop)

    async def _connected(self, request: Request, seconds: float | None) -> Connection:
        secure, host, port = request.origin
        clock = asyncio.timeout(seconds)
        loop = asyncio.get_running_loop()
        # A race among addresses costs a task, and an address has nobody to race with; uvloop does not know the word.
        races = isinstance(loop, asyncio.BaseEventLoop) and not _is_address(host)
        race: dict[str, Any] = {"happy_eyeballs_delay": 0.25} if races else {}
        try:
            async with clock:
                _, connection = await loop.create_connection(
                    lambda: Connection(self, request.origin),
                    host,
                    port,
                    ssl=self._tls() if secure else None,
                    **race,
                )
        except (
            OSError,
            UnicodeError,
            OverflowError,
        ) as error:  # the latter two: a host's label, a port too large
            if seconds is not None and clock.expired():
                raise ConnectTimeout(request.url, seconds) from error
            raise ConnectFailed(request.url, why(error)) from error
        return connection


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()
