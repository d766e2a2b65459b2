"""What is left of a run that was recorded: nothing. RUNS says how many are tried; the benchmark of it is ten thousand."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from looopy.events import ToolStart
from looopy.observe import OTLPExporter, instrument
from looopy.testing import calls, says
from observe.receiver import Receiver
from observe.watched import agent, each_provider

RUNS = int(os.environ.get("LOOOPY_LEAK_RUNS", "300"))


async def one_of_each() -> None:
    """A run that is answered, one that fails, one that is left, and one within another."""

    async def helper() -> str:
        """Help."""
        return (await agent(agent_id="helper").execute("2 + 3?")).output

    await agent().execute("2 + 3?")
    await agent(calls("nothing"), says("done")).execute("2 + 3?")
    await agent(calls("helper"), says("done"), tools=[helper]).execute("2 + 3?")
    async for event in agent().execute("2 + 3?"):
        if isinstance(event, ToolStart):
            break


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def living() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())


@pytest.mark.timeout(20 + RUNS)
@each_provider
async def test_runs_leave_no_object_no_memory_no_thread_and_no_file_behind(
    provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "looopy.run")  # pytest keeps what is logged
    with Receiver() as receiver:
        exporter = OTLPExporter(receiver.traces_url)
        with instrument(exporters=[exporter], tracer_provider=provider(), capture_content=True) as recording:

            async def several(times: int) -> None:
                for _ in range(times):
                    await one_of_each()
                    if len(receiver.spans) > 1_000:
                        receiver.clear()
                await asyncio.to_thread(recording.flush)
                receiver.clear()

            await several(20)
            before = living(), sys.getallocatedblocks(), threading.active_count(), open_files()
            await several(RUNS // 5)
            after = living(), sys.getallocatedblocks(), threading.active_count(), open_files()

            assert recording.lost == 0
    grown = {name: count for name, count in (after[0] - before[0]).items() if count > RUNS // 10}
    assert grown == {}
    assert after[1] - before[1] < RUNS  # pieces of memory; a span that stays has dozens
    assert after[2:] == before[2:]
