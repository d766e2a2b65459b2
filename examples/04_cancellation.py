"""Four ways to stop a run, each of which closes the model's connection at once. Runs offline, against a server on a real socket."""

from __future__ import annotations

import asyncio
import threading

from looopy import AgentLoop, LimitExceeded, Limits, LiteLLMProvider, TaskCanceled
from looopy.events import ContentDelta
from looopy.testing import ScriptedServer, says, stalls

server = ScriptedServer(otherwise=lambda request: says("Once ", "upon ") + stalls())


async def main(url: str) -> None:
    agent = AgentLoop(llm_provider=LiteLLMProvider(base_url=url, model="gpt-4o-mini", api_key=None))

    run = agent.execute("Tell me a story.")
    async for event in run:
        if isinstance(event, ContentDelta):
            break  # nobody is watching any more
    print("after break:", run.status)

    run = agent.execute("Tell me a story.")
    async for event in run:
        if isinstance(event, ContentDelta):
            threading.Thread(target=run.cancel, args=("the user pressed stop",)).start()  # from any thread
    try:
        await run
    except TaskCanceled as stopped:
        print("after cancel:", stopped.reason, "| kept:", repr(stopped.result.output))

    try:
        async with asyncio.timeout(0.1):
            await agent.execute("Tell me a story.")
    except TimeoutError:
        print("after a timeout around await: canceled as well")

    patient = AgentLoop(llm_provider=agent.llm_provider, limits=Limits(idle_seconds=0.1))
    try:
        await patient.execute("Tell me a story.")
    except LimitExceeded as limit:
        print("after a limit:", limit.limit, "| kept:", repr(limit.result.output))


if __name__ == "__main__":
    with server.running() as url:
        asyncio.run(main(url))
