"""What users pass to an agent, checked when it is passed and made plain: prompts, providers, tools, values for events.

`agent.py` calls these at its door, so that what can be known to be wrong is said there, with the argument's name and the mend.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias, cast

from looopy.errors import ConfigurationError
from looopy.messages import JSON, Message, Part, jsonable, plain, whole
from looopy.ports import LLMProvider, ToolProvider
from looopy.prompts import instructions
from looopy.setup import SystemPrompt

_log = logging.getLogger("looopy")

STAND_IN = "LOOOPY_STAND_IN"
"""The variable of the environment that puts the stand-in in the place of every model that is given by its name."""

Prompt: TypeAlias = str | Message | tuple[Part, ...]
"""What a person asks: text, parts (text, files, data), or a whole message."""


def message_of(prompt: Prompt) -> Message:
    """The prompt as a message that JSON knows, or what is wrong with it."""
    message = prompt if isinstance(prompt, Message) else Message.user(_content(prompt))
    empty = not message.content or (isinstance(message.content, str) and not message.content.strip())
    if empty and message.role != "tool":  # a tool may have nothing to say
        raise ConfigurationError("the prompt is empty: say what the agent shall do", argument="prompt")
    return message


def _content(prompt: Any) -> str | tuple[Part, ...]:
    if isinstance(prompt, str):
        return whole(prompt)
    if not isinstance(prompt, Sequence) or not all(isinstance(part, Part) for part in cast("Any", prompt)):
        raise ConfigurationError(
            f"the prompt is a {type(cast('object', prompt)).__name__}: pass text, a Message, or a tuple of TextPart, FilePart and DataPart",
            argument="prompt",
        )
    try:
        return tuple(plain(part) for part in cast("Sequence[Part]", prompt))
    except TypeError as error:
        raise ConfigurationError(
            f"the prompt has data without a JSON form: {error}", argument="prompt"
        ) from None


def history_of(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages before a prompt, or which of them is none."""
    given: Any = messages
    if isinstance(given, Iterable) and not isinstance(given, str):
        listed = tuple(cast("Iterable[Any]", given))
        others = (
            f"[{n}] is a {type(each).__name__}"
            for n, each in enumerate(listed)
            if not isinstance(each, Message)
        )
        what = next(others, "")
        if not what:
            return listed
    else:
        what = f" is a {type(given).__name__}"
    raise ConfigurationError(
        f'history{what}: pass a list of Messages, such as result.messages or [Message.user("…"), Message.assistant("…")]',
        argument="history",
    )


def check_answered(conversation: Sequence[Message]) -> None:
    """Check that each tool call is followed by its answer, and each answer follows its call: no model takes anything else.

    Raises:
        ConfigurationError: one is not; the message says which, counted from 1.
    """
    open_calls: dict[str, str] = {}
    for place, message in enumerate((*conversation, None), start=1):
        if message is not None and message.role == "tool":
            if open_calls.pop(message.tool_call_id, None) is None:
                raise ConfigurationError(
                    f"message {place} of the conversation answers the tool call {message.tool_call_id!r}, which the answer before it does not hold, "
                    "or which has its answer: leave it out",
                    argument="history",
                )
            continue
        for call_id, name in open_calls.items():
            raise ConfigurationError(
                f"message {place} of the conversation comes before an answer to the tool call {name!r} ({call_id}): put "
                f'Message.tool("…", tool_call_id={call_id!r}) before it, whatever it says',
                argument="history",
            )
        if message is not None:
            open_calls = {call.id: call.name for call in message.tool_calls}


def text_of(argument: str, given: str) -> str:
    """An id as it was passed; empty where it is None. Or what is wrong with it, without the id, which may be a person's."""
    said: Any = given
    if said is None:
        return ""
    if not isinstance(said, str):
        raise ConfigurationError(
            f"{argument} is a {type(said).__name__}: pass text, such as {argument}=str(…)", argument=argument
        )
    return said


def tags_of(given: Iterable[str]) -> tuple[str, ...]:
    """The labels of a task, or which of them is none."""
    listed: Any = given
    if isinstance(listed, str):
        what = f" is one text: pass a list of them, tags=[{listed!r}]"
    elif not isinstance(listed, Iterable):
        what = f" is a {type(listed).__name__}: pass a list of texts"
    else:
        tags = tuple(cast("Iterable[Any]", listed))
        others = (
            f"[{n}] is a {type(tag).__name__}: tags are texts"
            for n, tag in enumerate(tags)
            if not isinstance(tag, str)
        )
        what = next(others, "")
        if not what:
            return tags
    raise ConfigurationError(f"tags{what}", argument="tags")


def system_prompt_of(given: SystemPrompt) -> SystemPrompt:
    """The instructions in the form that the loop knows, or the function that will give them; or what is wrong with them."""
    return given if callable(given) else instructions(given)


def plain_values(values: dict[str, Any], argument: str) -> JSON:
    """Values for an event, as JSON, or which argument has none."""
    try:
        return jsonable(values)
    except TypeError as error:
        raise ConfigurationError(
            f"{argument}: not all of it has a JSON form ({error}); pass text, numbers, lists and dicts",
            argument=argument,
        ) from None


def fits(argument: str, value: object, *methods: str, mend: str) -> None:
    """Check that a value fits its socket, and is no class that somebody forgot to call."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        needed = " and ".join(f"{method}()" for method in methods)
        given = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise ConfigurationError(
            f"AgentLoop({argument}=…): {given} was given, but it takes an object with {needed}; {mend}",
            argument=argument,
        )


def provider_of(provider: LLMProvider | str) -> LLMProvider:
    """The provider that a model's name or "stand-in" stands for, or the one that was given."""
    if not isinstance(provider, str):
        fits(
            "llm_provider", provider, "call", mend="pass a LiteLLMProvider(…), a model's name, or 'stand-in'"
        )
        return provider
    if stand_in_for(provider):
        from looopy.testing.standin import StandInProvider

        return StandInProvider()
    from looopy.providers.litellm import LiteLLMProvider

    return LiteLLMProvider(model=provider)


def stand_in_for(name: str) -> bool:
    """Whether the stand-in answers for a model of this name; the log says so once where the environment wants it.

    Raises:
        ConfigurationError: as `stand_in_wanted`.
    """
    if name == "stand-in":
        return True
    wanted = stand_in_wanted()
    if wanted:
        _warn_of_stand_in()
    return wanted


def stand_in_wanted() -> bool:
    """Whether the environment wants the stand-in in the place of named models.

    Raises:
        ConfigurationError: the variable is neither 1 nor 0 nor empty.
    """
    value = os.environ.get(STAND_IN, "").strip()
    if value not in ("", "0", "1"):
        raise ConfigurationError(
            f"{STAND_IN}={value!r}: set it to 1 to have looopy's stand-in answer in place of real models, or unset it",
            argument=STAND_IN,
        )
    return value == "1"


@cache
def _warn_of_stand_in() -> None:
    _log.warning(
        "%s=1: looopy's stand-in, which is no language model, answers in place of each model that is given by its name; unset it for real ones",
        STAND_IN,
    )


def tools_of(functions: Iterable[Callable[..., Any]]) -> tuple[ToolProvider, ...]:
    """The provider of these functions; none where there are none."""
    if callable(functions) or not isinstance(cast("object", functions), Iterable):
        raise ConfigurationError(
            f"AgentLoop(tools={functions!r}): it takes a list, so write tools=[…]", argument="tools"
        )
    listed = tuple(functions)
    if not listed:
        return ()
    from looopy.tools.function import FunctionTools

    return (FunctionTools(listed),)
