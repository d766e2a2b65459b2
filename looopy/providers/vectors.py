"""Texts as batches, and vectors out of the answers to `POST /v1/embeddings`.

Pure: `embeddings.py` sends the batches. Vectors come as base64 of 32-bit floats, which is fast, or as lists of numbers, which everybody
can; both are read wherever they come. Nothing that a server sends raises anything but `NotVectors` or `Refused` here.
"""

from __future__ import annotations

from array import array
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from looopy.messages import JSON, Usage
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.chat import Refused, usage_of

_BYTES_A_TOKEN = 4
"""Of UTF-8, about: an estimate for all languages, and enough to keep a request within bounds."""


class NotVectors(Exception):
    """The answer is not a vector for each text; the text says why."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one batch.

    Attributes:
        vectors: in the order of the batch, all of one length.
        usage: the tokens; None where it does not say.
    """

    vectors: list[array[float]]
    usage: Usage | None

    @property
    def dimensions(self) -> int:
        """Numbers in each vector."""
        return len(self.vectors[0])


def batches(texts: Sequence[str], *, most: int, tokens: int) -> Iterator[range]:
    """The indexes of the texts, in order, as ranges that go into one request each.

    Args:
        texts: what to embed.
        most: how many a range holds at most.
        tokens: how many tokens it holds at most, by estimate; a text that is longer stands alone.
    """
    start = weight = 0
    for index, text in enumerate(texts):
        own = len(text.encode()) // _BYTES_A_TOKEN + 1
        if index > start and (index - start == most or weight + own > tokens):
            yield range(start, index)
            start, weight = index, 0
        weight += own
    if texts:
        yield range(start, len(texts))


def embedded(body: bytes, count: int) -> Embedded:
    """What an answer holds.

    Args:
        body: of a success.
        count: of the texts that were sent.

    Raises:
        NotVectors: it is no answer, or not one vector for each text.
        Refused: it is an error.
    """
    try:
        answer = as_object(from_json(body, cache_strings="none"))
    except ValueError:
        raise NotVectors(f"it is no JSON, and begins with {body[:200]!r}") from None
    if error := answer.get("error"):
        raise Refused(error)
    entries = [as_object(entry) for entry in as_list(answer.get("data"))]
    if len(entries) != count:
        raise NotVectors(f"{len(entries)} for {count}")
    vectors = [_vector(entry.get("embedding")) for entry in _in_order(entries)]
    if len(lengths := {len(vector) for vector in vectors}) > 1:
        raise NotVectors(f"some are of {min(lengths)} numbers and some of {max(lengths)}")
    return Embedded(vectors, usage_of(as_object(answer.get("usage"))))


def _in_order(entries: list[dict[str, JSON]]) -> list[dict[str, JSON]]:
    """By their `index`; where none has one, as they come."""
    if not any("index" in entry for entry in entries):
        return entries
    placed = {entry.get("index"): entry for entry in entries if type(entry.get("index")) is int}
    if placed.keys() != set(range(len(entries))):
        raise NotVectors("their indexes are not 0, 1, 2 …, each once")
    return [placed[index] for index in range(len(entries))]


def _vector(value: JSON) -> array[float]:
    try:
        # In base64 the bytes are little-endian; machines that are not do not ask for it.
        vector = array("f", b64decode(value, validate=True) if as_text(value) else as_list(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise NotVectors(f"one cannot be read: {error}") from None
    if not vector:
        raise NotVectors("one is empty")
    return vector
