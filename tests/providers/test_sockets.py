"""Which connection a request takes, when one is closed, and what loops, threads and processes have to do with it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref

import pytest
from providers.raw import (
    LEAVES,
    Clock,
    answer,
    answers,
    chunked,
    get,
    leaves_open,
    run_program,
    serving,
    turns,
)

from looopy.providers.transport import HTTP, ConnectionBroken, ConnectTimeout, FastTransport, shared


# ------------------------------------------------------------------------------------------- which connection is used
async def test_a_connection_is_used_again_once_its_answer_is_whole():
    async with serving(answers(chunked(b"a", b"b"))) as server:
        http = HTTP()
        for _ in range(3):
            assert await get(http, server.url) == (200, b"ab")
        assert server.requests == [3]


async def test_the_connection_used_last_is_used_next():
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP()
        first, second = await asyncio.gather(*[http.send("GET", server.url, headers={}) for _ in range(2)])
        assert (await first.read(), await second.read()) == (b"hi", b"hi")
        before = server.requests
        for _ in range(3):
            await get(http, server.url)
        assert sorted(now - then for now, then in zip(server.requests, before, strict=True)) == [0, 3]


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    async def talk(peer):
        await peer.request()
        await peer.send(answer(b"hi"))

    async with serving(talk) as server:
        http = HTTP()
        for _ in range(3):
            assert await get(http, server.url) == (200, b"hi")
            await turns()
        assert server.requests == [1, 1, 1]


async def test_a_request_that_meets_a_closing_connection_is_sent_once_more_on_a_new_one():
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP()
        await get(http, server.url)
        server.peers[0].shut()
        assert await get(http, server.url) == (200, b"hi")
        assert server.requests == [1, 1]


async def test_a_request_that_was_lost_on_a_new_connection_is_not_sent_again():
    async def talk(peer):
        await peer.request()

    async with serving(talk) as server:
        with pytest.raises(ConnectionBroken, match="hung up before it answered"):
            await get(HTTP(), server.url)
        assert server.requests == [1]


async def test_a_request_is_not_sent_again_after_one_byte_of_an_answer():
    async def talk(peer):
        await peer.request()
        await peer.send(answer(b"hi"))
        await peer.request()
        await peer.send(b"H")

    async with serving(talk) as server:
        http = HTTP()
        await get(http, server.url)
        with pytest.raises(ConnectionBroken):
            await get(http, server.url)
        assert server.requests == [2]


async def test_a_request_that_a_server_held_for_longer_than_a_second_is_not_sent_again():
    """It may have been at work, and a model's work is billed."""

    async def talk(peer):
        await peer.request()
        await peer.send(answer(b"hi"))
        await peer.request()
        clock.ahead += 2

    async with serving(talk, seconds=500) as server:
        clock = Clock()
        http = HTTP()
        await get(http, server.url)
        with pytest.raises(ConnectionBroken):
            await get(http, server.url)
        assert server.requests == [2]


async def test_an_idle_connection_on_which_the_server_speaks_is_closed():
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP()
        await get(http, server.url)
        await server.peers[0].send(answer(b"forged", status="408 Timeout"))
        await server.peers[0].left.wait()
        assert await get(http, server.url) == (200, b"hi")
        assert server.requests == [1, 1]


async def test_idle_connections_are_closed_in_the_order_of_their_age():
    talk = answers(answer(b"hi"))
    async with serving(talk, seconds=500) as server, serving(talk, seconds=500) as other:
        clock = Clock()
        http = HTTP(FastTransport(idle_seconds=30))
        await get(http, server.url)
        clock.ahead += 20
        await get(http, other.url)
        clock.ahead += 11
        await server.peers[0].left.wait()
        await turns()
        assert not other.peers[0].left.is_set()
        clock.ahead += 20
        await other.peers[0].left.wait()


