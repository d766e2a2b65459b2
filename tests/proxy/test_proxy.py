"""The agent through the real LiteLLM proxy, on the routes to OpenAI, Anthropic and Gemini.

Nothing between looopy and the provider's wire is replaced: looopy's own HTTP, the proxy as its users install
it, and behind it the scripted upstream, which says what reached the provider. What the proxy is *not* asked
here (every status, every broken byte) is in the tests of the provider.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from typing import Any, TypeVar

import httpx
import pytest

from looopy import AgentLoop, LiteLLMProvider
from looopy.errors import AuthenticationFailed, StreamBroken, TaskCanceled, UnknownModel
from looopy.events import (
    ContentDelta,
    Event,
    LLMCall,
    LLMResponse,
    StatusUpdate,
    Task,
    ThoughtDelta,
    ToolCallDelta,
    ToolComplete,
    ToolStart,
)
from looopy.messages import Usage

from .conftest import EMBEDDERS, MODELS, Proxy
from .told import FIELDS, ONE_TOOL, SAMPLING, SIGNED, TWO_RESULTS
from .upstream import Request, Upstream
from .wire import ANSWER_TOKENS, OVERLOADED, PROMPT_TOKENS

# The first test also waits for the proxy to start.
pytestmark = [pytest.mark.proxy, pytest.mark.timeout(90)]

on_each_route = pytest.mark.parametrize("model", MODELS)

T = TypeVar("T")

BEGINNING: list[tuple[str, object]] = [
    ("task", "submitted"),
    ("status-update", "working"),
    ("llm-call", 1),
]


async def get_weather(city: str) -> str:
    """Say how warm it is in a city.

    Args:
        city: its name.
    """
    return {"Oslo": "4 degrees", "Rome": "21 degrees"}[city]


def agent(proxy: Proxy, model: str, tool: Callable[..., Any] = get_weather, *, key: str = "") -> AgentLoop:
    provider = LiteLLMProvider(base_url=proxy.url, model=model, api_key=key or proxy.key)
    return AgentLoop(llm_provider=provider, tools=[tool])


async def within(awaitable: Awaitable[T]) -> T:
    """The awaited value; what hangs fails the test instead of stopping it."""
    async with asyncio.timeout(10):
        return await awaitable


async def events_of(events: Any) -> list[Event]:
    return [event async for event in events]


def story(events: Iterable[Event]) -> list[tuple[str, object]]:
    """What happened; the deltas of one kind, or of one call, are joined where they follow each other."""
    lines: list[tuple[str, object]] = []
    for (kind, _), group in groupby(events, lambda event: (event.kind, getattr(event, "call_id", ""))):
        told = [_said(event) for event in group]
        if kind.endswith("-delta"):
            told = ["".join(str(piece) for piece in told)]
        lines.extend((kind, what) for what in told)
    return lines


def _said(event: Event) -> object:
    match event:
        case ContentDelta(delta=said) | ThoughtDelta(delta=said) | ToolCallDelta(delta=said):
            return said
        case Task(state=said) | LLMCall(iteration=said) | LLMResponse(finish_reason=said):
            return said
        case ToolStart(arguments=said) | ToolComplete(result=said):
            return said
        case StatusUpdate():
            return event.status.state
        case _:
            return None


def after_the_prompt(request: Request) -> list[dict[str, Any]]:
    """What the provider was told after the user's message, in its own format."""
    messages: list[dict[str, Any]] = request.body.get("messages") or request.body["contents"]
    prompt = next(index for index, message in enumerate(messages) if message["role"] == "user")
    return messages[prompt + 1 :]


@on_each_route
async def test_a_text_arrives_word_by_word(proxy: Proxy, upstream: Upstream, model: str) -> None:
    played = upstream.play("text")

    events = await within(events_of(agent(proxy, model).execute(played.prompt)))

    assert [event.delta for event in events if isinstance(event, ContentDelta)] == [
        "Hello",
        " from",
        " the",
        " upstream.",
    ]
    assert story(events) == [
        *BEGINNING,
        ("content-delta", "Hello from the upstream."),
        ("llm-response", "stop"),
        ("status-update", "completed"),
    ]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


