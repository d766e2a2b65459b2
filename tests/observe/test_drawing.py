"""`instrument(console=True)`: what stands on stderr when runs are over."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from agents import delete
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from looopy import AgentLoop, LiteLLMEmbedder, MissingExtra, Run, ToolFailed
from looopy.observe import Instrumentation, forks, instrument
from looopy.observe.pictures.nested import kept
from looopy.observe.pictures.timeline import timeline
from looopy.providers.transport import HTTP
from looopy.testing import Answer, ScriptedModel, ScriptedServer, calls, embeds, says
from looopy.watcher import watcher
from observe.watched import Keeps, agent, light


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instrumentation]:
    monkeypatch.setenv("COLUMNS", "100")
    with instrument(console=True, exporters=(), tracer_provider=light()) as recording:
        yield recording


def trees(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The names of each tree that was drawn, as they are indented."""
    parts = capsys.readouterr().err.split("\n\n")
    return [
        [NAME.sub("", line) for line in part.splitlines() if "  " in line and "share" not in line]
        for part in parts
        if "invoke_agent" in part
    ]


NAME = re.compile(r" +[━─░█▏▎▍▌▋▊▉▐].*")
"""What stands behind a name."""


def planner(*script: Answer) -> AgentLoop:
    """An agent with tools that ask another agent."""
    researcher = AgentLoop(
        agent_id="researcher", llm_provider=ScriptedModel(otherwise=lambda _: says("found"))
    )

    async def search(word: str) -> str:
        """Search."""
        return word

    async def research(question: str) -> str:
        """Ask another agent."""
        return (await researcher.execute(question)).output

    async def compare(question: str) -> str:
        """Ask it twice."""
        both = await asyncio.gather(researcher.execute(question), researcher.execute(question))
        return " ".join(each.output for each in both)

    model = ScriptedModel(*script, says("done"))
    return AgentLoop(agent_id="planner", llm_provider=model, tools=[search, research, compare])


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["recorded", "not recorded"])
async def test_an_agent_that_a_tool_calls_stands_beneath_that_tool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sampler: Sampler
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with instrument(console=True, exporters=(), tracer_provider=light(sampler)):
        await planner(calls("search", word="x") + calls("research", question="x?")).execute("Hi")

    assert trees(capsys) == [
        [
            "invoke_agent planner",
            "├─ agent.iteration 1",
            "│  ├─ chat scripted-model",
            "│  ├─ execute_tool search",
            "│  └─ execute_tool research",
            "│     └─ invoke_agent researcher",
            "│        └─ agent.iteration 1",
            "│           └─ chat scripted-model",
            "└─ agent.iteration 2",
            "   └─ chat scripted-model",
        ]
    ]


