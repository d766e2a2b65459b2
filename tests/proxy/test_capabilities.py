"""What the real LiteLLM proxy tells of its models, how it counts tokens, and a cassette of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from looopy import AgentLoop, LiteLLMEmbedder, LiteLLMProvider, LLMRequest, Message, ToolDefinition, cost_of
from looopy.testing import cassette

from .conftest import EMBEDDERS, MODELS, Proxy
from .upstream import Upstream

# The first test also waits for the proxy to start.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


@pytest.mark.parametrize("model", MODELS)
async def test_the_proxy_tells_what_its_models_can_and_cost(proxy: Proxy, model: str) -> None:
    async with asyncio.timeout(20):
        said = await LiteLLMProvider(proxy.url, model, proxy.key).capabilities()

    assert (said.model, said.mode, said.source) == (model, "chat", "proxy")
    assert (said.tools, said.parallel_tools, said.forced_tools, said.json_schema) == (True, True, True, True)
    assert (said.vision, said.sampling) == (True, True)
    assert said.max_input_tokens is not None
    assert said.max_input_tokens >= 128_000
    assert said.prices is not None
    assert said.prices.cached is not None
    assert 0 < said.prices.cached < said.prices.input < said.prices.output


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_the_proxy_tells_which_models_embed(proxy: Proxy, model: str) -> None:
    async with asyncio.timeout(20):
        said = await LiteLLMProvider(proxy.url, model, proxy.key).capabilities()

    assert (said.mode, said.tools, said.sampling) == ("embedding", False, False)


@pytest.mark.parametrize("model", MODELS)
async def test_the_proxys_figure_is_what_its_prices_come_to(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    """So the prices may stand in for the figure, where a proxy gives none."""
    provider = LiteLLMProvider(proxy.url, model, proxy.key)
    request = LLMRequest(messages=(Message.user(upstream.play("text").prompt),))

    async with asyncio.timeout(20):
        prices = (await provider.capabilities()).prices
        response = await provider.call(request)

    assert prices is not None
    assert response.usage is not None
    assert response.cost == pytest.approx(cost_of(response.usage, prices))


@pytest.mark.parametrize("model", MODELS)
async def test_the_proxy_counts_tokens(proxy: Proxy, model: str) -> None:
    provider = LiteLLMProvider(proxy.url, model, proxy.key)
    short, long = (Message.user("hello there"),), (Message.user("hello there " * 100),)
    tool = ToolDefinition(name="weather", description="Say how warm it is in a city.")

    async with asyncio.timeout(20):
        few, many = await provider.count_tokens(short), await provider.count_tokens(long)
        with_tool = await provider.count_tokens(short, [tool])

    assert few.counted_by != "looopy"
    assert 0 < few.count < 20 < with_tool.count < many.count < 400


@pytest.mark.parametrize("model", MODELS)
async def test_a_recorded_answer_of_the_real_proxy_is_replayed_without_it(
    proxy: Proxy, upstream: Upstream, model: str, tmp_path: Path
) -> None:
    played = upstream.play("text")
    path = tmp_path / "answer.json"

    async def output(url: str, key: str) -> str:
        async with asyncio.timeout(20):
            with cassette(path) as tape:
                provider = LiteLLMProvider(url, model, key, transport=tape)
                return (await AgentLoop(llm_provider=provider).execute(played.prompt)).output

    assert await output(proxy.url, proxy.key) == "Hello from the upstream."
    assert await output("http://nowhere.invalid", "sk-another-key") == "Hello from the upstream."
    assert len(played.requests) == 1
    assert proxy.key not in path.read_text(encoding="utf-8")


async def test_recorded_embeddings_of_the_real_proxy_are_replayed_without_it(
    proxy: Proxy, upstream: Upstream, tmp_path: Path
) -> None:
    played = upstream.play("embeddings")

    async def vectors(url: str) -> object:
        async with asyncio.timeout(20):
            with cassette(tmp_path / "vectors.json") as tape:
                embedder = LiteLLMEmbedder(url, "text-embedding-3-small", proxy.key, transport=tape)
                return (await embedder.embed([played.prompt])).vectors

    assert await vectors(proxy.url) == await vectors("http://nowhere.invalid")
    assert len(played.requests) == 1
