"""Three providers' streaming wire formats, and two for embeddings, as far as the scripts need them.

A turn is a sequence of pieces (`Says`, `Thinks`, `Calls`, `Breaks`, `Stalls`); each `Stream` turns one into
the server-sent events that its provider would send. upstream.py sends them; nothing here does I/O.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Says:
    """Text, streamed word by word."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinks:
    """Reasoning, streamed word by word; the signature, in base64, is unused on the OpenAI route."""

    text: str
    signature: str


@dataclass(frozen=True, slots=True)
class Calls:
    """One tool call; its arguments are streamed in two pieces where the format streams arguments."""

    name: str
    arguments: dict[str, str]


@dataclass(frozen=True, slots=True)
class Breaks:
    """An error event in mid-stream; the connection closes behind it."""


@dataclass(frozen=True, slots=True)
class Stalls:
    """Nothing more is sent until the client hangs up."""


@dataclass(frozen=True, slots=True)
class Refuses:
    """HTTP 503 in place of a turn."""


Piece: TypeAlias = Says | Thinks | Calls | Breaks | Stalls
Turn: TypeAlias = Sequence[Piece]

PROMPT_TOKENS, ANSWER_TOKENS = 1_000, 100
"""What every whole turn reports as its usage."""

OVERLOADED = "the upstream broke in mid-stream"
"""The text of the error that `Breaks` sends."""


class Stream(Protocol):
    """One provider's format."""

    def has_tool_results(self, body: dict[str, Any]) -> bool:
        """Whether the request carries what a tool returned: then it asks for the second turn."""
        ...

    def events(self, turn: Turn) -> Iterator[bytes | Stalls]:
        """The turn as server-sent events; ends early at `Breaks` and `Stalls`."""
        ...


def stream_for(path: str) -> Stream | None:
    """The format spoken at a path; None where no provider would stream."""
    if path.endswith("/chat/completions"):
        return OpenAIStream()
    if path.partition("?")[0].endswith("/messages"):
        return AnthropicStream()
    if ":streamGenerateContent" in path:
        return GeminiStream()
    return None


class OpenAIStream:
    """`POST /chat/completions`, with `reasoning_content` as some OpenAI-type providers send it."""

    def has_tool_results(self, body: dict[str, Any]) -> bool:
        """Whether a `tool` message is there."""
        return any(message["role"] == "tool" for message in body["messages"])

    def events(self, turn: Turn) -> Iterator[bytes | Stalls]:
        """Chunks, the finish reason in one of its own, then usage, then `[DONE]`."""
        finish = "tool_calls" if _calls(turn) else "stop"
        index = count()
        yield _openai({"role": "assistant", "content": ""})
        for piece in turn:
            match piece:
                case Says(text):
                    yield from (_openai({"content": word}) for word in _words(text))
                case Thinks(text):
                    yield from (_openai({"reasoning_content": word}) for word in _words(text))
                case Calls():
                    yield from _openai_call(piece, next(index))
                case Breaks():
                    yield _data(
                        {"error": {"message": OVERLOADED, "type": "server_error", "code": "overloaded"}}
                    )
                    return
                case Stalls():
                    yield piece
                    return
        yield _openai({}, finish)
        yield _data(_OPENAI_HEAD | {"choices": [], "usage": _OPENAI_USAGE})
        yield b"data: [DONE]\n\n"


_OPENAI_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream"}
_OPENAI_USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": ANSWER_TOKENS,
    "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
}


