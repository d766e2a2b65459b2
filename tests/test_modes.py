"""How a model is brought to a schema, by what is known of it."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import pytest
from agents import Tools

from looopy import AgentLoop, Fallback, LiteLLMProvider, Output, Retry
from looopy.errors import TaskCanceled
from looopy.modes import mode_for
from looopy.observe.wrapped import WatchedModel
from looopy.providers.capabilities import Capabilities
from looopy.providers.transport import HTTP
from looopy.state import LoopState
from looopy.testing import ScriptedModel, ScriptedServer, calls, run_virtual, says


class Told:
    """A provider that knows its models."""

    model = "ours"

    def __init__(self, able: Capabilities | None = None) -> None:
        self.able = able

    def call(self, request: Any, /) -> Any:
        raise AssertionError("no model is asked")

    async def capabilities(self, model: str) -> Capabilities:
        if self.able is None:
            await asyncio.Event().wait()
        assert model == "ours"
        return self.able


async def chosen(model: str, provider: Any = None, *, expressible: bool = True, tools: bool = False) -> str:
    mode = mode_for(provider or ScriptedModel(), model, expressible=expressible, tools=tools)
    return await mode if inspect.isawaitable(mode) else mode


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o", "gpt-4o-mini", "azure/gpt-4.1", "openai/gpt-5-mini", "gpt-6.1-sol", "o3", "o4-mini", "openrouter/openai/gpt-5"),
        *("claude-sonnet-4-5", "anthropic/claude-haiku-4-5", "claude-opus-4-1", "claude-opus-5-5", "claude-fable-5-1"),
        *("gemini/gemini-2.5-flash", "gemini-3.8-flash", "gemini/gemini-flash-latest", "xai/grok-4.7"),
    ],
)  # fmt: skip
async def test_models_known_by_name_are_asked_natively(model: str) -> None:
    assert await chosen(model) == "native"


@pytest.mark.parametrize(
    "model",
    [
        *("", "our-model", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-4o-2024-05-13", "gpt-4o-audio-preview", "o1-preview", "gpt-50"),
        *("claude-3-opus-20240229", "claude-sonnet-4-0", "bedrock/claude-sonnet-5-5", "groq/openai/gpt-5", "ollama_chat/gpt-5", "my-gpt-4o"),
    ],
)  # fmt: skip
async def test_all_others_are_given_a_tool(model: str) -> None:
    assert await chosen(model) == "tool"


async def test_what_cannot_be_said_natively_goes_by_a_tool() -> None:
    assert await chosen("gpt-4o", expressible=False) == "tool"


async def test_older_gemini_takes_no_schema_beside_tools() -> None:
    assert await chosen("gemini/gemini-2.5-flash", tools=True) == "tool"
    assert await chosen("gemini/gemini-3.8-flash", tools=True) == "native"


@pytest.mark.parametrize(
    ("able", "tools", "mode"),
    [
        (Capabilities(), False, "tool"),
        (Capabilities(tools=True), False, "tool"),
        (Capabilities(tools=True, json_schema=False), False, "tool"),
        (Capabilities(tools=True, json_schema=True), False, "native"),
        (Capabilities(tools=True, json_schema=True), True, "tool"),
        (Capabilities(tools=False, json_schema=True), False, "native"),
        (Capabilities(tools=False), False, "prompt"),
    ],
)
async def test_of_other_models_their_capabilities_decide(able: Capabilities, tools: bool, mode: str) -> None:
    provider = Told(able)

    assert await chosen("ours", provider, tools=tools) == mode
    assert await chosen("ours", Retry(Fallback(provider, "other")), tools=tools) == mode
    assert await chosen("ours", WatchedModel(provider, None), tools=tools) == mode  # pyright: ignore[reportArgumentType]


def test_capabilities_that_do_not_come_hold_nobody_up() -> None:
    async def main() -> None:
        assert await chosen("ours", Told()) == "tool"
        assert asyncio.get_running_loop().time() == 2

    run_virtual(main())


async def test_a_mode_that_is_given_is_not_questioned() -> None:
    assert Output(int, mode="prompt").mode_for(Told(), "gpt-4o", tools=False) == "prompt"


async def test_a_run_that_is_cancelled_before_anybody_asked_leaves_nothing_unawaited() -> None:
    """Python would warn of it, much later."""
    asked = asyncio.Event()

    class Slow(Tools):
        def tools(self, state: LoopState, /) -> Any:
            async def fetch() -> Any:
                asked.set()
                await asyncio.Event().wait()

            return fetch()

    async def prompt(state: LoopState) -> str:
        return "never"

    agent = AgentLoop(llm_provider=Told(), tool_providers=[Slow()], system_prompt=prompt)
    run = agent.execute("go", output_type=int).start()
    async with asyncio.timeout(5):
        await asked.wait()
        run.cancel()
        with pytest.raises(TaskCanceled):
            await run
    gc.collect()


# -------------------------------------------------------------------------------------------------------- through the provider


async def test_the_proxy_is_asked_once_and_only_about_names_that_are_unknown_here() -> None:
    server = ScriptedServer(
        calls("final_answer", result=1), calls("final_answer", result=2), says("3"), models=("ours", "gpt-4o")
    )
    ours = LiteLLMProvider("http://proxy", "ours", None, transport=HTTP(server.transport()))
    known = LiteLLMProvider("http://proxy", "gpt-4o", None, transport=HTTP(server.transport()))

    outputs = [
        (await AgentLoop(llm_provider=provider).execute("go", output_type=int)).output
        for provider in (ours, ours, known)
    ]

    assert outputs == [1, 2, 3]
    assert server.paths == ["GET /model_group/info", "GET /model/info", *["POST /v1/chat/completions"] * 3]
    assert [("tools" in got.body, "response_format" in got.body) for got in server.requests] == [
        (True, False),
        (True, False),
        (False, True),
    ]
