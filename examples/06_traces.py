"""See where the time and the money of a run went: in the terminal, and in Langfuse or any OpenTelemetry backend.

Runs offline. With OTEL_EXPORTER_OTLP_ENDPOINT set, or LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, the run is sent there too.
"""

from __future__ import annotations

import asyncio
import os

from looopy import AgentLoop, Fallback, Usage
from looopy.observe import instrument
from looopy.testing import ScriptedModel, calls, fails, says, waits

SOMEWHERE = ("OTEL_EXPORTER_OTLP_ENDPOINT", "LANGFUSE_PUBLIC_KEY")


async def weather(city: str) -> str:
    """The weather of a city."""
    await asyncio.sleep(0.05 if city == "Oslo" else 0.12)
    return f"rain in {city}"


async def sights(city: str) -> str:
    """What there is to see in a city."""
    await asyncio.sleep(0.03)
    raise LookupError(f"nobody has written about {city} yet")


def main() -> None:
    used = Usage(input_tokens=900, output_tokens=60)
    asked = calls("weather", city="Oslo") + calls("weather", city="Bergen") + calls("sights", city="Oslo")
    busy = ScriptedModel(fails(503, "no capacity left"), fails(503, "no capacity left"), name="big-model")
    other = ScriptedModel(
        waits(0.06) + asked + says(usage=used, cost=0.0021),
        waits(0.04) + says("Take ") + waits(0.05) + says("an umbrella.", usage=used, cost=0.0021),
        name="small-model",
    )
    agent = AgentLoop(agent_id="guide", llm_provider=Fallback(busy, other), tools=[weather, sights])

    sent = any(os.environ.get(name) for name in SOMEWHERE)
    with instrument(capture_content=True, exporters=None if sent else ()):
        run = agent.execute("Oslo or Bergen?", user_id="ada", tags=["example"])
        result = run.result()
    print(result.output)
    run.trace()
    print(f"trace {result.trace_id} {result.trace_url}")


if __name__ == "__main__":
    main()
