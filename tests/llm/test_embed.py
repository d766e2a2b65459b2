"""`llm.embed`: texts as vectors, with an event loop and without."""

from __future__ import annotations

import asyncio

import pytest

from looopy import ConfigurationError, ModelOverloaded, llm
from looopy.errors import WrongThread
from looopy.providers.embeddings import LiteLLMEmbedder
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, embeds, fails, stalls, vector_of
from looopy.testing.standin import StandInEmbedder

TEXTS = ["a cat", "the sea"]
NOT_OPENAI = (
    "litellm.BadRequestError: OpenAIException - You are not allowed to generate embeddings from this model"
)


def lists(vectors):
    return [[round(number, 5) for number in vector] for vector in vectors]


WANTED = lists(map(vector_of, TEXTS))


async def test_awaiting_it_gives_a_vector_for_each_text(at_proxy):
    server = at_proxy(ScriptedServer(otherwise=embeds))

    embeddings = await llm.embed(
        TEXTS,
        model="text-embedding-3-small",
        session_id="one",
        user_id="me",
        tags=["t"],
        params={"input_type": "query"},
    )

    body = server.requests[0].body
    assert lists(embeddings.vectors) == WANTED
    assert (body["model"], body["input"], body["input_type"], body["user"], body["metadata"]) == (
        "text-embedding-3-small",
        TEXTS,
        "query",
        "me",
        {"session_id": "one", "trace_user_id": "me", "tags": ["t"]},
    )


def test_so_does_its_result_without_an_event_loop(at_proxy, monkeypatch):
    server = at_proxy(ScriptedServer(otherwise=embeds))
    monkeypatch.setenv("LOOOPY_EMBEDDING_MODEL", "text-embedding-3-small")

    embeddings = llm.embed(TEXTS, dimensions=8).result(5)

    assert lists(embeddings.vectors) == lists(vector_of(text, 8) for text in TEXTS)
    assert [request.body["model"] for request in server.requests] == ["text-embedding-3-small"]


def test_none_leaves_an_option_out(at_proxy, monkeypatch):
    server = at_proxy(ScriptedServer(otherwise=embeds))
    monkeypatch.setenv("LOOOPY_EMBEDDING_MODEL", "text-embedding-3-small")
    options = ("model", "fallback_model", "dimensions", "embedder", "session_id", "user_id", "tags", "params")

    llm.embed(TEXTS).result(5)
    llm.embed(TEXTS, **dict.fromkeys(options)).result(5)

    first, second = [request.body for request in server.requests]
    assert first == second


async def test_it_is_asked_once_however_often_it_is_wanted(at_proxy):
    server = at_proxy(ScriptedServer(otherwise=embeds))
    pending = llm.embed(TEXTS, model="text-embedding-3-small")

    first, second = await asyncio.gather(wait_for(pending), wait_for(pending))

    assert first is second is await pending is await asyncio.to_thread(pending.result, 5) is pending.result()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("options", "environment"), [({"fallback_model": "text-embedding-3-small"}, {}), ({}, {"LOOOPY_EMBEDDING_MODEL": "text-embedding-3-small"})]
)  # fmt: skip
def test_a_chat_model_gives_way_to_the_embedding_model_and_the_answer_says_so(
    options, environment, at_proxy, monkeypatch
):
    at_proxy(
        ScriptedServer(
            otherwise=lambda body: fails(400, NOT_OPENAI) if body["model"] == "gpt-4o-mini" else embeds(body)
        )
    )
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    embeddings = llm.embed(TEXTS, model="gpt-4o-mini", **options).result(5)

    assert (embeddings.model, embeddings.fell_back_from) == ("text-embedding-3-small", "gpt-4o-mini")


def test_an_embedder_may_be_given_and_asked_for_another_model():
    server = ScriptedServer(otherwise=embeds)
    embedder = LiteLLMEmbedder("http://proxy", "one", None, transport=HTTP(server.transport()))

    llm.embed(TEXTS, embedder=embedder).result(5)
    llm.embed(TEXTS, embedder=embedder, model="two").result(5)

    assert [request.body["model"] for request in server.requests] == ["one", "two"]
    for option in ({"fallback_model": "x"}, {"dimensions": 3}):
        with pytest.raises(ConfigurationError, match="an embedder has its own"):
            llm.embed(TEXTS, embedder=embedder, **option)


@pytest.mark.parametrize("model", ["stand-in", "text-embedding-3-small"])
def test_the_stand_in_embeds_where_it_is_wanted(model, monkeypatch):
    if model != "stand-in":
        monkeypatch.setenv("LOOOPY_STAND_IN", "1")

    embeddings = llm.embed(TEXTS, model=model).result(5)

    assert (embeddings.model, lists(embeddings.vectors)) == ("looopy-stand-in", WANTED)


async def test_the_stand_in_keeps_its_name_whatever_it_is_asked_for():
    embedder = StandInEmbedder(dimensions=4)

    assert (await embedder.embed(["a cat"])).model == "looopy-stand-in"
    assert (await llm.embed(["a cat"], embedder=embedder, model="other")).model == "looopy-stand-in"
    assert repr(embedder) == "StandInEmbedder()"


def test_what_goes_wrong_is_raised(at_proxy):
    at_proxy(ScriptedServer(otherwise=lambda _: fails(429, retry_after=120)))

    with pytest.raises(ModelOverloaded):
        llm.embed(TEXTS, model="text-embedding-3-small").result(5)
    with pytest.raises(ConfigurationError, match="is one text"):
        llm.embed("a cat", model="text-embedding-3-small")
    with pytest.raises(ConfigurationError, match="set LOOOPY_EMBEDDING_MODEL"):
        llm.embed(TEXTS)


def test_a_result_that_takes_too_long_is_given_up(at_proxy):
    server = at_proxy(ScriptedServer(stalls()))

    with pytest.raises(TimeoutError):
        llm.embed(TEXTS, model="text-embedding-3-small").result(0.2)

    asyncio.run(server.hung_up())


async def test_cancelling_the_wait_closes_the_connection(at_proxy):
    server = at_proxy(ScriptedServer(stalls()))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait_for(llm.embed(TEXTS, model="text-embedding-3-small")), 0.2)

    await server.hung_up()


async def test_blocking_on_the_thread_of_an_event_loop_says_what_to_write():
    with pytest.raises(WrongThread, match="write `await` instead"):
        llm.embed(TEXTS, model="stand-in").result()


async def wait_for(pending):
    return await pending
