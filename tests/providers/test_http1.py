"""What an `Exchange` makes of the bytes of an answer, however they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.raw import answer, chunked

from looopy.providers.http1 import HOLD_BACK, ConnectionBroken, Exchange, Origin, Request, request_head

BODY = b'data: {"a": 1}\n\ndata: [DONE]\n\n'
TO_EOF = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
WAYS = {
    "length": answer(BODY),
    "chunks": chunked(BODY[:7], BODY[7:8], BODY[8:]),
    "chunks and trailers": chunked(BODY, headers=("trailer: x-cost",), trailers="x-cost: 1\r\n"),
    "after information": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    + answer(BODY),
    "to the end": TO_EOF + BODY,
    "coded, to the end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: x-own\r\n\r\n" + BODY,
}


@dataclasses.dataclass
class Wire:
    """A connection that only notes what is asked of it."""

    asked: list[str] = dataclasses.field(default_factory=list)

    def pause(self):
        self.asked.append("pause")

    def resume(self):
        self.asked.append("resume")

    def done(self, *, keep):
        self.asked.append("keep" if keep else "close")


def exchange(*, headers_only=False):
    wire = Wire()
    request = Request(Origin(secure=False, host="a.test", port=80), "http://a.test/", b"", headers_only)
    return Exchange(request, wire), wire


def feed(reply, wire, data):
    """Hand bytes over as a connection does: none after the exchange has ended."""
    if data and "keep" not in wire.asked and "close" not in wire.asked:
        reply.feed(memoryview(data))


async def whole(reply):
    await reply.started()
    return await reply.read()


async def told(data, *, headers_only=False):
    """What a reader gets of an answer that comes in one piece and then ends."""
    reply, wire = exchange(headers_only=headers_only)
    feed(reply, wire, data)
    if not wire.asked:
        reply.ended()
    async with asyncio.timeout(5):
        await reply.started()
        return reply.status, await reply.read(), wire.asked


@pytest.mark.parametrize("way", WAYS)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
async def test_any_split_of_an_answer_gives_the_same_body(way, cuts):
    data = WAYS[way]
    reply, wire = exchange()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        feed(reply, wire, data[start:end])
    if not wire.asked:
        reply.ended()

    async with asyncio.timeout(5):
        await reply.started()
        assert (reply.status, await reply.read()) == (200, BODY)


@pytest.mark.parametrize("way", WAYS)
@given(share=st.floats(0, 1))
async def test_any_cut_of_an_answer_is_an_error_unless_the_end_of_the_connection_ends_it(way, share):
    data = WAYS[way]
    cut = data[: int(share * len(data))]
    reply, wire = exchange()
    feed(reply, wire, cut)
    if not wire.asked:
        reply.ended()

    async with asyncio.timeout(5):
        if cut == data or (way.endswith("to the end") and b"\r\n\r\n" in cut):
            assert await whole(reply) == (BODY if cut == data else cut.split(b"\r\n\r\n", 1)[1])
        else:
            with pytest.raises(ConnectionBroken):
                await whole(reply)


@given(st.binary(max_size=300))
async def test_no_bytes_of_a_server_make_anything_but_an_answer_or_an_error(data):
    with contextlib.suppress(ConnectionBroken):
        status, _, _ = await told(data)
        assert status >= 200


@pytest.mark.parametrize(
    ("data", "status", "body", "then"),
    [
        (answer(b"hi"), 200, b"hi", "keep"),
        (answer(b"hi", "connection: close"), 200, b"hi", "close"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", "close"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi", 200, b"hi", "keep"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "keep"),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b"", "keep"),
        (TO_EOF + b"hi", 200, b"hi", "close"),
        (answer(b"hi") + answer(b"forged"), 200, b"hi", "close"),
    ],
)
async def test_an_answer_ends_where_its_head_says_and_its_connection_lives_on_if_it_may(
    data, status, body, then
):
    assert await told(data) == (status, body, [then])


async def test_the_answer_to_head_has_no_body_whatever_length_it_announces():
    assert await told(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", headers_only=True) == (
        200,
        b"",
        ["close"],
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the server hung up before it answered"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "the server hung up before it answered"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "the server hung up in mid-body"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "the answer is not HTTP/1.1"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "the answer is not HTTP/1.1",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "switched protocols",
        ),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000, "more than 65536 bytes of headers"),
        (chunked(trailers="x: " + "a" * 70_000)[:-4], "more than 65536 bytes of headers"),
    ],
)
async def test_what_is_wrong_with_an_answer_is_said_in_words(data, reason):
    with pytest.raises(ConnectionBroken, match=reason):
        await told(data)


async def test_trailers_do_not_become_headers():
    reply, _ = exchange()
    reply.feed(memoryview(chunked(b"hi", headers=("X-One: 1", "X-One: 2"), trailers="x-cost: 1\r\n")))

    assert reply.headers == {"x-one": "2", "transfer-encoding": "chunked"}
    assert reply.raw_headers == [(b"X-One", b"1"), (b"X-One", b"2"), (b"transfer-encoding", b"chunked")]


async def test_a_server_is_held_back_while_too_much_waits_and_let_go_when_it_is_taken():
    reply, wire = exchange()
    reply.feed(memoryview(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n"))
    reply.feed(memoryview(b"a" * HOLD_BACK))
    assert wire.asked == ["pause"]

    assert len(await anext(reply)) == HOLD_BACK
    reply.feed(memoryview(b"b"))
    assert (await anext(reply), wire.asked) == (b"b", ["pause", "resume"])


async def test_the_pieces_of_one_read_reach_the_reader_as_one():
    reply, _ = exchange()
    reply.feed(memoryview(chunked(b"a", b"b", b"c")[:-5]))

    assert await anext(reply) == b"abc"


async def test_what_came_before_a_cut_is_read_before_the_error():
    reply, _ = exchange()
    reply.feed(memoryview(chunked(b"ab")[:-5]))
    reply.lost(ConnectionResetError(104, "reset"))

    assert await anext(reply) == b"ab"
    with pytest.raises(ConnectionBroken) as caught:
        await anext(reply)
    assert (caught.value.bytes_read, caught.value.reason) == (
        2,
        "the connection broke in mid-body: connection reset by peer",
    )
    assert str(caught.value) == (
        "http://a.test/: the connection broke in mid-body: connection reset by peer (2 bytes of the body had come)"
    )


async def test_a_cancellation_after_the_last_byte_leaves_the_kept_connection_alone():
    reply, wire = exchange()
    reply.feed(memoryview(answer(b"hi")[:-2]))
    reading = asyncio.create_task(reply.read())
    await asyncio.sleep(0)
    reply.feed(memoryview(b"hi"))
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert wire.asked == ["keep"]


async def test_closing_an_answer_ends_whoever_reads_it():
    reply, wire = exchange()
    reading = asyncio.create_task(reply.read())
    await asyncio.sleep(0)
    await reply.aclose()
    await reply.aclose()

    with pytest.raises(ConnectionBroken, match="closed on this side"):
        await reading
    assert wire.asked == ["close"]


async def test_an_answer_that_was_whole_when_it_was_closed_reads_as_empty():
    reply, wire = exchange()
    reply.feed(memoryview(answer(b"hi")))
    await reply.aclose()

    assert (await reply.read(), wire.asked) == (b"", ["keep"])


@pytest.mark.parametrize(("limit", "body", "then"), [(3, b"abc", "close"), (4, b"abcd", "close")])
async def test_reading_stops_at_the_limit_and_closes(limit, body, then):
    reply, wire = exchange()
    reply.feed(memoryview(b"HTTP/1.1 500 Oh\r\ncontent-length: 9\r\n\r\nabcd"))

    assert (await reply.read(limit), wire.asked) == (body, [then])


@given(name=st.text(max_size=8), value=st.text(max_size=20))
def test_no_header_can_smuggle_another_line_into_a_request(name, value):
    try:
        head = request_head("POST", "/v1", [(name, value)])
    except ValueError:
        return
    assert head == f"POST /v1 HTTP/1.1\r\n{name}: {value}\r\n\r\n".encode()
    assert head.count(b"\n") == head.count(b"\r") == 3
    assert b"\0" not in head


@pytest.mark.parametrize(
    ("method", "name", "value", "message"),
    [
        (
            "POST",
            "authorization",
            "Bearer sk-secret\n",
            "the value of the header 'authorization' holds a line break",
        ),
        (
            "POST",
            "authorization",
            "sk-secret\r\nx-evil: 1",
            "the value of the header 'authorization' holds a line break",
        ),
        ("POST", "x y", "1", "'x y' cannot be the name of an HTTP header"),
        ("post", "x", "1", "'post' is not an HTTP method"),
    ],
)
def test_a_header_that_http_forbids_is_refused_without_telling_its_value(method, name, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        request_head(method, "/", [(name, value)])
    assert "sk-secret" not in str(caught.value)
