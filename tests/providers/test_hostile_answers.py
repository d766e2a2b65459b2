"""Answers that are long in an unusual way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_core import to_json

from looopy.providers.chat import Answer


def chunks(delta: Any, number: int) -> bytes:
    data = to_json({"choices": [{"index": 0, "delta": delta}]})
    return b"data: %b\n\n" % data * number


BODIES: dict[str, Callable[[int], bytes]] = {
    "blank lines": lambda number: b"\n" * 50 * number,
    "the name with every piece": lambda number: chunks(
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "some words "}}]}, number
    ),
    "citations": lambda number: chunks(
        {"content": "a", "provider_specific_fields": {"citations": [{"at": 1}]}}, number
    ),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_hundred_thousand_pieces_are_read_in_seconds(body: Callable[[int], bytes]) -> None:
    """Each of these took time by the square of their number: 10 seconds and more."""
    answer, sent, start = Answer(), body(100_000), time.process_time()
    for place in range(0, len(sent), 1_000):
        for _ in answer.feed(sent[place : place + 1_000]):
            pass
    answer.message("m")
    assert time.process_time() - start < 5
