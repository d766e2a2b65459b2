"""What a model can do and what it refuses, as its proxy tells it and as a small dated table has it.

Names say little and proxies not everything: LiteLLM 1.106 lists `temperature` for models that refuse it. So three sources are joined,
for each ability by itself: what the proxy's map says outright, then the table, then what follows from the proxy's lists. What none of them
knows is None. Nothing here does I/O: `catalogue.py` asks the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypedDict, cast

from looopy.messages import JSON
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.chat import dollars
from looopy.providers.prices import Prices, prices_of

TABLE_DATE = "2026-11-27"
"""When the table was true. It is LiteLLM 1.106's map of models, and what the proxy was seen to refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do; None is "nobody knows".

    Attributes:
        model: the name that was asked about.
        mode: what it is for, in LiteLLM's words: "chat", "embedding" and others; empty where nobody says.
        tools: it calls tools.
        parallel_tools: it calls several in one answer.
        forced_tools: it can be made to call a tool (`tool_choice="required"` or a name).
        json_schema: it answers by a JSON schema.
        vision: it reads images.
        reasoning: it thinks before it answers.
        sampling: it takes `temperature` and `top_p`.
        max_input_tokens: the longest conversation.
        max_output_tokens: the longest answer.
        parameters: of OpenAI's chat API, those that the proxy passes on.
        prices: what its tokens cost.
        source: who says so: the "proxy", or the "table" where the proxy does not know; empty where both do not.
    """

    model: str = ""
    mode: str = ""
    tools: bool | None = None
    parallel_tools: bool | None = None
    forced_tools: bool | None = None
    json_schema: bool | None = None
    vision: bool | None = None
    reasoning: bool | None = None
    sampling: bool | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    parameters: tuple[str, ...] | None = None
    prices: Prices | None = None
    source: Literal["proxy", "table", ""] = ""


_TEXT = "tools forced_tools"
_SEES = f"{_TEXT} vision json_schema"
_THINKS = f"{_SEES} reasoning parallel_tools"
_TABLE: Sequence[tuple[str, str, str, int | None, int | None]] = (
    # names that begin so, what they can, what they cannot, tokens in, tokens out; the first row that fits decides
    (r"gpt-3\.?5", f"{_TEXT} sampling", "vision reasoning json_schema", 16_385, 4_096),
    (r"gpt-4\.1", f"{_SEES} sampling parallel_tools", "reasoning", 1_047_576, 32_768),
    (r"(?:gpt|chatgpt)-4o", f"{_SEES} sampling parallel_tools", "reasoning", 128_000, 16_384),
    (r"gpt-4-turbo", f"{_TEXT} sampling parallel_tools vision", "reasoning json_schema", 128_000, 4_096),
    (r"gpt-4", f"{_TEXT} sampling", "reasoning", None, None),
    (r"gpt-(?:5\.6|6)", _THINKS, "sampling", 922_000, 128_000),
    (r"gpt-5-mini", _THINKS, "sampling", 272_000, 128_000),
    (r"gpt-[5-9]|o[1-9](?:$|-)", "tools reasoning", "sampling", None, None),
    (r"claude-(?:2|3|instant)", "sampling", "", None, None),
    (r"claude-haiku-4-5", f"{_THINKS} sampling", "", 200_000, 64_000),
    (r"claude-haiku-5-5", _THINKS, "sampling", 1_000_000, 128_000),
    (
        r"claude-(?:opus-5-5|sonnet-5-5|fable-5-1|mythos-5-1)",
        _THINKS.replace("forced_tools ", ""),
        "sampling forced_tools",
        1_000_000,
        128_000,
    ),
    (r"claude-(?:opus-4-[7-9]|(?:opus|sonnet|haiku)-[5-9]|fable|mythos)", _THINKS, "sampling", None, None),
    (r"gemini-2\.5", f"{_THINKS} sampling", "", 1_048_576, 65_536),
    (r"gemini-[12]\.|gemini-pro", "tools sampling", "", None, None),
    (r"gemini-3\.(?:5-flash-lite|[6-9]-flash)", _THINKS, "sampling", 1_048_576, 65_536),
    (r"command-r", f"{_TEXT} sampling", "vision reasoning", 128_000, 4_096),
    (r"mistral-", f"{_TEXT} sampling", "", None, None),
    (r"ollama(?:_chat)?/(?:llama2|codellama)", "sampling", "tools parallel_tools forced_tools", 4_096, None),
    (r"ollama(?:_chat)?/", "sampling", "forced_tools", None, None),
)
_ROWS = tuple(
    (re.compile(rf"(?:^|[/.])(?:{names})"), can.split(), cannot.split(), reads, writes)
    for names, can, cannot, reads, writes in _TABLE
)

_FLAGS = {
    "tools": "supports_function_calling",
    "parallel_tools": "supports_parallel_function_calling",
    "forced_tools": "supports_forced_tool_use",
    "json_schema": "supports_response_schema",
    "vision": "supports_vision",
    "reasoning": "supports_reasoning",
    "sampling": "supports_sampling_params",
}
"""Abilities, and what LiteLLM calls them."""
_NEEDS = {"sampling": "temperature", "forced_tools": "tool_choice", "json_schema": "response_format"}
"""Parameters without which there is no such ability."""


class _Flags(TypedDict, total=False):
    """The abilities that are a yes, a no, or None."""

    tools: bool | None
    parallel_tools: bool | None
    forced_tools: bool | None
    json_schema: bool | None
    vision: bool | None
    reasoning: bool | None
    sampling: bool | None


@lru_cache(maxsize=1024)
def known(model: str) -> Capabilities:
    """What the table says about a model of this name; an alias may of course be another."""
    for names, can, cannot, reads, writes in _ROWS:
        if names.search(model):
            flags = {**dict.fromkeys(can, True), **dict.fromkeys(cannot, False)}
            return Capabilities(
                model=model,
                max_input_tokens=reads,
                max_output_tokens=writes,
                source="table",
                **cast("_Flags", flags),
            )
    return Capabilities(model=model)


def described(model: str, groups: JSON, deployments: JSON) -> Capabilities:
    """What a proxy and the table together say about a model.

    Args:
        model: its name on the proxy.
        groups: the answer to `GET /model_group/info`, whatever it is.
        deployments: the answer to `GET /model/info`, whatever it is.
    """
    group = as_object(next((row for row in _data(groups) if row.get("model_group") == model), None))
    behind = [
        as_object(row.get("model_info")) for row in _data(deployments) if row.get("model_name") == model
    ]
    if not group and not behind:
        return known(model)
    # Of a group every flag is yes or no, whatever the proxy knows; of a deployment only what its map says.
    unflagged = {name: value for name, value in group.items() if not name.startswith("supports_")}
    each = [_deployment(model, entry) for entry in behind or [unflagged]]
    mode = next(filter(None, (as_text(entry.get("mode")) for entry in (group, *behind))), "")
    listed: list[JSON] = as_list(group.get("supported_openai_params"))
    parameters = tuple(name for name in listed if isinstance(name, str))
    flags = {
        name: _first(_all([getattr(one, name) for one in each]), _follows(name, group, parameters, mode))
        for name in _FLAGS
    }
    prices = {one.prices for one in each}
    return Capabilities(
        model=model,
        mode=mode,
        max_input_tokens=_least([one.max_input_tokens for one in each]),
        max_output_tokens=_least([one.max_output_tokens for one in each]),
        parameters=parameters or None,
        # Deployments of different prices: nobody knows which of them will answer.
        prices=prices.pop() if len(prices) == 1 else None,
        source="proxy" if mode else each[0].source,
        **cast("_Flags", flags),
    )


def _deployment(model: str, entry: Mapping[str, JSON]) -> Capabilities:
    """What an entry of the proxy's map says outright, and the table about the model behind the alias."""
    table = known(as_text(entry.get("key")) or model)
    flags = {name: _first(_flag(entry, flag), getattr(table, name)) for name, flag in _FLAGS.items()}
    return replace(
        table,
        max_input_tokens=_limit(entry, "max_input_tokens") or table.max_input_tokens,
        max_output_tokens=_limit(entry, "max_output_tokens") or table.max_output_tokens,
        prices=prices_of(entry),
        **cast("_Flags", flags),
    )


