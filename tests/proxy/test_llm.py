"""The one-shot front door through the real LiteLLM proxy, configured by the environment alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from looopy import Message, llm
from looopy.llm import Done, Text, ToolUse

from .conftest import MODELS, Proxy
from .upstream import Upstream

# The first test also waits for the proxy to start.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]

on_each_route = pytest.mark.parametrize("model", MODELS)

T = TypeVar("T")

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Say how warm it is in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(autouse=True)
def _as_the_environment_says(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LITELLM_URL": proxy.url, "LITELLM_API_KEY": proxy.key, "no_proxy": "*"}.items():
        monkeypatch.setenv(name, value)


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(20):
        return await awaitable


@on_each_route
async def test_a_tool_that_the_caller_runs_comes_back_and_its_answer_goes_to_the_model(
    upstream: Upstream, model: str
) -> None:
    played = upstream.play("one-tool")
    stream = llm.stream(
        [
            {"role": "system", "content": "You speak English."},
            {"role": "user", "content": played.prompt},
        ],
        system="You are brief.",
        model=model,
        tools=[WEATHER],
        max_tokens=99,
    )

    pieces = await within(collected(stream))

    asked = await stream
    (call,) = asked.messages[-1].tool_calls
    assert pieces[3:] == [
        ToolUse(name="get_weather", arguments={"city": "Oslo"}, call_id=call.id),
        Done(result=asked),
    ]
    assert "".join(piece.content for piece in pieces[:2] if isinstance(piece, Text)) in (
        "Let me",
        "Let me look.",
    )

    told = [*asked.messages, Message.tool("4 degrees", tool_call_id=call.id)]
    answered = await within(llm.complete(told, model=model, tools=[WEATHER]))
    assert (answered.output, answered.status) == ("It is 4 degrees in Oslo.", "completed")
    assert answered.cost is not None
    for request in played.requests:
        told_to_the_model = str(request.body)
        assert [
            said for said in ("You are brief.", "You speak English.", "99") if said not in told_to_the_model
        ] == ([] if request is played.requests[0] else ["You are brief.", "99"])


@on_each_route
async def test_a_function_whose_body_is_the_model_has_a_typed_answer(upstream: Upstream, model: str) -> None:
    played = upstream.play("report")

    @llm.llm_function(model=model)
    async def report(question: str) -> dict[str, str]:
        """Answer this question: {{ question }}"""
        raise NotImplementedError

    assert await within(report(played.prompt)) == {"city": "Oslo", "sky": "grey"}


async def test_embeddings_are_of_the_model_that_embeds(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOOPY_EMBEDDING_MODEL", "text-embedding-3-small")
    played = upstream.play("embeddings")

    found = await within(llm.embed([played.prompt], model="gpt-4o-mini"))

    assert (found.model, found.fell_back_from, len(found.vectors)) == (
        "text-embedding-3-small",
        "gpt-4o-mini",
        1,
    )


async def collected(stream: llm.Stream) -> list[llm.Piece]:
    return [piece async for piece in stream.events()]
