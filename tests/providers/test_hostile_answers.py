"""Answers that are long in an unusual way."""

from __future__ import annotations

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
def test_twenty_thousand_pieces_of_an_unusual_form_are_read_to_the_end(body: Callable[[int], bytes]) -> None:
    """Each of these once took time by the square of their number: minutes, at little more than this length."""
    number = 20_000
    answer, sent = Answer(), body(number)
    shown = 0
    for place in range(0, len(sent), 1_000):
        shown += sum(1 for _ in answer.feed(sent[place : place + 1_000]))
    message, _ = answer.message("m"), answer.close()

    assert shown == (0 if sent.startswith(b"\n") else number)
    assert len(message.content) == (number if b"citations" in sent else 0)
