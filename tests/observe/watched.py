"""Small runs that are recorded, and faults of everybody who takes part in the recording."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

from looopy import AgentLoop
from looopy.observe.tracer import Provider
from looopy.testing import ScriptedModel, calls, says

SPANS = 6
"""Of each run of `agent()`: the agent, two iterations, two model calls, a tool."""

TREE = """\
invoke_agent clerk [INTERNAL]
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]
    execute_tool add [INTERNAL]
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]"""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent(*script: Any, **options: Any) -> AgentLoop:
    """An agent that asks for a tool, and then answers; for one run."""
    model = ScriptedModel(*(script or (calls("add", a=2, b=3), says("5"))))
    return AgentLoop(**({"agent_id": "clerk", "llm_provider": model, "tools": [add]} | options))


async def answer(clerk: AgentLoop | None = None, **options: Any) -> str:
    """What a run comes to; bounded."""
    async with asyncio.timeout(5):
        return (await (clerk or agent()).execute("2 + 3?", **options)).output


def sdk(**options: Any) -> TracerProvider:
    """A program's own provider."""
    return TracerProvider(shutdown_on_exit=False, **options)


def light(sampler: Sampler | None = None) -> Provider:
    """The provider that looopy makes where there is none, without becoming the global one."""
    return Provider(Resource.create(), sampler)


class Keeps(SpanExporter):
    """Keeps the names of the spans that it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.closed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.closed:
            return SpanExportResult.FAILURE
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed += 1


def boom(*_: object, **__: object) -> Any:
    raise RuntimeError("boom")
