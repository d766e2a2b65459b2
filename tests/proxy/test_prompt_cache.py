"""A provider's own cache of prompts, through the real LiteLLM proxy: what an agent asks to be marked arrives marked."""

from __future__ import annotations

import pytest

from looopy import AgentLoop, LiteLLMProvider

from .conftest import Proxy
from .test_proxy import within
from .upstream import Upstream

pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]


async def test_instructions_arrive_at_anthropic_marked_for_its_cache(
    proxy: Proxy, upstream: Upstream
) -> None:
    played = upstream.play("text")
    points = [{"location": "message", "role": "system"}]
    provider = LiteLLMProvider(
        proxy.url,
        "claude-haiku-4-5",
        proxy.key,
        extra_params={"cache_control_injection_points": points},
    )

    await within(AgentLoop(llm_provider=provider, system_prompt="Be short.").execute(played.prompt))

    (request,) = played.requests
    assert request.body["system"] == [
        {"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}
    ]
    assert "cache_control_injection_points" not in request.body
