"""`AgentLoop`: what is checked when it is built, and what `execute`, `resume` and `session` make of their arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace
from reactivex import Observable

from looopy import AgentLoop, InMemoryArtifactStore, InMemoryStateStore, Limits, Message, ToolContext
from looopy.errors import ConfigurationError, LooopyError, NotResumable, StoreFailed, TaskCanceled
from looopy.events import (
    Event,
    InputReceived,
    InputRequired,
    LLMCall,
    Status,
    StatusUpdate,
    Task,
    ToolComplete,
    ToolEvent,
    ToolStart,
)
from looopy.messages import DataPart, FilePart, TextPart, ToolCall
from looopy.ports import LLMRequest, ToolDefinition
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, fails, says, stalls


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def delete(path: str, context: ToolContext[object]) -> str:
    """Delete a file, once somebody agrees."""
    return f"deleted {path}" if context.ask(f"delete {path}?") == "yes" else f"kept {path}"


async def events_of(run: Run) -> list[Event]:
    async with asyncio.timeout(5):
        return [event async for event in run]


def kinds(events: list[Event]) -> list[str]:
    return [event.status.state if isinstance(event, StatusUpdate) else event.kind for event in events]


def answers(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.tool_call_id, message.text) for message in messages if message.role == "tool"]


class Tools:
    """A ToolProvider with the tools that the test names."""

    def __init__(self, *names: str) -> None:
        self.listed = [ToolDefinition(name=name) for name in names]

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:
        return self.listed

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        return rx.of(ToolComplete(result=f"{call.name} ran"))


class AsyncTools(Tools):
    """The same, with a list that must be awaited."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.asked: list[int] = []

    def tools(self, state: LoopState, /) -> Any:
        async def fetch() -> Sequence[ToolDefinition]:
            self.asked.append(state.iteration)
            return self.listed

        return fetch()


# -------------------------------------------------------------------------------------------------------- construction


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


# --------------------------------------------------------------------------------------------------------------- resume


def keeping(*script: Any, **options: Any) -> tuple[AgentLoop, ScriptedModel]:
    model = ScriptedModel(*script)
    store = options.pop("task_state_store", None) or InMemoryStateStore()
    agent = AgentLoop(llm_provider=model, tools=[add, delete], task_state_store=store, **options)
    return agent, model


async def test_two_questions_may_be_answered_one_at_a_time() -> None:
    agent, model = keeping(
        calls("delete", path="a") + calls("add", a=1) + calls("delete", path="b"), says("done")
    )
    first = await agent.execute("go", task_id="t")
    assert (first.status, [question.input_id for question in first.waiting]) == (
        "input-required",
        ["call_1", "call_3"],
    )

    second = await agent.resume("t", inputs={"call_3": "yes"})
    assert (second.status, [question.input_id for question in second.waiting]) == (
        "input-required",
        ["call_1"],
    )

    events = await events_of(agent.resume("t", inputs={"call_1": "no"}))

    assert kinds(events)[:4] == ["input-received", "working", "checkpoint", "tool-start"]
    assert kinds(events)[-2:] == ["checkpoint", "completed"]
    assert len(model.requests) == 2
    assert answers(model.requests[1].messages) == [
        ("call_1", "kept a"),
        ("call_2", "2"),
        ("call_3", "deleted b"),
    ]


async def test_two_questions_may_be_answered_together() -> None:
    agent, model = keeping(calls("delete", path="a") + calls("delete", path="b"), says("done"))
    await agent.execute("go", task_id="t")

    result = await agent.resume("t", inputs={"call_1": "yes", "call_2": "no"})

    assert result.output == "done"
    assert answers(model.requests[1].messages) == [("call_1", "deleted a"), ("call_2", "kept b")]


async def test_the_numbers_of_a_resumed_stream_go_on() -> None:
    agent, _ = keeping(calls("delete", path="a"), says("done"))
    first = await events_of(agent.execute("go", task_id="t", context_id="c"))

    second = await events_of(agent.resume("t", inputs={"call_1": "yes"}))

    numbers = [event.seq for event in first + second]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {(event.task_id, event.context_id) for event in first + second} == {("t", "c")}
    received = second[0]
    assert isinstance(received, InputReceived)
    assert (received.input_id, received.value) == ("call_1", "yes")


