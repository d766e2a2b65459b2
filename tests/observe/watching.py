"""Run an agent, and let a fold watch it by a clock that a test can reckon with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from looopy import LLMProvider, LooopyError, Run
from looopy.events import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


def one_a_second(event: Event) -> Event:
    """The event as if each of its run's events had come a second after the one before."""
    return replace(event, timestamp=START + timedelta(seconds=event.seq))


async def watched(run: Run, on_event: Callable[[Event], None]) -> Run:
    """The run, over, with a fold that has seen all of it."""
    run.subscribe(lambda event: on_event(one_a_second(event)))
    async with asyncio.timeout(60):
        with suppress(LooopyError):
            await run
    return run


async def left_at(kind: str, run: Run, on_event: Callable[[Event], None]) -> None:
    """Read a run until there is an event of a kind, and leave it there."""
    async with asyncio.timeout(5):
        async for event in run:
            on_event(event)
            if event.kind == kind:
                return


class Named:
    """A model that says its name."""

    def __init__(self, inner: LLMProvider, model: str) -> None:
        self.call = inner.call
        self.model = model
