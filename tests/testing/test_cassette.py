"""Cassettes: what comes back is what came, without the network, and no credential is in the file."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from looopy import (
    AgentLoop,
    EmbedRequest,
    Fallback,
    LiteLLMEmbedder,
    LiteLLMProvider,
    LLMRequest,
    Message,
    ModelTimeout,
    Retry,
    Usage,
    dumps,
)
from looopy.errors import ConfigurationError, ModelError
from looopy.providers.transport import HTTP, ConnectFailed, ConnectionBroken, ConnectTimeout
from looopy.redaction import redact
from looopy.testing import (
    CassetteMismatch,
    Recorded,
    Replayed,
    ScriptedServer,
    calls,
    cassette,
    cuts,
    embeds,
    fails,
    raw,
    run_virtual,
    says,
    stalls,
    thinks,
)
from looopy.testing.tape import differences

KEY = "sk-2b7f9c1e4d8a6053"


def chat(transport, base_url="http://proxy", api_key=KEY, **settings):
    return LiteLLMProvider(base_url, "gpt-4o-mini", api_key, transport=transport, **settings)


def door(*answers, **settings):
    return HTTP(ScriptedServer(*answers, **settings).transport())


async def events_of(provider, request):
    return [event async for event in aiterate(provider.call(request))]


async def aiterate(observable):
    queue = asyncio.Queue()
    observable.subscribe(queue.put_nowait, queue.put_nowait, lambda: queue.put_nowait(None))
    while (event := await queue.get()) is not None:
        if isinstance(event, Exception):
            yield type(event), str(event)
            return
        yield event


class Wire:
    """A transport that sends nothing: it gives a head and pieces, or an error, and asks nobody."""

    def __init__(self, pieces=(), error=None, *, headers=(), end=None, pause=0.0):
        self.pieces, self.error, self.end, self.pause = list(pieces), error, end, pause
        self.status, self.headers = 200, dict(headers)
        self.closed = 0

    async def send(self, method, url, *, headers, body=b"", connect_timeout=None):
        await asyncio.sleep(self.pause)
        if self.error:
            raise self.error
        return self

    async def __aiter__(self):
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            yield piece
        if self.end:
            raise self.end

    async def aclose(self):
        self.closed += 1


async def post(transport, body=b"{}", **headers):
    return await transport.send("POST", "http://proxy/v1/chat/completions", headers=headers, body=body)


async def pieces_of(transport, body=b"{}", **headers):
    return [piece async for piece in await post(transport, body, **headers)]


# ------------------------------------------------------------------------------------------------------ round trips
@given(pieces=st.lists(st.binary()), body=st.binary())
@example(pieces=["é".encode()[:1], "é".encode()[1:]], body=b"\xff")
@example(pieces=[b"", b"\r\n\xe2\x80\xa8"], body=b'{"a": "\\ud800"}')
@example(pieces=[b"Bearer abc1", b"23defgh"], body=b"[1, NaN]")
def test_any_bytes_in_any_pieces_come_back_as_they_came(pieces, body):
    """But for what looks like a credential; where such a one lies across pieces, they are joined."""

    async def both_ways(path):
        with Recorded(path, transport=Wire(pieces)) as tape:
            first = await pieces_of(tape, body)
        with Replayed(path) as tape:
            return first, await pieces_of(tape, body)

    with TemporaryDirectory() as folder:
        first, second = asyncio.run(both_ways(Path(folder) / "a" / "tape.json"))

    def hidden(data):
        return redact(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    assert first == pieces
    whole = hidden(b"".join(pieces))
    assert b"".join(second) == whole
    if whole == b"".join(map(hidden, pieces)):
        assert second == list(map(hidden, pieces))


@pytest.mark.parametrize("pieces", ["event", "burst", 1, 7])
def test_an_agents_whole_conversation_is_the_same_from_the_cassette(tmp_path, pieces):
    answers = (
        thinks("A sum.") + calls("add", a=1, b=2),
        says("It is ", "3 €.", usage=Usage(input_tokens=20, output_tokens=4), cost=0.001),
    )

    def add(a: int, b: int) -> int:
        return a + b

    def events(tape):
        async def run():
            return [e async for e in AgentLoop(llm_provider=chat(tape), tools=[add]).execute("1 + 2?")]

        return [json.loads(told_without_ids(event)) for event in asyncio.run(run())]

    path = tmp_path / "sum.json"
    with cassette(path, transport=door(*answers, pieces=pieces)) as tape:
        assert isinstance(tape, Recorded)
        recorded = events(tape)
    with cassette(path, transport=door()) as tape:
        assert isinstance(tape, Replayed)
        assert events(tape) == recorded
    assert recorded[-1]["status"]["message"]["content"] == "It is 3 €."


def told_without_ids(event):
    changing = r'"(task_id|context_id|timestamp|call_id|seconds|first_token)":("[^"]*"|[\d.e-]+|null)'
    return re.sub(changing, r'"\1":0', dumps(event).decode())


def test_a_call_id_that_looopy_made_up_does_not_count(tmp_path):
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"now","arguments":"{}"}}]}}]}\n\ndata: [DONE]\n\n'

    def now() -> str:
        return "noon"

    def output(tape):
        return AgentLoop(llm_provider=chat(tape), tools=[now]).execute("When?").result(5).output

    with Recorded(tmp_path / "t.json", transport=door(raw(call), says("Noon."))) as tape:
        assert output(tape) == "Noon."
    with Replayed(tmp_path / "t.json") as tape:
        assert output(tape) == "Noon."


async def test_embeddings_come_back_too(tmp_path):
    server = ScriptedServer(otherwise=embeds)

    async def vectors(tape):
        embedder = LiteLLMEmbedder(
            "http://proxy", "text-embedding-3-small", KEY, batch_texts=2, transport=tape
        )
        request = EmbedRequest(["a cat", "a dog", "a ship"], session_id="s", trace_id="a" * 32)
        return (await embedder.embed(request)).vectors

    with cassette(tmp_path / "e.json", transport=HTTP(server.transport())) as tape:
        recorded = await vectors(tape)
    with cassette(tmp_path / "e.json") as tape:
        assert await vectors(tape) == recorded
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answers",
    [
        (fails(401),),
        (fails(429, retry_after=2),),
        (says("Hel") + cuts(),),
        (cuts(),),
        (raw(b"<html>Bad Gateway</html>", status=502),),
        (says("Hel") + fails(500),),
    ],
    ids=["401", "429", "cut", "cut before the head", "html", "error in the stream"],
)
async def test_a_failure_comes_back_as_the_same_failure(tmp_path, answers):
    request = LLMRequest(messages=(Message.user("Hi"),))

    with Recorded(tmp_path / "f.json", transport=door(*answers)) as tape:
        recorded = await events_of(chat(tape), request)
    with Replayed(tmp_path / "f.json") as tape:
        replayed = await events_of(chat(tape), request)

    assert isinstance(replayed[-1], tuple)
    hide = re.compile(r"x-litellm-call-id [\w-]+|call [0-9a-f-]{36}")
    assert [hide.sub("", str(event)) for event in replayed] == [
        hide.sub("", str(event)) for event in recorded
    ]


@pytest.mark.parametrize(
    "error",
    [
        ConnectFailed("http://proxy/v1/chat/completions", "connection refused"),
        ConnectTimeout("http://proxy/v1/chat/completions", 5.0),
        ConnectionBroken("http://proxy/v1/chat/completions", 0, "the server hung up"),
    ],
)
async def test_a_connection_that_did_not_come_about_does_not_again(tmp_path, error):
    with Recorded(tmp_path / "f.json", transport=Wire(error=error)) as tape, pytest.raises(type(error)):
        await post(tape)

    with Replayed(tmp_path / "f.json") as tape, pytest.raises(type(error)) as again:
        await tape.send(
            "POST", "http://proxy/v1/chat/completions", headers={}, body=b"{}", connect_timeout=5.0
        )

    assert str(again.value) == str(error)


async def test_a_body_that_breaks_breaks_at_the_same_byte(tmp_path):
    broken = Wire([b"one", b"two"], end=ConnectionBroken("http://proxy/v1/chat/completions", 6, "cut"))
    with Recorded(tmp_path / "f.json", transport=broken) as tape, pytest.raises(ConnectionBroken):
        await pieces_of(tape)

    with Replayed(tmp_path / "f.json") as tape:
        reply = await post(tape)
        assert [await anext(reply), await anext(reply)] == [b"one", b"two"]
        with pytest.raises(ConnectionBroken, match="cut") as again:
            await anext(reply)
    assert again.value.bytes_read == 6


async def test_a_body_is_read_up_to_a_limit_and_the_reply_closed(tmp_path):
    wire = Wire([b"one", b"two"], headers={"content-type": "text/plain"})
    with Recorded(tmp_path / "f.json", transport=wire) as tape:
        reply = await post(tape)
        assert (reply.status, reply.headers, await reply.read(2)) == (200, wire.headers, b"on")
    assert wire.closed == 1

    with Replayed(tmp_path / "f.json") as tape:
        reply = await post(tape)
        assert (reply.status, reply.headers, await reply.read(2)) == (200, wire.headers, b"on")
        with pytest.raises(ConnectionBroken, match="closed on this side"):
            await anext(reply)


def test_where_the_client_left_nothing_comes_any_more(tmp_path):
    async def times_out(tape):
        with pytest.raises(ModelTimeout):
            await chat(tape, timeout=3.0).call(LLMRequest(messages=()))
        return asyncio.get_running_loop().time()

    for answer in (says("Hel") + stalls(), stalls(headers=False)):
        with Recorded(tmp_path / "s.json", transport=door(answer)) as tape:
            assert run_virtual(times_out(tape)) == 3.0
        with Replayed(tmp_path / "s.json") as tape:
            assert run_virtual(times_out(tape)) == 3.0


@pytest.mark.parametrize(("pace", "seconds"), [("at-once", 0.0), ("original", 6.0)])
def test_pauses_are_kept_on_request(tmp_path, pace, seconds):
    async def timed(tape):
        await pieces_of(tape)
        return asyncio.get_running_loop().time()

    with Recorded(tmp_path / "p.json", transport=Wire([b"a", b"b"], pause=2.0)) as tape:
        assert run_virtual(timed(tape)) == 6.0
    with cassette(tmp_path / "p.json", pace=pace) as tape:
        assert run_virtual(timed(tape)) == seconds


def test_a_slow_failure_to_connect_is_slow_again_on_request(tmp_path):
    async def timed(tape):
        with pytest.raises(ConnectTimeout, match=r"within 4 s"):
            await post(tape)
        return asyncio.get_running_loop().time()

    with Recorded(tmp_path / "p.json", transport=Wire(error=ConnectTimeout("u", 4.0), pause=4.0)) as tape:
        run_virtual(timed(tape))
    with Replayed(tmp_path / "p.json", pace="original") as tape:
        assert run_virtual(timed(tape)) == 4.0


# -------------------------------------------------------------------------------------------------------- the secrets
async def test_no_credential_is_on_a_cassette(tmp_path):
    path = tmp_path / "k.json"
    leaky = Wire(
        [b'{"error":"bad key my-own-secret-1 ', b"my-own-secret-2", b' of dXNlcjpwYXNzd29yZDE=, password1"}'],
        headers={
            "set-cookie": "sid=my-own-secret-3",
            "openai-organization": "our-org",
            "x-ratelimit-remaining-tokens": "7",
            "x-litellm-key-spend": "0.1",
            "x-debug": "Bearer my-own-secret-1",
            "content-encoding": "gzip",
        },
    )
    with Recorded(path, transport=leaky) as tape:
        await pieces_of(
            tape,
            b'{"messages": [{"role": "user", "content": "my-own-secret-1"}], "http://u:pw@h": "sk-abcdefghijkl1234"}',
            authorization="Bearer my-own-secret-1",
            cookie="my-own-secret-2",
        )
        reply = await tape.send(
            "POST",
            "http://user:password1@proxy/v1?key=AIzaSyA1234567890123456",
            headers={"authorization": "Basic dXNlcjpwYXNzd29yZDE="},
        )
        await reply.read()
        await tape.send("GET", "http://proxy/", headers={"authorization": "Basic abc", "x-key": "short"})

    text = path.read_text(encoding="utf-8")
    for secret in ("my-own", "password1", "dXNl", "AIza", "sk-abc", "our-org", "gzip", "u:pw"):
        assert secret not in text, secret
    first = json.loads(text)["exchanges"][0]
    assert first["answer"]["headers"] == {
        "x-ratelimit-remaining-tokens": "7",
        "x-litellm-key-spend": "0.1",
        "x-debug": "Bearer ***",
    }
    assert first["request"] == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "json": {"messages": [{"role": "user", "content": "***"}], "http://***@h": "***"},
    }
    with Replayed(path) as tape:
        body = b'{"http://u:pw@h": "sk-abcdefghijkl1234", "messages": [{"content": "my-own-secret-1", "role": "user"}]}'
        assert b"".join(await pieces_of(tape, body, authorization="Bearer my-own-secret-1")) == (
            b'{"error":"bad key *** *** of ***, ***"}'
        )
        await tape.send("POST", "http://proxy/v1?key=AIzaSyA1234567890123456", headers={})
        await tape.send("GET", "http://proxy/", headers={})


# ------------------------------------------------------------------------------------------------------- what matches
async def test_the_host_the_key_the_session_and_the_order_of_fields_do_not_count(tmp_path):
    request = LLMRequest(messages=(Message.user("Hi"),), session_id="a", trace_id="b" * 32, tags=("kept",))
    with Recorded(tmp_path / "m.json", transport=door(says("Hello."))) as tape:
        await chat(tape).call(request)

    other = LLMRequest(messages=(Message.user("Hi"),), session_id="c", trace_id="d" * 32, tags=("kept",))
    with Replayed(tmp_path / "m.json") as tape:
        response = await chat(tape, "https://elsewhere:8443", None).call(other)
    assert response.message.text == "Hello."


async def test_metadata_that_is_only_bookkeeping_counts_like_none(tmp_path):
    with Recorded(tmp_path / "m.json", transport=Wire([b"x"])) as tape:
        await pieces_of(tape, b'{"metadata": {"session_id": "1"}, "litellm_trace_id": "2"}')

    with Replayed(tmp_path / "m.json") as tape:
        assert await pieces_of(tape, b"{}") == [b"x"]


async def test_the_same_request_twice_is_answered_in_the_recorded_order(tmp_path):
    with Recorded(tmp_path / "o.json", transport=door(fails(503), says("One."), says("Two."))) as tape:
        provider = Retry(chat(tape), first_wait=0.0)
        for _ in range(2):
            await provider.call(LLMRequest(messages=()))

    with Replayed(tmp_path / "o.json") as tape:
        provider = Retry(chat(tape), first_wait=0.0)
        first, second = [await provider.call(LLMRequest(messages=())) for _ in range(2)]
    assert (first.message.text, first.attempts, second.message.text) == ("One.", 2, "Two.")


async def test_what_differs_in_each_run_can_be_left_out(tmp_path):
    def without_dates(body):
        return json.loads(re.sub(r"\d{4}-\d\d-\d\d", "DATE", json.dumps(body)))

    async def ask(tape, day):
        return (await chat(tape).call(LLMRequest(messages=(Message.user(f"It is {day}."),)))).message.text

    with cassette(tmp_path / "d.json", transport=door(says("Hello."))) as tape:
        await ask(tape, "2026-11-27")
    with cassette(tmp_path / "d.json", compare=without_dates) as tape:
        assert await ask(tape, "2027-01-01") == "Hello."


async def test_a_request_that_was_not_recorded_says_what_differs(tmp_path):
    path = tmp_path / "x.json"
    with Recorded(path, transport=Wire([b"x"])) as tape:
        await pieces_of(
            tape,
            b'{"model": "a", "n": 1, "messages": [{"role": "user", "content": "%s one"}]}' % (b"word " * 40),
        )
        await tape.send("GET", "http://proxy/other", headers={})
        await pieces_of(tape, b'{"stop": ["a", "b"], "seed": {"much": "%s"}}' % (b"x" * 200))

    tape = Replayed(path)
    body = b'{"model": "b", "n": true, "messages": [{"role": "user", "content": "%s two"}, 7]}' % (
        b"word " * 40
    )
    with pytest.raises(CassetteMismatch) as unlike:
        await post(tape, body)
    assert str(unlike.value) == (
        f"{path} has no answer to POST /v1/chat/completions. Of the 3 recorded, number 1 differs least:\n"
        '  model: recorded "a", now "b"\n'
        "  n: recorded 1, now true\n"
        '  messages[0].content: recorded …"ord word word word word word word word word word word word  one", '
        'now …"ord word word word word word word word word word word word  two"\n'
        "  messages[1]: recorded nothing, now 7\n"
        "If that is as it should be, delete the file, or pass mode='record', to record it anew"
    )
    many = ",".join(f'"{letter}": 1' for letter in "abcdefg")
    with pytest.raises(CassetteMismatch, match=r'stop\[0\]: recorded "a", now 1\n(.*\n)*  and 2 more\n'):
        await post(tape, f'{{"stop": [1], "seed": 7, {many}}}'.encode())
    with pytest.raises(
        CassetteMismatch,
        match=r"no answer to GET /v1/models\. It has POST /v1/chat/completions, GET /other\. ",
    ):
        await tape.send("GET", "http://proxy/v1/models", headers={})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES, VALUES)
@example({"a": None}, {})
@example([1], [True])
def test_what_differs_is_found_wherever_it_is(recorded, asked):
    same = json.dumps(recorded, sort_keys=True) == json.dumps(asked, sort_keys=True)

    assert (list(differences(recorded, asked)) == []) == same
    assert list(differences(asked, asked)) == []


async def test_a_request_made_once_more_than_recorded_is_an_error(tmp_path):
    with Recorded(tmp_path / "x.json", transport=Wire([b"x"])) as tape:
        await pieces_of(tape)

    with Replayed(tmp_path / "x.json") as tape:
        await pieces_of(tape)
        with pytest.raises(CassetteMismatch, match="It is asked once more than it was recorded"):
            await pieces_of(tape)


async def test_a_request_that_was_not_made_is_an_error_at_the_end(tmp_path):
    path = tmp_path / "x.json"
    with Recorded(path, transport=Wire([b"x"])) as tape:
        await pieces_of(tape)

    with (
        pytest.raises(CassetteMismatch, match="1 of 1 recorded requests were not made, POST /v1/chat"),
        Replayed(path),
    ):
        pass
    with pytest.raises(ZeroDivisionError), Replayed(path):
        raise ZeroDivisionError  # and not the lesser error


async def test_a_mismatch_ends_a_task_even_behind_retries_and_fallbacks(tmp_path):
    with Recorded(tmp_path / "x.json"):
        pass
    with (
        Replayed(tmp_path / "x.json") as tape,
        pytest.raises(CassetteMismatch, match="It has nothing at all"),
    ):
        await AgentLoop(llm_provider=Fallback(Retry(chat(tape)), chat(tape))).execute("Hi")


# -------------------------------------------------------------------------------------------------- modes and the file
async def test_a_cassette_is_not_written_when_the_block_ends_with_an_error(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(ModelError), cassette(path, transport=door(fails(500))) as tape:
        await chat(tape).call(LLMRequest(messages=()))
    assert not path.exists()


async def test_recording_anew_replaces_the_old_one(tmp_path):
    path = tmp_path / "x.json"
    for word in (b"old", b"new"):
        with cassette(path, mode="record", transport=Wire([word])) as tape:
            await pieces_of(tape)
    with cassette(path, mode="replay") as tape:
        assert await pieces_of(tape) == [b"new"]
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("setting", [{"mode": "once"}, {"pace": "fast"}])
def test_a_mode_that_there_is_not_is_an_error(tmp_path, setting):
    with pytest.raises(ConfigurationError, match="must be one of '"):
        cassette(tmp_path / "x.json", **setting)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such cassette"),
        ("", "this is no cassette"),
        ("[1]", "this is no cassette"),
        ('{"cassette": 1, "exchanges": [{}]}', "this is no cassette"),
        ('{"cassette": 9, "exchanges": []}', "version 9, and this looopy reads 1"),
    ],
)
def test_a_file_that_is_no_cassette_is_an_error_that_says_so(tmp_path, content, said):
    if content is not None:
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(CassetteMismatch, match=said):
        cassette(tmp_path / "x.json", mode="replay")


async def test_the_file_can_be_read(tmp_path):
    with Recorded(tmp_path / "x.json", transport=Wire([b"data: 1\n\n", b"\xff"], headers={"a": "b"})) as tape:
        await pieces_of(tape, b'{"model": "m"}')
        await post(tape, b"text")
        await post(tape, b"\xff")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert re.sub(r'"at": [\d.e-]+', '"at": 0', text.split(",\n{")[0]) == (
        """\
{
"cassette": 1,
"exchanges": [
{
 "request": {
  "method": "POST",
  "path": "/v1/chat/completions",
  "json": {
   "model": "m"
  }
 },
 "answer": {
  "status": 200,
  "at": 0,
  "headers": {
   "a": "b"
  }
 },
 "pieces": [
  {"at": 0, "text": "data: 1\\n\\n"},
  {"at": 0, "base64": "/w=="}
 ],
 "end": {"how": "whole", "at": 0, "reason": ""}
}"""
    )
    assert [each["request"] for each in json.loads(text)["exchanges"][1:]] == [
        {"method": "POST", "path": "/v1/chat/completions", "text": "text"},
        {"method": "POST", "path": "/v1/chat/completions", "base64": "/w=="},
    ]


def test_one_cassette_serves_many_threads_and_loops(tmp_path):
    def each_on_its_own_loop(tape):
        said = []
        threads = [
            threading.Thread(
                target=lambda number=number: said.append(
                    asyncio.run(pieces_of(tape, b'{"n": %d}' % (number % 4)))
                )
            )
            for number in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        return said

    with Recorded(tmp_path / "x.json", transport=Wire([b"a", b"b"])) as tape:
        assert each_on_its_own_loop(tape) == [[b"a", b"b"]] * 12
    with Replayed(tmp_path / "x.json") as tape:
        assert each_on_its_own_loop(tape) == [[b"a", b"b"]] * 12
