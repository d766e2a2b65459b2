"""How a model is brought to answer in a schema: what is known of it decides, and nothing is asked that is known.

Three ways: natively (the provider holds the model to the schema), by a tool whose arguments are the answer, or by words in the prompt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import Literal, Protocol, TypeAlias, cast

from looopy.ports import LLMProvider

Mode: TypeAlias = Literal["native", "tool", "prompt"]

_NATIVE = re.compile(
    r"""
    (?: ^ | / ) (?:
        (?: gpt-4o (?! -2024-05-13 | -audio | -realtime | -transcribe | -search ) | gpt-4\.[1-9] | gpt-[5-9] (?! \d ) | o[134] (?! -mini-2024 | -preview | \w ) )
        | claude- (?: opus-4-1 | (?: [a-z]+ ) - (?: 4-[5-9] | [5-9] ) \b )
        | gemini- (?: [2-9] | flash-latest | pro-latest )
        | grok-[3-9]
    )
    """,
    re.VERBOSE,
)
"""Models known to keep to a JSON schema natively, behind any proxy."""

_NATIVE_ALONE = re.compile(r"(?:^|/)gemini-(?:2|flash-latest|pro-latest)")
"""Of these, the ones that refuse a schema beside tools."""

_LOOK_UP = 2.0  # seconds that finding out what a model can do may take

_BY_OTHERS = re.compile(r"^bedrock/|^groq/|^ollama(?:_chat)?/")
"""Routes on which a model of the same name has other abilities."""


class _Able(Protocol):
    """What is known of a model: yes, no, or None for unknown."""

    @property
    def tools(self) -> bool | None: ...
    @property
    def json_schema(self) -> bool | None: ...


class _Informed(Protocol):
    """A provider that can say what its models can do."""

    async def capabilities(self, model: str, /) -> _Able: ...


def mode_for(provider: LLMProvider, model: str, *, expressible: bool, tools: bool) -> Mode | Awaitable[Mode]:
    """How this model shall be asked.

    Natively where its name is known for it. Otherwise it is as the provider's `capabilities` say, or those of one that it wraps; where nobody says
    anything, by a tool.

    Args:
        provider: who is asked.
        model: by which name; empty where nobody knows.
        expressible: whether the schema can be said natively.
        tools: whether other tools are offered.
    """
    if expressible and _NATIVE.search(model) and not _BY_OTHERS.search(model):
        return "tool" if tools and _NATIVE_ALONE.search(model) else "native"
    informed = _informed(provider)
    return "tool" if informed is None or not model else _by_abilities(informed, model, expressible, tools)


async def _by_abilities(informed: _Informed, model: str, expressible: bool, tools: bool) -> Mode:
    try:
        async with asyncio.timeout(_LOOK_UP):
            able = await informed.capabilities(model)
    except TimeoutError:
        return "tool"
    # Beside tools it may be that the proxy forces one of its own on the model in place of a schema, and then no other is ever called.
    if expressible and able.json_schema and not tools:
        return "native"
    return "prompt" if able.tools is False else "tool"


def _informed(provider: object) -> _Informed | None:
    """Who can say what models can do: the provider, or the first that its wrappers hold; None for nobody."""
    while provider is not None and not hasattr(provider, "capabilities"):
        several = getattr(provider, "providers", None) or (None,)
        provider = getattr(provider, "__wrapped__", None) or getattr(provider, "provider", None) or several[0]
    return cast("_Informed | None", provider)
