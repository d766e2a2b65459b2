"""The contenders written by hand: agent loops on httpx and on aiohttp, and the shape that all loops share.

All make the same exchanges: a streamed chat completion, the tool it calls, the next completion, until
an answer comes. The hand-written ones do nothing else (no events, limits, checks, traces), so they are
floors. They are neither crippled nor tuned: default JSON, the client's own line iteration, the stream read
to its end so that the connection is used again, and connection limits high enough for 1,000 runs at once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import httpx

PROMPT = "Calculate 15 * 23 + 47"
KEY = {"authorization": "Bearer sk-bench"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
            },
        },
    }
]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def ignore(text: str) -> None:
    """The listener of runs whose pieces nobody looks at."""


class Loop(Protocol):
    """An agent loop; the model's name chooses the server's script."""

    async def run(self, model: str, on_text: Callable[[str], object] = ignore) -> str:
        """Carry one task to its answer; `on_text` gets each piece of text as it comes."""
        ...


class Turn:
    """What one streamed completion adds up to."""

    def __init__(self, on_text: Callable[[str], object]) -> None:
        self.on_text = on_text
        self.texts: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.usage: dict[str, int] | None = None

    def take(self, data: str | bytes) -> None:
        chunk = json.loads(data)
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if text := delta.get("content"):
                self.texts.append(text)
                self.on_text(text)
            for piece in delta.get("tool_calls", ()):
                call = self.calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id") or ""
                call["name"] += piece["function"].get("name") or ""
                call["arguments"] += piece["function"].get("arguments") or ""

    def message(self) -> dict[str, Any]:
        calls = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in self.calls.values()
        ]
        return {
            "role": "assistant",
            "content": "".join(self.texts) or None,
            **({"tool_calls": calls} if calls else {}),
        }

    async def tool_messages(self) -> list[dict[str, Any]]:
        return [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": str(await add(**json.loads(call["arguments"]))),
            }
            for call in self.calls.values()
        ]


@dataclass(frozen=True, slots=True)
class ByHand:
    """The loop round one streamed exchange, which is all that the HTTP clients do differently."""

    exchange: Callable[[dict[str, Any], Turn], Awaitable[None]]

    async def run(self, model: str, on_text: Callable[[str], object] = ignore) -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": PROMPT}]
        fixed = {"tools": TOOLS, "stream": True, "stream_options": {"include_usage": True}}
        while True:
            turn = Turn(on_text)
            await self.exchange({"model": model, "messages": messages, **fixed}, turn)
            messages.append(turn.message())
            if not turn.calls:
                return messages[-1]["content"]
            messages += await turn.tool_messages()


@asynccontextmanager
async def httpx_loop(url: str) -> AsyncIterator[Loop]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=KEY, limits=limits, timeout=60) as client:

        async def exchange(body: dict[str, Any], turn: Turn) -> None:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        turn.take(line[6:])

        yield ByHand(exchange)


@asynccontextmanager
async def aiohttp_loop(url: str) -> AsyncIterator[Loop]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=KEY, connector=connector) as session:

        async def exchange(body: dict[str, Any], turn: Turn) -> None:
            async with session.post("/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                        turn.take(line[6:])

        yield ByHand(exchange)
