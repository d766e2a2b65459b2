"""How many tokens something will be, before anybody has counted: a guess of four bytes each, which is near enough to stop in time."""

from __future__ import annotations

import math

from looopy.messages import Message
from looopy.ports import LLMRequest

BYTES = 4  # of a token, roughly, in English and in code; where a character has more bytes, it has more tokens, too


def tokens_of(text: str) -> float:
    """About how many tokens a text is, or a piece of one."""
    return (len(text) if text.isascii() else len(text.encode(errors="replace"))) / BYTES


def input_tokens(request: LLMRequest) -> int:
    """About how many tokens a request is, its tools included and its files left out."""
    tokens = sum(map(_tokens, request.messages))
    if request.tools:
        tokens += sum(len(tool.wire) for tool in request.tools) / BYTES
    return math.ceil(tokens)


def _tokens(message: Message) -> float:
    # A picture's bytes say nothing of its tokens.
    return len(message.wire) / BYTES if isinstance(message.content, str) else tokens_of(message.text)
