"""The real port of a scripted server: HTTP/1.1 on 127.0.0.1, kept alive, with chunked bodies.

It serves one kind of client, an HTTP library that does not pipeline; it is no web server. What to answer is `server.py`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from looopy.testing.script import Cut, Step, Wait

if TYPE_CHECKING:
    from looopy.testing.server import Received, ScriptedServer
    from looopy.testing.wire import Reply


class Loopback:
    """One listening port and its connections."""

    _listener: asyncio.Server

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, port: int) -> str:
        """Listen; 0 takes a free port. Gives the URL."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening, break every connection, and wait until nobody is served any more."""
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._idle.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits until all is on its way
        self._writers.add(writer)
        self._idle.clear()
        self._server.count_connection(1)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, between two requests or within one, or the script cut the connection
        finally:
            writer.transport.abort()
            self._server.count_connection(-1)
            self._writers.discard(writer)
            if not self._writers:
                self._idle.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether there may be another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        fields = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, value in fields}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        reply, received = self._server.respond(method, path, headers, content)
        try:
            await self._reply(reply, received, reader, writer)
        finally:
            self._server.end(received, "hung-up")
        return headers.get("connection", "").lower() != "close"

    async def _reply(
        self,
        reply: Reply,
        received: Received | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        for step in reply.before:
            await self._pause(step, received, reader)
        writer.write(_head(reply))
        for piece in filter(None, reply.pieces):
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            else:
                await self._pause(piece, received, reader)
        writer.write(b"0\r\n\r\n")
        self._server.end(received, "answered")
        await writer.drain()

    async def _pause(self, step: Step, received: Received | None, reader: asyncio.StreamReader) -> None:
        """Live through a step that sends nothing.

        Raises:
            ConnectionError: the connection is over: the client left, or the script cuts it.
        """
        if isinstance(step, Cut):
            self._server.end(received, "cut")
            raise ConnectionAbortedError("cut, as scripted")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(step.seconds if isinstance(step, Wait) else None):
                await reader.read(
                    1
                )  # a client that waits for an answer sends nothing: this ends when it leaves
                raise ConnectionResetError("the client hung up")


def _head(reply: Reply) -> bytes:
    reason = HTTPStatus(reply.status).phrase if reply.status in _STATUSES else "Scripted"
    lines = [
        f"HTTP/1.1 {reply.status} {reason}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    return "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode("latin-1")


_STATUSES = {status.value for status in HTTPStatus}
