"""The tutor: which stage and which model each call has, and the events that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.started import module, started
from looopy import ModelOverloaded, llm
from looopy.testing import ScriptedServer, calls, fails, says, stalls

tutor = module("09_tutor")

CLAUDE, GEMINI = "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"
DONE = "done"


@asynccontextmanager
async def lesson(
    model: ScriptedServer, monkeypatch: pytest.MonkeyPatch, user_id: str = "learner-1"
) -> AsyncIterator[Any]:
    async with model.serve() as url, asyncio.timeout(10):
        monkeypatch.setenv("LITELLM_URL", url)
        yield tutor.Lesson(tutor.STAGES, user_id=user_id)


async def said(pieces: AsyncIterator[llm.Piece]) -> list[llm.Piece | str]:
    """The pieces, with a word for the last, which holds everything."""
    return [DONE if isinstance(piece, llm.Done) else piece async for piece in pieces]


def text(content: str) -> llm.Text:
    return llm.Text(content=content)


def asked(model: ScriptedServer) -> list[tuple[str, str]]:
    """The model of each request, and the stage that its system prompt is of."""
    return [
        (request.body["model"], request.body["messages"][0]["content"].split("# ")[1].partition("\n")[0])
        for request in model.requests
    ]


def test_a_lesson_of_two_stages_on_two_models() -> None:
    out, err = started("09_tutor")

    assert err == ""
    assert out.splitlines() == [
        "Primes · Hello.",
        "   text 'Which primes '",
        "   text 'do you know?'",
        "   done, by anthropic/claude-haiku-4-5",
        "Primes · 2, 3 and 5 are primes. I am ready for more.",
        "   text 'Well done. '",
        "   tool_use transition_to_next",
        "   text 'Now '",
        "   text 'strike out '",
        "   text 'the multiples.'",
        "   done, by anthropic/claude-haiku-4-5",
        "The sieve · I struck out 4, 6, 8 and 10.",
        "   text '9 is '",
        "   text 'left.'",
        "   done, by gemini/gemini-2.5-flash",
    ]


async def test_a_tool_call_changes_the_system_prompt_of_the_very_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedServer(says("Well. ") + calls("transition_to_next"), says("Strike."), says("Good."))
    async with lesson(model, monkeypatch) as learner:
        events = await said(learner.send("I am ready."))
        await said(learner.send("Done."))

    assert events == [
        text("Well. "),
        llm.ToolUse(name="transition_to_next", call_id="call_1"),
        text("Strike."),
        DONE,
    ]
    assert asked(model) == [(CLAUDE, "Primes"), (CLAUDE, "The sieve"), (CLAUDE, "The sieve")]
    assert model.requests[0].body["max_tokens"] == 1024
    assert [each["function"]["name"] for each in model.requests[0].body["tools"]] == ["transition_to_next"]


async def test_another_model_goes_on_in_mid_conversation_with_all_that_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedServer(calls("transition_to_next"), says("Strike."), says("Good."))
    async with lesson(model, monkeypatch) as learner:
        await said(learner.send("I am ready."))
        assert await said(learner.send("Done.", GEMINI)) == [text("Good."), DONE]

    assert asked(model)[-1] == (GEMINI, "The sieve")
    history = [(each["role"], each["content"]) for each in model.requests[-1].body["messages"][1:]]
    assert history == [
        ("user", "I am ready."),
        ("assistant", None),
        ("tool", "Now at 'The sieve': begin with it."),
        ("assistant", "Strike."),
        ("user", "Done."),
    ]


async def test_who_chooses_no_model_always_has_the_same_by_their_id(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(otherwise=lambda body: says("Hello."))
    for user_id in ("learner-1", "ben", "learner-1", "ben"):
        async with lesson(model, monkeypatch, user_id) as learner:
            await said(learner.send("Hi"))

    assert [name for name, _ in asked(model)] == [CLAUDE, GEMINI, CLAUDE, GEMINI]


async def test_after_the_last_stage_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(calls("transition_to_next"), calls("transition_to_next"), says("Goodbye."))
    async with lesson(model, monkeypatch) as learner:
        await said(learner.send("I am ready."))

    assert [name for _, name in asked(model)] == ["Primes", "The sieve", "The sieve"]
    assert model.requests[-1].body["messages"][-1]["content"] == "This is the last stage: say goodbye."


async def test_a_message_that_fails_raises_and_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(fails(503), says("Hello."))
    async with lesson(model, monkeypatch) as learner:
        with pytest.raises(ModelOverloaded):
            await said(learner.send("Hi"))
        assert await said(learner.send("Hi", GEMINI)) == [text("Hello."), DONE]

    assert [each["content"] for each in model.requests[-1].body["messages"][1:]] == ["Hi"]


async def test_who_stops_reading_hangs_up_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedServer(says("Once ") + stalls())
    async with lesson(model, monkeypatch) as learner:
        events = learner.send("Tell me all about primes.")
        assert await anext(events) == text("Once ")
        await events.aclose()

        await model.hung_up()
