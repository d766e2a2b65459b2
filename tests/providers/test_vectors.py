"""Texts as batches and answers as vectors: what holds for any of them."""

from __future__ import annotations

import json
from array import array
from base64 import b64encode
from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from looopy import Usage
from looopy.providers.chat import Refused
from looopy.providers.vectors import NotVectors, batches, embedded

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), max_size=60)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "embedding", "index", "usage", "error"]), inner),
)  # fmt: skip


def tokens(text: str) -> int:
    return len(text.encode()) // 4 + 1


@given(TEXTS, st.integers(1, 9), st.integers(1, 40))
def test_batches_hold_each_text_once_in_order_within_the_limits_and_no_fewer_than_they_could(
    texts: list[str], most: int, limit: int
) -> None:
    cut = list(batches(texts, most=most, tokens=limit))

    assert [index for span in cut for index in span] == list(range(len(texts)))
    for span in cut:
        assert 1 <= len(span) <= most
        assert len(span) == 1 or sum(tokens(texts[index]) for index in span) <= limit
    for span, after in pairwise(cut):
        first_left_out = sum(tokens(texts[index]) for index in (*span, after.start))
        assert len(span) == most or first_left_out > limit


@given(
    st.integers(1, 5).flatmap(lambda size: st.lists(st.lists(FLOATS, min_size=size, max_size=size), min_size=1)),
    st.randoms(),
    st.booleans(),
)  # fmt: skip
def test_vectors_are_read_alike_as_numbers_and_as_base64_in_any_order(rows, random, indexed: bool) -> None:
    rows = [array("f", row) for row in rows]
    data = [
        {
            "embedding": b64encode(row).decode() if random.random() < 0.5 else list(row),
            **({"index": index} if indexed else {}),
        }
        for index, row in enumerate(rows)
    ]
    if indexed:
        random.shuffle(data)
    body = json.dumps({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}).encode()

    found = embedded(body, len(rows))

    assert (found.vectors, found.usage) == (rows, Usage(input_tokens=3))
    assert found.dimensions == len(rows[0])


@given(ANY_JSON, st.integers(1, 3))
def test_any_json_is_vectors_or_a_reason_why_not(answer: object, count: int) -> None:
    with suppress(NotVectors, Refused):
        found = embedded(json.dumps(answer).encode(), count)
        assert len(found.vectors) == count


@given(st.binary())
def test_any_bytes_are_vectors_or_a_reason_why_not(body: bytes) -> None:
    with suppress(NotVectors, Refused):
        embedded(body, 1)