async def test_a_connection_past_its_age_is_not_used_even_if_the_loop_had_no_time_to_close_it():
    async with serving(answers(answer(b"hi")), seconds=500) as server:
        clock = Clock()
        http = HTTP(FastTransport(idle_seconds=30))
        await get(http, server.url)
        clock.ahead += 31
        await get(http, server.url)
        assert server.requests == [1, 1]


async def test_no_more_idle_connections_are_kept_than_allowed():
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP(FastTransport(max_idle=1))
        for reply in await asyncio.gather(*[http.send("GET", server.url, headers={}) for _ in range(3)]):
            await reply.read()
        await asyncio.gather(get(http, server.url), get(http, server.url))
        assert len(server.peers) == 4


async def test_a_connection_whose_request_was_not_read_to_its_end_is_not_used_again():
    async def talk(peer):
        await peer.send(answer(b"too large", status="413 Too Large"))
        await forever.wait()

    forever = asyncio.Event()
    async with serving(talk) as server:
        http = HTTP()
        reply = await http.send("POST", server.url, headers={}, body=b"a" * 30_000_000)
        assert (reply.status, await reply.read()) == (413, b"too large")
        await http.send("POST", server.url, headers={}, body=b"a" * 30_000_000)
        assert len(server.peers) == 2


# ---------------------------------------------------------------------------------------------- when it closes
async def test_closing_an_answer_before_its_end_closes_the_connection_at_once():
    async def talk(peer):
        await peer.request()
        await peer.send(chunked(b"a")[:-5])
        await peer.hung_up()
        left.set()

    left = asyncio.Event()
    async with serving(talk) as server:
        reply = await HTTP().send("GET", server.url, headers={})
        assert await anext(aiter(reply)) == b"a"
        await reply.aclose()
        await left.wait()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nx", chunked(b"a")[:-5]], ids=["nothing", "head", "body"]
)
async def test_cancelling_any_wait_closes_the_connection(said):
    async def talk(peer):
        await peer.request()
        await peer.send(said)
        reached.set()
        await peer.hung_up()
        left.set()

    reached, left = asyncio.Event(), asyncio.Event()
    async with serving(talk) as server:
        waiting = asyncio.create_task(get(HTTP(), server.url))
        await reached.wait()
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await left.wait()


async def test_cancelling_while_connecting_closes_the_socket():
    async def talk(peer):
        await peer.reader.read(1)
        reached.set()
        await peer.hung_up()
        left.set()

    reached, left = asyncio.Event(), asyncio.Event()
    async with serving(talk) as server:
        waiting = asyncio.create_task(get(HTTP(), server.url.replace("http:", "https:")))
        await reached.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await left.wait()


async def test_a_connection_that_takes_too_long_says_after_how_many_seconds():
    async def talk(peer):
        await peer.hung_up()

    async with serving(talk) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(ConnectTimeout) as caught:
            await HTTP().send("GET", url, headers={}, connect_timeout=0.01)
        assert str(caught.value) == f"no connection to {url} within 0.01 s"
        assert (caught.value.url, caught.value.seconds) == (url, 0.01)


async def test_a_reset_in_mid_body_is_a_broken_connection():
    async def talk(peer):
        await peer.request()
        await peer.send(chunked(b"a")[:-5])
        await go.wait()
        peer.reset()

    go = asyncio.Event()
    async with serving(talk) as server:
        reply = await HTTP().send("GET", server.url, headers={})
        pieces = aiter(reply)
        assert await anext(pieces) == b"a"
        go.set()
        with pytest.raises(ConnectionBroken, match="mid-body: connection reset by peer") as caught:
            await anext(pieces)
        assert caught.value.bytes_read == 1


