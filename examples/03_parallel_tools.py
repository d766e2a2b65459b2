"""Three tools at once, each telling how far it is: async, in a thread, and as a generator. Runs offline, on a scripted model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from looopy import AgentLoop, ToolContext
from looopy.events import Failure, ToolComplete, ToolProgress, ToolStart
from looopy.testing import ScriptedModel, calls, says


async def weather(city: str) -> AsyncIterator[tuple[float, str] | str]:
    """The weather of a city. Every `yield` is progress; the last one is the result."""
    for place, station in enumerate(("north", "south"), start=1):
        await asyncio.sleep(0.02)
        yield place / 2, f"asked the {station} station of {city}"
    yield f"4 °C and rain in {city}"


def count_words(text: str, context: ToolContext[None]) -> int:
    """Count words, in a thread: a plain function never blocks the loop."""
    words = text.split()
    for place, _ in enumerate(words, start=1):
        time.sleep(0.005)
        context.progress(place / len(words))
    return len(words)


async def flaky() -> str:
    """Fails: the model reads why, and the run goes on."""
    raise ConnectionError("the service is down")


model = ScriptedModel(
    calls("weather", city="Oslo") + calls("count_words", text="a reactive agent loop") + calls("flaky"),
    says("Rain in Oslo; four words; and one service is down."),
)
agent = AgentLoop(llm_provider=model, tools=[weather, count_words, flaky], max_parallel_tools=3)


async def main() -> None:
    run = agent.execute("Everything at once, please.")
    async for event in run:
        match event:
            case ToolStart():
                print(f"▶ {event.tool_name} {event.arguments}")
            case ToolProgress():
                share = "" if event.progress is None else f"{event.progress:4.0%} "
                print(f"  {event.tool_name} {share}{event.note}")
            case ToolComplete(error=Failure(message=why)):
                print(f"✘ {event.tool_name}: {why}")
            case ToolComplete():
                print(f"✔ {event.tool_name} → {event.result!r}")
            case _:
                pass
    result = await run
    print(result.output)
    read = [message.text for message in result.messages if message.role == "tool"]
    print("the model read, in call order:", read)


if __name__ == "__main__":
    asyncio.run(main())
