"""The people simulation: who says what to whom, on which model, and what it came to."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from examples.started import module, started
from looopy import MemoryCache
from looopy.testing import Answer, ScriptedServer, says

people = module("07_people")

TALK = """\
  Ada thinks: Three euros. I shout for nothing.
Ada to Ben: Would you fit me one?
Ben to Ada: If I may leave the battery out.
Cleo to Ada: Do the other couriers have one?
Ada to Cleo: None of them.
  Cleo thinks: Then I do not want one either.
"""


def test_the_people_talk_and_the_second_time_it_costs_nothing() -> None:
    out, err = started("07_people")

    assert err == ""
    assert re.sub(r"\d\.\d(?=  \$)", "0.0", out) == (  # seconds
        f"{TALK}"
        "agent  calls  hits  input  cached  output  reasoning  seconds  cost\n"
        "Ben        2     0    240       0      40          0      0.0  $0.0004\n"
        "Ada        5     0  1,200       0     100          0      0.0  $0.00025\n"
        "Cleo       4     0    800       0      80          0      0.0  $0.0002\n"
        "total     11     0  2,240       0     220          0      0.0  $0.00085\n"
        "\n"
        "model                       calls  hits  input  cached  output  reasoning  seconds  cost\n"
        "gpt-4o-mini                     9     0  2,000       0     180          0      0.0  $0.00045\n"
        "anthropic/claude-haiku-4-5      2     0    240       0      40          0      0.0  $0.0004\n"
        "total                          11     0  2,240       0     220          0      0.0  $0.00085\n"
        "\n"
        f"{TALK}"
        "the same again: 11 answers for $0.0\n"
    )


async def test_each_person_asks_a_model_of_their_own_and_the_fallback_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ScriptedServer(otherwise=people.play)
    async with server.serve() as url:
        monkeypatch.setenv("LITELLM_URL", url)
        answers = MemoryCache()
        await people.talk_it_over(answers)
        asked = [(who(request.body), request.body["model"]) for request in server.requests]
        await people.talk_it_over(answers)

    assert Counter(asked) == {
        ("Ada", "gpt-4o-mini"): 5,
        ("Ben", "anthropic/claude-haiku-4-5"): 2,
        ("Cleo", "gemini/gemini-2.5-flash"): 4,
        ("Cleo", "gpt-4o-mini"): 4,
    }
    assert len(server.requests) == len(asked)  # nothing was asked twice
    assert capsys.readouterr().out == TALK + TALK


async def test_what_is_said_is_heard_by_whom_it_is_said_to_and_thoughts_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ScriptedServer(otherwise=people.play)
    async with server.serve() as url:
        monkeypatch.setenv("LITELLM_URL", url)
        await people.talk_it_over(MemoryCache())

    assert {who(request.body): heard(request.body) for request in server.requests} == {
        "Ada": [
            people.QUESTION,
            "Go on.",
            "Go on.",
            "Ben says to you: If I may leave the battery out.\nCleo says to you: Do the other couriers have one?",
            "Go on.",
        ],
        "Ben": [f"{people.QUESTION}\nAda says to you: Would you fit me one?", "Go on."],
        "Cleo": [people.QUESTION, "Go on.", "Ada says to you: None of them.", "Go on."],
    }


async def test_who_speaks_to_nobody_in_the_room_is_told_and_who_never_ends_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ScriptedServer(otherwise=talks_to_the_wall)
    async with server.serve() as url:
        monkeypatch.setenv("LITELLM_URL", url)
        await people.talk_it_over(MemoryCache())

    assert Counter(capsys.readouterr().out.splitlines()) == {
        f"{name} to Zoe: Hello?": 4 * 6 for name in ("Ada", "Ben", "Cleo")
    }
    told = "\n".join(["There is no Zoe here."] * 6)
    assert heard(server.requests[-1].body) == [
        news for first in (people.QUESTION, told, told, told) for news in (first, *["Go on."] * 5)
    ]


def who(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"].removeprefix("You are ").partition(",")[0]


def heard(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "user"]


def talks_to_the_wall(body: dict[str, Any]) -> Answer:
    return says('{"do": "talk", "to": "Zoe", "text": "Hello?"}')
