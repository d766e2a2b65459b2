"""The tool providers of an agent: what they offer, and what becomes of what their tools make."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from agents import AsyncTools, Tools, add, answers, events_of, kinds

from looopy import AgentLoop, InMemoryArtifactStore, ToolContext
from looopy.errors import ConfigurationError
from looopy.messages import TextPart
from looopy.ports import ToolDefinition
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, says

# ------------------------------------------------------------------------------------------------------- tool providers


@pytest.mark.parametrize("kind", [Tools, AsyncTools])
async def test_the_tools_of_all_providers_are_offered_and_each_is_called_where_it_is(
    kind: type[Tools],
) -> None:
    model = ScriptedModel(calls("find") + calls("add", a=1) + calls("save"), says("ok"))
    agent = AgentLoop(llm_provider=model, tools=[add], tool_providers=[kind("find", "load"), Tools("save")])

    result = await agent.execute("go")

    assert [tool.name for tool in model.requests[0].tools] == ["add", "find", "load", "save"]
    assert [text for _, text in answers(result.messages)] == ["find ran", "2", "save ran"]


async def test_a_list_of_tools_that_must_be_awaited_is_asked_for_before_every_model_call() -> None:
    tools = AsyncTools("find")

    await AgentLoop(llm_provider=ScriptedModel(calls("find"), says("ok")), tool_providers=[tools]).execute(
        "go"
    )

    assert tools.asked == [0, 1]


async def test_tools_may_come_and_go_during_a_task() -> None:
    tools = Tools("find")

    def grow() -> str:
        tools.listed = [ToolDefinition(name="late")]
        return "grown"

    model = ScriptedModel(calls("grow"), calls("late") + calls("find"), says("ok"))
    result = await AgentLoop(llm_provider=model, tools=[grow], tool_providers=[tools]).execute("go")

    assert [[tool.name for tool in request.tools] for request in model.requests] == [
        ["grow", "find"],
        ["grow", "late"],
        ["grow", "late"],
    ]
    assert answers(result.messages)[1:] == [
        ("call_2", "late ran"),
        ("call_3", "Error: there is no tool 'find'. The tools are: grow, late."),
    ]


@pytest.mark.parametrize("other", [Tools("add"), AsyncTools("add")])
async def test_two_tools_of_one_name_end_the_task_and_say_which(other: Tools) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(), tools=[add], tool_providers=[other]).execute("go")

    assert kinds(await events_of(run)) == ["task", "working", "failed"]
    with pytest.raises(ConfigurationError, match="two tool providers offer a tool called 'add'") as caught:
        await run
    assert caught.value.argument == "add"


async def test_a_provider_that_cannot_list_its_tools_ends_the_task() -> None:
    class Down(Tools):
        def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:
            raise OSError("no server")

    run = AgentLoop(llm_provider=ScriptedModel(), tool_providers=[Down()]).execute("go")

    assert kinds(await events_of(run)) == ["task", "working", "failed"]
    with pytest.raises(OSError, match="no server"):
        await run


# --------------------------------------------------------------------------------------------------------------- stores


async def test_an_artifact_store_keeps_what_tools_make_under_the_runs_context() -> None:
    from looopy.events import Artifact, ArtifactUpdate

    async def draw(context: ToolContext[None]) -> str:
        context.emit(ArtifactUpdate(artifact=Artifact(artifact_id="plan", parts=(TextPart("a plan"),))))
        return "drawn"

    store = InMemoryArtifactStore()
    agent = AgentLoop(
        llm_provider=ScriptedModel(calls("draw"), says("ok")), tools=[draw], artifact_store=store
    )
    events = await events_of(agent.execute("go", task_id="t", context_id="c"))

    kept = await store.load("c", "plan")
    assert kept is not None
    assert (kept.artifact.parts, kept.task_id) == ((TextPart("a plan"),), "t")
    assert kinds(events).index("artifact-update") < kinds(events).index("tool-complete")
