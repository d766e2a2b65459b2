"""The transport against real sockets: what it sends, TLS, proxies, errors, and httpx on either side of it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
import zlib

import httpx
import pytest
from providers.raw import LEAVES, answer, answers, chunked, get, leaves_open, run_program, serving, turns

from looopy.providers.http1 import Origin, Request
from looopy.providers.transport import (
    HTTP,
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    FastTransport,
)


# ------------------------------------------------------------------------------------------------------ what is sent
async def test_a_request_goes_out_as_it_was_given_with_host_length_and_no_compression():
    async with serving(answers(answer(b'{"ok":1}', "X-Cost: 0.1"))) as server:
        reply = await HTTP().send("POST", f"{server.url}/v1/chat?x=1", headers={"X-A": "b é"}, body=b"{}")

        assert (reply.status, dict(reply.headers)) == (200, {"x-cost": "0.1", "content-length": "8"})
        assert [piece async for piece in reply] == [b'{"ok":1}']
        assert server.peers[0].requests == [
            f"POST /v1/chat?x=1 HTTP/1.1\r\nhost: {server.url[7:]}\r\naccept-encoding: identity\r\n"
            "x-a: b é\r\ncontent-length: 2\r\n\r\n{}".encode()
        ]


async def test_credentials_in_a_url_become_a_header_and_stay_out_of_messages():
    async with serving(answers(answer(b"hi"))) as server:
        url = server.url.replace("//", "//me:sec%72et@")
        http = HTTP()
        await get(http, url)
        await get(http, url, authorization="Bearer mine")

        [first, second] = server.peers[0].requests
        assert b"authorization: Basic " + base64.b64encode(b"me:secret") in first
        assert b"authorization: Bearer mine" in second
        assert b"@" not in first

    with pytest.raises(ConnectFailed) as caught:
        await get(HTTP(), f"{url}/v1?key=abc")
    assert str(caught.value) == f"cannot connect to {server.url}/v1: connection refused"


async def test_a_header_with_a_line_break_is_refused_before_anything_is_sent():
    async with serving(answers(answer())) as server:
        with pytest.raises(ValueError, match="'authorization' holds a line break"):
            await get(HTTP(), server.url, authorization="Bearer x\r\nx-evil: 1")
        assert server.peers == []


async def test_an_ipv6_host_stands_in_brackets_in_the_host_header():
    try:
        async with serving(answers(answer(b"hi")), host="::1") as server:
            assert await get(HTTP(), server.url) == (200, b"hi")
            assert f"host: {server.url[7:]}\r\n".encode() in server.peers[0].requests[0]
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


async def test_head_is_answered_without_a_body_and_its_connection_is_not_used_again():
    async with serving(answers(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")) as server:
        http = HTTP()
        for _ in range(2):
            reply = await http.send("HEAD", server.url, headers={})
            assert await reply.read() == b""
        assert server.requests == [1, 1]


async def test_an_answer_that_was_compressed_unasked_is_unpacked():
    packed = zlib.compress(b"hello " * 99)
    async with serving(answers(answer(packed, "content-encoding: deflate"))) as server:
        http = HTTP()
        assert await get(http, server.url) == (200, b"hello " * 99)
        assert await get(http, server.url) == (200, b"hello " * 99)
        assert server.requests == [2]


async def test_an_answer_whose_compression_is_broken_is_a_broken_connection():
    async with serving(answers(answer(b"not zlib", "content-encoding: gzip"))) as server:
        with pytest.raises(ConnectionBroken, match="incorrect header check"):
            await get(HTTP(), server.url)


async def test_a_compressed_answer_that_is_cut_is_a_broken_connection():
    async def talk(peer):
        await peer.request()
        await peer.send(chunked(zlib.compress(b"hello"), headers=("content-encoding: deflate",))[:-5])

    async with serving(talk) as server:
        reply = await HTTP().send("GET", server.url, headers={})
        with pytest.raises(ConnectionBroken, match="hung up in mid-body"):
            _ = [piece async for piece in reply]


# ------------------------------------------------------------------------------------------------------ what goes wrong
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://localhost:1", "connection refused"),
        ("ftp://host", "not an http:// or https:// URL with a host"),
        ("localhost:4000", "not an http:// or https:// URL with a host"),
        ("http://host:port", "not a URL: Invalid port: 'port'"),
        ("http://127.0.0.1:99999", "port must be 0-65535"),
        (f"http://{'a' * 70}.test", "label"),
    ],
)
async def test_an_address_that_leads_nowhere_is_named_with_the_reason(url, reason):
    async with asyncio.timeout(5):
        with pytest.raises(ConnectFailed) as caught:
            await get(HTTP(), url)
    assert reason in caught.value.reason
    assert caught.value.url == url


async def test_a_host_that_has_no_address_is_named(monkeypatch):
    def no_such_name(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_such_name)
    async with asyncio.timeout(5):
        with pytest.raises(ConnectFailed) as caught:
            await get(HTTP(), "http://nowhere.test")
    assert caught.value.reason == "name or service not known"


# ------------------------------------------------------------------------------------------------------------------ TLS
@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return cert, context


async def test_https_asks_for_http_1_1_by_name_and_keeps_its_connection(certificate, monkeypatch):
    async def talk(peer):
        spoken.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answers(answer(b"hi"))(peer)

    cert, context = certificate
    spoken, named = [], []
    context.sni_callback = lambda _, name, __: named.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with serving(talk, tls=context) as server:
        http = HTTP()
        url = server.url.replace("127.0.0.1", "localhost")
        assert [await get(http, url), await get(http, url)] == [(200, b"hi")] * 2
        assert (server.requests, spoken, named) == ([2], ["http/1.1"], ["localhost"])


async def test_a_certificate_that_nobody_vouches_for_is_refused_in_words(certificate):
    async with serving(answers(answer(b"hi")), tls=certificate[1]) as server:
        with pytest.raises(ConnectFailed) as caught:
            await get(HTTP(), server.url)
    assert caught.value.reason == "certificate verify failed: self-signed certificate"


async def test_https_to_a_server_that_speaks_plain_http_is_refused_in_words():
    async def talk(peer):
        await peer.reader.read(1)
        await peer.send(answer(b"hi"))

    async with serving(talk) as server:
        with pytest.raises(ConnectFailed, match="TLS: wrong version number"):
            await get(HTTP(), server.url.replace("http:", "https:"))


async def test_a_server_that_hangs_up_in_the_handshake_is_named():
    async def talk(peer):
        await peer.reader.read(1)

    async with serving(talk) as server:
        with pytest.raises(ConnectFailed, match="connection reset by peer"):
            await get(HTTP(), server.url.replace("http:", "https:"))


async def test_an_answer_over_tls_that_is_cut_is_a_broken_connection(certificate):
    async def talk(peer):
        await peer.request()
        await peer.send(chunked(b"a")[:-5])

    cert, context = certificate
    async with serving(talk, tls=context) as server:
        http = HTTP(FastTransport(tls=ssl.create_default_context(cafile=cert)))
        with pytest.raises(ConnectionBroken, match="mid-body"):
            await get(http, server.url)


async def test_a_large_answer_over_tls_arrives_whole(certificate):
    cert, context = certificate
    async with serving(answers(answer(b"a" * 3_000_000)), tls=context) as server:
        reply = await HTTP(FastTransport(tls=ssl.create_default_context(cafile=cert))).send(
            "GET", server.url, headers={}
        )
        await turns(300)
        assert len(await reply.read(4_000_000)) == 3_000_000


async def test_a_program_that_leaves_tls_connections_open_ends_without_a_warning(certificate):
    async with serving(leaves_open, tls=certificate[1], seconds=20) as server:
        assert await run_program(LEAVES, server.url, str(certificate[0])) == ("", 0)


# ------------------------------------------------------------------------------------------------ proxies between
async def test_a_proxy_from_the_environment_is_used(monkeypatch):
    async with serving(answers(answer(b"by proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        fast = FastTransport()
        assert await get(HTTP(fast), "http://upstream.test/v1") == (200, b"by proxy")
        assert proxy.peers[0].requests[0].startswith(b"GET http://upstream.test/v1 HTTP/1.1\r\n")

        response = await fast.handle_async_request(httpx.Request("GET", "http://upstream.test/v2"))
        assert await response.aread() == b"by proxy"
        await fast.aclose()


async def test_a_host_that_no_proxy_names_is_reached_directly(monkeypatch):
    async with serving(answers(answer(b"direct"))) as server:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "example.test, 127.0.0.1")
        http = HTTP()
        assert await get(http, server.url) == (200, b"direct")
        with pytest.raises(ConnectFailed) as caught:
            await get(http, "http://upstream.test/v1")
        assert caught.value.reason == "connection refused"


async def test_a_proxy_that_cannot_be_used_is_named_as_the_reason(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://127.0.0.1:1")
    async with asyncio.timeout(5):
        with pytest.raises(ConnectFailed, match="the proxy set in the environment cannot be used"):
            await get(HTTP(), "https://upstream.test")


# --------------------------------------------------------------------------------------------------- with httpx
async def test_an_httpx_client_works_over_it():
    async def body():
        yield b"ab"
        yield b"cd"

    async with serving(answers(answer(b"hi", "set-cookie: a=1", "set-cookie: b=2"))) as server:
        async with httpx.AsyncClient(transport=FastTransport()) as client:
            first = await client.post(server.url, content=body(), headers={"x-a": "1"})
            second = await client.get(server.url)

        assert (first.status_code, first.text, first.http_version) == (200, "hi", "HTTP/1.1")
        assert dict(second.cookies) == {"a": "1", "b": "2"}
        [posted, got] = server.peers[0].requests
        assert posted.endswith(b"content-length: 4\r\n\r\nabcd")
        assert b"content-length" not in got


async def test_an_httpx_client_gets_httpx_errors():
    async def talk(peer):
        request = await peer.request()
        await peer.send(chunked(b"a")[:-5] if b"/cut" in request else b"")

    async def silent(peer):
        await peer.hung_up()

    async with (
        serving(talk) as server,
        serving(silent) as other,
        httpx.AsyncClient(transport=FastTransport(), timeout=httpx.Timeout(5, connect=0.01)) as client,
    ):
        for url, error in [
            ("http://127.0.0.1:1", httpx.ConnectError),
            (other.url.replace("http:", "https:"), httpx.ConnectTimeout),
            (server.url, httpx.RemoteProtocolError),
            (f"{server.url}/cut", httpx.RemoteProtocolError),
        ]:
            with pytest.raises(error) as caught:
                await client.get(url)
            assert str(caught.value.request.url).startswith(url)
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url, headers={"x": "a\nb"})


async def test_a_scripted_transport_of_httpx_can_stand_in():
    def respond(request):
        assert (request.url, request.content) == ("http://a.test/v1", b"{}")
        return httpx.Response(201, headers=[("X-A", "1"), ("X-A", "2")], content=b"made")

    reply = await HTTP(httpx.MockTransport(respond)).send("POST", "http://a.test/v1", headers={}, body=b"{}")

    assert (reply.status, reply.headers["x-a"], await reply.read(3)) == (201, "2", b"mad")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (httpx.ConnectTimeout(""), ConnectTimeout("http://a.test", 3)),
        (httpx.ConnectError("no luck"), ConnectFailed("http://a.test", "no luck")),
        (httpx.ReadError(""), ConnectionBroken("http://a.test", 0, "ReadError")),
    ],
)
async def test_errors_of_another_transport_read_like_our_own(raised, error):
    def respond(request):
        raise raised

    with pytest.raises(type(error)) as caught:
        await HTTP(httpx.MockTransport(respond)).send("GET", "http://a.test", headers={}, connect_timeout=3)
    assert str(caught.value) == str(error)


async def test_a_body_of_another_transport_is_cut_like_our_own():
    async def body():
        yield b"abc"
        raise httpx.ReadError("cut")

    http = HTTP(httpx.MockTransport(lambda _: httpx.Response(200, content=body())))
    pieces = aiter(await http.send("GET", "http://a.test", headers={}))
    assert await anext(pieces) == b"abc"
    with pytest.raises(ConnectionBroken) as caught:
        await anext(pieces)
    assert (caught.value.bytes_read, caught.value.reason) == (3, "cut")


def test_no_key_stands_in_the_repr_of_a_request():
    request = Request(
        Origin(secure=True, host="a.test", port=443), "https://a.test/", b"authorization: Bearer sk-1"
    )
    assert "sk-1" not in repr(request)
