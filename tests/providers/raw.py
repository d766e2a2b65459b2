"""A server on a loopback port whose every byte the test decides, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from ssl import SSLContext


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """An answer of known length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*pieces: bytes, headers: tuple[str, ...] = (), trailers: str = "") -> bytes:
    """An answer in HTTP chunks."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, "transfer-encoding: chunked", "", ""]).encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + b"0\r\n" + trailers.encode() + b"\r\n"


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the conversation is over

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        self.requests.append(head + body)
        return head + body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> None:
        """Wait until the client has closed its end."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def shut(self) -> None:
        """Close our end this instant: the client cannot have noticed yet when this returns."""
        self.writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break the connection rather than close it."""
        option = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self.writer.transport.abort()


@dataclass
class RawServer:
    url: str
    peers: list[Peer] = field(default_factory=list)

    @property
    def requests(self) -> list[int]:
        """How many requests each connection carried."""
        return [len(peer.requests) for peer in self.peers]


Talk = Callable[[Peer], Awaitable[None]]


def answers(data: bytes) -> Talk:
    """Answer every request with the same bytes."""

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(data)

    return talk


@contextlib.asynccontextmanager
async def serving(
    talk: Talk, *, tls: SSLContext | None = None, host: str = "127.0.0.1", seconds: float = 5
) -> AsyncGenerator[RawServer]:
    """Run `talk` for each connection; a client that leaves ends it, and so does the bound on everything within."""
    tasks: set[asyncio.Task[None]] = set()
    raw = RawServer("")

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        raw.peers.append(peer)
        try:
            await talk(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            peer.left.set()

    server = await asyncio.start_server(meet, host, 0, ssl=tls)
    shown = f"[{host}]" if ":" in host else host
    raw.url = f"{'https' if tls else 'http'}://{shown}:{server.sockets[0].getsockname()[1]}"
    try:
        async with asyncio.timeout(seconds):
            yield raw
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in raw.peers:
            with contextlib.suppress(ConnectionError, OSError):
                peer.writer.transport.abort()
        await asyncio.sleep(0)


class Clock:
    """The running loop's clock, moved by hand."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self.ahead = 0.0
        loop.time = lambda: real() + self.ahead


async def turns(count: int = 20) -> None:
    """Let the loop look at its sockets so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def get(http, url, **headers):
    reply = await http.send("GET", url, headers=headers)
    return reply.status, await reply.read()


PROGRAM = """
import asyncio, os, ssl, sys
from looopy.providers.transport import HTTP, FastTransport, shared

url, cafile = sys.argv[1:]
http = HTTP(FastTransport(tls=ssl.create_default_context(cafile=cafile))) if cafile else shared()

async def get():
    reply = await http.send("GET", url, headers={})
    return await reply.read()
"""
LEAVES = """
async def main():
    await asyncio.gather(get(), get())
    left = await http.send("GET", url + "/open", headers={})
    await anext(aiter(left))
    waiting = asyncio.create_task(http.send("GET", url + "/silent", headers={}))
    await asyncio.sleep(0)

asyncio.run(main(), debug=True)
"""


async def run_program(program, url, cafile=""):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        PROGRAM + program,
        url,
        cafile,
        stdout=-1,
        stderr=subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    return said.decode(), child.returncode


async def leaves_open(peer):
    while True:
        request = await peer.request()
        if b"/silent" not in request:
            await peer.send(chunked(b"a")[:-5] if b"/open" in request else answer(b"hi"))