async def test_a_task_that_still_waits_says_so_again() -> None:
    agent, model = keeping(calls("delete", path="a"))
    await agent.execute("go", task_id="t")

    result = await agent.resume("t")

    assert (result.status, len(result.waiting), len(model.requests)) == ("input-required", 1, 1)


async def refused(run: Run) -> LooopyError:
    """The error of a run that has no events."""
    seen: list[Event] = []
    run.subscribe(seen.append, lambda _: None)
    async with asyncio.timeout(5):
        with pytest.raises(LooopyError) as caught:
            await run
    assert seen == []
    return caught.value


async def test_a_task_that_is_not_stored_cannot_be_resumed() -> None:
    agent, _ = keeping()

    error = await refused(agent.resume("t"))

    assert isinstance(error, NotResumable)
    assert (str(error), error.task_id, error.state) == ("there is no stored task 't'", "t", "")


@pytest.mark.parametrize(
    ("script", "end"),
    [([says("done")], "completed"), ([fails(500)], "failed"), ([says("Hel") + stalls()], "canceled")],
)
async def test_a_task_that_is_over_cannot_be_resumed(script: list[Any], end: str) -> None:
    agent, _ = keeping(*script)
    run = agent.execute("go", task_id="t")
    async for event in run:
        if end == "canceled" and event.kind == "content-delta":
            run.cancel()

    error = await refused(agent.resume("t"))

    assert isinstance(error, NotResumable)
    assert (str(error), error.state) == (
        f"task 't' is {end}: start a new one with execute(…, history=…)",
        end,
    )


async def test_an_answer_to_nothing_that_is_asked_is_refused_and_the_task_can_still_be_resumed() -> None:
    agent, _ = keeping(calls("delete", path="a"), says("done"))
    await agent.execute("go", task_id="t")

    error = await refused(agent.resume("t", inputs={"call_1": "yes", "call_9": "yes"}))

    assert isinstance(error, NotResumable)
    assert str(error) == "task 't' does not ask for ['call_9']; it waits for ['call_1']"
    assert error.state == "input-required"
    assert (await agent.resume("t", inputs={"call_1": "yes"})).output == "done"


async def test_an_answer_to_a_task_that_asks_nothing_is_refused() -> None:
    store = InMemoryStateStore()
    await store.save(LoopState(task_id="t", context_id="c", messages=(Message.user("go"),)))
    agent, _ = keeping(task_state_store=store)

    error = await refused(agent.resume("t", inputs={"x": 1}))

    assert str(error) == "task 't' does not ask for ['x']; it waits for nothing"


def test_an_agent_without_a_store_cannot_resume() -> None:
    with pytest.raises(ConfigurationError, match="give the agent a task_state_store") as caught:
        AgentLoop(llm_provider=ScriptedModel()).resume("t")

    assert caught.value.argument == "task_state_store"


class FailingStore(InMemoryStateStore):
    """A store whose calls fail when the test says so."""

    def __init__(self, *, load: bool = False, save_after: int = 10**6) -> None:
        super().__init__()
        self.load_fails = load
        self.left = save_after

    async def save(self, state: LoopState, /) -> None:
        if self.left == 0:
            raise OSError("postgresql://app:hunter22@db is full")
        self.left -= 1
        await super().save(state)

    async def load(self, task_id: str, /) -> LoopState | None:
        if self.load_fails:
            raise OSError("postgresql://app:hunter22@db is down")
        return await super().load(task_id)


async def test_a_store_that_cannot_load_is_told_apart_from_a_task_that_is_unknown() -> None:
    agent, _ = keeping(task_state_store=FailingStore(load=True))

    error = await refused(agent.resume("t"))

    assert isinstance(error, StoreFailed)
    assert str(error) == "task 't' could not be loaded from FailingStore: postgresql://***@db is down"
    assert (error.store, error.retryable) == ("FailingStore", True)
    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize("saves", [0, 1, 2, 3])
