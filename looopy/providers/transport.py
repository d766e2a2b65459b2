"""The one place that knows the HTTP client.

`HTTP` is what providers use: `send` a request, get a `Reply`, iterate over its body. It runs on `FastTransport`, which
is `sockets.py` and `http1.py` behind httpx's transport interface, or on any other transport of httpx: a scripted one in a test, an
application's own. It follows no redirects, keeps no cookies, retries nothing but a keep-alive race, and knows nothing
of models, JSON or server-sent events; `litellm.py` stands above.

Behind a proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, read once per event loop and origin) httpx's own
transport does the work: correct, and slower with many requests at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import re
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import httpx

from looopy.errors import ConfigurationError
from looopy.providers.http1 import (
    BODY_LIMIT,
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    Exchange,
    Origin,
    Request,
    read,
    request_head,
    why,
)
from looopy.providers.sockets import Pool

__all__ = [
    "BODY_LIMIT",
    "HTTP",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionBroken",
    "FastTransport",
    "Reply",
    "Transport",
    "chosen",
    "direct",
    "read",
    "shared",
]

_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}


class Reply(Protocol):
    """One answer. Iterate over it, `read` it, or `aclose` it: something must happen to its connection."""

    @property
    def status(self) -> int:
        """As HTTP numbers them, 200 to 599."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of a repeated header the last value."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as it comes, any content-encoding undone. Raises `ConnectionBroken` where it is cut."""
        ...

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The rest of the body, at most `limit` bytes of it; what is over is not waited for."""
        ...

    async def aclose(self) -> None:
        """Done: the connection is closed at once, unless the body has come to its end."""
        ...


class Transport(Protocol):
    """A way to send HTTP requests."""

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        connect_timeout: float | None = None,
    ) -> Reply:
        """Send a request and wait for the head of its answer; a status of 400 and above is an answer too.

        Args:
            method: in capital letters.
            url: http or https. Credentials in it become a basic `authorization` unless `headers` has one.
            headers: as they go over the wire; `host`, `content-length` and `accept-encoding: identity` are added.
            body: all of it.
            connect_timeout: seconds for name, connection and TLS together; None leaves it to the system. There is no
                limit for the answer: cancel the call.

        Raises:
            ConnectFailed: no connection came about.
            ConnectTimeout: none came about in time.
            ConnectionBroken: the connection ended before the headers did, or the answer is no HTTP.
            ValueError: a header holds a line break.
        """
        ...