async def test_agents_that_are_called_at_once_stand_beneath_the_same_tool(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    await planner(calls("compare", question="x?")).execute("Hi")

    assert trees(capsys) == [
        [
            "invoke_agent planner",
            "├─ agent.iteration 1",
            "│  ├─ chat scripted-model",
            "│  └─ execute_tool compare",
            "│     ├─ invoke_agent researcher",
            "│     │  └─ agent.iteration 1",
            "│     │     └─ chat scripted-model",
            "│     └─ invoke_agent researcher",
            "│        └─ agent.iteration 1",
            "│           └─ chat scripted-model",
            "└─ agent.iteration 2",
            "   └─ chat scripted-model",
        ]
    ]


async def test_an_agent_that_outlives_its_caller_is_waited_for(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    released = asyncio.Event()
    begun: list[Run] = []

    async def wait() -> str:
        """Wait."""
        await released.wait()
        return "waited"

    helper = AgentLoop(
        agent_id="helper", llm_provider=ScriptedModel(calls("wait"), says("done")), tools=[wait]
    )

    async def delegate() -> str:
        """Let another agent begin, and do not wait for it."""
        begun.append(helper.execute("Hi").start())
        return "begun"

    model = ScriptedModel(calls("delegate"), says("done"))
    await AgentLoop(agent_id="chief", llm_provider=model, tools=[delegate]).execute("Hi")
    before = trees(capsys)
    released.set()
    await begun[0]

    assert before == []
    assert [tree[0:4:3] for tree in trees(capsys)] == [
        ["invoke_agent chief", "│  └─ execute_tool delegate"],
    ]


async def test_runs_that_nobody_called_are_drawn_each_when_it_ends(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        await AgentLoop(agent_id=name, llm_provider=ScriptedModel(says("Hi"))).execute("Hi")
        assert trees(capsys) == [
            [f"invoke_agent {name}", "└─ agent.iteration 1", "   └─ chat scripted-model"]
        ]


async def test_a_forks_child_draws_its_own_runs(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    forks._forked()
    await AgentLoop(agent_id="child", llm_provider=ScriptedModel(says("Hi"))).execute("Hi")

    assert trees(capsys) == [["invoke_agent child", "└─ agent.iteration 1", "   └─ chat scripted-model"]]


async def test_a_task_that_goes_on_keeps_its_name_and_its_count(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(calls("delete", path="a.txt"), says("done"))
    agent = AgentLoop(agent_id="clerk", llm_provider=model, tools=[delete])
    asked = agent.execute("Hi").start()
    state = (await asked, asked.state)[1]
    assert state is not None
    trees(capsys)
    await agent.resume(state, inputs={state.waiting[0].input_id: "yes"})

    assert trees(capsys) == [
        [
            "invoke_agent clerk",
            "├─ agent.iteration 1",
            "│  └─ execute_tool delete",
            "└─ agent.iteration 2",
            "   └─ chat scripted-model",
        ]
    ]


async def test_between_two_pictures_is_an_empty_line(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        await AgentLoop(llm_provider=ScriptedModel(says("Hi"))).execute("Hi")

    lines = capsys.readouterr().err.splitlines()
    (second,) = (place for place, line in enumerate(lines) if place and line.startswith("✔"))
    assert lines[second - 1] == ""


async def test_the_head_of_a_picture_says_who_how_and_under_which_trace(
    console: Instrumentation, capsys: pytest.CaptureFixture[str]
) -> None:
    run = AgentLoop(agent_id="clerk", llm_provider=ScriptedModel(says("Hi"))).execute("Hi")
    await run

    head = capsys.readouterr().err.splitlines()[0]
    assert re.match(rf"✔ clerk, completed, [\d.]+ ms, trace {run.trace_id}, 20\d\d-", head)


def test_without_rich_both_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "looopy.observe.pictures.drawing", raising=False)
    monkeypatch.delitem(sys.modules, "looopy.observe.pictures.picture", raising=False)
    monkeypatch.setitem(sys.modules, "rich.cells", None)

    with pytest.raises(MissingExtra) as caught:
        instrument(console=True, exporters=(), tracer_provider=light())

    assert str(caught.value) == "instrument(console=True) needs rich: pip install 'looopy[otel,cli]'"


def lookup(key: str) -> str:
    """Look something up."""
    raise LookupError(f"no entry for {key}")


def drawn_of(capsys: pytest.CaptureFixture[str], options: dict[str, Any], **of_agent: Any) -> str:
    """The picture of a run whose tool fails."""
    with instrument(exporters=(), console=True, **options):
        run = agent(calls("lookup", key="ada"), says("sorry"), tools=[lookup], **of_agent).execute("ada?")
        with suppress(ToolFailed):
            run.result(5)
    return capsys.readouterr().err


@pytest.mark.parametrize("of_agent", [{}, {"on_tool_error": "raise"}])
def test_what_a_tool_says_of_its_failure_is_drawn_only_with_content(
    capsys: pytest.CaptureFixture[str], of_agent: dict[str, Any]
) -> None:
    bare = drawn_of(capsys, {}, **of_agent)
    assert "LookupError\n" in bare
    assert "no entry" not in bare
    assert "LookupError: no entry for ada" in drawn_of(capsys, {"capture_content": True}, **of_agent)


def test_what_is_drawn_has_been_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    def hide(said: str, where: str) -> str:
        return said.replace("ada", f"[{where}]")

    shown = drawn_of(capsys, {"capture_content": True, "redact": hide})
    assert "LookupError: no entry for [tool-result]" in shown


# --------------------------------------------------------------------------------------------------- beside whoever watches


@pytest.mark.parametrize("recorded", [False, True])
async def test_events_are_kept_of_the_agents_that_tools_call_whoever_watches_otherwise(
    recorded: bool,
) -> None:
    exporter = Keeps()
    with ExitStack() as stack:
        if recorded:
            stack.enter_context(instrument(exporters=[exporter], tracer_provider=light()))
        there = watcher()
        with kept() as keeps:
            assert (await planner(calls("research", question="?")).execute("go")).output == "done"
        assert watcher() is there
    (tree,) = timeline(keeps.events, origins=keeps.origins)
    assert [each.name for each in tree.walk()] == [
        "invoke_agent planner",
        "agent.iteration",
        "chat scripted-model",
        "execute_tool research",
        "invoke_agent researcher",
        "agent.iteration",
        "chat scripted-model",
        "agent.iteration",
        "chat scripted-model",
    ]
    assert len(exporter.names) == (9 if recorded else 0)


@pytest.mark.parametrize("recorded", [False, True])
async def test_texts_are_embedded_as_ever_while_events_are_kept(recorded: bool) -> None:
    server = ScriptedServer(otherwise=embeds)
    embedder = LiteLLMEmbedder("http://proxy", "m", api_key=None, transport=HTTP(server.transport()))
    exporter = Keeps()
    with ExitStack() as stack:
        if recorded:
            stack.enter_context(instrument(exporters=[exporter], tracer_provider=light()))
        stack.enter_context(kept())
        assert len((await embedder.embed(["rain"])).vectors) == 1
    assert exporter.names == (["embeddings m"] if recorded else [])


async def test_a_program_that_begins_to_record_meanwhile_goes_on_with_it() -> None:
    with ExitStack() as stack:
        with kept():
            recording = stack.enter_context(instrument(exporters=[Keeps()], tracer_provider=light()))
        assert watcher() is recording
