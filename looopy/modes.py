"""How a model is brought to answer in a schema: what is known of it decides, and nothing is asked that is known.

Three ways: natively (the provider holds the model to the schema), by a tool whose arguments are the answer, or by words in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, Literal, TypeAlias, cast

from looopy.messages import JSON
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

_BY_OTHERS = re.compile(r"^bedrock/|^groq/|^ollama(?:_chat)?/")
"""Routes on which a model of the same name has other abilities."""


def mode_for(provider: LLMProvider, model: str, *, expressible: bool, tools: bool) -> Mode | Awaitable[Mode]:
    """How this model shall be asked.

    Natively where its name is known for it. Otherwise by a tool, unless the proxy knows the model as one that takes none: then by the prompt. The
    proxy is asked only about names that are unknown here, where the provider, or one that it wraps, has a `model_info(model)`.

    Args:
        provider: who is asked.
        model: by which name; empty where nobody knows.
        expressible: whether the schema can be said natively.
        tools: whether other tools are offered.
    """
    if expressible and _NATIVE.search(model) and not _BY_OTHERS.search(model):
        if not (tools and _NATIVE_ALONE.search(model)):
            return "native"
        return "tool"
    told = _told_by(provider)
    return "tool" if told is None or not model else _by_what_is_told(told, model)


async def _by_what_is_told(told: Any, model: str) -> Mode:
    info = cast("Mapping[str, JSON] | None", await told.model_info(model))
    if info is None:
        return "tool"
    takes = info.get("supported_openai_params") or ()
    return "tool" if info.get("supports_function_calling") or "tools" in takes else "prompt"


def _told_by(provider: object) -> Any:
    """Who can say what the proxy knows: the provider, or the first that its wrappers hold; None for nobody."""
    while provider is not None and not hasattr(provider, "model_info"):
        several = getattr(provider, "providers", None) or (None,)
        provider = getattr(provider, "__wrapped__", None) or getattr(provider, "provider", None) or several[0]
    return provider
