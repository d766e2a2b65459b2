"""A server of chat completions and embeddings that costs next to nothing: prebuilt bytes behind one `asyncio.Protocol`.

Not a model and not a test double (that is `looopy.testing`): every answer is a constant, chosen by the
request's model name and by how many tool messages the conversation holds. It runs as a child process, so
that its CPU time is not the measured loop's. `server()` starts it; it ends when its standard input closes.

    iterations-N   a tool call until N tool messages are there, then nine pieces ("two turns": N = 1)
    burst-N        an answer of N pieces of 216 bytes, written at once
    paced-N        an answer of N pieces, one a millisecond
    held           a tool call; the request after it gets no byte before `GET /release`
    hang           two pieces, then nothing for ever
    embed-N        a vector of N numbers for each text, in base64 or as numbers, as the request says

    GET /held/N      answers once N requests are held
    GET /hangups/N   answers once N streams were hung up on: the newest one's `time.monotonic()`, in seconds
"""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

from pydantic_core import from_json

HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Fri, 01 Jan 2027 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-litellm-call-id: 0a1b2c3d-0000-4000-8000-000000000000\r\nx-litellm-model-group: bench\r\n"
    b"x-litellm-version: 1.109.1\r\ntransfer-encoding: chunked\r\n\r\n"
)
JSON_HEAD = HEAD.replace(b"text/event-stream; charset=utf-8", b"application/json").replace(
    b"transfer-encoding: chunked", b"x-litellm-response-cost: 0.0002\r\ncontent-length: %d"
)
END = b"0\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ARGUMENTS = ('{"a"', ": 15", ', "b"', ": 23}")


def sse(data: str) -> bytes:
    """One server-sent event in an HTTP chunk of its own, as uvicorn writes it for LiteLLM."""
    event = b"data: " + data.encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def chunk(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return sse(json.dumps({**completion(), "choices": [choice]}, separators=(",", ":")))


def completion() -> dict[str, object]:
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion.chunk",
        "created": 1800000000,
        "model": "bench-model",
        "system_fingerprint": "fp_bench",
    }


@cache
def ending(finish_reason: str) -> bytes:
    usage = sse(json.dumps({**completion(), "choices": [], "usage": USAGE}, separators=(",", ":")))
    return chunk({}, finish_reason) + usage + sse("[DONE]") + END


@cache
def pieces(count: int) -> tuple[bytes, ...]:
    """The answer's text in `count` pieces; the first event also gives the role, as LiteLLM's does."""
    first = chunk({"role": "assistant", "content": " tok0"})
    return first, *(chunk({"content": f" tok{number % 10}"}) for number in range(1, count))


@cache
def answer(count: int) -> bytes:
    return HEAD + b"".join(pieces(count)) + ending("stop")


@cache
def tool_call(number: int) -> bytes:
    call = {
        "index": 0,
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "add", "arguments": ""},
    }
    arguments = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ARGUMENTS]
    deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}, *arguments]
    return HEAD + b"".join(chunk(delta) for delta in deltas) + ending("tool_calls")


@cache
def embeddings(texts: int, dimensions: int, *, packed: bool) -> bytes:
    vector = array("f", [0.01 * (number % 89) - 0.4 for number in range(dimensions)])
    embedding = base64.b64encode(vector).decode() if packed else vector.tolist()
    data = [{"object": "embedding", "index": index, "embedding": embedding} for index in range(texts)]
    usage = {"prompt_tokens": 100 * texts, "total_tokens": 100 * texts}
    body = json.dumps({"model": "bench-model", "data": data, "object": "list", "usage": usage})
    return JSON_HEAD % len(body) + body.encode()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the connections have seen together, and the controls that wait for a count of it."""

    held: list[Callable[[], None]] = field(default_factory=list)
    hangups: list[float] = field(default_factory=list)
    waiting: list[tuple[Sized, int, Callable[[], None]]] = field(default_factory=list)

    def tell(self) -> None:
        """Answer the controls whose count is reached."""
        waiting = self.waiting.copy()
        self.waiting.clear()
        for entry in waiting:
            found, count, reply = entry
            if len(found) < count:
                self.waiting.append(entry)
            else:
                reply()


class Exchange(asyncio.Protocol):
    """One connection; requests on it come one after the other (no client here pipelines)."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = bytearray()
        self.hanging = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.hanging:
            self.seen.hangups.append(time.monotonic())
            self.seen.tell()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, rest = bytes(self.received).partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET "):
            self.control(head.split(b" ", 2)[1].decode())
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self.received.clear()
        body = from_json(rest)
        if body["model"].startswith("embed-"):
            dimensions, packed = int(body["model"][6:]), body.get("encoding_format") == "base64"
            self.transport.write(embeddings(len(body["input"]), dimensions, packed=packed))
            return
        self.reply(body["model"], sum(message["role"] == "tool" for message in body["messages"]))

    def reply(self, model: str, tool_messages: int) -> None:
        script, _, number = model.partition("-")
        match script:
            case "iterations":
                done = tool_messages >= int(number)
                self.transport.write(answer(9) if done else tool_call(tool_messages))
            case "burst":
                self.transport.write(answer(int(number)))
            case "paced":
                self.pace(iter([HEAD, *pieces(int(number)), ending("stop")]))
            case "held" if tool_messages == 0:
                self.transport.write(tool_call(0))
            case "held":
                self.seen.held.append(partial(self.transport.write, answer(9)))
                self.seen.tell()
            case "hang":
                self.hanging = True
                self.transport.write(HEAD + b"".join(pieces(2)))
            case _:
                raise ValueError(f"no script is called {model!r}; the module's docstring lists them")

    def pace(self, parts: Iterator[bytes]) -> None:
        if (part := next(parts, None)) is not None:
            self.transport.write(part)
            asyncio.get_running_loop().call_later(0.001, self.pace, parts)

    def control(self, path: str) -> None:
        _, name, *count = path.split("/")
        match name:
            case "held":
                self.seen.waiting.append((self.seen.held, int(count[0]), lambda: self.say("held")))
            case "hangups":
                self.seen.waiting.append(
                    (self.seen.hangups, int(count[0]), lambda: self.say(repr(self.seen.hangups[-1])))
                )
            case _:
                for release in self.seen.held:
                    release()
                self.seen.held.clear()
                self.say("released")
        self.seen.tell()

    def say(self, text: str) -> None:
        self.transport.write(PLAIN % (len(text), text.encode()))
        self.transport.close()


def allow_many_sockets() -> None:
    """1,000 runs at once need more than the usual soft limit of 1,024 open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve() -> None:
    listening = await asyncio.get_running_loop().create_server(
        partial(Exchange, Seen()), "127.0.0.1", 0, backlog=4096
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server() -> Iterator[str]:
    """The server in a child process, for as long as the block lasts; gives its URL."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"


async def ask(url: str, path: str) -> str:
    """One control request on a connection of its own; bounded by 60 seconds."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET %s HTTP/1.1\r\n\r\n" % path.encode())
        reply = await reader.read()
        writer.close()
    return reply.rpartition(b"\r\n")[2].decode()


if __name__ == "__main__":
    allow_many_sockets()
    asyncio.run(serve())
