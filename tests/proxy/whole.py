"""A turn as one whole JSON answer, in the three providers' formats: what they send where nobody asked for a stream."""

from __future__ import annotations

from typing import Any

from .wire import ANSWER_TOKENS, PROMPT_TOKENS, Says, Turn


def whole_answer(path: str, body: dict[str, Any], turn: Turn) -> dict[str, Any] | None:
    """The answer to a request that wants it whole; None where it wants a stream."""
    text = "".join(piece.text for piece in turn if isinstance(piece, Says))
    if ":generateContent" in path:
        return {
            "candidates": [
                {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
            ],
            "usageMetadata": {
                "promptTokenCount": PROMPT_TOKENS,
                "candidatesTokenCount": ANSWER_TOKENS,
                "totalTokenCount": PROMPT_TOKENS + ANSWER_TOKENS,
            },
            "modelVersion": "upstream",
        }
    if body.get("stream") or ":streamGenerateContent" in path:
        return None
    if path.endswith("/messages"):
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "upstream",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": ANSWER_TOKENS},
        }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
        },
    }
