"""Three people, each on a model of its own, talk about a product until nobody has anything to add; then what each of them cost.

In place of a people simulation's own client, cache file, JSON parser and cost sheet. Runs offline, twice: the second time every answer is out of
the cache. With LITELLM_URL set it asks your proxy for the models that stand in the notes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from looopy import (
    AgentLoop,
    Cache,
    Fallback,
    LiteLLM,
    LLMProvider,
    MemoryCache,
    Retry,
    Session,
    Usage,
    UsageReport,
    extract_json,
    llm,
)
from looopy.testing import Answer, ScriptedServer, fails, says

NOTES = """Whom we met on Tuesday, as Ines typed it up:
```json
[{"name": "Ada", "model": "gpt-4o-mini", "who": "a courier who counts every euro"},
 {"name": "Ben", "model": "anthropic/claude-haiku-4-5", "who": "a mechanic who distrusts batteries"},
 {"name": "Cleo", "model": "gemini/gemini-2.5-flash", "who": "a student who buys what her friends buy"}]
```
Ben came late."""

FALLBACKS = ("gpt-4o-mini", "gpt-4.1-mini")  # for all of them: a person's own model among these is left out
QUESTION = "Ines asks all of you: what would you pay for a bicycle bell that rings by itself?"
INSTRUCTIONS = llm.Template(
    "You are {{ name }}, {{ who }}. You hear what is said to you. Say what you do next, one thing at a time."
)


@dataclass(frozen=True)
class Think:
    """A thought, which nobody hears."""

    do: Literal["think"]
    text: str


@dataclass(frozen=True)
class Talk:
    """Something said to somebody in the room, by name."""

    do: Literal["talk"]
    to: str
    text: str


@dataclass(frozen=True)
class Done:
    """Nothing to add for now."""

    do: Literal["done"]


Action: TypeAlias = Think | Talk | Done


@dataclass
class Person:
    """Somebody with a mind and a memory of their own."""

    name: str
    session: Session
    heard: list[str] = field(default_factory=lambda: [QUESTION])

    async def acts(self, report: UsageReport) -> AsyncIterator[Action]:
        """One action after the other, until done."""
        news, self.heard = "\n".join(self.heard), []
        for _ in range(6):  # who never comes to an end is interrupted
            run = self.session.send(news, output_type=Action)
            report.watch(run)
            action = (await run).output
            yield action
            if isinstance(action, Done):
                return
            news = "Go on."


def mind(model: str, answers: MemoryCache) -> LLMProvider:
    """A model with its nets, from the inside: ask again, ask another model, do not ask for the same twice."""
    patient = Retry(LiteLLM.model(model), longest_wait=2)  # who is told to wait longer asks the other
    return Cache(Fallback(patient, *FALLBACKS), answers)


def person(name: str, who: str, model: str, answers: MemoryCache) -> Person:
    instructions = INSTRUCTIONS.render(name=name, who=who)
    agent = AgentLoop(agent_id=name, llm_provider=mind(model, answers), system_prompt=instructions)
    return Person(name, agent.session())


async def talk_it_over(answers: MemoryCache) -> UsageReport:
    """The world: it delivers what is said, and in each round lets those act who have heard something new."""
    report = UsageReport()
    people = {each["name"]: person(**each, answers=answers) for each in extract_json(NOTES).value}
    for _ in range(4):
        for speaker in [each for each in people.values() if each.heard]:
            async for action in speaker.acts(report):
                match action:
                    case Think(text=text):
                        print(f"  {speaker.name} thinks: {text}")
                    case Talk(to=to, text=text):
                        print(f"{speaker.name} to {to}: {text}")
                        if to in people:
                            people[to].heard.append(f"{speaker.name} says to you: {text}")
                        else:
                            speaker.heard.append(f"There is no {to} here.")
                    case Done():
                        pass
    return report


async def main() -> None:
    answers = MemoryCache()  # SQLiteCache("answers.db") would keep them for the next program
    report = await talk_it_over(answers)
    print(report.table("agent"), report.table("model"), sep="\n\n", end="\n\n")
    again = await talk_it_over(answers)
    print(f"the same again: {again.total.calls} answers for ${again.total.cost}")


# ----------------------------------------------------------------------- what the models say where there are none

SCRIPT: dict[str, list[dict[str, str]]] = {
    "Ada": [
        {"do": "think", "text": "Three euros. I shout for nothing."},
        {"do": "talk", "to": "Ben", "text": "Would you fit me one?"},
        {"do": "done"},
        {"do": "talk", "to": "Cleo", "text": "None of them."},
        {"do": "done"},
    ],
    "Ben": [{"do": "talk", "to": "Ada", "text": "If I may leave the battery out."}, {"do": "done"}],
    "Cleo": [
        {"do": "talk", "to": "Ada", "text": "Do the other couriers have one?"},
        {"do": "done"},
        {"do": "think", "text": "Then I do not want one either."},
        {"do": "done"},
    ],
}


def play(body: dict[str, Any]) -> Answer:
    if body["model"].startswith("gemini/"):
        return fails(404, "litellm.NotFoundError: GeminiException - this model is retired")
    system, *said = body["messages"]
    name = next(name for name in SCRIPT if f"You are {name}" in system["content"])
    action = SCRIPT[name][sum(message["role"] == "assistant" for message in said)]
    tokens = Usage(input_tokens=40 * len(body["messages"]), output_tokens=20)
    return says(json.dumps(action), usage=tokens, cost=0.0002 if "claude" in body["model"] else 0.00005)


if __name__ == "__main__":
    if "LITELLM_URL" in os.environ:
        asyncio.run(main())
    else:
        with ScriptedServer(otherwise=play).running() as os.environ["LITELLM_URL"]:
            asyncio.run(main())
