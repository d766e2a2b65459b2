"""Embeddings without a model: the shape that a proxy sends, and vectors in which shared words are nearness."""

from __future__ import annotations

import math
from array import array
from base64 import b64decode

import httpx
from hypothesis import given
from hypothesis import strategies as st

from looopy.testing import ScriptedServer, embeds, vector_of


async def asked(server, **body):
    async with httpx.AsyncClient(transport=server.transport(), base_url="http://any.host") as client:
        return await client.post("/v1/embeddings", json={"model": "m", **body})


async def test_an_answer_has_the_shape_that_the_proxy_sends():
    server = ScriptedServer(otherwise=lambda request: embeds(request, cost=0.5))

    answer = await asked(server, input=["a cat", "cat"], dimensions=3)

    assert answer.headers["x-litellm-response-cost"] == "0.5"
    assert answer.json() == {
        "model": "m",
        "data": [
            {"embedding": vector_of("a cat", 3), "index": 0, "object": "embedding"},
            {"embedding": vector_of("cat", 3), "index": 1, "object": "embedding"},
        ],
        "object": "list",
        "usage": {"completion_tokens": 0, "prompt_tokens": 3, "total_tokens": 3},
    }


async def test_vectors_can_be_given_and_come_in_base64_to_whoever_asks():
    server = ScriptedServer(otherwise=lambda request: embeds(request, [1.0, 2.0]))

    answer = await asked(server, input=["a"], encoding_format="base64")

    assert array("f", b64decode(answer.json()["data"][0]["embedding"])) == array("f", [1.0, 2.0])


@given(st.text(min_size=1), st.integers(1, 64))
def test_any_text_has_a_vector_of_length_1(text: str, dimensions: int):
    assert math.isclose(math.hypot(*vector_of(text, dimensions)), 1.0)


def test_texts_that_share_words_are_nearer_than_others():
    def nearness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector_of(one), vector_of(other), strict=True))

    assert nearness("the cat sleeps", "a cat sleeps") > nearness("the cat sleeps", "stars are far")
