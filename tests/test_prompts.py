"""Instructions that a store keeps: their text reaches the model, their name and version the request, and what cannot work is said."""

from __future__ import annotations

from typing import Any

import pytest
from langfuse.api import Prompt_Chat, Prompt_Text
from langfuse.model import ChatPromptClient, TextPromptClient

from looopy import AgentLoop, ConfigurationError, ManagedPrompt
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, says


def text_prompt(text: str, *, fallback: bool = False) -> TextPromptClient:
    """What Langfuse's `get_prompt` gives."""
    stored = {"name": "support", "version": 3, "prompt": text, "config": {}, "labels": [], "tags": []}
    return TextPromptClient(Prompt_Text.model_validate(stored | {"type": "text"}), is_fallback=fallback)


def chat_prompt(*messages: tuple[str, str]) -> ChatPromptClient:
    said: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in messages]
    said = [
        {"type": "placeholder", "name": each["content"]} if each["role"] == "placeholder" else each
        for each in said
    ]
    stored = {"name": "support", "version": 3, "prompt": said, "config": {}, "labels": [], "tags": []}
    return ChatPromptClient(Prompt_Chat.model_validate(stored | {"type": "chat"}))


async def requests_of(system_prompt: Any) -> list[tuple[list[str], str, int | None]]:
    """The system messages, prompt name and prompt version of a run's two model calls."""
    model = ScriptedModel(calls("add", a=1, b=2), says("done"))

    def add(a: int, b: int) -> int:
        return a + b

    await AgentLoop(llm_provider=model, tools=[add], system_prompt=system_prompt).execute("go")
    return [
        (
            [message.text for message in request.messages if message.role == "system"],
            request.prompt_name,
            request.prompt_version,
        )
        for request in model.requests
    ]


SUPPORT = ManagedPrompt(text="Be kind.", name="support", version=3)


async def later(_: LoopState) -> TextPromptClient:
    return text_prompt("Be kind.")


@pytest.mark.parametrize(
    "prompt",
    [
        SUPPORT,
        text_prompt("Be kind."),
        chat_prompt(("system", "Be kind.")),
        lambda _: SUPPORT,
        lambda _: ManagedPrompt.of(text_prompt("Be {{how}}."), how="kind"),
        later,
    ],
    ids=["value", "text", "chat", "function", "filled in", "awaited"],
)
async def test_a_managed_prompt_is_said_to_the_model_and_named_in_every_request(prompt: Any) -> None:
    assert await requests_of(prompt) == [(["Be kind."], "support", 3)] * 2


@pytest.mark.parametrize("prompt", ["Be kind.", lambda _: "Be kind.", text_prompt("Be kind.", fallback=True)])
async def test_text_and_fallbacks_are_linked_to_nothing(prompt: Any) -> None:
    assert await requests_of(prompt) == [(["Be kind."], "", None)] * 2


@pytest.mark.parametrize("prompt", [None, "", lambda _: None])
async def test_no_prompt_makes_no_system_message(prompt: Any) -> None:
    assert await requests_of(prompt) == [([], "", None)] * 2


def test_the_system_messages_of_a_chat_prompt_become_one_text() -> None:
    prompt = chat_prompt(("system", "You help in {{city}}."), ("developer", "Be brief."))

    assert ManagedPrompt.of(prompt, city="Oslo") == ManagedPrompt(
        text="You help in Oslo.\n\nBe brief.", name="support", version=3
    )


def test_a_variable_may_have_the_name_of_an_argument() -> None:
    assert ManagedPrompt.of(text_prompt("{{prompt}} {{cls}}"), prompt=1, cls=2).text == "1 2"


def test_a_variable_without_a_value_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentLoop(llm_provider=ScriptedModel(), system_prompt=text_prompt("{{a}} {{b}} {{a}}"))
    assert str(caught.value) == (
        "the prompt 'support', version 3, has variables without a value: write ManagedPrompt.of(prompt, a=…, b=…)"
    )
    assert caught.value.argument == "system_prompt"


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (chat_prompt(("system", "Be kind."), ("user", "Hi")), "'user'"),
        (chat_prompt(("system", "Be kind."), ("placeholder", "past")), "'placeholder'"),
    ],
)
def test_a_chat_prompt_with_more_than_instructions_says_where_the_rest_goes(prompt: Any, kind: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"has a part of kind {kind}.*pass the conversation as history="
    ):
        AgentLoop(llm_provider=ScriptedModel(), system_prompt=prompt)


class Odd:
    """A prompt of another store."""

    name = "odd"
    version: Any = 1
    is_fallback = False

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def compile(self, **_: Any) -> Any:
        if isinstance(self.compiled, Exception):
            raise self.compiled
        return self.compiled


class OfNoVersion(Odd):
    version = "7"


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (Odd(KeyError("city")), "could not be filled in: KeyError\\('city'\\)"),
        (Odd(7), "has a part of kind 'int'"),
        (Odd([{"content": "Hi"}]), "has a part of kind 'dict'"),
        (OfNoVersion("Hi"), "name='odd', version='7'.*the number of its version"),
        (7, "the system prompt is a int: it is text, a ManagedPrompt"),
    ],
)
def test_what_is_no_prompt_is_refused_when_the_agent_is_built(prompt: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        AgentLoop(llm_provider=ScriptedModel(), system_prompt=prompt)


async def test_a_function_that_gives_no_prompt_fails_the_task_with_the_mend() -> None:
    prompt: Any = lambda _: 7  # noqa: E731  any other type is a type checker's business
    with pytest.raises(ConfigurationError, match="the system prompt is a int"):
        await AgentLoop(llm_provider=ScriptedModel(), system_prompt=prompt).execute("go")


@pytest.mark.parametrize(
    "fields", [{"name": "x"}, {"version": 1}, {"name": "x", "version": True}, {"name": "x", "version": "1"}]
)
def test_a_name_without_a_number_of_a_version_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="with the number of its version, or neither"):
        ManagedPrompt(text="Hi", **fields)


@pytest.mark.parametrize("given", ["Be brief.", None])
def test_a_managed_prompt_is_made_of_a_stores_prompt_alone(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ManagedPrompt.of(given, city="Oslo")
    assert str(caught.value) == (
        f"ManagedPrompt.of() was given a {type(given).__name__}: pass what get_prompt gave, or write ManagedPrompt(text=…)"
    )