class _SendsRequests(Protocol):
    """What is asked of a transport of httpx."""

    async def handle_async_request(self, request: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Target:
    origin: Origin
    host: str  # as the header wants it
    path: str  # with the query
    url: str  # for messages
    authorization: str | None = field(repr=False)


@functools.lru_cache(maxsize=256)
def _target(url: str) -> _Target:
    """Take a URL apart; the same few come again and again."""
    shown = _shown(url)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConnectFailed(shown, f"not a URL: {error}") from None
    return _parsed_target(parsed, shown)


def _shown(url: str) -> str:
    """A URL for messages: credentials may stand before the host and in the query."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url)[0])


def _parsed_target(url: httpx.URL, shown: str) -> _Target:
    if url.scheme not in _PORTS or not url.raw_host:
        raise ConnectFailed(shown, "not an http:// or https:// URL with a host")
    userinfo = f"{url.username}:{url.password}" if url.userinfo else None
    return _Target(
        origin=Origin(url.scheme == "https", url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]),
        host=url.netloc.decode("ascii"),
        path=url.raw_path.decode("ascii"),
        url=shown,
        authorization=userinfo and f"Basic {base64.b64encode(userinfo.encode()).decode('ascii')}",
    )


class _LoopState:
    """What one event loop has open: the pool, and httpx's transports for origins behind a proxy."""

    __slots__ = ("_end", "_proxies", "_routes", "_tls", "pool")

    def __init__(
        self, pool: Pool, tls: Callable[[], ssl.SSLContext], proxies: Callable[[], Mapping[str, str]]
    ) -> None:
        self.pool = pool
        self._tls = tls
        self._proxies = proxies
        self._routes: dict[Origin, httpx.AsyncHTTPTransport | None] = {}
        self._end = self._until_the_loop_ends()

    async def open(self) -> None:
        # asyncio closes started asynchronous generators when a loop ends: the one hook it offers for that moment.
        await anext(self._end)

    async def close(self) -> None:
        await self._end.aclose()

    def route(self, origin: Origin, url: str) -> httpx.AsyncHTTPTransport | None:
        """The proxied way to an origin, or None if it is reached directly."""
        if origin not in self._routes:
            self._routes[origin] = self._proxied(origin, url)
        return self._routes[origin]

    def _proxied(self, origin: Origin, url: str) -> httpx.AsyncHTTPTransport | None:
        proxies = self._proxies()
        proxy = proxies.get("https" if origin.secure else "http") or proxies.get("all")
        if not proxy or proxy_bypass(f"{origin.host}:{origin.port}"):
            return None
        # Its pool walks over the idle connections for each request, so few are kept; those in use are the caller's.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        try:
            return httpx.AsyncHTTPTransport(verify=self._tls(), limits=limits, proxy=proxy)
        except (ImportError, ValueError) as error:
            raise ConnectFailed(url, f"the proxy set in the environment cannot be used: {error}") from error

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self.pool.close()
            for transport in self._routes.values():
                if transport is not None:
                    await transport.aclose()
            await asyncio.sleep(0)  # sockets close one turn of the loop after they were told to


class FastTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 behind httpx's transport interface, with a pool whose cost does not grow with its size.

    One object serves any number of event loops and threads: connections belong to the loop that opened them, are
    closed when it ends, and are never used by a forked child. Of httpx's timeouts it heeds `connect` alone.

    Args:
        tls: for https; otherwise made when first needed from SSL_CERT_FILE, SSL_CERT_DIR or certifi's authorities.
        max_idle: connections kept open for each origin and loop.
        idle_seconds: how long one is kept unused.
        proxies: finds the proxies by URL scheme; left out, those of the environment.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        max_idle: int = 1024,
        idle_seconds: float = 30.0,
        proxies: Callable[[], Mapping[str, str]] = getproxies,
    ) -> None:
        self._tls = tls
        self._proxies = proxies
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._states: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = (
            weakref.WeakKeyDictionary()
        )

    async def exchange(self, request: Request, connect_timeout: float | None) -> Exchange | None:
        """Send a request without building httpx's objects; None, and nothing sent, if a proxy stands in between."""
        state = await self._state()
        if state.route(request.origin, request.url) is not None:
            return None
        return await state.pool.exchange(request, connect_timeout)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as httpx hands it over, its body as one piece."""
        with _as_httpx(request):
            target = _parsed_target(request.url, _shown(str(request.url)))
            state = await self._state()
            proxied = state.route(target.origin, target.url)
            if proxied is not None:
                return await proxied.handle_async_request(request)
            body = await request.aread()
            headers = [
                (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
                for name, value in request.headers.raw
                if name.lower() not in {b"content-length", b"transfer-encoding"}
            ]
            headers += _framing(request.method, body)
            data = request_head(request.method, target.path, headers) + body
            timeout = request.extensions.get("timeout", {}).get("connect")
            sent = Request(target.origin, target.url, data, request.method == "HEAD")
            return _response(await state.pool.exchange(sent, timeout), request)

    async def aclose(self) -> None:
        """Close what the running event loop has open; a later request opens anew."""
        state = self._states.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state.close()

    async def _state(self) -> _LoopState:
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        if state is None or not state.pool.usable:
            pool = Pool(self._context, max_idle=self._max_idle, idle_seconds=self._idle_seconds)
            state = _LoopState(pool, self._context, self._proxies)
            with self._lock:
                # A loop that ended without closing its generators would be held for ever by its own sockets.
                for ended in [known for known in self._states if known.is_closed()]:
                    del self._states[ended]
                self._states[loop] = state
            await state.open()
        return state

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class HTTP:
    """The `Transport` of looopy: over its own fast one, or over any asynchronous transport of httpx.

    Args:
        transport: what has httpx's `handle_async_request`; a `FastTransport` of its own if left out.
    """

    def __init__(self, transport: _SendsRequests | None = None) -> None:
        self._transport = FastTransport() if transport is None else transport

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
        target = _target(url)
        wire = _wire_headers(method, target, headers, body)
        head = request_head(method, target.path, wire)
        if isinstance(self._transport, FastTransport):
            request = Request(target.origin, target.url, head + body, method == "HEAD")
            exchange = await self._transport.exchange(request, connect_timeout)
            if exchange is not None:
                coded = exchange.headers.get("content-encoding", "identity") != "identity"
                return _HttpxReply(_response(exchange, None), target.url) if coded else exchange
        request = httpx.Request(
            method,
            url,
            headers=[(name.encode(), value.encode()) for name, value in wire],
            content=body,
            extensions={"timeout": {"connect": connect_timeout, "read": None, "write": None, "pool": None}},
        )
        with _from_httpx(target.url, connect_timeout):
            return _HttpxReply(await self._transport.handle_async_request(request), target.url)


@functools.cache
def shared() -> Transport:
    """The transport of the process: one pool for each event loop, whoever asks."""
    return HTTP()


@functools.cache
def direct() -> Transport:
    """As `shared`, but every origin is asked directly, whatever HTTP proxies the environment names."""
    return HTTP(FastTransport(proxies=dict[str, str]))


def chosen(transport: Transport | None) -> Transport:
    """The transport that somebody was given, or the process's.

    Raises:
        ConfigurationError: it is none.
    """
    if transport is not None and not callable(getattr(transport, "send", None)):
        raise ConfigurationError(
            f"transport={type(transport).__name__}: it has no send(); wrap an httpx transport as looopy.providers.transport.HTTP(transport)",
            argument="transport",
        )
    return transport or shared()


def _wire_headers(
    method: str, target: _Target, headers: Mapping[str, str], body: bytes
) -> list[tuple[str, str]]:
    wire = {"host": target.host, "accept-encoding": "identity"}
    if target.authorization is not None:
        wire["authorization"] = target.authorization
    wire.update((name.lower(), value) for name, value in headers.items())
    wire.pop("transfer-encoding", None)
    wire.pop("content-length", None)
    return [*wire.items(), *_framing(method, body)]


def _framing(method: str, body: bytes) -> list[tuple[str, str]]:
    return [("content-length", str(len(body)))] if body or method not in _NO_BODY else []


# ------------------------------------------------------------------------------------------------- to and from httpx
class _Body(httpx.AsyncByteStream):
    """An exchange's body as httpx wants it."""

    def __init__(self, exchange: Exchange, request: httpx.Request | None) -> None:
        self._exchange = exchange
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx(self._request):
            async for piece in self._exchange:
                yield piece

    async def aclose(self) -> None:
        await self._exchange.aclose()


