"""`AgentLoop`: what is checked when it is built, and what `execute` makes of its arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError, replace
from datetime import date
from typing import Any

import pytest
from agents import add, events_of, kinds
from opentelemetry import trace

from looopy import AgentLoop, InMemoryStateStore, Limits, Message, ToolContext
from looopy.errors import ConfigurationError
from looopy.events import (
    Task,
)
from looopy.messages import DataPart, FilePart, TextPart
from looopy.ports import LLMRequest
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, says

# -------------------------------------------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("given", "argument", "text"),
    [
        ({"tags": "abc"}, "tags", "tags is one text: pass a list of them, tags=['abc']"),
        ({"tags": ["a", 1]}, "tags", "tags[1] is a int: tags are texts"),
        ({"tags": 3}, "tags", "tags is a int: pass a list of texts"),
        ({"user_id": 3}, "user_id", "user_id is a int: pass text, such as user_id=str(…)"),
        ({"session_id": b"s"}, "session_id", "session_id is a bytes: pass text, such as session_id=str(…)"),
        ({"context_id": 1}, "context_id", "context_id is a int: pass text, such as context_id=str(…)"),
        ({"task_id": 1}, "task_id", "task_id is a int: pass text, such as task_id=str(…)"),
    ],
)
def test_ids_and_tags_that_are_no_text_are_refused(given: dict[str, Any], argument: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentLoop(llm_provider=ScriptedModel()).execute("Hi", **given)
    assert (str(caught.value), caught.value.argument) == (text, argument)


async def test_an_id_that_is_none_is_left_out() -> None:
    left_out: Any = None
    run = AgentLoop(llm_provider=ScriptedModel(says("5"))).execute("Hi", user_id=left_out, task_id=left_out)
    async with asyncio.timeout(5):
        await run
    assert run.state is not None
    assert (run.state.user_id, len(run.task_id)) == ("", 32)


@pytest.mark.parametrize(
    ("arguments", "argument", "said"),
    [
        ({"max_iterations": 0}, "max_iterations", "AgentLoop(max_iterations=0): must be at least 1"),
        (
            {"max_parallel_tools": 0},
            "max_parallel_tools",
            "AgentLoop(max_parallel_tools=0): must be at least 1",
        ),
        ({"max_result_chars": -1}, "max_result_chars", "AgentLoop(max_result_chars=-1): must be at least 1"),
        ({"max_iterations": "3"}, "max_iterations", "AgentLoop(max_iterations='3'): must be at least 1"),
        ({"limits": {"tokens": 3}}, "limits", "AgentLoop(limits={'tokens': 3}): write limits=Limits(…)"),
        ({"tools": None}, "tools", "AgentLoop(tools=None): it takes a list, so write tools=[…]"),
        (
            {"on_tool_error": "ignore"},
            "on_tool_error",
            "AgentLoop(on_tool_error='ignore'): must be 'model' or 'raise'",
        ),
        (
            {"llm_provider": None},
            "llm_provider",
            (
                "AgentLoop(llm_provider=…): a NoneType was given, but it takes an object with call(); "
                "pass a LiteLLMProvider(…), a model's name, or 'stand-in'"
            ),
        ),
        (
            {"llm_provider": ScriptedModel},
            "llm_provider",
            (
                "AgentLoop(llm_provider=…): the class ScriptedModel was given, but it takes an object with call(); "
                "pass a LiteLLMProvider(…), a model's name, or 'stand-in'"
            ),
        ),
        (
            {"tool_providers": [add]},
            "tool_providers",
            (
                "AgentLoop(tool_providers=…): a function was given, but it takes an object with tools() and call(); "
                "functions go into tools=[…]"
            ),
        ),
        (
            {"task_state_store": InMemoryStateStore},
            "task_state_store",
            (
                "AgentLoop(task_state_store=…): the class InMemoryStateStore was given, but it takes an object with "
                "save() and load(); pass a StateStore"
            ),
        ),
        (
            {"artifact_store": {}},
            "artifact_store",
            (
                "AgentLoop(artifact_store=…): a dict was given, but it takes an object with save() and load(); "
                "pass an ArtifactStore"
            ),
        ),
    ],
)
def test_what_cannot_work_is_said_when_the_agent_is_built(
    arguments: dict[str, Any], argument: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentLoop(**{"llm_provider": ScriptedModel(), **arguments})

    assert (str(caught.value), caught.value.argument) == (said, argument)


def test_a_single_function_for_tools_is_told_that_it_needs_a_list() -> None:
    with pytest.raises(ConfigurationError, match=r"it takes a list, so write tools=\[…\]"):
        AgentLoop(llm_provider=ScriptedModel(), tools=add)  # pyright: ignore[reportArgumentType]


def test_two_functions_of_one_name_are_refused_when_the_agent_is_built() -> None:
    with pytest.raises(ConfigurationError, match="add"):
        AgentLoop(llm_provider=ScriptedModel(), tools=[add, add, lambda: 1])


def test_a_model_may_be_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_URL", "http://localhost:4000")

    agent = AgentLoop(llm_provider="gpt-4o-mini")

    assert agent._setup.llm_provider.model == "gpt-4o-mini"  # pyright: ignore[reportAttributeAccessIssue]


async def test_the_stand_in_needs_no_key() -> None:
    async with asyncio.timeout(5):
        result = await AgentLoop(llm_provider="stand-in").execute("Hi")

    assert result.status == "completed"
    assert result.output


async def test_an_agent_is_a_value_that_is_changed_by_making_another() -> None:
    model = ScriptedModel(otherwise=lambda _: says("Hi"))
    agent = AgentLoop(llm_provider=model, agent_id="one", deps="secret")

    with pytest.raises(FrozenInstanceError):
        agent.agent_id = "two"  # pyright: ignore[reportAttributeAccessIssue]
    other = replace(agent, agent_id="two", limits=Limits(tokens=5))

    assert (other.agent_id, other.max_iterations, agent.agent_id) == ("two", 20, "one")
    assert "secret" not in repr(agent)
    assert [event.agent_id for event in await events_of(other.execute("go")) if isinstance(event, Task)] == [
        "two"
    ]


async def test_one_agent_serves_many_runs_at_once() -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(otherwise=lambda request: says(request.messages[-1].text)))

    results = await asyncio.gather(*[agent.execute(str(n)) for n in range(20)])

    assert [result.output for result in results] == [str(n) for n in range(20)]
    assert len({result.task_id for result in results}) == 20


# -------------------------------------------------------------------------------------------------------------- execute


async def test_the_arguments_of_execute_reach_the_request_and_the_task_event() -> None:
    model = ScriptedModel(says("Hi"))
    history = [Message.user("a"), Message.assistant("b")]
    run = AgentLoop(llm_provider=model, agent_id="math", tools=[add]).execute(
        "go",
        context_id="c",
        task_id="t",
        session_id="s",
        history=history,
        user_id="u",
        tags=["x", "y"],
        metadata={"on": date(2026, 1, 2)},
    )

    events = await events_of(run)

    assert (run.task_id, run.context_id, len(run.trace_id)) == ("t", "c", 32)
    opened = events[0]
    assert isinstance(opened, Task)
    assert opened == Task(
        prompt=Message.user("go"),
        agent_id="math",
        metadata={"on": "2026-01-02"},
        task_id="t",
        context_id="c",
        seq=1,
        timestamp=opened.timestamp,
    )
    request = model.requests[0]
    assert request == LLMRequest(
        messages=(*history, Message.user("go")),
        tools=request.tools,
        session_id="s",
        trace_id=run.trace_id,
        trace_name="math",
        user_id="u",
        tags=("x", "y"),
    )
    assert [tool.name for tool in request.tools] == ["add"]


async def test_ids_that_are_left_out_are_made_and_the_session_is_the_task() -> None:
    model = ScriptedModel(says("Hi"), says("Ho"))
    agent = AgentLoop(llm_provider=model)
    one, two = agent.execute("go"), agent.execute("go")

    await one
    await two

    assert len({one.task_id, two.task_id, one.context_id, two.context_id, one.trace_id, two.trace_id}) == 6
    assert [request.session_id for request in model.requests] == [one.task_id, two.task_id]


async def test_a_run_belongs_to_the_callers_trace() -> None:
    here = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False)
    model = ScriptedModel(says("Hi"))
    with trace.use_span(trace.NonRecordingSpan(here)):
        run = AgentLoop(llm_provider=model).execute("go")

    await run

    assert run.trace_id == "00000000000000000000000000000abc"
    assert (model.requests[0].trace_id, model.requests[0].parent_span_id) == (
        run.trace_id,
        "0000000000000def",
    )


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([{"role": "user", "content": "Hi"}], "history[0] is a dict"),
        ([Message.user("Hi"), "Hello"], "history[1] is a str"),
        ("Hi", "history is a str"),
        (Message.user("Hi"), "history is a Message"),
    ],
)
def test_a_history_of_anything_but_messages_is_refused_with_what_to_write(history: Any, said: str) -> None:
    agent = AgentLoop(llm_provider=ScriptedModel())

    for begin in (lambda: agent.execute("go", history=history), lambda: agent.session(history=history)):
        with pytest.raises(ConfigurationError) as caught:
            begin()
        assert (
            str(caught.value)
            == f'{said}: pass a list of Messages, such as result.messages or [Message.user("…"), Message.assistant("…")]'
        )
        assert caught.value.argument == "history"


@pytest.mark.parametrize("prompt", ["", "  \n", (), Message.user(""), Message.user(())])
def test_an_empty_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ConfigurationError, match="the prompt is empty"):
        AgentLoop(llm_provider=ScriptedModel()).execute(prompt)


@pytest.mark.parametrize(
    ("prompt", "kind"), [(5, "int"), (None, "NoneType"), (["Hi"], "list"), (b"Hi", "bytes")]
)
def test_a_prompt_of_another_kind_is_refused(prompt: Any, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the prompt is a {kind}: pass text, a Message, or"):
        AgentLoop(llm_provider=ScriptedModel()).execute(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Hi", Message.user("Hi")),
        ("Hi \ud83d", Message.user("Hi \ufffd")),
        (Message.user("Hi"), Message.user("Hi")),
        (
            (TextPart("Look"), FilePart("https://host/a.png", mime_type="image/png")),
            Message.user((TextPart("Look"), FilePart("https://host/a.png", mime_type="image/png"))),
        ),
        ([DataPart({"on": date(2026, 1, 2)})], Message.user((DataPart({"on": "2026-01-02"}),))),
    ],
)
async def test_a_prompt_is_text_or_parts_or_a_message(prompt: Any, message: Message) -> None:
    model = ScriptedModel(says("Hi"))

    await AgentLoop(llm_provider=model).execute(prompt)

    assert model.requests[0].messages == (message,)


@pytest.mark.parametrize(
    ("execute", "argument"),
    [
        (lambda agent: agent.execute((DataPart(object()),)), "prompt"),
        (lambda agent: agent.execute("go", metadata={"key": object()}), "metadata"),
        (lambda agent: agent.resume("t", inputs={"key": object()}), "inputs"),
    ],
)
def test_what_has_no_json_form_is_refused_at_once(execute: Callable[[AgentLoop], Run], argument: str) -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(), task_state_store=InMemoryStateStore())

    with pytest.raises(ConfigurationError, match=r"JSON form.*object") as caught:
        execute(agent)

    assert caught.value.argument == argument


@pytest.mark.parametrize(("given", "seen"), [(None, "agent's"), ("run's", "run's"), (0, 0)])
async def test_deps_are_the_agents_or_the_runs(given: object, seen: object) -> None:
    got: list[object] = []

    def look(context: ToolContext[object]) -> None:
        got.append(context.deps)

    agent = AgentLoop(llm_provider=ScriptedModel(calls("look"), says("ok")), tools=[look], deps="agent's")

    await agent.execute("go", deps=given)

    assert got == [seen]


# -------------------------------------------------------------------------------------------------------- system prompt


def of_state(state: LoopState) -> str:
    return f"Call {state.iteration + 1}."


async def of_state_later(state: LoopState) -> str:
    await asyncio.sleep(0)
    return f"Call {state.iteration + 1}."


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("Be brief.", [Message.system("Be brief.")], [Message.system("Be brief.")]),
        (of_state, [Message.system("Call 1.")], [Message.system("Call 2.")]),
        (of_state_later, [Message.system("Call 1.")], [Message.system("Call 2.")]),
        (None, [], []),
        ("", [], []),
        (lambda _: "", [], []),
    ],
)
async def test_a_system_prompt_comes_first_in_every_request_and_is_no_part_of_the_history(
    prompt: Any, first: list[Message], second: list[Message]
) -> None:
    model = ScriptedModel(calls("add", a=1), says("2"))

    result = await AgentLoop(llm_provider=model, tools=[add], system_prompt=prompt).execute("go")

    assert [message for message in model.requests[0].messages if message.role == "system"] == first
    assert [message for message in model.requests[1].messages if message.role == "system"] == second
    assert model.requests[1].messages[: len(second)] == tuple(second)
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "assistant"]


def raising(_: LoopState) -> str:
    raise KeyError("no template")


async def raising_later(_: LoopState) -> str:
    raise KeyError("no template")


@pytest.mark.parametrize("prompt", [raising, raising_later])
async def test_a_system_prompt_that_raises_ends_the_task_with_what_it_raised(
    prompt: Callable[[LoopState], str | Awaitable[str]],
) -> None:
    model = ScriptedModel()
    run = AgentLoop(llm_provider=model, system_prompt=prompt).execute("go")

    events = await events_of(run)

    assert kinds(events) == ["task", "working", "failed"]
    with pytest.raises(KeyError, match="no template"):
        await run
    assert model.requests == []
