"""OBSERVABILITY.md lists what is emitted: no more and no less than the code has."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider

from looopy import AgentLoop, LiteLLMEmbedder, LiteLLMProvider, ManagedPrompt, Retry, Usage
from looopy.observe import OTLPExporter, attributes, instrument, sayings
from looopy.observe.metrics import Instruments
from looopy.providers.transport import HTTP
from looopy.testing import ScriptedServer, calls, embeds, fails, says
from observe.receiver import Receiver
from observe.watched import answer, light

PAGE = (Path(__file__).parents[2] / "OBSERVABILITY.md").read_text()


def names_in(heading: str, *, column: int = 1) -> list[str]:
    """What stands in backticks in a column of the last table under a heading."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n### ")[0].split("\n## ")[0]
    table = section.strip().split("\n\n| ")[-1]
    rows = [row for row in table.splitlines()[2:] if row.startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[column])]


def test_the_table_of_attributes_names_each_one_once() -> None:
    in_code = {
        value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    } | set(sayings.PARAMETERS.values())

    listed = names_in("Spans")
    assert sorted(listed) == sorted(in_code)


KINDS = {
    "invoke_agent": "agent",
    "agent.iteration": "iteration",
    "chat": "chat",
    "attempt": "attempt",
    "execute_tool": "tool",
    "embeddings": "embeddings",
}


def spans_by_attribute() -> dict[str, set[str]]:
    """Each attribute in the table, and the kinds of spans that it is on; without those of which the table says more than kinds."""
    section = PAGE.split("### Spans\n")[1].split("### Metrics")[0]
    rows = [
        row.split("|") for row in section.split("| attribute | on |")[1].splitlines() if row.startswith("| `")
    ]
    return {
        name: set(KINDS.values()) if on.strip() == "all" else set(on.strip().split(", "))
        for _, names, on, *_ in rows
        if "what" not in on
        for name in re.findall(r"`([^`]+)`", names)
    }


async def test_the_table_says_on_which_spans_each_attribute_is() -> None:
    def work(city: str) -> str:
        """Work."""
        if city == "Atlantis":
            raise LookupError("it has sunk")
        return "done"

    async def embed() -> str:
        """Embed."""
        await embedder.embed(["rain"])
        return "done"

    usage = Usage(input_tokens=50, output_tokens=10, cached_tokens=20, reasoning_tokens=4)
    answers = (
        fails(503),
        calls("work", city="Oslo") + calls("work", city="Atlantis") + calls("embed"),
        says("Done.", usage=usage, cost=0.25),
    )
    transport, vectors = (
        HTTP(ScriptedServer(*answers).transport()),
        ScriptedServer(fails(503, retry_after=0.001), otherwise=partial(embeds, cost=0.001)),
    )
    embedder = LiteLLMEmbedder("http://proxy:4000", "m", api_key=None, transport=HTTP(vectors.transport()))
    model = LiteLLMProvider("http://proxy:4000", "m", None, top_p=0.5, transport=transport)
    clerk = AgentLoop(
        agent_id="clerk",
        llm_provider=Retry(model, first_wait=0.001),
        tools=[work, embed],
        system_prompt=ManagedPrompt(text="Be brief.", name="clerk", version=3),
    )
    with Receiver() as receiver:
        exporter = OTLPExporter(receiver.traces_url)
        with instrument(exporters=[exporter], capture_content=True, tracer_provider=light()):
            await answer(clerk, session_id="s", user_id="u", tags=["t"], metadata={"a": 1})
    found: dict[str, set[str]] = {}
    for span in receiver.spans:
        for name in span.attributes:
            found.setdefault(name, set()).add(KINDS[span.name.split()[0]])
    listed = spans_by_attribute()
    prefixes = tuple(name for name in listed if name.endswith("."))
    grouped: dict[str, set[str]] = {}
    for name, kinds in found.items():
        group = name if name in listed else next((each for each in prefixes if name.startswith(each)), name)
        grouped.setdefault(group, set()).update(kinds)
    assert {name: kinds for name, kinds in grouped.items() if name in listed} == {
        name: listed[name] for name in grouped if name in listed
    }
    assert len(grouped) > 50


def test_the_table_of_metrics_names_each_instrument_with_its_unit() -> None:
    in_code = {(each.name, each.unit) for each in vars(Instruments(MeterProvider())).values()}

    assert set(zip(names_in("Metrics"), units(), strict=True)) == in_code


def units() -> list[str]:
    rows = [
        row
        for row in PAGE.split("### Metrics\n")[1].split("### Logs")[0].splitlines()
        if row.startswith("| `")
    ]
    return [row.split("|")[3].strip() for row in rows]
