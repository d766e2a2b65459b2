"""A tutor who goes through a lesson stage by stage. In place of a tutoring app's own streaming wrapper around a vendor's SDK.

A tool, `transition_to_next`, changes the stage, and the stage is the system prompt: from the model's next call on it is another one. Which model
answers is chosen for each message, by a name such as "anthropic/claude-haiku-4-5", and may change in mid-conversation; who chooses none has one by
their user id, an A/B test. What comes out are three kinds of events, whoever answers.

Runs offline; with LITELLM_URL it asks your proxy, and your proxy must know the two models.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from looopy import AgentLoop, LiteLLMProvider, Message
from looopy.events import ContentDelta, ToolStart
from looopy.state import LoopState
from looopy.testing import Answer, ScriptedServer, calls, says

PROVIDERS = ("anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash")


class TutorEvent(TypedDict, total=False):
    """What the page in the browser is sent."""

    type: Literal["text", "tool_use", "done"]
    content: str
    name: str


@dataclass(frozen=True)
class Stage:
    """A part of the lesson: something to read, and how to talk about it."""

    title: str
    content: str
    instructions: str


@dataclass
class Lesson:
    """A learner's way through the stages."""

    stages: tuple[Stage, ...]
    user_id: str
    at: int = 0
    history: tuple[Message, ...] = field(default=(), repr=False)

    @property
    def stage(self) -> Stage:
        return self.stages[self.at]

    def instructions(self, _: LoopState) -> str:
        """The system prompt, asked for before each model call."""
        return f"You are a tutor. {self.stage.instructions}\n\n# {self.stage.title}\n\n{self.stage.content}"

    def transition_to_next(self) -> str:
        """Go on to the next stage. Call this after two to four exchanges, or when the learner is ready."""
        if self.at == len(self.stages) - 1:
            return "This is the last stage: say goodbye."
        self.at += 1
        return f"Now at {self.stage.title!r}: begin with it."

    async def send(self, text: str, provider: str = "") -> AsyncIterator[TutorEvent]:
        """Say something to the tutor.

        Args:
            text: what the learner says.
            provider: who answers this time; left out: the model that this learner is always given.
        """
        chosen = provider or PROVIDERS[zlib.crc32(self.user_id.encode()) % len(PROVIDERS)]
        tutor = AgentLoop(
            agent_id="tutor",
            llm_provider=LiteLLMProvider(model=chosen, max_tokens=1024),
            system_prompt=self.instructions,
            tools=[self.transition_to_next],
        )
        run = tutor.execute(text, history=self.history, user_id=self.user_id)
        async for event in run:
            match event:
                case ContentDelta(delta=piece):
                    yield {"type": "text", "content": piece}
                case ToolStart(tool_name=name):
                    yield {"type": "tool_use", "name": name}
                case _:
                    pass
        self.history = (await run).messages
        yield {"type": "done"}


# ------------------------------------------------------------------------------------------- a lesson, and what the tutor says in it

STAGES = (
    Stage("Primes", "A prime has two divisors.", "Ask what the learner knows."),
    Stage("The sieve", "Strike out the multiples.", "Let the learner do it for the numbers to 10."),
)


async def main() -> None:
    lesson = Lesson(STAGES, user_id="learner-1")
    for provider, text in (
        ("", "Hello."),
        ("", "2, 3 and 5 are primes. I am ready for more."),
        ("gemini/gemini-2.5-flash", "I struck out 4, 6, 8 and 10."),
    ):
        print(f"{lesson.stage.title} · {provider or 'by user'} · {text}")
        async for event in lesson.send(text, provider):
            print("  ", event)


def play(body: dict[str, Any]) -> Answer:
    maker = body["model"].partition("/")[0]
    newest = body["messages"][-1]
    if newest["role"] == "tool":
        return says("Now ", "strike out ", "the multiples.")
    if "ready" in newest["content"]:
        return says("Well done. ") + calls("transition_to_next")
    if "struck out" in newest["content"]:
        return says("9 is ", f"left, says {maker}.")
    return says("Which primes ", "do you know?")


if __name__ == "__main__":
    if "LITELLM_URL" in os.environ:
        asyncio.run(main())
    else:
        with ScriptedServer(otherwise=play).running() as os.environ["LITELLM_URL"]:
            asyncio.run(main())
