"""A conversation of two turns, each shown word by word as it comes. Runs offline, on a scripted model."""

from __future__ import annotations

import asyncio

from looopy import AgentLoop, ToolContext
from looopy.events import ContentDelta, LLMResponse, ThoughtDelta
from looopy.testing import ScriptedModel, calls, says, thinks


async def remember(fact: str, context: ToolContext[list[str]]) -> str:
    """Keep a fact for later.

    Args:
        fact: one sentence.
    """
    context.deps.append(fact)
    return "kept"


model = ScriptedModel(
    thinks("A name. ", "Worth keeping.") + calls("remember", fact="The user is called Ada."),
    says("Nice ", "to ", "meet ", "you, ", "Ada!"),
    says("You ", "are ", "Ada."),
)
facts: list[str] = []
agent = AgentLoop(llm_provider=model, tools=[remember], deps=facts)


async def main() -> None:
    session = agent.session()
    for prompt in ("Hello, I am Ada.", "Who am I?"):
        print(f"you: {prompt}\nlooopy: ", end="")
        async for event in session.send(prompt):
            match event:
                case ThoughtDelta(delta=piece):
                    print(f"\x1b[2m{piece}\x1b[0m", end="", flush=True)
                case ContentDelta(delta=piece):
                    print(piece, end="", flush=True)
                case LLMResponse():
                    print()
                case _:
                    pass
    print(f"{len(session.messages)} messages; facts: {facts}")


if __name__ == "__main__":
    asyncio.run(main())