def _openai(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _data(_OPENAI_HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _openai_call(call: Calls, index: int) -> Iterator[bytes]:
    head = {"id": f"call_{index}", "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield _openai({"tool_calls": [{"index": index} | head]})
    for part in _halves(json.dumps(call.arguments)):
        yield _openai({"tool_calls": [{"index": index, "function": {"arguments": part}}]})


class AnthropicStream:
    """`POST /v1/messages`: content blocks, thinking blocks with their signature among them."""

    def has_tool_results(self, body: dict[str, Any]) -> bool:
        """Whether a `tool_result` block is there."""
        blocks = (message["content"] for message in body["messages"] if isinstance(message["content"], list))
        return any(block["type"] == "tool_result" for content in blocks for block in content)

    def events(self, turn: Turn) -> Iterator[bytes | Stalls]:
        """`message_start`, three events or more for each block, `message_delta`, `message_stop`."""
        yield _anthropic(
            "message_start",
            message={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "upstream",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": 1},
            },
        )
        for index, piece in enumerate(turn):
            match piece:
                case Breaks():
                    yield _anthropic("error", error={"type": "overloaded_error", "message": OVERLOADED})
                    return
                case Stalls():
                    yield piece
                    return
                case Says() | Thinks() | Calls():
                    yield from _anthropic_block(piece, index)
        reason = "tool_use" if _calls(turn) else "end_turn"
        yield _anthropic(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": None},
            usage={"output_tokens": ANSWER_TOKENS},
        )
        yield _anthropic("message_stop")


def _anthropic(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + _data({"type": kind} | fields)


def _anthropic_block(piece: Says | Thinks | Calls, index: int) -> Iterator[bytes]:
    match piece:
        case Says(text):
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": word} for word in _words(text)]
        case Thinks(text, signature):
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": word} for word in _words(text)]
            deltas.append({"type": "signature_delta", "signature": signature})
        case Calls(name, arguments):
            start = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": part} for part in _halves(json.dumps(arguments))
            ]
    yield _anthropic("content_block_start", index=index, content_block=start)
    yield from (_anthropic("content_block_delta", index=index, delta=delta) for delta in deltas)
    yield _anthropic("content_block_stop", index=index)


class GeminiStream:
    """`POST …:streamGenerateContent?alt=sse`: parts; a call comes whole, the thought's signature on it."""

    def has_tool_results(self, body: dict[str, Any]) -> bool:
        """Whether a `functionResponse` part is there, in either of the two spellings Gemini takes."""
        parts = [part for content in body["contents"] for part in content["parts"]]
        return any("functionResponse" in part or "function_response" in part for part in parts)

    def events(self, turn: Turn) -> Iterator[bytes | Stalls]:
        """Chunks of one part each; the last has the finish reason and the usage."""
        signature: str | None = None
        for piece in turn:
            match piece:
                case Says(text):
                    yield from (_gemini({"text": word}) for word in _words(text))
                case Thinks(text, signature):
                    yield from (_gemini({"text": word, "thought": True}) for word in _words(text))
                case Calls(name, arguments):
                    signed = {"thoughtSignature": signature} if signature else {}
                    signature = None
                    yield _gemini({"functionCall": {"name": name, "args": arguments}} | signed)
                case Breaks():
                    yield _data({"error": {"code": 503, "message": OVERLOADED, "status": "UNAVAILABLE"}})
                    return
                case Stalls():
                    yield piece
                    return
        yield _gemini({"text": ""}, finish=True)


_GEMINI_USAGE = {
    "promptTokenCount": PROMPT_TOKENS,
    "candidatesTokenCount": ANSWER_TOKENS,
    "totalTokenCount": PROMPT_TOKENS + ANSWER_TOKENS,
}


def _gemini(part: dict[str, Any], *, finish: bool = False) -> bytes:
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}}
    end = {"usageMetadata": _GEMINI_USAGE} if finish else {}
    reason = {"finishReason": "STOP"} if finish else {}
    return _data({"candidates": [candidate | reason], "modelVersion": "upstream", "responseId": "r-1"} | end)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _calls(turn: Turn) -> bool:
    return any(isinstance(piece, Calls) for piece in turn)


def _words(text: str) -> list[str]:
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def vector_for(text: str) -> list[float]:
    """What every text is embedded as: numbers that a 32-bit float holds."""
    return [float(len(text)), text.count("a") / 2, 0.25]


def embeddings_for(path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to a request for embeddings; None where it is for something else."""
    if path.endswith("/embeddings"):
        return _openai_embeddings(body)
    if ":batchEmbedContents" in path:
        texts = [request["content"]["parts"][0]["text"] for request in body["requests"]]
        return {"embeddings": [{"values": vector_for(text)} for text in texts]}
    return None


def _openai_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    vectors = [vector_for(text) for text in body["input"]]
    packed = body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(array("f", vector)).decode() if packed else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