def _response(exchange: Exchange, request: httpx.Request | None) -> httpx.Response:
    return httpx.Response(
        exchange.status,
        headers=exchange.raw_headers,
        stream=_Body(exchange, request),
        request=request,
        extensions={"http_version": b"HTTP/1.1"},
    )


class _HttpxReply:
    """A `Reply` over httpx's response, which also undoes a content-encoding."""

    def __init__(self, response: httpx.Response, url: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers.raw
        }
        self._response = response
        self._url = url
        self._pieces = response.aiter_bytes()
        self._bytes_read = 0

    def __aiter__(self) -> _HttpxReply:
        return self

    async def __anext__(self) -> bytes:
        with _from_httpx(self._url, None, self._bytes_read):
            piece = await anext(self._pieces)
        self._bytes_read += len(piece)
        return piece

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        body = await read(self, limit)
        await self.aclose()
        return body

    async def aclose(self) -> None:
        await self._response.aclose()


@contextlib.contextmanager
def _as_httpx(request: httpx.Request | None) -> Generator[None]:
    try:
        yield
    except ConnectTimeout as error:
        raise httpx.ConnectTimeout(str(error), request=request) from error
    except ConnectFailed as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except ConnectionBroken as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
    except ValueError as error:
        raise httpx.LocalProtocolError(str(error), request=request) from error


@contextlib.contextmanager
def _from_httpx(url: str, connect_timeout: float | None, bytes_read: int = 0) -> Generator[None]:
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise ConnectTimeout(url, connect_timeout or 0.0) from error
    except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
        raise ConnectFailed(url, _root_reason(error)) from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise ConnectionBroken(url, bytes_read, str(error) or type(error).__name__) from error


def _root_reason(error: BaseException) -> str:
    """The system's words below httpx's "All connection attempts failed"."""
    below: BaseException | None = error
    while below is not None:
        error = below if isinstance(below, OSError) else error
        several: tuple[BaseException, ...] = getattr(
            below, "exceptions", ()
        )  # one for each address of a host
        below = several[0] if several else below.__cause__ or below.__context__
    return why(error)
