"""A tutor who goes through a lesson stage by stage. In place of a tutoring app's own streaming wrapper around a vendor's SDK.

A tool, `transition_to_next`, changes the stage, and the stage is the system prompt: from the model's next call on it is another one. Which model
answers is chosen for each message, by a name such as "anthropic/claude-haiku-4-5", and may change in mid-conversation; who chooses none has one by
their user id, an A/B test. What comes out are the same three kinds of pieces, whoever answers.

Runs offline; with LITELLM_URL it asks your proxy, and your proxy must know the two models.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from looopy import Message, llm
from looopy.state import LoopState
from looopy.testing import Answer, ScriptedServer, calls, says

MODELS = ("anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash")


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

    async def send(self, text: str, model: str = "") -> AsyncIterator[llm.Piece]:
        """Say something to the tutor: what comes back is `Text`, `ToolUse`, and `Done` at the end.

        Args:
            text: what the learner says.
            model: who answers this time; left out: the model that this learner is always given.
        """
        answer = llm.stream(
            [*self.history, Message.user(text)],
            system=self.instructions,
            tools=[self.transition_to_next],
            model=model or MODELS[zlib.crc32(self.user_id.encode()) % len(MODELS)],
            max_tokens=1024,
            user_id=self.user_id,
        )
        async for piece in answer.events():
            if isinstance(piece, llm.Done):
                self.history = piece.result.messages
            yield piece


# ------------------------------------------------------------------------------------------- a lesson, and what the tutor says in it

STAGES = (
    Stage("Primes", "A prime has two divisors.", "Ask what the learner knows."),
    Stage("The sieve", "Strike out the multiples.", "Let the learner do it for the numbers to 10."),
)


async def main() -> None:
    lesson = Lesson(STAGES, user_id="learner-1")
    for text, model in (
        ("Hello.", ""),
        ("2, 3 and 5 are primes. I am ready for more.", ""),
        ("I struck out 4, 6, 8 and 10.", "gemini/gemini-2.5-flash"),
    ):
        print(f"{lesson.stage.title} · {text}")
        async for piece in lesson.send(text, model):
            match piece:
                case llm.Text(content=content):
                    print("   text", repr(content))
                case llm.ToolUse(name=name):
                    print("   tool_use", name)
                case llm.Done(result=result):
                    print("   done, by", result.messages[-1].model)
                case llm.Reset():
                    print("   once more:")


def play(body: dict[str, Any]) -> Answer:
    newest = body["messages"][-1]
    if newest["role"] == "tool":
        return says("Now ", "strike out ", "the multiples.")
    if "ready" in newest["content"]:
        return says("Well done. ") + calls("transition_to_next")
    if "struck out" in newest["content"]:
        return says("9 is ", "left.")
    return says("Which primes ", "do you know?")


if __name__ == "__main__":
    if "LITELLM_URL" in os.environ:
        asyncio.run(main())
    else:
        with ScriptedServer(otherwise=play).running() as os.environ["LITELLM_URL"]:
            asyncio.run(main())