def _data(answer: JSON) -> list[dict[str, JSON]]:
    return [as_object(row) for row in as_list(as_object(answer).get("data"))]


def _flag(entry: Mapping[str, JSON], name: str) -> bool | None:
    return value if isinstance(value := entry.get(name), bool) else None


def _limit(entry: Mapping[str, JSON], name: str) -> int | None:
    amount = dollars(entry.get(name))
    return int(amount) if amount else None


def _first(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)


def _all(values: Sequence[bool | None]) -> bool | None:
    """What holds whichever deployment answers."""
    if False in values:
        return False
    return None if None in values else True


def _least(limits: Sequence[int | None]) -> int | None:
    """What fits whichever deployment answers."""
    told = [limit for limit in limits if limit is not None]
    return min(told) if len(told) == len(limits) else None


def _follows(ability: str, group: Mapping[str, JSON], parameters: Sequence[str], mode: str) -> bool | None:
    """What the proxy's lists imply.

    For a model that is not in its map, and so has no mode, they are those of its provider, and every flag is false.
    """
    if not mode:
        return None
    if mode not in ("chat", "responses"):
        return False
    if (needed := _NEEDS.get(ability)) and parameters:
        listed = needed in parameters
        # To take `response_format` is not yet to take a schema.
        return listed if ability != "json_schema" else listed and None
    return _flag(group, _FLAGS[ability])
