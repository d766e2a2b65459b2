"""Embeddings through the real LiteLLM proxy: of models that embed, and of models that do not."""

from __future__ import annotations

import asyncio
import json
from array import array

import pytest

from looopy import EmbedRequest, LiteLLMEmbedder
from looopy.errors import NoEmbeddings

from .conftest import EMBEDDERS, MODELS, Proxy
from .upstream import Upstream
from .wire import vector_for

# The first test also waits for the proxy to start.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


def texts(prompt: str, count: int) -> list[str]:
    """Each names the script, so that each batch is known again; each is of its own length."""
    return [f"{prompt} {'a' * number}" for number in range(count)]


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_each_text_gets_its_vector_and_no_bookkeeping_reaches_the_provider(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("embeddings")
    notes = texts(played.prompt, 7)
    request = EmbedRequest(notes, session_id="our-session", trace_id="a" * 32, tags=("our-tag",))

    async with asyncio.timeout(20):
        found = await LiteLLMEmbedder(proxy.url, model, proxy.key, batch_texts=3, parallel=2).embed(request)

    assert found.vectors == tuple(array("f", vector_for(text)) for text in notes)
    assert (found.model, found.fell_back_from, found.attempts, len(found.call_ids)) == (model, "", 3, 3)
    assert found.usage is not None
    assert found.usage.input_tokens > 0
    assert found.cost is not None
    assert len(played.requests) == 3
    for sent in played.requests:
        assert set(sent.body) == ({"model", "input", "encoding_format"} if "text" in model else {"requests"})
        told = json.dumps([sent.path, sent.headers, sent.body])
        assert [ours for ours in ("our-session", "our-tag", "a" * 32, proxy.key) if ours in told] == []


@pytest.mark.parametrize("model", MODELS)
async def test_a_chat_model_gives_way_to_the_fallback_and_is_not_even_asked(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("embeddings")
    embedder = LiteLLMEmbedder(proxy.url, model, proxy.key, fallback_model="text-embedding-3-small")

    async with asyncio.timeout(20):
        found = await embedder.embed([played.prompt])

    assert found.vectors == (array("f", vector_for(played.prompt)),)
    assert (found.model, found.fell_back_from) == ("text-embedding-3-small", model)
    assert [request.body["model"] for request in played.requests] == ["text-embedding-3-small"]


async def test_a_model_whose_provider_has_no_embeddings_is_an_error_that_says_so(proxy: Proxy) -> None:
    with pytest.raises(NoEmbeddings, match="for model 'claude-haiku-4-5'"):
        async with asyncio.timeout(20):
            await LiteLLMEmbedder(proxy.url, "claude-haiku-4-5", proxy.key).embed(["a cat"])
