"""Events as lines for people: what needs no process to be shown."""

from __future__ import annotations

import io

from looopy.cli.show import Screen, Terminal
from looopy.events import (
    ContentDelta,
    ContentReset,
    Event,
    Failure,
    LLMCall,
    LLMResponse,
    LLMRetry,
    OutputRejected,
)
from looopy.messages import Message

OVERLOADED = Failure(type="ModelOverloaded", message="too many requests", retryable=True)


def shown(*events: Event) -> str:
    out = io.StringIO()
    screen = Screen(Terminal(out))
    for event in events:
        screen.show(event)
    return out.getvalue()


def test_a_retry_says_why_and_when() -> None:
    assert (
        shown(
            LLMCall(iteration=1),
            LLMRetry(attempt=1, error=OVERLOADED, seconds=2.0, model="a", next_model="a"),
            LLMRetry(attempt=2, error=OVERLOADED, seconds=0.25, model="a", next_model="b"),
            ContentDelta(delta="4"),
        )
        == "↻ ModelOverloaded, again in 2.0 s\n↻ ModelOverloaded, again from b in 250 ms\n\n4"
    )


def test_an_answer_that_is_asked_for_again_says_what_was_wrong() -> None:
    assert shown(ContentDelta(delta="no"), OutputRejected(problem="1 problem:\n- x: missing")) == (
        "no\n\n↻ 1 problem: ⏎ - x: missing\n"
    )


def test_a_fallback_says_who_takes_over_and_that_the_answer_starts_over() -> None:
    broken = Failure(type="StreamBroken\x1b[2J", message="cut", retryable=True)

    assert shown(
        ContentDelta(delta="It w"),
        LLMRetry(attempt=1, error=broken, model="a", next_model="b\x1b[2J"),
        ContentReset(),
        LLMResponse(message=Message.assistant("It is 4.")),
    ) == ("It w\n\n→ StreamBroken\ufffd[2J, falling back to b\ufffd[2J\n(the answer starts over)\n\nIt is 4.")
