"""An answer as the bytes that a LiteLLM proxy sends: status, headers, server-sent events.

The shapes are those that LiteLLM 1.106 to 1.109 were seen to send: absent keys are left out rather than null, the role comes once, a tool
call's name comes with empty arguments and these follow in pieces, usage and cost come after the finish in a chunk with no choice. Nothing
here knows sockets: `server.py` sends what is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias, assert_never

from pydantic_core import to_json

from looopy.messages import JSON, Usage
from looopy.testing.script import Answer, Call, Cut, Fail, Raw, Say, Stall, Step, Think, Wait

Piece: TypeAlias = bytes | Wait | Stall | Cut
"""What the server does next: send, wait, send nothing for ever, or break the connection."""

CREATED = 1_700_000_000
"""The `created` of every scripted answer: a script is the same each time that it is played."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response.

    Attributes:
        status: the HTTP status.
        headers: its head, without the framing.
        pieces: its body.
        before: what happens before its head: waits, and last perhaps a cut or a stall.
    """

    status: int
    headers: dict[str, str]
    pieces: tuple[Piece, ...] = ()
    before: tuple[Step, ...] = ()


@dataclass(slots=True)
class _Chunks:
    """Writes the chunks of one answer."""

    model: str
    number: int
    call_ids: Iterator[str]
    role: dict[str, JSON] = field(default_factory=lambda: {"role": "assistant"})
    calls: int = 0

    def of(self, step: Step) -> Iterator[Piece]:
        match step:
            case Say(text):
                yield self.delta({"content": text})
            case Think(text):
                yield self.delta({"reasoning_content": text})
            case Call(name, text):
                yield from self.call(name, text)
            case Raw(body):
                yield body
            case Wait() | Stall() | Cut():
                yield step
            case Fail():
                yield event({"error": _error(step)}) + b"data: [DONE]\n\n"
            case _:
                assert_never(step)

    def call(self, name: str, text: str) -> Iterator[bytes]:
        index, half = self.calls, (len(text) + 1) // 2
        self.calls += 1
        head = {"id": next(self.call_ids), "function": {"arguments": "", "name": name}, "type": "function"}
        yield self.delta({"tool_calls": [{**head, "index": index}]})
        for piece in filter(None, (text[:half], text[half:])):
            yield self.delta(
                {"tool_calls": [{"function": {"arguments": piece}, "type": "function", "index": index}]}
            )

    def delta(self, delta: dict[str, JSON]) -> bytes:
        role, self.role = self.role, {}
        return self.chunk([{"index": 0, "delta": {**delta, **role}}])

    def end(self, answer: Answer, *, with_usage: bool) -> Iterator[bytes]:
        if self.role:
            yield self.delta({"content": ""})
        yield self.chunk([{"finish_reason": answer.reason, "index": 0, "delta": {}}])
        if with_usage and (answer.usage is not None or answer.cost is not None):
            yield self.chunk([], usage=_usage(answer.usage or Usage(), answer.cost))
        yield b"data: [DONE]\n\n"

    def chunk(self, choices: list[JSON], **more: JSON) -> bytes:
        head = {"id": f"chatcmpl-{self.number}", "created": CREATED, "model": self.model}
        return event({**head, "object": "chat.completion.chunk", "choices": choices, **more})


def reply_to(request: JSON, answer: Answer, *, number: int, call_ids: Iterator[str]) -> Reply:
    """The response to a request for a chat completion.

    Args:
        request: the request's body.
        answer: what the script says.
        number: which answer of the server this is, from 1; ids are made of it.
        call_ids: where the ids of tool calls come from.
    """
    headers = {"x-litellm-call-id": f"scripted-{number}", **answer.headers}
    first = next((at for at, step in enumerate(answer.steps) if not isinstance(step, Wait)), 0)
    match answer.steps[first : first + 1]:
        case (Fail() as failure,):
            return Reply(
                failure.status, {**headers, **_failed(failure)}, (error_body(failure),), answer.steps[:first]
            )
        case (Cut() | Stall(headers=False),):
            return Reply(answer.status, headers, (), answer.steps[: first + 1])
        case _:
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            chunks = _Chunks(answer.model or str(request.get("model", "")), number, call_ids)
            options: JSON = request.get("stream_options")
            asked = bool(options and options.get("include_usage"))
            return Reply(answer.status, {**kind, **headers}, tuple(_body(answer, chunks, with_usage=asked)))


def sse(answer: Answer, *, model: str = "gpt-4o-mini") -> bytes:
    """The whole body of a streamed answer, without its waits: to be cut, split or spoilt and given to `raw`."""
    request = {"model": model, "stream_options": {"include_usage": True}}
    ids = (f"call_{number}" for number in count(1))
    reply = reply_to(request, answer, number=1, call_ids=ids)
    return b"".join(piece for piece in reply.pieces if isinstance(piece, bytes))


def event(data: JSON) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"


def error_body(failure: Fail) -> bytes:
    """The body of the proxy's error response: the provider's own class is only in the message."""
    return to_json({"error": _error(failure)})


def _body(answer: Answer, chunks: _Chunks, *, with_usage: bool) -> Iterator[Piece]:
    for step in answer.steps:
        yield from chunks.of(step)
    if not answer.steps or not isinstance(answer.steps[-1], Fail | Stall | Cut | Raw):
        yield from chunks.end(answer, with_usage=with_usage)


def _failed(failure: Fail) -> dict[str, str]:
    """The head of a refusal. The proxy passes the provider's Retry-After on under a name of its own (litellm#21553)."""
    wait = {} if failure.retry_after is None else {"llm_provider-retry-after": f"{failure.retry_after:g}"}
    return {"content-type": "application/json", **wait}


def _error(failure: Fail) -> JSON:
    kind = _KINDS.get(
        failure.status, "internal_server_error" if failure.status >= 500 else "invalid_request_error"
    )
    return {"message": failure.message, "type": kind, "param": None, "code": str(failure.status)}


def _usage(usage: Usage, cost: float | None) -> JSON:
    told = {
        "completion_tokens": usage.output_tokens,
        "prompt_tokens": usage.input_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    if usage.cache_creation_tokens:
        told |= {"cache_creation_input_tokens": usage.cache_creation_tokens}
    return told if cost is None else {**told, "cost": cost}


_KINDS = {401: "auth_error", 403: "permission_error", 429: "throttling_error"}
