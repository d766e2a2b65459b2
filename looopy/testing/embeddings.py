"""Embeddings without a model, in which texts that share words are near each other: for tests and examples.

`ScriptedServer(otherwise=embeds)` answers `POST /v1/embeddings` so. It is no language model: it knows that "cat" is in "a cat", and not that
a cat is an animal.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from array import array
from collections.abc import Sequence

from pydantic_core import to_json

from looopy.messages import JSON
from looopy.testing.script import Answer, raw

_DIMENSIONS = 64


def embeds(request: JSON, *vectors: Sequence[float], cost: float | None = None) -> Answer:
    """The answer of a LiteLLM proxy to a request for embeddings.

    Args:
        request: its body. `dimensions` and `encoding_format` are heeded, and each word counts as a token.
        vectors: what to answer with, whatever the texts are; left out: `vector_of` each text.
        cost: the US dollars to report; None reports none.
    """
    texts: list[str] = request["input"]
    found = vectors or [vector_of(text, request.get("dimensions", _DIMENSIONS)) for text in texts]
    tokens = sum(len(_words(text)) for text in texts)
    packed = request.get("encoding_format") == "base64"
    body = {
        "model": request["model"],
        "data": [
            {"embedding": _base64(vector) if packed else vector, "index": index, "object": "embedding"}
            for index, vector in enumerate(found)
        ],
        "object": "list",
        "usage": {"completion_tokens": 0, "prompt_tokens": tokens, "total_tokens": tokens},
    }
    price = {} if cost is None else {"x-litellm-response-cost": str(cost)}
    return raw(to_json(body), headers={"content-type": "application/json", **price})


def vector_of(text: str, dimensions: int = _DIMENSIONS) -> list[float]:
    """A vector of length 1: the counts of the text's words, each word at a place of its own or one that it shares by chance."""
    counts = [0.0] * dimensions
    for word in _words(text):
        counts[zlib.crc32(word.encode("utf-8", "replace")) % dimensions] += 1.0
    length = math.hypot(*counts)
    return [count / length for count in counts]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower()) or [text]


def _base64(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    return base64.b64encode(numbers).decode()
