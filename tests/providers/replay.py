"""A proxy whose every byte the test decides, in memory and in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from reactivex import operators as ops

from looopy.events import LLMEvent, LLMResponse
from looopy.messages import Message
from looopy.ports import LLMRequest
from looopy.providers.litellm import LiteLLMProvider
from looopy.providers.transport import HTTP
from looopy.testing.clock import run_virtual

URL = "http://localhost:4000"
CHAT = f"{URL}/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
HI = LLMRequest(messages=(Message.user("Hi"),))

Piece = bytes | float | Exception
"""Bytes of a body, seconds until the next piece, or how the connection breaks."""


def sse(*values: object) -> bytes:
    """Each value as one server-sent event."""
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


def chunk(finish_reason: object = None, /, **delta: object) -> dict[str, Any]:
    """A chunk as LiteLLM sends it: absent keys are left out."""
    finish = {"finish_reason": finish_reason} if finish_reason is not None else {}
    return {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0, "delta": delta} | finish]}


def deltas(*those: Mapping[str, object]) -> bytes:
    """A whole stream of deltas."""
    return sse(*(chunk(**delta) for delta in those), chunk("stop")) + DONE


@dataclass(frozen=True)
class Reply:
    """One answer of the proxy."""

    pieces: Sequence[Piece] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Body(httpx.AsyncByteStream):
    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            elif isinstance(piece, Exception):
                raise piece
            else:
                await asyncio.sleep(piece)

    async def aclose(self) -> None:
        self.closed = True


class Wire:
    """What requests are answered with, in order, and what they were."""

    def __init__(self, *replies: Reply | Exception | float) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.bodies: list[_Body] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        while isinstance(reply, float):
            await asyncio.sleep(reply)
            reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        self.bodies.append(_Body(reply.pieces))
        headers = {"x-litellm-call-id": "call-1", **reply.headers}
        return httpx.Response(reply.status, headers=headers, stream=self.bodies[-1])

    @property
    def sent(self) -> list[Any]:
        """The bodies of the requests."""
        return [json.loads(request.content) for request in self.requests]

    def provider(self, model: str = "gpt-4o", **settings: Any) -> LiteLLMProvider:
        """The real provider, with this wire in place of the network."""
        settings = {"base_url": URL, "api_key": "sk-0123456789abcdef", **settings}
        return LiteLLMProvider(model=model, transport=HTTP(httpx.MockTransport(self)), **settings)

    def ask(self, request: LLMRequest = HI, **settings: Any) -> list[LLMEvent]:
        """The events of one call in virtual time."""
        return run_virtual(events(self.provider(**settings), request))


async def events(provider: LiteLLMProvider, request: LLMRequest = HI) -> list[LLMEvent]:
    """The events of one call."""
    return await provider.call(request).pipe(ops.to_list())


def heard(*pieces: Piece, **headers: str) -> list[LLMEvent]:
    """The events of a call that is answered with these bytes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Wire(Reply(pieces, headers=named)).ask()


def answered(*pieces: Piece, **headers: str) -> LLMResponse:
    """The whole answer of a call that is answered with these bytes."""
    last = heard(*pieces, **headers)[-1]
    assert isinstance(last, LLMResponse)
    return last


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
    "cost": 0.5,
}


def said(text: str, **message: Any) -> LLMResponse:
    """An answer as everything in these tests comes back, but for what the test is about."""
    whole = Message("assistant", text, model="gpt-4o", **message)
    return LLMResponse(
        message=whole,
        model="gpt-4o",
        first_token=0.0,
        response_id="chatcmpl-1",
        call_id="call-1",
        seconds=0.0,
    )


def call(
    index: object = None, /, call_id: object = None, name: object = None, arguments: object = None
) -> dict[str, Any]:
    """A piece of a tool call; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {key: value for key, value in (("index", index), ("id", call_id)) if value is not None} | {
        "function": function
    }
