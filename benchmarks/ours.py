"""Looopy's loop, through its public API, in the shape of the contenders of `loops.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.loops import PROMPT, add, ignore
from looopy import AgentLoop, Event, LiteLLMProvider, Run
from looopy.events import ContentDelta


class LooopyLoop:
    """One agent for each model's name, that is for each of the server's scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.agents: dict[str, AgentLoop] = {}

    def execute(self, model: str) -> Run:
        if model not in self.agents:
            provider = LiteLLMProvider(base_url=self.url, model=model, api_key="sk-bench")
            self.agents[model] = AgentLoop(llm_provider=provider, tools=[add], max_iterations=1000)
        return self.agents[model].execute(PROMPT)

    async def run(self, model: str, on_text: Callable[[str], object] = ignore) -> str:
        run = self.execute(model)
        if on_text is not ignore:
            run.subscribe(on_next=texts_to(on_text))
        return str((await run).output)


def texts_to(on_text: Callable[[str], object]) -> Callable[[Event], None]:
    def on_next(event: Event) -> None:
        if isinstance(event, ContentDelta):
            on_text(event.delta)

    return on_next


@asynccontextmanager
async def looopy_loop(url: str) -> AsyncIterator[LooopyLoop]:
    yield LooopyLoop(url)