@on_each_route
async def test_a_tool_runs_and_its_result_reaches_the_provider_in_the_providers_own_format(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("one-tool")
    ran: list[str] = []

    async def get_weather(city: str) -> str:
        ran.append(city)
        return "4 degrees"

    events = await within(events_of(agent(proxy, model, get_weather).execute(played.prompt)))

    assert ran == ["Oslo"]
    assert story(events) == [
        *BEGINNING,
        ("content-delta", "Let me look."),
        ("tool-call-delta", '{"city": "Oslo"}'),
        ("llm-response", "tool_calls"),
        ("tool-start", {"city": "Oslo"}),
        ("tool-complete", "4 degrees"),
        ("llm-call", 2),
        ("content-delta", "It is 4 degrees in Oslo."),
        ("llm-response", "stop"),
        ("status-update", "completed"),
    ]
    assert [after_the_prompt(request) for request in played.requests] == [[], ONE_TOOL[model]]


@on_each_route
async def test_two_tool_calls_run_side_by_side_and_are_answered_in_call_order(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("two-tools")
    rome_is_known = asyncio.Event()

    async def weather(city: str) -> str:
        if city == "Oslo":
            await rome_is_known.wait()
            return "4 degrees"
        rome_is_known.set()
        return "21 degrees"

    weather.__name__ = "get_weather"
    events = await within(events_of(agent(proxy, model, weather).execute(played.prompt)))

    assert story(events) == [
        *BEGINNING,
        ("tool-call-delta", '{"city": "Oslo"}'),
        ("tool-call-delta", '{"city": "Rome"}'),
        ("llm-response", "tool_calls"),
        ("tool-start", {"city": "Oslo"}),
        ("tool-start", {"city": "Rome"}),
        ("tool-complete", "21 degrees"),
        ("tool-complete", "4 degrees"),
        ("llm-call", 2),
        ("content-delta", "Oslo has 4 degrees, Rome 21."),
        ("llm-response", "stop"),
        ("status-update", "completed"),
    ]
    assert after_the_prompt(played.requests[1])[1:] == TWO_RESULTS[model]


@on_each_route
async def test_reasoning_arrives_as_thoughts_apart_from_the_answer(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("reasoning")

    events = await within(events_of(agent(proxy, model).execute(played.prompt)))

    assert story(events) == [
        *BEGINNING,
        ("thought-delta", "First the weather."),
        ("tool-call-delta", '{"city": "Oslo"}'),
        ("llm-response", "tool_calls"),
        ("tool-start", {"city": "Oslo"}),
        ("tool-complete", "4 degrees"),
        ("llm-call", 2),
        ("thought-delta", "Now the answer."),
        ("content-delta", "It is 4 degrees in Oslo."),
        ("llm-response", "stop"),
        ("status-update", "completed"),
    ]


@pytest.mark.parametrize("model", SIGNED)
async def test_what_a_provider_signed_is_given_back_to_it_as_it_came(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    """Anthropic refuses a tool result whose thinking block is gone; Gemini thinks worse without it."""
    played = upstream.play("reasoning")

    await within(agent(proxy, model).execute(played.prompt))

    answer = after_the_prompt(played.requests[1])[0]
    assert (answer.get("content") or answer["parts"]) == SIGNED[model]


async def test_thoughts_are_kept_in_whole_blocks_however_many_pieces_they_came_in(
    proxy: Proxy, upstream: Upstream
) -> None:
    """The proxy sends each piece twice, once among `provider_specific_fields`; the history must not grow by pieces."""
    result = await within(agent(proxy, "claude-haiku-4-5").execute(upstream.play("reasoning").prompt))

    extra = result.messages[1].extra
    assert len(extra["thinking_blocks"]) == 1
    assert "provider_specific_fields" not in extra


@on_each_route
async def test_an_error_in_mid_stream_fails_the_task_and_keeps_what_was_said(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("breaks")
    run = agent(proxy, model).execute(played.prompt)

    events = await within(events_of(run))

    assert story(events) == [
        *BEGINNING,
        ("content-delta", "The answer is"),
        ("llm-response", "interrupted"),
        ("status-update", "failed"),
    ]
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].error is not None
    assert events[-1].error.type == "StreamBroken"
    with pytest.raises(StreamBroken, match=OVERLOADED) as caught:
        await within(run)
    assert caught.value.result.output == "The answer is"
    assert len(played.requests) == 1, "what was shown must not be asked again"


@on_each_route
async def test_the_upstream_sees_a_dispose(proxy: Proxy, upstream: Upstream, model: str) -> None:
    played = upstream.play("stalls")
    said = asyncio.Event()

    def listen(event: Event) -> None:
        if isinstance(event, ContentDelta):
            said.set()

    subscription = agent(proxy, model).execute(played.prompt).subscribe(on_next=listen)
    await within(said.wait())
    await within(asyncio.wrap_future(played.stalled))
    assert not played.hung_up.done()

    subscription.dispose()

    await within(asyncio.wrap_future(played.hung_up))


@on_each_route
async def test_the_upstream_sees_a_cancel_and_the_run_ends_canceled(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("stalls")
    run = agent(proxy, model).execute(played.prompt)
    said = ""

    async def cancel_once_said() -> list[Event]:
        nonlocal said
        events: list[Event] = []
        async for event in run:
            events.append(event)
            said += event.delta if isinstance(event, ContentDelta) else ""
            if said == "One moment":
                run.cancel()
        return events

    events = await within(cancel_once_said())

    assert story(events) == [
        *BEGINNING,
        ("content-delta", "One moment"),
        ("llm-response", "interrupted"),
        ("status-update", "canceled"),
    ]
    await within(asyncio.wrap_future(played.hung_up))
    with pytest.raises(TaskCanceled) as caught:
        await within(run)
    assert caught.value.result.output == "One moment"


@on_each_route
async def test_the_upstream_sees_a_reader_leave_its_async_for(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    played = upstream.play("stalls")
    run = agent(proxy, model).execute(played.prompt)

    async def read_one_word() -> None:
        async for event in run:
            if isinstance(event, ContentDelta):
                break

    await within(read_one_word())

    await within(asyncio.wrap_future(played.hung_up))


async def figures_of_the_proxy(proxy: Proxy, model: str, prompt: str) -> dict[str, Any]:
    """The `usage` of the stream's last chunk but `[DONE]`, asked for without looopy."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{proxy.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {proxy.key}"}
        )
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return chunks[-1]["usage"]


@on_each_route
async def test_usage_and_cost_are_the_proxys_own_figures(
    proxy: Proxy, upstream: Upstream, model: str
) -> None:
    figures = await within(figures_of_the_proxy(proxy, model, upstream.play("text").prompt))

    result = await within(agent(proxy, model).execute(upstream.play("text").prompt))

    assert figures["cost"] > 0
    assert (result.usage, result.cost) == (
        Usage(input_tokens=PROMPT_TOKENS, output_tokens=ANSWER_TOKENS),
        figures["cost"],
    )


@on_each_route
async def test_two_model_calls_cost_twice_as_much(proxy: Proxy, upstream: Upstream, model: str) -> None:
    figures = await within(figures_of_the_proxy(proxy, model, upstream.play("text").prompt))

    result = await within(agent(proxy, model).execute(upstream.play("one-tool").prompt))

    assert (result.usage, result.cost) == (
        Usage(input_tokens=2 * PROMPT_TOKENS, output_tokens=2 * ANSWER_TOKENS),
        2 * figures["cost"],
    )


@on_each_route
async def test_no_bookkeeping_reaches_the_provider(proxy: Proxy, upstream: Upstream, model: str) -> None:
    """The proxy passes unknown fields on, and real providers answer them with 400."""
    played = upstream.play("one-tool")
    run = agent(proxy, model).execute(
        played.prompt, session_id="our-session", tags=["our-tag"], metadata={"our-note": 1}
    )

    await within(run)

    ours = ("our-session", "our-tag", "our-note", run.task_id, run.context_id, run.trace_id, proxy.key)
    for request in played.requests:
        assert set(request.body) - SAMPLING == FIELDS[model]
        sent = json.dumps([request.path, request.headers, request.body])
        assert [word for word in ours if word in sent] == []


async def test_a_wrong_key_is_an_authentication_error_that_does_not_show_the_key(proxy: Proxy) -> None:
    key = "sk-wrong-0123456789abcdef"

    with pytest.raises(AuthenticationFailed) as caught:
        await within(agent(proxy, "gpt-4o-mini", key=key).execute("Hi"))

    assert proxy.url in str(caught.value)
    assert key not in str(caught.value)


async def test_an_unknown_model_names_the_models_that_the_proxy_offers(proxy: Proxy) -> None:
    with pytest.raises(UnknownModel, match=r"'gpt-4o-mimi'.*gpt-4o-mini, claude-haiku-4-5") as caught:
        await within(agent(proxy, "gpt-4o-mimi").execute("Hi"))

    assert caught.value.offered == (*MODELS, *EMBEDDERS)
