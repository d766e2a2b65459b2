"""looopy and the real LiteLLM library in one process: run by the python that has LiteLLM, told what to do by lines of JSON.

The argument is the folder with looopy's other dependencies. Each line on stdin is a command, each on stdout its answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import groupby
from typing import Any

sys.path.append(sys.argv[1])  # last, so that LiteLLM's own packages come first

from looopy import AgentLoop, LiteLLMLibraryProvider, LLMResponse, LooopyError
from looopy.testing import Answer, ContractBroken, LLMRig, ScriptedServer, llm_provider_contract

Command = dict[str, Any]


def get_weather(city: str) -> str:
    """Say how warm it is in a city.

    Args:
        city: its name.
    """
    return {"Oslo": "4 degrees", "Rome": "21 degrees"}[city]


def agent(command: Command) -> AgentLoop:
    provider = LiteLLMLibraryProvider(command["model"], command["key"], base_url=command["url"])
    return AgentLoop(llm_provider=provider, tools=[get_weather])


async def run(command: Command) -> dict[str, Any]:
    """What a task said, with the costs of its answers, and the error that it ended with."""
    running = agent(command).execute(command["prompt"])
    events = [event async for event in running]
    answers = [event for event in events if isinstance(event, LLMResponse)]
    try:
        await running
        error = None
    except LooopyError as failure:
        error = [type(failure).__name__, str(failure)]
    return {
        "kinds": [kind for kind, _ in groupby(event.kind for event in events)],
        "said": answers[-1].message.text if answers else "",
        "thought": "".join(answer.message.reasoning for answer in answers),
        "tokens": [
            [answer.usage.input_tokens, answer.usage.output_tokens] for answer in answers if answer.usage
        ],
        "costs": [answer.cost for answer in answers],
        "error": error,
    }


async def leave(command: Command) -> str:
    """Leave when the first piece of the answer is here."""
    events = agent(command).execute(command["prompt"]).events()
    said = await anext(event.delta async for event in events if event.kind == "content-delta")
    await events.aclose()
    return said


async def contract(_: Command) -> dict[str, str]:
    """The checks of the contract that the provider does not pass, and why."""
    broken: dict[str, str] = {}
    for check in llm_provider_contract:
        with ExitStack() as servers:

            def rig(*answers: Answer, servers: ExitStack = servers) -> LLMRig:
                server = ScriptedServer(*answers)
                url = servers.enter_context(server.running())
                return LLMRig(
                    LiteLLMLibraryProvider("openai/gpt-4o-mini", "sk-none", base_url=f"{url}/v1"),
                    asked=lambda: len(server.requests),
                    open=lambda: sum(request.outcome == "open" for request in server.requests),
                )

            try:
                await check(rig)
            except ContractBroken as error:
                broken[check.__name__] = str(error)
    return broken


async def settings(_: Command) -> list[Any]:
    """What the library was set to, in a process that left this to looopy."""
    library: Any = sys.modules["litellm"]
    return [library.telemetry, library.suppress_debug_info, os.environ["LITELLM_LOCAL_MODEL_COST_MAP"]]


async def obey() -> None:
    commands: dict[str, Callable[[Command], Awaitable[Any]]] = {
        "run": run,
        "leave": leave,
        "contract": contract,
        "settings": settings,
    }
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever LiteLLM prints is no answer
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            answers.write(json.dumps(await commands[command["do"]](command)) + "\n")
            answers.flush()


asyncio.run(obey())
