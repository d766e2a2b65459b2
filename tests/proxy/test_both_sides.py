"""What the real LiteLLM proxy does by itself, and looopy's counterpart of it: fallbacks, caches, and what an answer costs that came whole."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from looopy import Cache, LiteLLMProvider, LLMRequest, MemoryCache, Message, Retry
from looopy.providers.transport import HTTP, Reply

from .conftest import Proxy
from .test_proxy import figures_of_the_proxy, on_each_route, within
from .test_retries import provider, routes
from .upstream import Upstream

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


class Unstreamed:
    """A transport that asks for the whole answer at once, as gateways do that cannot stream."""

    def __init__(self) -> None:
        self._http = HTTP()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        connect_timeout: float | None = None,
    ) -> Reply:
        asked = json.loads(body)
        del asked["stream"], asked["stream_options"]
        return await self._http.send(
            method, url, headers=headers, body=json.dumps(asked).encode(), connect_timeout=connect_timeout
        )


def request(prompt: str, **params: object) -> LLMRequest:
    return LLMRequest(messages=(Message.user(prompt),), params=params)


async def test_a_fallback_of_the_proxys_is_told_as_who_answered_and_retried_by_nobody(
    proxy: Proxy, upstream: Upstream
) -> None:
    played = upstream.play("down-once")
    asked = request(played.prompt, fallbacks=["claude-haiku-4-5"])

    response = await within(Retry(provider(proxy, "gpt-4o-mini")).call(asked))

    assert (response.message.text, response.message.model) == ("Hello again.", "claude-haiku-4-5")
    assert (response.attempts, routes(played)) == (1, ["openai", "anthropic"])


async def test_where_the_proxys_fallback_fails_too_our_retry_asks_once_for_each_of_its_attempts(
    proxy: Proxy, upstream: Upstream
) -> None:
    played = upstream.play("down")
    asked = request(played.prompt, fallbacks=["claude-haiku-4-5"])
    retry = Retry(provider(proxy, "gpt-4o-mini"), attempts=2, first_wait=0.05)

    with pytest.raises(Exception, match="no capacity left"):
        await within(retry.call(asked))

    assert routes(played) == ["openai", "anthropic"] * 2


@on_each_route
async def test_an_answer_that_comes_whole_costs_what_it_costs_streamed(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    """Unstreamed the price is a header, streamed it is in the usage."""
    whole = LiteLLMProvider(proxy.url, model, proxy.key, transport=Unstreamed())
    figures = await within(figures_of_the_proxy(proxy, model, upstream.play("text").prompt))

    responses = [
        await within(each.call(request(upstream.play("text").prompt)))
        for each in (whole, provider(proxy, model))
    ]

    assert [(each.message.text, each.cost) for each in responses] == [
        ("Hello from the upstream.", figures["cost"])
    ] * 2
    assert responses[0].usage == responses[1].usage


@on_each_route
async def test_an_answer_out_of_the_proxys_cache_is_told_as_that_and_costs_nothing(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("text")
    asked = request(played.prompt, cache={"use-cache": True})

    first, again = [await within(provider(proxy, model).call(asked)) for _ in range(2)]

    assert len(played.requests) == 1
    assert (first.cached, again.cached, again.cost) == (False, True, 0.0)
    assert first.cost
    assert (again.message.text, again.usage) == (first.message.text, first.usage)


@on_each_route
async def test_an_answer_out_of_our_cache_reaches_neither_the_proxy_nor_the_provider(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("text")
    cache = Cache(provider(proxy, model), MemoryCache())

    first, again = [await within(cache.call(request(played.prompt))) for _ in range(2)]

    assert len(played.requests) == 1
    assert (again.message, again.cached, again.cost, again.attempts) == (first.message, True, 0.0, 0)