async def test_a_server_waits_while_nobody_reads_and_loses_nothing():
    size = 20_000_000

    async def talk(peer):
        await peer.request()
        peer.writer.write(answer(b"a" * size))
        sending.set()
        await peer.writer.drain()
        sent.set()
        await peer.hung_up()

    sending, sent = asyncio.Event(), asyncio.Event()
    async with serving(talk) as server:
        reply = await HTTP().send("GET", server.url, headers={})
        await sending.wait()
        await turns(1000)
        assert not sent.is_set()
        assert len(await anext(aiter(reply))) < 1_000_000
        assert size - 1_000_000 < len(await reply.read(size)) < size
        assert sent.is_set()


async def test_what_was_read_before_a_transport_closed_is_still_there():
    async with serving(answers(answer(b"a" * 3_000_000))) as server:
        fast = FastTransport()
        reply = await HTTP(fast).send("GET", server.url, headers={})
        await turns(100)
        await fast.aclose()
        assert 0 < len(await anext(aiter(reply))) < 1_000_000
        with pytest.raises(ConnectionBroken, match="shutting down"):
            await anext(aiter(reply))


# ------------------------------------------------------------------------------------------- loops, threads, processes
async def test_loops_in_several_threads_share_a_transport_but_no_connection():
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP()
        seen = []

        async def twice():
            seen.append([await get(http, server.url), await get(http, server.url)])

        threads = [threading.Thread(target=asyncio.run, args=(twice(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert seen == [[(200, b"hi")] * 2] * 2
        assert server.requests == [2, 2]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_loop_that_ended_badly_is_not_held_for_ever():
    """Without `shutdown_asyncgens` nobody closes its connections, and asyncio warns of each: the caller's doing."""
    async with serving(answers(answer(b"hi"))) as server:
        http = HTTP()
        ended = []

        def without_shutdown():
            loop = asyncio.new_event_loop()
            loop.run_until_complete(get(http, server.url))
            loop.close()
            ended.append(weakref.ref(loop))

        await asyncio.to_thread(without_shutdown)
        await get(http, server.url)
        gc.collect()
        assert ended[0]() is None
        assert server.requests == [1, 1]


FORKS = """
loop = asyncio.new_event_loop()
assert loop.run_until_complete(get()) == b"hi"
child = os.fork()
if child == 0:  # both have the loop's epoll, so they take turns
    assert loop.run_until_complete(get()) == b"hi"
    loop.run_until_complete(loop.shutdown_asyncgens())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert loop.run_until_complete(get()) == b"hi"
assert loop.run_until_complete(get()) == b"hi"
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""


async def test_a_program_that_leaves_connections_open_ends_without_a_warning():
    async with serving(leaves_open, seconds=20) as server:
        assert await run_program(LEAVES, server.url) == ("", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_child_leaves_its_parents_connections_alone():
    async with serving(answers(answer(b"hi")), seconds=20) as server:
        assert await run_program(FORKS, server.url) == ("", 0)
        assert sorted(server.requests) == [1, 3]


async def test_after_closing_a_transport_opens_anew():
    async with serving(answers(answer(b"hi"))) as server:
        fast = FastTransport()
        http = HTTP(fast)
        await fast.aclose()
        await get(http, server.url)
        await fast.aclose()
        await server.peers[0].left.wait()
        await get(http, server.url)
        assert server.requests == [1, 1]


async def test_a_request_under_way_while_its_transport_closes_is_broken_or_served_but_never_kept():
    async def talk(peer):
        await peer.request()
        reached.set()
        await go.wait()
        await peer.send(answer(b"hi"))
        await peer.hung_up()
        left.set()

    reached, go, left = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with serving(talk) as server:
        fast = FastTransport()
        waiting = asyncio.create_task(get(HTTP(fast), server.url))
        await reached.wait()
        await fast.aclose()
        with pytest.raises(ConnectionBroken, match="shutting down"):
            await waiting

        connecting = asyncio.create_task(get(HTTP(fast), server.url))
        await asyncio.sleep(0)
        await fast.aclose()
        go.set()
        assert await connecting == (200, b"hi")
        await left.wait()


def test_there_is_one_shared_transport():
    assert shared() is shared()
