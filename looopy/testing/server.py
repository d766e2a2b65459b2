"""A LiteLLM proxy that plays a script: the same words as `ScriptedModel`, as HTTP.

`transport()` is a door for httpx in memory, which also works in virtual time; `serve()` and `running()` open a real loopback port. The real
provider talks to all of them. It is no proxy: it knows the handful of routes that looopy asks for, and always streams. `wire.py` makes
the bytes and `loopback.py` has the sockets.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias

import httpx
from pydantic_core import to_json

from looopy.messages import JSON
from looopy.testing.loopback import Loopback
from looopy.testing.script import Answer, Cut, Fail, ScriptOver, Stall, Wait
from looopy.testing.wire import Piece, Reply, error_body, reply_to

Outcome: TypeAlias = Literal["open", "answered", "hung-up", "cut"]
"""How an exchange went: it goes on; all was sent; the client left before; the script cut it."""


@dataclass(slots=True)
class Received:
    """A request for a chat completion or for embeddings.

    Attributes:
        body: its parsed JSON.
        headers: its head, names in lower case.
        outcome: how the exchange went so far.
    """

    body: dict[str, JSON]
    headers: dict[str, str]
    outcome: Outcome = "open"


class ScriptedServer:
    """A server that gives the answers of a script, one a request, in order: chat completions, and with `embeds` embeddings.

    Args:
        answers: what the requests are answered with.
        otherwise: makes an answer from a request's body, once the others are used up.
        models: the names it offers; empty offers "scripted-model" and accepts any.
        api_key: the key that it asks for; empty asks for none.
        pieces: how a body is sent: one server-sent "event" at a time, everything up to the next wait in one "burst", or so many bytes at a
            time, which splits events and characters anywhere.

    Attributes:
        requests: every request for a chat completion or for embeddings so far.
        paths: method and path of every request, for example "GET /v1/models".
        connections: connections opened so far; in memory, one a request.
        open_connections: those that are open now.
    """

    def __init__(
        self,
        *answers: Answer,
        otherwise: Callable[[dict[str, JSON]], Answer] | None = None,
        models: Sequence[str] = (),
        api_key: str = "",
        pieces: Literal["event", "burst"] | int = "event",
    ) -> None:
        self.requests: list[Received] = []
        self.paths: list[str] = []
        self.connections = 0
        self.open_connections = 0
        self._answers = answers
        self._otherwise = otherwise
        self._models = tuple(models)
        self._api_key = api_key
        self._pieces = pieces
        self._call_ids = (f"call_{number}" for number in count(1))
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._lock = threading.Lock()

    def transport(self) -> httpx.AsyncBaseTransport:
        """The server as an httpx transport, in memory; any host name reaches it."""
        return _Transport(self)

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncGenerator[str, None]:
        """The server on a loopback port, on the running event loop; gives its URL. Leaving closes every connection."""
        loopback = Loopback(self)
        url = await loopback.open(port)
        try:
            yield url
        finally:
            await loopback.close()

    @contextmanager
    def running(self, port: int = 0) -> Generator[str, None, None]:
        """The server on a loopback port, on a thread and an event loop of its own; gives its URL. For code without a loop."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="looopy-scripted-server", daemon=True)
        thread.start()
        served = self.serve(port)
        try:
            url = asyncio.run_coroutine_threadsafe(served.__aenter__(), loop).result(5)
            try:
                yield url
            finally:
                asyncio.run_coroutine_threadsafe(served.__aexit__(None, None, None), loop).result(5)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()

    async def hung_up(self, times: int = 1, *, seconds: float = 5.0) -> None:
        """Wait until clients left so many answers before their end.

        Raises:
            TimeoutError: they did not within `seconds`; the message says how each exchange went.
        """
        await self._until(
            lambda: sum(request.outcome == "hung-up" for request in self.requests) >= times,
            f"{times} to hang up",
            seconds,
        )

    async def asked(self, times: int = 1, *, seconds: float = 5.0) -> None:
        """Wait until there were so many requests.

        Raises:
            TimeoutError: there were not within `seconds`.
        """
        await self._until(lambda: len(self.requests) >= times, f"{times} requests", seconds)

    def assert_complete(self) -> None:
        """Check that every answer was asked for.

        Raises:
            ScriptOver: some were not.
        """
        left = len(self._answers) - len(self.requests)
        if left > 0:
            following = self._answers[len(self.requests)]
            raise ScriptOver(
                f"{left} of {len(self._answers)} scripted answers were not asked for; the next is {following}"
            )

    def respond(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Reply, Received | None]:
        """The response to a request, and its record if it is for a model. For the doors of this server."""
        self.paths.append(f"{method} {path}")
        if path.startswith("/health/"):
            return _json(200, b'"I\'m alive!"'), None
        if self._api_key and headers.get("authorization") != f"Bearer {self._api_key}":
            return _refused(Fail(401, "Authentication Error, Invalid proxy server token passed.")), None
        if method == "GET":
            return self._describe(path), None
        if path.removeprefix("/v1") not in ("/chat/completions", "/embeddings"):
            return _json(404, b'{"detail":"Not Found"}'), None
        try:
            request = json.loads(body)
        except ValueError as error:
            return _refused(Fail(400, f"Invalid JSON in the request: {error}")), None
        received = Received(request, dict(headers))
        self.requests.append(received)
        answer = self._next(request)
        reply = reply_to(request, answer, number=len(self.requests), call_ids=self._call_ids)
        self._notice()
        return Reply(reply.status, reply.headers, tuple(self._cut_up(reply.pieces)), reply.before), received

    def end(self, received: Received | None, outcome: Outcome) -> None:
        """Note how an exchange went; the first word counts. For the doors of this server."""
        if received and received.outcome == "open":
            received.outcome = outcome
            self._notice()

    def count_connection(self, change: Literal[1, -1]) -> None:
        """Note that a connection opened or closed. For the doors of this server."""
        self.connections += change == 1
        self.open_connections += change

    def _next(self, request: dict[str, JSON]) -> Answer:
        model = str(request.get("model", ""))
        asked = len(self.requests)
        if self._models and model not in self._models:
            text = f"litellm.BadRequestError: You passed in model={model}. There are no healthy deployments for this model."
            return Answer((Fail(400, text),))
        if asked <= len(self._answers):
            return self._answers[asked - 1]
        if self._otherwise:
            return self._otherwise(request)
        newest = json.dumps((request.get("messages") or [None])[-1])[:300]
        text = f"the script has {len(self._answers)} answers and this is request {asked}; its newest message is {newest}"
        return Answer(
            (Fail(400, f"ScriptedServer: {text}. Add an answer, or find out why there is another call"),)
        )

    def _describe(self, path: str) -> Reply:
        names = self._models or ("scripted-model",)
        path = path.partition("?")[0]
        if path in ("/v1/models", "/models"):
            return _json(200, to_json({"object": "list", "data": [_listed(name) for name in names]}))
        if path == "/model_group/info":
            return _json(200, to_json({"data": [_described(name) for name in names]}))
        return _json(404, b'{"detail":"Not Found"}')

    def _cut_up(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The body in the pieces in which it is sent."""
        if self._pieces == "event":
            yield from pieces
            return
        held = b""
        for piece in (*pieces, None):
            if isinstance(piece, bytes):
                held += piece
                continue
            size = len(held) if self._pieces == "burst" else int(self._pieces)
            yield from (held[at : at + size] for at in range(0, len(held), size or 1))
            held = b""
            if piece is not None:
                yield piece

    async def _until(self, true: Callable[[], bool], what: str, seconds: float) -> None:
        noticed = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((true, noticed))
        self._notice()
        try:
            async with asyncio.timeout(seconds):
                await noticed
        except TimeoutError:
            outcomes = ", ".join(request.outcome for request in self.requests) or "no request came"
            raise TimeoutError(f"waited {seconds:g} s for {what}; the exchanges so far: {outcomes}") from None

    def _notice(self) -> None:
        """Wake whoever waits for what has become true; the waiter may be on another loop than the server."""
        with self._lock:
            ready = [waiter for waiter in self._waiting if waiter[0]()]
            self._waiting = [waiter for waiter in self._waiting if waiter not in ready]
        for _, noticed in ready:
            noticed.get_loop().call_soon_threadsafe(_wake, noticed)


class _Transport(httpx.AsyncBaseTransport):
    """The door in memory: one request, one response, and a body that the client may close at any time."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        head = {name.lower(): value for name, value in request.headers.items()}
        reply, received = self._server.respond(request.method, request.url.raw_path.decode(), head, content)
        body = _Body(self._server, reply, received)
        try:
            await body.begin()
        except BaseException:
            await body.aclose()
            raise
        return httpx.Response(reply.status, headers=reply.headers, stream=body, request=request)


class _Body(httpx.AsyncByteStream):
    """The body of one response."""

    def __init__(self, server: ScriptedServer, reply: Reply, received: Received | None) -> None:
        self._server = server
        self._reply = reply
        self._received = received
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        server.count_connection(1)

    async def begin(self) -> None:
        """Live through what happens before the head."""
        for step in self._reply.before:
            if isinstance(step, Cut):
                self._server.end(self._received, "cut")
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            await self._pause(step.seconds if isinstance(step, Wait) else None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = len(self._reply.pieces)
        for piece in self._reply.pieces:
            left -= 1
            match piece:
                case Cut():
                    self._server.end(self._received, "cut")
                    raise httpx.RemoteProtocolError(
                        "peer closed connection without sending complete message body (incomplete chunked read)"
                    )
                case Wait(seconds):
                    await self._pause(seconds)
                case Stall():
                    await self._pause(None)
                case _:
                    if not left:
                        self._server.end(self._received, "answered")
                    await asyncio.sleep(0)
                    yield piece

    async def aclose(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
            self._server.count_connection(-1)
            self._server.end(self._received, "hung-up")

    async def _pause(self, seconds: float | None) -> None:
        await asyncio.wait([self._closed], timeout=seconds)
        if self._closed.done():
            raise httpx.ReadError("the response was closed while it was being read")


def _wake(noticed: asyncio.Future[None]) -> None:
    if not noticed.done():
        noticed.set_result(None)


def _json(status: int, body: bytes) -> Reply:
    return Reply(status, {"content-type": "application/json"}, (body,))


def _refused(failure: Fail) -> Reply:
    return _json(failure.status, error_body(failure))


def _listed(name: str) -> JSON:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "openai"}


def _described(name: str) -> JSON:
    return {
        "model_group": name,
        "providers": ["openai"],
        "mode": "embedding" if "embed" in name else "chat",
        "max_input_tokens": 128_000,
        "max_output_tokens": 16_384,
        "supports_function_calling": True,
        "supports_parallel_function_calling": True,
        "supports_vision": False,
        "supports_reasoning": True,
        "supported_openai_params": ["temperature", "top_p", "max_tokens", "tools", "tool_choice"],
    }
