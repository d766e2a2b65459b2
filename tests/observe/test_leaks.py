"""What is left of a run that was recorded: nothing. LOOOPY_LEAK_RUNS says how many are tried; ten thousand take a minute."""

from __future__ import annotations

import asyncio
import os
from ast import literal_eval

import pytest
from agents import garbage_of
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from looopy.observe import instrument
from looopy.testing import ScriptedModel, calls, says
from observe.children import ran
from observe.each import each_provider
from observe.receiver import Receiver
from observe.watched import SPANS, agent, answer

RUNS = int(os.environ.get("LOOOPY_LEAK_RUNS", "300"))

PROGRAM = """
import gc
from collections import Counter
from pathlib import Path

from looopy.events import ToolStart
from observe.watched import light, sdk


async def helper() -> str:
    return await answer(agent(agent_id="helper"))


async def one_of_each():
    # A run that is answered, one that asks for what is not there, two that are one within the other, and one that is left.
    await answer()
    await answer(agent(calls("nothing"), says("done")))
    await answer(agent(calls("helper"), says("done"), tools=[helper]))
    async for event in agent().execute("2 + 3?"):
        if isinstance(event, ToolStart):
            break


def living():
    gc.collect()
    objects = Counter(type(each).__qualname__ for each in gc.get_objects())
    files = Path("/proc/self/fd")
    others = sys.getallocatedblocks(), threading.active_count(), len(list(files.iterdir())) if files.exists() else 0
    return objects, others


async def several(runs):
    for _ in range(runs // 5):
        await one_of_each()
    assert await asyncio.to_thread(recording.flush)


async def measure(runs):
    await several(150)
    objects, (blocks, threads, files) = living()
    await several(runs)
    grown, (more_blocks, more_threads, more_files) = living()
    assert recording.lost == 0
    grown = {name: count for name, count in (grown - objects).items() if count > runs // 10}
    tell((grown, more_blocks - blocks, more_threads - threads, more_files - files))


recording = instrument(capture_content=True, tracer_provider=PROVIDER(), exporters=[OTLPExporter.from_environment()])
asyncio.run(measure(RUNS))
"""


@pytest.mark.timeout(30 + RUNS / 50)
@pytest.mark.parametrize("provider", ["sdk", "light"])
def test_runs_leave_no_object_no_memory_no_thread_and_no_file_behind(provider: str) -> None:
    with Receiver() as receiver:
        program = PROGRAM.replace("PROVIDER", provider).replace("RUNS", str(RUNS))
        out, _ = ran(program, seconds=30 + RUNS / 50, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    objects, blocks, threads, files = literal_eval(out)
    assert (objects, threads, files) == ({}, 0, 0)
    assert blocks < RUNS  # of memory; a span that stays has dozens of them


@each_provider
async def test_a_recorded_run_leaves_the_garbage_collector_nothing(provider) -> None:
    spans = InMemorySpanExporter()
    model = ScriptedModel(*(calls("add", a=2, b=3), says("5")) * 2)
    clerk = agent(llm_provider=model)
    with instrument(exporters=[spans], tracer_provider=provider(), capture_content=True) as recording:

        async def work() -> None:
            await answer(clerk)
            await asyncio.to_thread(recording.flush)

        assert await garbage_of(work) == []
    assert len(spans.get_finished_spans()) == 2 * SPANS


def test_of_the_providers_that_were_made_only_the_newest_and_the_global_one_are_kept() -> None:
    out, err = ran(
        """
        import gc
        from looopy.observe.tracer import Provider
        from observe.watched import Keeps

        for number in (1, 2, 3, 4, 2):
            with instrument(exporters=[keeps := Keeps()], release=f"r{number}") as recording:
                asyncio.run(answer())
            tell(len(keeps.names))
        del recording
        gc.collect()
        alive = [each.resource.attributes["service.version"] for each in gc.get_objects() if type(each) is Provider]
        tell(sorted(alive))
        """
    )
    assert (out, err) == ("6\n" * 5 + "['r1', 'r2']\n", "")
