"""Retries and fallbacks of looopy's side, through the real LiteLLM proxy: nobody else retries, and every route takes what is sent."""

from __future__ import annotations

from typing import Any

import pytest

from looopy import AgentLoop, Fallback, LiteLLMProvider, ModelError, Retry
from looopy.events import LLMRetry
from looopy.providers.fallback import GO_ON

from .conftest import Proxy
from .test_proxy import BEGINNING, after_the_prompt, events_of, on_each_route, story, within
from .upstream import Played, Upstream

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


def provider(proxy: Proxy, model: str) -> LiteLLMProvider:
    return LiteLLMProvider(base_url=proxy.url, model=model, api_key=proxy.key)


def routes(played: Played) -> list[str]:
    """By which route each request reached a provider."""
    known = {"completions": "openai", "messages": "anthropic", "streamGenerateContent": "gemini"}
    return [next(name for part, name in known.items() if part in request.path) for request in played.requests]


@on_each_route
async def test_a_retry_is_one_more_request_to_the_provider_and_no_more(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("down-once")
    agent = AgentLoop(llm_provider=Retry(provider(proxy, model), first_wait=0.05))

    events = await within(events_of(agent.execute(played.prompt)))

    assert story(events) == [
        *BEGINNING,
        ("llm-retry", None),
        ("content-delta", "Hello again."),
        ("llm-response", "stop"),
        ("status-update", "completed"),
    ]
    assert len(played.requests) == 2
    assert ["num_retries" in request.body for request in played.requests] == [False, False]


@on_each_route
async def test_the_proxys_own_retries_do_not_multiply_ours(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("down")
    agent = AgentLoop(llm_provider=Retry(provider(proxy, model), attempts=2, first_wait=0.05))

    with pytest.raises(ModelError) as caught:
        await within(agent.execute(played.prompt))

    assert caught.value.retryable
    assert len(played.requests) == 2


async def test_a_fallback_reaches_the_next_models_provider_at_once(proxy: Proxy, upstream: Upstream) -> None:
    played = upstream.play("down-once")
    asked = Retry(Fallback(provider(proxy, "gpt-4o-mini"), "claude-haiku-4-5"))

    result = await within(AgentLoop(llm_provider=asked).execute(played.prompt))

    assert (result.output, routes(played)) == ("Hello again.", ["openai", "anthropic"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpt-4o-mini", "claude-haiku-4-5"),
        ("claude-haiku-4-5", "gemini-2.5-flash"),
        ("gemini-2.5-flash", "gpt-4o-mini"),
    ],
)
async def test_every_route_goes_on_from_what_another_had_said(
    proxy: Proxy, upstream: Upstream, first: str, second: str
) -> None:
    played = upstream.play("breaks-once")
    asked = Fallback(provider(proxy, first), second, mid_stream="continue")

    events: list[Any] = await within(events_of(AgentLoop(llm_provider=asked).execute(played.prompt)))

    retries = [event for event in events if isinstance(event, LLMRetry)]
    assert [(each.error.type, each.model, each.next_model) for each in retries] == [
        ("StreamBroken", first, second)
    ]
    assert events[-1].status.message.text == "It is 4 degrees."
    said = after_the_prompt(played.requests[-1])
    assert [message["role"] for message in said] in (["assistant", "user"], ["model", "user"])
    assert "It is 4" in str(said[0])
    assert GO_ON in str(said[1])
