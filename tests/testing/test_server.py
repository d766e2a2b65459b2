"""The scripted proxy: the bytes of LiteLLM, in memory and on a port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import httpx
import pytest

from looopy.messages import Usage
from looopy.testing import (
    ScriptedServer,
    ScriptOver,
    calls,
    cuts,
    fails,
    raw,
    run_virtual,
    says,
    sse,
    stalls,
    thinks,
    waits,
)

ASKED = {"model": "gpt-4o-mini", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def in_memory(server):
    async with httpx.AsyncClient(transport=server.transport(), base_url="http://any.host") as client:
        yield client


@contextlib.asynccontextmanager
async def on_a_port(server):
    async with server.serve() as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


doors = pytest.mark.parametrize("door", [in_memory, on_a_port])


def chunks(body):
    """The events of a body, without what all chunks share."""
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [
        event
        if event == "[DONE]"
        else {key: value for key, value in json.loads(event).items() if key in SHOWN}
        for event in events
    ]


SHOWN = ("choices", "usage", "error", "model")


@doors
async def test_an_answer_is_streamed_as_litellm_streams_it(door):
    usage = Usage(input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2)
    answer = thinks("hm") + says("It", " is") + calls("add", a=1) + says(usage=usage, cost=5e-06, model="m")
    server = ScriptedServer(answer)
    async with door(server) as client:
        response = await client.post(CHAT, json=ASKED, headers={"X-Trace": "t"})

    def call(**piece):
        return {"index": 0, "delta": {"tool_calls": [{**piece, "type": "function", "index": 0}]}}

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-litellm-call-id"] == "scripted-1"
    assert chunks(response.text) == [
        {"model": "m", "choices": [{"index": 0, "delta": {"reasoning_content": "hm", "role": "assistant"}}]},
        {"model": "m", "choices": [{"index": 0, "delta": {"content": "It"}}]},
        {"model": "m", "choices": [{"index": 0, "delta": {"content": " is"}}]},
        {"model": "m", "choices": [call(id="call_1", function={"arguments": "", "name": "add"})]},
        {"model": "m", "choices": [call(function={"arguments": '{"a"'})]},
        {"model": "m", "choices": [call(function={"arguments": ":1}"})]},
        {"model": "m", "choices": [{"finish_reason": "tool_calls", "index": 0, "delta": {}}]},
        {
            "model": "m",
            "choices": [],
            "usage": {
                "completion_tokens": 7,
                "prompt_tokens": 11,
                "total_tokens": 18,
                "completion_tokens_details": {"reasoning_tokens": 2},
                "prompt_tokens_details": {"cached_tokens": 3},
                "cost": 5e-06,
            },
        },
        "[DONE]",
    ]
    (request,) = server.requests
    assert (request.body, request.headers["x-trace"], request.outcome) == (ASKED, "t", "answered")
    server.assert_complete()


async def test_usage_is_told_only_to_those_who_ask_and_cost_only_where_it_is_known():
    told = says("4", usage=Usage(input_tokens=1))
    server = ScriptedServer(told, told)
    async with in_memory(server) as client:
        asked = chunks((await client.post(CHAT, json=ASKED)).text)
        not_asked = chunks((await client.post(CHAT, json={"model": "m", "messages": []})).text)
    assert [event["usage"].get("cost") for event in asked if "usage" in event] == [None]
    assert [event for event in not_asked if "usage" in event] == []


@doors
async def test_an_empty_answer_is_a_role_and_an_end(door):
    async with door(ScriptedServer(says())) as client:
        body = (await client.post(CHAT, json=ASKED)).text
    assert [event["choices"][0] for event in chunks(body)[:-1]] == [
        {"index": 0, "delta": {"content": "", "role": "assistant"}},
        {"finish_reason": "stop", "index": 0, "delta": {}},
    ]


@doors
async def test_a_refusal_is_a_status_with_the_proxys_error_body(door):
    server = ScriptedServer(waits(0.001) + fails(429, "slow down", retry_after=2), fails(418, "teapot"))
    async with door(server) as client:
        refused, unusual = [await client.post(CHAT, json=ASKED) for _ in range(2)]
    assert (refused.status_code, refused.headers["llm_provider-retry-after"]) == (429, "2")
    assert refused.json() == {
        "error": {"message": "slow down", "type": "throttling_error", "param": None, "code": "429"}
    }
    assert (unusual.status_code, unusual.json()["error"]["message"]) == (418, "teapot")


@doors
async def test_a_status_that_http_does_not_name_can_be_scripted(door):
    async with door(ScriptedServer(fails(529))) as client:
        response = await client.post(CHAT, json=ASKED)
    assert (response.status_code, response.json()["error"]["type"]) == (529, "internal_server_error")


@doors
async def test_a_failure_after_pieces_is_an_event_in_the_stream(door):
    async with door(ScriptedServer(says("Hel") + fails(500, "broke"))) as client:
        response = await client.post(CHAT, json=ASKED)
    error = {"message": "broke", "type": "internal_server_error", "param": None, "code": "500"}
    assert (response.status_code, chunks(response.text)[1:]) == (200, [{"error": error}, "[DONE]"])


@doors
async def test_raw_bytes_are_sent_as_they_are_and_nothing_is_added(door):
    page = raw(b"<html>", status=502, headers={"content-type": "text/html"})
    server = ScriptedServer(page, raw(b""), says("Hel") + raw(b"data: {garb"))
    async with door(server) as client:
        html, empty, garbage = [await client.post(CHAT, json=ASKED) for _ in range(3)]
    assert (html.status_code, html.headers["content-type"], html.text) == (502, "text/html", "<html>")
    assert (empty.status_code, empty.text) == (200, "")
    assert garbage.text.endswith('"role":"assistant"}}]}\n\ndata: {garb')


async def test_what_follows_raw_bytes_does_not_change_their_status():
    assert (raw(b"{", status=502) + cuts()).status == 502
    assert (waits(1) + raw(b"{", status=502)).status == 502


@doors
async def test_a_cut_breaks_the_connection_before_the_head_or_within_the_body(door):
    server = ScriptedServer(cuts(), waits(0.001) + cuts(), says("Hel") + cuts())
    async with door(server) as client:
        for message in (
            "without sending a response",
            "without sending a response",
            "incomplete chunked read",
        ):
            with pytest.raises(httpx.RemoteProtocolError, match=message):
                await client.post(CHAT, json=ASKED)
    assert [request.outcome for request in server.requests] == ["cut"] * 3
    assert server.open_connections == 0


@doors
@pytest.mark.parametrize(
    "stall", [stalls(), stalls(headers=False), says("Hel") + stalls(), says("x") + waits(60)]
)
async def test_a_stalled_answer_ends_when_the_client_hangs_up(door, stall):
    server = ScriptedServer(stall)
    async with door(server) as client, asyncio.timeout(5):
        asking = asyncio.create_task(client.post(CHAT, json=ASKED))
        await server.asked()
        asking.cancel()
        await server.hung_up()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert [request.outcome for request in server.requests] == ["hung-up"]
    assert (server.connections, server.open_connections) == (1, 0)


async def test_whoever_reads_a_body_that_is_closed_elsewhere_is_told():
    server = ScriptedServer(says("Hel") + stalls())
    async with in_memory(server) as client, client.stream("POST", CHAT, json=ASKED) as response:
        pieces = response.aiter_raw()
        await anext(pieces)
        rest = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await response.aclose()
        with pytest.raises(httpx.ReadError, match="closed while it was being read"):
            await rest
        await response.stream.aclose()
    assert (server.connections, server.open_connections) == (1, 0)


@pytest.mark.parametrize("pieces", ["event", "burst", 1, 10])
async def test_a_body_is_the_same_however_it_is_split(pieces):
    answer = says("é") + waits(0.001) + says("4")
    server = ScriptedServer(answer, pieces=pieces)
    async with in_memory(server) as client, client.stream("POST", CHAT, json=ASKED) as response:
        received = [piece async for piece in response.aiter_raw()]
    assert b"".join(received) == sse(answer)
    sizes = {"event": 4, "burst": 2, 1: len(sse(answer))}
    assert len(received) == sizes.get(pieces, len(received))
    assert pieces != 10 or max(map(len, received)) == 10


async def test_the_body_of_an_answer_can_be_had_and_spoilt():
    body = sse(says("Hello") + stalls(), model="m")
    server = ScriptedServer(raw(body[:40]))
    async with in_memory(server) as client:
        assert (await client.post(CHAT, json=ASKED)).content == body[:40]


@doors
async def test_the_routes_around_chat_are_there(door):
    server = ScriptedServer(models=("gpt-4o-mini",))
    async with door(server) as client:
        alive, models, groups, nothing, nowhere = [
            await client.get("/health/liveliness"),
            await client.get("/v1/models?all=1"),
            await client.get("/model_group/info"),
            await client.get("/nothing"),
            await client.post("/v1/moderations", json={}),
        ]
    assert alive.json() == "I'm alive!"
    assert [model["id"] for model in models.json()["data"]] == ["gpt-4o-mini"]
    assert [group["model_group"] for group in groups.json()["data"]] == ["gpt-4o-mini"]
    assert (nothing.status_code, nowhere.status_code, nowhere.json()) == (404, 404, {"detail": "Not Found"})
    assert server.paths == [
        "GET /health/liveliness",
        "GET /v1/models?all=1",
        "GET /model_group/info",
        "GET /nothing",
        "POST /v1/moderations",
    ]
    assert server.requests == []


async def test_a_model_that_is_not_offered_and_a_wrong_key_and_no_json_are_refused():
    server = ScriptedServer(says("4"), models=("gpt-4o-mini",), api_key="sk-right")
    key = {"authorization": "Bearer sk-right"}
    async with in_memory(server) as client:
        keyless = await client.post(CHAT, json=ASKED)
        no_json = await client.post(CHAT, content=b"{", headers=key)
        unknown = await client.post(CHAT, json={**ASKED, "model": "gpt-x"}, headers=key)
        health = await client.get("/health/readiness")
    assert (keyless.status_code, keyless.json()["error"]["type"]) == (401, "auth_error")
    assert (no_json.status_code, health.status_code) == (400, 200)
    assert (unknown.status_code, "no healthy deployments" in unknown.text) == (400, True)


async def test_a_script_that_is_over_says_what_was_asked_or_is_carried_on_by_a_function():
    server = ScriptedServer(says("4"))
    async with in_memory(server) as client:
        await client.post(CHAT, json=ASKED)
        over = await client.post(CHAT, json={**ASKED, "messages": [{"role": "user", "content": "more?"}]})
    assert over.status_code == 400
    assert (
        'has 1 answers and this is request 2; its newest message is {"role": "user", "content": "more?"}'
        in (over.json()["error"]["message"])
    )
    echo = ScriptedServer(otherwise=lambda request: says(request["model"]))
    async with in_memory(echo) as client:
        assert '"content":"gpt-4o-mini"' in (await client.post(CHAT, json=ASKED)).text


async def test_answers_that_nobody_asked_for_are_named():
    with pytest.raises(ScriptOver, match="1 of 1 scripted answers were not asked for"):
        ScriptedServer(says("4")).assert_complete()


async def test_waiting_for_what_does_not_happen_is_bounded_and_says_what_did():
    server = ScriptedServer(says("4"))
    with pytest.raises(
        TimeoutError, match="waited 0 s for 1 requests; the exchanges so far: no request came"
    ):
        await server.asked(seconds=0)
    async with in_memory(server) as client:
        await client.post(CHAT, json=ASKED)
    with pytest.raises(TimeoutError, match="waited 0 s for 1 to hang up; the exchanges so far: answered"):
        await server.hung_up(seconds=0)


def test_a_scripted_pause_is_virtual_in_virtual_time():
    async def ask():
        async with in_memory(ScriptedServer(waits(3600) + says("4"))) as client:
            await client.post(CHAT, json=ASKED)
        return asyncio.get_running_loop().time()

    assert run_virtual(ask()) == 3600


def test_a_server_on_a_thread_is_closed_also_where_its_block_fails():
    server = ScriptedServer(says("Hello."))

    def fail_within(client):
        with server.running() as url:
            client.post(url + CHAT, json=ASKED)
            raise LookupError

    with httpx.Client(trust_env=False) as client, pytest.raises(LookupError):
        fail_within(client)

    assert (server.connections, server.open_connections) == (1, 0)


def test_a_server_in_its_own_thread_serves_code_without_a_loop_and_leaves_nothing():
    server = ScriptedServer(says("4"), says("5") + stalls())
    with server.running() as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert '"content":"4"' in client.post(CHAT, json=ASKED).text
        with client.stream("POST", CHAT, json=ASKED) as response:
            next(response.iter_raw())
        asyncio.run(server.hung_up())
    assert server.open_connections == 0
    assert [thread.name for thread in threading.enumerate() if "scripted" in thread.name] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


async def test_closing_the_server_breaks_what_is_open():
    server = ScriptedServer(says("Hel") + stalls())
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(5):
        async with server.serve() as url:
            asking = asyncio.create_task(client.post(url + CHAT, json=ASKED))
            await server.asked()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking
    assert server.open_connections == 0


async def test_a_client_that_asks_to_close_is_closed_and_one_that_leaves_in_a_request_is_forgotten():
    server = ScriptedServer(says("4"))
    async with server.serve() as url, asyncio.timeout(5):
        async with httpx.AsyncClient(trust_env=False, headers={"connection": "close"}) as client:
            await client.post(url + CHAT, json=ASKED)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 10\r\n\r\n{")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert (len(server.requests), server.connections, server.open_connections) == (1, 2, 0)
