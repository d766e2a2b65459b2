"""What one proxy tells of its models, asked for when somebody wants to know and kept for a while; and how it counts tokens.

A model call never asks here for anything but what is there already. `capabilities.py` and `prices.py` read the answers.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic_core import from_json, to_json

from looopy.errors import ModelError
from looopy.messages import JSON, Message, Usage
from looopy.ports import ToolDefinition
from looopy.providers.calls import as_object, as_text
from looopy.providers.capabilities import Capabilities, described, known
from looopy.providers.prices import cost_of
from looopy.providers.proxy import Proxy
from looopy.providers.refusals import Asked

KEPT = 600.0
"""Seconds for which what a proxy tells of its models is believed."""

_ANSWER_LIMIT = 64 * 1024  # bytes of an answer with a number in it
_PER_FILE = 1_000  # tokens that a picture or a document costs, roughly
_INLINE = re.compile(rb'"(?:data:[^"]*|[A-Za-z0-9+/=]{1000,})"')


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens a request has.

    Attributes:
        count: the conversation and the tools together.
        estimated: it was not counted by the model's own provider.
        counted_by: the model's "provider"; a tokenizer in the "proxy"; or "looopy", which takes four bytes for a token.
    """

    count: int
    estimated: bool
    counted_by: Literal["provider", "proxy", "looopy"]


class _Told(NamedTuple):
    groups: JSON
    deployments: JSON
    at: float
    read: dict[str, Capabilities]  # what was made of it so far, by model

    def about(self, model: str) -> Capabilities:
        if model not in self.read:
            self.read[model] = described(model, self.groups, self.deployments)
        return self.read[model]


class Catalogue:
    """What is known of the models of one proxy.

    Args:
        proxy: whom to ask.
        clock: tells the seconds.
    """

    __slots__ = ("_clock", "_proxy", "_told")

    def __init__(self, proxy: Proxy, clock: Callable[[], float] = time.monotonic) -> None:
        self._proxy = proxy
        self._clock = clock
        self._told: _Told | None = None

    async def capabilities(self, model: str, *, refresh: bool) -> Capabilities:
        """What a model can do; where the proxy cannot be asked, as far as the table knows."""
        told = self._told
        if told is None or refresh or self._clock() - told.at > KEPT:
            try:
                groups = await self._proxy.get("/model_group/info")
            except ModelError:
                return known(model)
            told = self._told = _Told(groups, await self._deployments(), self._clock(), {})
        return told.about(model)

    async def _deployments(self) -> JSON:
        """Prices of cached tokens and real names are here; some keys may not read it."""
        try:
            return await self._proxy.get("/model/info")
        except ModelError:
            return None

    def cost(self, model: str, usage: Usage) -> float | None:
        """US dollars of a call by the proxy's prices, as far as these were asked for; None where they are not known."""
        told = self._told
        prices = told.about(model).prices if told else None
        return None if prices is None else cost_of(usage, prices)

    async def count(self, model: str, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> Tokens:
        """Count the tokens of a request: by the provider, by the proxy, or by estimate."""
        parts = (
            b'{"model":',
            to_json(model),
            b',"messages":[',
            b",".join(message.wire for message in messages),
            b"]",
            *((b',"tools":[', b",".join(tool.wire for tool in tools), b"]") if tools else ()),
            b"}",
        )
        body = b"".join(parts)
        # Where a provider cannot be asked, LiteLLM counts by itself, or else breaks and has to be told to (seen with 1.106, Gemini).
        counted = await self._count(model, body, "?call_endpoint=true") or await self._count(model, body, "")
        return counted or estimate(messages, tools)

    async def _count(self, model: str, body: bytes, query: str) -> Tokens | None:
        address = self._proxy.address
        asked = Asked(model, f"{address.root}/utils/token_counter{query}", address)
        headers = {"content-type": "application/json", **address.headers}
        try:
            answer = await self._proxy.post(asked, headers, body, limit=_ANSWER_LIMIT)
            told = as_object(from_json(answer.body))
        except (ModelError, ValueError):
            return None
        count = told.get("total_tokens")
        if told.get("error") or not isinstance(count, int):
            return None
        exact = as_text(told.get("count_source")) not in ("", "local_estimate")
        return Tokens(count, not exact, "provider" if exact else "proxy")


def estimate(messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> Tokens:
    """Roughly how many tokens a request has, without asking anybody."""
    size, files = 0, 0
    for wire in (*(message.wire for message in messages), *(tool.wire for tool in tools)):
        text, inline = _INLINE.subn(b"", wire)
        size, files = size + len(text), files + inline
    count = math.ceil(size / 4) + _PER_FILE * files
    return Tokens(count, estimated=True, counted_by="looopy")
