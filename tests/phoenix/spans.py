"""A run of an agent that asks two tools side by side, of which one fails, and then answers; recorded and sent."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from looopy import AgentLoop, LiteLLMProvider, Usage
from looopy.observe import OTLPExporter, instrument
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, calls, says, thinks

PROJECT = "assistants"
"""Where Phoenix files the run; without the resource attribute that says so it would be `default`."""


def get_weather(city: str) -> str:
    """Say how warm it is."""
    if city == "Rome":
        raise LookupError("Rome has moved")
    return "4 degrees"


def emit(endpoint: str) -> str:
    """Run the agent with its spans sent over OTLP, and give back the trace's id."""
    both = calls("get_weather", city="Oslo") + calls("get_weather", city="Rome")
    first, second = (
        Usage(input_tokens=120, cached_tokens=100, output_tokens=30),
        Usage(input_tokens=160, output_tokens=12),
    )
    server = ScriptedServer(
        thinks("I need two lookups.") + says("Let me look.") + both + says(usage=first, cost=0.0002),
        says("Oslo has 4 degrees; of Rome I know nothing.", usage=second, cost=0.0003),
    )
    provider = LiteLLMProvider(
        "http://proxy", "gpt-4o-mini", api_key=None, temperature=0.2, transport=HTTP(server.transport())
    )
    agent = AgentLoop(
        agent_id="weather", llm_provider=provider, tools=[get_weather], system_prompt="Be brief."
    )
    where = TracerProvider(resource=Resource({"openinference.project.name": PROJECT}))
    with instrument(exporters=[OTLPExporter(endpoint)], tracer_provider=where, capture_content=True):
        run = agent.execute(
            "The weather in Oslo and Rome?", context_id="talk-1", user_id="ada", tags=["docs"]
        )
        return run.result().trace_id
