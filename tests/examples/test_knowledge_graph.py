"""The knowledge graph: what it makes of texts, what it finds again, and what the model is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.started import module, started
from looopy import AuthenticationFailed, OutputInvalid
from looopy.testing import Answer, ScriptedServer, embeds, fails, says

graphs = module("10_knowledge_graph")

CHAT, EMBEDDING = "anthropic/claude-haiku-4-5", "text-embedding-3-small"


@asynccontextmanager
async def graph(model: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    async with model.serve() as url, asyncio.timeout(10):
        monkeypatch.setenv("LITELLM_URL", url)
        yield graphs.Graph()


def test_two_texts_become_a_graph_and_an_answer() -> None:
    out, err = started("10_knowledge_graph")

    assert err == ""
    assert out.splitlines() == [
        f"4 nodes, 3 relations, Embeddings(4 × 64, model='{EMBEDDING}', fell_back_from='{CHAT}')",
        f"3 nodes, 2 relations, Embeddings(3 × 64, model='{EMBEDDING}', fell_back_from='{CHAT}')",
        "",
        "Who owns the mill where the bees live?",
        "bees: live behind the mill",
        "mill: where rye is ground",
        "Jonas owns mill",
        "Mara keeps bees",
        "bees fly to limes",
        "bees live behind mill",
        "→ Jonas.",
    ]


async def test_a_relation_to_nobody_is_told_to_the_model_which_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedServer(otherwise=graphs.play)
    async with graph(model, monkeypatch) as learnt:
        await learnt.learn(graphs.TEXTS[0])

    asked = [request.body for request in model.requests if "messages" in request.body]
    assert [body["response_format"]["json_schema"]["name"] for body in asked] == ["Knowledge"] * 2
    told = asked[1]["messages"][-1]["content"]
    assert "there are relations to limes, and no such nodes" in told
    assert [str(node) for node in learnt.vectors] == [
        "Mara: a bee-keeper",
        "bees: live behind the mill",
        "mill: a building",
        "limes: trees",
    ]
    assert sorted(map(str, learnt.relations)) == [
        "Mara keeps bees",
        "bees fly to limes",
        "bees live behind mill",
    ]


async def test_the_chat_model_gives_way_to_the_embedding_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(otherwise=graphs.play)
    async with graph(model, monkeypatch) as learnt:
        for text in graphs.TEXTS:
            await learnt.learn(text)

    asked = [request.body["model"] for request in model.requests if "input" in request.body]
    assert asked == [CHAT, EMBEDDING, EMBEDDING]


async def test_what_is_found_is_what_the_question_is_like_and_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedServer(otherwise=graphs.play)
    async with graph(model, monkeypatch) as learnt:
        for text in graphs.TEXTS:
            await learnt.learn(text)
        found = [[str(each) for each in await learnt.near(what, 1)] for what in ("A sailor?", "Which trees?")]
        answer = await learnt.answer("Are the limes trees?")

    assert found == [
        ["Ulla: a sailor", "Ulla is the sister of Jonas"],
        ["limes: trees", "bees fly to limes"],
    ]
    assert answer == "The facts do not say."
    facts = (
        "limes: trees",
        "bees: live behind the mill",
        "Mara keeps bees",
        "bees fly to limes",
        "bees live behind mill",
    )
    assert [message["content"] for message in model.requests[-1].body["messages"]] == [
        "\n".join(["Answer the question from the facts alone.", "", *facts, "", "Are the limes trees?"])
    ]


async def test_a_text_that_says_nothing_leaves_the_graph_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(says(json.dumps({"nodes": [], "relations": []})))
    async with graph(model, monkeypatch) as learnt:
        await learnt.learn("Hm.")

    assert (learnt.vectors, learnt.relations, len(model.requests)) == ({}, set(), 1)


async def test_what_fails_is_raised_and_the_graph_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(body: dict[str, Any]) -> Answer:
        return fails(401) if "input" in body else graphs.knows("Ulla: a sailor", "Ulla/is/Ulla")

    prose = ScriptedServer(
        otherwise=lambda body: embeds(body) if "input" in body else says("I would rather not.")
    )
    for model, error in ((prose, OutputInvalid), (ScriptedServer(otherwise=locked), AuthenticationFailed)):
        async with graph(model, monkeypatch) as learnt:
            with pytest.raises(error):
                await learnt.learn("Ulla sails.")
        assert (learnt.vectors, learnt.relations) == ({}, set())