async def test_a_store_that_cannot_save_ends_the_task_with_one_failed_status(saves: int) -> None:
    agent, _ = keeping(calls("add", a=1), says("done"), task_state_store=FailingStore(save_after=saves))
    run = agent.execute("go", task_id="t")

    events = await events_of(run)

    assert kinds(events).count("checkpoint") == saves
    assert [event for event in events if isinstance(event, StatusUpdate) and event.final] == [events[-1]]
    last = events[-1]
    assert isinstance(last, StatusUpdate)
    assert last.error is not None
    said = "the state of task 't' could not be saved in FailingStore: postgresql://***@db is full"
    assert (last.status.state, last.error.type, last.error.message) == ("failed", "StoreFailed", said)
    with pytest.raises(StoreFailed, match="is full") as caught:
        await run
    assert "hunter22" not in str(caught.value)


async def test_a_task_whose_process_died_goes_on_from_its_last_checkpoint() -> None:
    """Every state that was stored along the way is one to go on from, and no finished tool runs again."""
    ran: list[int] = []

    def note(n: int) -> int:
        ran.append(n)
        return n

    class Recording(InMemoryStateStore):
        def __init__(self) -> None:
            super().__init__()
            self.saved: list[LoopState] = []

        async def save(self, state: LoopState, /) -> None:
            self.saved.append(state)
            await super().save(state)

    def answer(request: LLMRequest) -> Any:
        return says("done") if any(message.role == "tool" for message in request.messages) else asks

    asks = calls("note", n=1) + calls("note", n=2)
    store = Recording()
    agent = AgentLoop(llm_provider=ScriptedModel(otherwise=answer), tools=[note], task_state_store=store)
    whole = await agent.execute("go", task_id="t")
    assert [(len(state.messages), len(state.pending), state.final) for state in store.saved] == [
        (1, 0, False),
        (2, 2, False),
        (4, 0, False),
        (5, 0, True),
    ]

    for state, runs in zip(list(store.saved[:-1]), [[1, 2], [1, 2], []], strict=True):
        ran.clear()
        await store.save(state)
        result = await agent.resume("t")
        assert (result.output, result.status, sorted(ran)) == ("done", "completed", runs)
        assert [message.text for message in result.messages] == [message.text for message in whole.messages]


async def test_a_resumed_task_knows_its_tools_before_it_asks_the_model() -> None:
    store = InMemoryStateStore()
    pending = (ToolCall("c", "find"),)
    await store.save(
        LoopState(
            task_id="t",
            context_id="x",
            messages=(Message.user("go"), Message.assistant(tool_calls=pending)),
            pending=pending,
            iteration=1,
            status=Status(state="working", timestamp=datetime.now(UTC)),
            seq=5,
        )
    )
    tools, model = AsyncTools("find"), ScriptedModel(says("done"))
    agent = AgentLoop(llm_provider=model, tool_providers=[tools], task_state_store=store)

    events = await events_of(agent.resume("t"))

    assert [event.tool_name for event in events if isinstance(event, ToolStart)] == ["find"]
    assert [event.iteration for event in events if isinstance(event, LLMCall)] == [2]
    assert answers(model.requests[0].messages) == [("c", "find ran")]
    assert [event.seq for event in events] == list(range(6, 6 + len(events)))


async def test_a_resumed_run_has_its_own_deps_and_belongs_to_the_task() -> None:
    got: list[object] = []

    def look(context: ToolContext[object]) -> str:
        got.append(context.deps)
        return str(context.ask("sure?"))

    model = ScriptedModel(calls("look"), says("ok"))
    agent = AgentLoop(
        llm_provider=model,
        tools=[look],
        task_state_store=InMemoryStateStore(),
        agent_id="math",
        deps="agent's",
    )
    await agent.execute("go", task_id="t")
    run = agent.resume("t", inputs={"call_1": "yes"}, deps="run's")

    await run

    assert got == ["agent's", "run's"]
    request = model.requests[1]
    assert (request.session_id, request.trace_id, request.trace_name) == ("t", run.trace_id, "math")


# -------------------------------------------------------------------------------------------------------------- session


