"""A scripted stand-in for the providers behind a LiteLLM proxy.

One small asyncio HTTP server, in a thread of its own, that speaks three wire formats, streamed: OpenAI chat
completions, Anthropic messages and Gemini `streamGenerateContent`; and embeddings in two. A prompt names the script it wants, so any
number of conversations share the server: `upstream.play("one-tool")` makes such a prompt and records every
request that carries it.

It is not a model. Above it stands the real proxy (conftest.py); the bytes of each format are made in wire.py, and in whole.py what is
asked for unstreamed, of which it says the text alone: looopy always streams.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from .whole import whole_answer
from .wire import Breaks, Calls, Refuses, Says, Stalls, Stream, Thinks, Turn, embeddings_for, stream_for

SCRIPTS: dict[str, Sequence[Turn | Refuses]] = {
    "text": [[Says("Hello from the upstream.")]],
    "one-tool": [
        [Says("Let me look."), Calls("get_weather", {"city": "Oslo"})],
        [Says("It is 4 degrees in Oslo.")],
    ],
    "two-tools": [
        [Calls("get_weather", {"city": "Oslo"}), Calls("get_weather", {"city": "Rome"})],
        [Says("Oslo has 4 degrees, Rome 21.")],
    ],
    "reasoning": [
        [Thinks("First the weather.", "c2lnbmF0dXJlLW9uZQ=="), Calls("get_weather", {"city": "Oslo"})],
        [Thinks("Now the answer.", "c2lnbmF0dXJlLXR3bw=="), Says("It is 4 degrees in Oslo.")],
    ],
    "report": [[Says('{"city": "Oslo", "sky": "grey"}')]],
    "report-by-tool": [
        [Calls("final_answer", {"city": "Oslo", "sky": "green"})],
        [Calls("final_answer", {"city": "Oslo", "sky": "grey"})],
    ],
    "breaks": [[Says("The answer is"), Breaks()]],
    "stalls": [[Says("One moment"), Stalls()]],
    "embeddings": [],
    "down": [Refuses()],
    "down-once": [Refuses(), [Says("Hello again.")]],
    "breaks-once": [[Says("It is 4"), Breaks()], [Says(" degrees.")]],
}
"""Each script is its turns: the first answers the prompt, the second what the tools returned or, after a failure, whatever is asked again. Texts to
embed need none."""

_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n"
    b'{"error": {"message": "no capacity left"}}'
)
_TAG = re.compile(rb"\[script ([a-z-]+) ([0-9]+)\]")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the provider saw it: header names in lower case, the body parsed."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """One conversation with the upstream.

    `stalled` is done once a `stalls` script has sent its first token; `hung_up` once the client has closed
    that connection.
    """

    prompt: str
    requests: list[Request] = field(default_factory=list[Request])
    stalled: Future[None] = field(default_factory=Future[None])
    hung_up: Future[None] = field(default_factory=Future[None])


class Upstream:
    """The server: `start()`, then `play(script)` for each conversation, and `stop()`.

    `url` is `http://127.0.0.1:PORT`; the proxy's models point there, with a path per format (`stream_for`).
    """

    def __init__(self) -> None:
        self.url = ""
        self._played: dict[bytes, Played] = {}
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )

    def start(self) -> None:
        """Listen on a free loopback port; returns when connections are accepted."""
        self._thread.start()
        if not self._ready.wait(5):
            raise RuntimeError("the scripted upstream did not start listening within 5 seconds")

    def stop(self) -> None:
        """Close the port and every connection, and end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self._loop.close()

    def play(self, script: str) -> Played:
        """A new conversation: send its `prompt` through the proxy, then look at its `requests`."""
        if script not in SCRIPTS:
            raise KeyError(f"no script {script!r}; there are {', '.join(SCRIPTS)}")
        tag = f"[script {script} {next(self._numbers)}]"
        played = Played(prompt=f"What is the weather? {tag}")
        self._played[tag.encode()] = played
        return played

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._answer(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer; the connection closes behind it, so the body needs no length."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            path, headers, content = await _read(reader)
            tag = _TAG.search(content)
            played = self._played.get(tag[0]) if tag else None
            stream, body = stream_for(path), json.loads(content) if played else {}
            if played:
                played.requests.append(Request(path, headers, body))
            if played and (embeddings := embeddings_for(path, body)):
                writer.write(_json(embeddings))
            elif tag and played and (stream or ":generateContent" in path):
                turns = SCRIPTS[tag[1].decode()]
                again = tag[1].endswith(b"-once") and len(played.requests) > 1
                turn = turns[-1] if again or (stream and stream.has_tool_results(body)) else turns[0]
                if isinstance(turn, Refuses):
                    writer.write(_UNAVAILABLE)
                elif whole := whole_answer(path, body, turn):
                    writer.write(_json(whole))
                elif stream:
                    await _stream(reader, writer, stream, turn, played)
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _json(answer: object) -> bytes:
    body = json.dumps(answer).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name
    }
    return head[0].split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream, turn: Turn, played: Played
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for event in stream.events(turn):
        if isinstance(event, Stalls):
            await writer.drain()
            played.stalled.set_result(None)
            await reader.read()
            played.hung_up.set_result(None)
            return
        writer.write(event)
        await writer.drain()
