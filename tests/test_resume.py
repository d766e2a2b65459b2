"""`AgentLoop.resume`: a task goes on from its stored state, with the answers that it waits for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from agents import AsyncTools, answers, events_of, keeping, kinds

from looopy import AgentLoop, InMemoryStateStore, Message, ToolContext
from looopy.errors import ConfigurationError, LooopyError, NotResumable, StateConflict, StoreFailed
from looopy.events import (
    Event,
    InputReceived,
    InputRequired,
    LLMCall,
    Status,
    StatusUpdate,
    ToolStart,
)
from looopy.messages import ToolCall
from looopy.ports import LLMRequest
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, calls, fails, says, stalls

# --------------------------------------------------------------------------------------------------------------- resume


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
    await store.save(LoopState(task_id="t", context_id="c", messages=(Message.user("go"),)), after=0)
    agent, _ = keeping(task_state_store=store)

    error = await refused(agent.resume("t", inputs={"x": 1}))

    assert str(error) == "task 't' does not ask for ['x']; it waits for nothing"


def test_an_agent_without_a_store_cannot_resume() -> None:
    with pytest.raises(ConfigurationError, match="give the agent a task_state_store") as caught:
        AgentLoop(llm_provider=ScriptedModel()).resume("t")

    assert caught.value.argument == "task_state_store"


def test_a_run_that_has_not_begun_has_no_state_to_resume() -> None:
    agent = AgentLoop(llm_provider=ScriptedModel())

    with pytest.raises(ConfigurationError, match=r"^resume\(None\): .* run that has begun") as caught:
        agent.resume(agent.execute("Hi").state)

    assert caught.value.argument == "task"


class FailingStore(InMemoryStateStore):
    """A store whose calls fail when the test says so."""

    def __init__(self, *, load: bool = False, save_after: int = 10**6) -> None:
        super().__init__()
        self.load_fails = load
        self.left = save_after

    async def save(self, state: LoopState, /, *, after: int) -> None:
        if self.left == 0:
            raise OSError("postgresql://app:hunter22@db is full")
        self.left -= 1
        await super().save(state, after=after)

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

        async def save(self, state: LoopState, /, *, after: int) -> None:
            self.saved.append(state)
            await super().save(state, after=after)

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
        await store.delete(state.task_id)
        await store.save(state, after=0)
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
        ),
        after=0,
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


async def test_a_question_is_part_of_the_stored_state() -> None:
    store = InMemoryStateStore()
    agent, _ = keeping(calls("delete", path="a"), task_state_store=store)
    events = await events_of(agent.execute("go", task_id="t"))

    state = await store.load("t")

    assert state is not None
    assert state.waiting == tuple(event for event in events if isinstance(event, InputRequired))
    assert state.final


async def test_without_a_store_a_run_is_resumed_from_the_state_that_it_ended_in() -> None:
    def delete(path: str, context: ToolContext[None]) -> str:
        return f"deleted {path}" if context.ask("sure?") == "yes" else "kept"

    agent = AgentLoop(llm_provider=ScriptedModel(calls("delete", path="a"), says("done")), tools=[delete])
    waiting = agent.execute("go", task_id="t", context_id="c")
    result = await waiting
    assert (result.status, waiting.state is not None) == ("input-required", True)
    assert waiting.state is not None

    run = agent.resume(waiting.state, inputs={result.waiting[0].input_id: "yes"})

    assert (run.task_id, run.context_id) == ("t", "c")
    assert answers((await run).messages) == [("call_1", "deleted a")]


async def test_a_resumed_task_is_logged_under_the_session_user_and_tags_that_it_began_with() -> None:
    def confirm(context: ToolContext[None]) -> str:
        return str(context.ask("sure?"))

    model = ScriptedModel(calls("confirm"), says("done"))
    agent = AgentLoop(llm_provider=model, tools=[confirm], task_state_store=InMemoryStateStore())
    await agent.execute("go", task_id="t", session_id="s", user_id="u", tags=["a", "b"])

    await agent.resume("t", inputs={"call_1": "yes"})

    assert [(request.session_id, request.user_id, request.tags) for request in model.requests] == [
        ("s", "u", ("a", "b")),
        ("s", "u", ("a", "b")),
    ]


async def test_an_empty_answer_completes_the_task_with_no_message() -> None:
    events = await events_of(AgentLoop(llm_provider=ScriptedModel(says())).execute("go"))
    last = events[-1]
    assert isinstance(last, StatusUpdate)
    assert (last.status.state, last.status.message) == ("completed", None)


async def test_of_two_who_resume_a_task_at_once_one_goes_on_and_the_other_is_told() -> None:
    ran: list[str] = []

    def delete(path: str, context: ToolContext[None]) -> str:
        answer = context.ask("sure?")
        ran.append(path)
        return str(answer)

    model = ScriptedModel(calls("delete", path="a"), says("done"))
    agent = AgentLoop(llm_provider=model, tools=[delete], task_state_store=InMemoryStateStore())
    await agent.execute("go", task_id="t")

    first, second = (agent.resume("t", inputs={"call_1": "yes"}) for _ in range(2))
    results = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(result).__name__ for result in results] == ["RunResult", "StateConflict"]
    assert (ran, len(model.requests)) == (["a"], 2)
    assert kinds([event async for event in second]) == [
        "input-received",
        "working",
        "tool-complete",
        "failed",
    ]


async def test_a_task_whose_id_is_taken_does_not_begin() -> None:
    model = ScriptedModel(says("first"), says("second"))
    agent = AgentLoop(llm_provider=model, task_state_store=InMemoryStateStore())
    await agent.execute("go", task_id="t")

    with pytest.raises(StateConflict, match="'t' is stored already"):
        await agent.execute("go", task_id="t")

    assert len(model.requests) == 1