async def test_each_turn_of_a_session_begins_with_what_was_said_before() -> None:
    model = ScriptedModel(says("Hi Ada"), says("Ada"))
    session = AgentLoop(llm_provider=model).session(
        "c", history=[Message.user("I am Ada"), Message.assistant("ok")]
    )
    assert session.messages == (Message.user("I am Ada"), Message.assistant("ok"))

    first = await session.send("Hi")
    second = await session.send("Who am I?", user_id="u")

    assert (first.output, second.output) == ("Hi Ada", "Ada")
    assert (first.context_id, second.context_id, session.context_id) == ("c", "c", "c")
    assert first.task_id != second.task_id
    assert [message.text for message in model.requests[1].messages] == [
        "I am Ada",
        "ok",
        "Hi",
        "Hi Ada",
        "Who am I?",
    ]
    assert [request.session_id for request in model.requests] == ["c", "c"]
    assert [request.user_id for request in model.requests] == ["", "u"]
    assert [message.text for message in session.messages][-2:] == ["Who am I?", "Ada"]


async def test_a_session_makes_its_id_and_a_turn_may_have_another_for_the_logs() -> None:
    model = ScriptedModel(says("Hi"))
    agent = AgentLoop(llm_provider=model)
    session = agent.session()

    await session.send("Hi", session_id="s")

    assert session.context_id != agent.session().context_id
    assert model.requests[0].session_id == "s"


async def test_a_turn_must_be_over_before_the_next() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("Hel") + stalls(), says("ok"))).session("c")
    run = session.send("one").start()

    with pytest.raises(ConfigurationError, match="session 'c' is still working on the turn before") as caught:
        session.send("two")
    assert caught.value.argument == "prompt"
    assert session.messages == ()

    run.cancel()
    with pytest.raises(TaskCanceled):
        await run
    assert (await session.send("two")).output == "ok"
    assert [message.text for message in session.messages] == ["one", "Hel", "two", "ok"]


async def test_a_turn_that_failed_stays_in_the_conversation() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(fails(500), says("ok"))).session()
    with pytest.raises(LooopyError):
        await session.send("one")

    await session.send("two")

    assert [message.text for message in session.messages] == ["one", "two", "ok"]


async def test_a_turn_that_was_never_started_is_forgotten() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("a"), says("b"))).session()
    await session.send("one")
    session.send("never started")

    await session.send("two")

    assert [message.text for message in session.messages] == ["one", "a", "two", "b"]


async def test_the_output_of_a_turn_that_failed_is_not_the_turns_before() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("old"), fails(500))).session()
    await session.send("one")

    with pytest.raises(LooopyError) as caught:
        await session.send("two")

    assert caught.value.result.output == ""


async def test_a_session_resumes_the_turn_that_waits_and_goes_on_from_there() -> None:
    agent, model = keeping(calls("delete", path="a"), says("done"), says("bye"))
    session = agent.session("c")
    await session.send("one")

    with pytest.raises(NotResumable, match="does not ask for"):
        await session.resume(inputs={"wrong": "yes"})
    result = await session.resume(inputs={"call_1": "yes"})
    await session.send("two")

    assert result.output == "done"
    assert [message.text for message in session.messages] == ["one", "", "deleted a", "done", "two", "bye"]
    assert len(model.requests) == 3


async def test_a_session_that_goes_on_without_the_answer_tells_the_model_so() -> None:
    """A call without an answer in the history is refused by every API."""
    model = ScriptedModel(calls("add", a=1) + calls("delete", path="a"), says("ok"))
    session = AgentLoop(llm_provider=model, tools=[add, delete]).session()
    waiting = await session.send("one")
    assert waiting.status == "input-required"

    await session.send("never mind")

    assert answers(model.requests[1].messages) == [
        ("call_1", "2"),
        ("call_2", "Error: not answered: the conversation went on without it"),
    ]


async def test_a_session_with_no_turn_that_waits_has_nothing_to_resume() -> None:
    agent, _ = keeping(says("Hi"))
    session = agent.session("c")

    with pytest.raises(ConfigurationError, match="session 'c' has no turn that waits for an answer"):
        session.resume()
    await session.send("one")
    with pytest.raises(ConfigurationError, match="go on with send"):
        session.resume(inputs={"x": 1})


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


async def test_a_question_is_part_of_the_stored_state() -> None:
    store = InMemoryStateStore()
    agent, _ = keeping(calls("delete", path="a"), task_state_store=store)
    events = await events_of(agent.execute("go", task_id="t"))

    state = await store.load("t")

    assert state is not None
    assert state.waiting == tuple(event for event in events if isinstance(event, InputRequired))
    assert state.final
