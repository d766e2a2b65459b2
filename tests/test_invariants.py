"""The invariants of the design, one test each at least, named after them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable

from looopy import AgentLoop, Limits, Message, ToolContext, Usage, dumps, loads
from looopy.errors import LimitExceeded, ModelFailed, TaskCanceled
from looopy.events import Checkpoint, Event, InputRequired, LLMEvent, LLMResponse, StatusUpdate, ToolComplete
from looopy.messages import ToolCall
from looopy.ports import LLMRequest
from looopy.reactive import from_aiter
from looopy.state import LoopState, advance
from looopy.stores.memory import InMemoryStateStore
from looopy.testing import ScriptedModel, calls, cuts, fails, says, stalls, thinks


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def never() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


def broken() -> None:
    """Fail."""
    raise ValueError("it broke")


async def events_of(agent: AgentLoop, prompt: str = "go") -> list[Event]:
    """All the events of a run, whatever it ends with."""
    async with asyncio.timeout(5):
        return [event async for event in agent.execute(prompt)]


def kinds(events: list[Event]) -> list[str]:
    return [event.status.state if isinstance(event, StatusUpdate) else event.kind for event in events]


SCRIPTS = {
    "answer": [says("Hel", "lo")],
    "tool": [calls("add", a=1), says("2")],
    "parallel": [calls("add", a=1) + calls("broken") + calls("nope"), says("done")],
    "thoughts": [thinks("hm") + says("4")],
    "model down": [fails(503)],
    "cut": [says("Hel") + cuts()],
    "limit": [calls("add", a=1)] * 3,
    "broken arguments": [calls("add", '{"a": '), says("sorry")],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_invariant_1_task_comes_first_then_working_and_exactly_one_final_status_last(
    script: list[object],
) -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(*script), tools=[add, broken], max_iterations=3)

    events = await events_of(agent)

    assert kinds(events)[:2] == ["task", "working"]
    assert [event for event in events if isinstance(event, StatusUpdate) and event.final] == [events[-1]]


async def test_invariant_1_an_expected_failure_is_a_failed_status_and_await_raises_what_it_carries() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(fails(500, "broken pipe"))).execute("go")

    events = [event async for event in run]
    with pytest.raises(ModelFailed) as caught:
        await run

    last = events[-1]
    assert isinstance(last, StatusUpdate)
    assert last.status.state == "failed"
    assert last.error is not None
    assert (last.error.type, last.error.message) == ("ModelFailed", str(caught.value))
    assert caught.value.result.status == "failed"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_invariant_2_every_event_has_the_same_ids_and_the_next_number(script: list[object]) -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(*script), tools=[add, broken], max_iterations=3)
    run = agent.execute("go")

    events = [event async for event in run]

    assert {(event.task_id, event.context_id) for event in events} == {(run.task_id, run.context_id)}
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


def assert_every_call_is_answered_once_in_order(requests: list[LLMRequest]) -> None:
    for request in requests:
        asked = [call.id for message in request.messages for call in message.tool_calls]
        answered = [message.tool_call_id for message in request.messages if message.role == "tool"]
        assert answered == asked


async def test_invariant_3_every_tool_call_has_exactly_one_tool_message_in_call_order() -> None:
    """Unknown tools, broken, truncated and empty arguments, slow, raising and timed-out calls, all in one answer."""
    done = asyncio.Event()

    async def slow() -> str:
        await done.wait()
        return "slow"

    async def quick() -> str:
        done.set()
        return "quick"

    answer = (
        calls("slow")
        + calls("nope")
        + calls("add", '{"a": 1')
        + calls("add", "")
        + calls("broken")
        + calls("quick")
    )
    model = ScriptedModel(answer, says("done"))

    await events_of(AgentLoop(llm_provider=model, tools=[slow, add, broken, quick]))

    assert_every_call_is_answered_once_in_order(model.requests)
    results = [message.text for message in model.requests[1].messages if message.role == "tool"]
    assert (results[0], results[5]) == ("slow", "quick")
    assert [text.startswith("Error: ") for text in results] == [False, True, True, True, True, False]


async def test_invariant_3_holds_after_a_cancel_in_the_middle_of_tools() -> None:
    model = ScriptedModel(calls("never") + calls("add", a=1), says("going on"))
    agent = AgentLoop(llm_provider=model, tools=[never, add])
    session = agent.session()
    run = session.send("first")
    async for event in run:
        if isinstance(event, ToolComplete):
            run.cancel()
    await session.send("second")

    assert_every_call_is_answered_once_in_order(model.requests)
    assert [message.role for message in model.requests[1].messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]


async def test_invariant_3_holds_after_a_resume() -> None:
    def delete(path: str, context: ToolContext[None]) -> str:
        return f"deleted {path}" if context.ask("sure?") == "yes" else "kept"

    model = ScriptedModel(calls("add", a=1) + calls("delete", path="a.txt") + calls("add", a=2), says("done"))
    agent = AgentLoop(llm_provider=model, tools=[add, delete], task_state_store=InMemoryStateStore())
    waiting = await agent.execute("go")
    assert waiting.status == "input-required"

    result = await agent.resume(waiting.task_id, inputs={waiting.waiting[0].input_id: "yes"})

    assert result.output == "done"
    assert_every_call_is_answered_once_in_order(model.requests)
    assert [message.text for message in result.messages if message.role == "tool"] == [
        "2",
        "deleted a.txt",
        "3",
    ]


async def test_invariant_4_a_tools_failure_is_a_result_that_the_model_reads_with_its_text() -> None:
    model = ScriptedModel(calls("broken"), says("I see"))

    result = await AgentLoop(llm_provider=model, tools=[broken]).execute("go")

    assert result.status == "completed"
    assert model.requests[1].messages[-1].text == "Error: it broke"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (False, "false"), ("", ""), (0.0, "0.0"), ([], "[]"), (None, "null")]
)
async def test_invariant_4_falsy_results_reach_the_model_as_they_are(value: object, text: str) -> None:
    def give() -> object:
        return value

    model = ScriptedModel(calls("give"), says("ok"))

    events = await events_of(AgentLoop(llm_provider=model, tools=[give]))

    assert model.requests[1].messages[-1].text == text
    assert [event.result for event in events if isinstance(event, ToolComplete)] == [value]


async def test_invariant_5_one_model_request_per_call_however_many_subscribers() -> None:
    model = ScriptedModel(calls("add", a=1), says("2"))
    run = AgentLoop(llm_provider=model, tools=[add]).execute("go")
    assert model.requests == []
    first: list[Event] = []
    late: list[Event] = []

    run.subscribe(first.append)
    result = await run
    run.subscribe(late.append)

    assert late == first
    assert await run == result
    assert len(model.requests) == 2


async def test_invariant_5_nothing_leaks_after_the_last_subscriber() -> None:
    tasks = asyncio.all_tasks()
    model = ScriptedModel(says("Hel") + stalls())
    run = AgentLoop(llm_provider=model).execute("go")
    two = [run.subscribe(), run.subscribe()]

    two[0].dispose()
    assert (run.status, model.disposed) == ("working", 0)
    two[1].dispose()

    assert (run.status, model.disposed, run.done) == ("canceled", 1, True)
    assert asyncio.all_tasks() == tasks


async def test_invariant_6_dispose_closes_the_request_and_cancels_the_tools_at_once() -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    subscription = (
        AgentLoop(llm_provider=ScriptedModel(calls("endless")), tools=[endless]).execute("go").subscribe()
    )
    async with asyncio.timeout(5):
        await begun.wait()
        subscription.dispose()
        await cancelled.wait()


async def test_invariant_6_cancel_works_from_another_thread() -> None:
    model = ScriptedModel(says("Hel") + stalls())
    run = AgentLoop(llm_provider=model).execute("go")

    async for event in run:
        if event.kind == "content-delta":
            threading.Thread(target=run.cancel).start()

    assert (run.status, model.disposed) == ("canceled", 1)
    with pytest.raises(TaskCanceled) as caught:
        await run
    assert caught.value.result.output == "Hel"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_invariant_7_folding_the_stored_events_gives_the_stored_state(script: list[object]) -> None:
    store = InMemoryStateStore()
    agent = AgentLoop(
        llm_provider=ScriptedModel(*script), tools=[add, broken], max_iterations=3, task_state_store=store
    )

    events = await events_of(agent)

    state = LoopState(task_id=events[0].task_id, context_id=events[0].context_id, agent_id="agent")
    for event in events:
        before = (state, replace(state))
        state = advance(state, loads(dumps(event)))
        assert before[0] == before[1]
    assert state == await store.load(events[0].task_id)
    assert isinstance(events[-2], Checkpoint)


def test_invariant_7_advance_is_total() -> None:
    """No event, in whatever state, makes it raise."""
    empty = LoopState(task_id="t", context_id="c")
    stray: list[Event] = [
        ToolComplete(call_id="nobody"),
        InputRequired(input_id="x"),
        LLMResponse(message=Message.assistant("")),
    ]
    for event in stray:
        assert isinstance(advance(empty, event), LoopState)


async def test_invariant_8_a_failure_after_the_first_event_is_passed_on_and_never_re_rolled() -> None:
    model = ScriptedModel(says("Hel") + cuts(), says("a second answer"))

    events = await events_of(AgentLoop(llm_provider=model))

    assert len(model.requests) == 1
    assert kinds(events)[-3:] == ["content-delta", "llm-response", "failed"]


async def test_invariant_9_each_step_is_subscribed_in_the_first_subscribers_context() -> None:
    """Else the second model call's span would become a child of the first's."""
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []

    class Provider:
        def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
            async def answer() -> AsyncIterator[LLMEvent]:
                seen.append(where.get())
                where.set("inside a call")
                again = len(seen) < 3
                asked = (ToolCall(f"c{len(seen)}", "note"),) if again else ()
                yield LLMResponse(message=Message.assistant("" if again else "done", tool_calls=asked))

            return from_aiter(answer)

    async def note() -> None:
        seen.append(where.get())
        where.set("inside a tool")

    where.set("the caller")
    run = AgentLoop(llm_provider=Provider(), tools=[note]).execute("go")
    run.start()
    where.set("later")
    await run

    assert seen == ["the caller", "the caller", "the caller"]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_invariant_10_every_event_survives_a_round_trip(script: list[object]) -> None:
    agent = AgentLoop(
        llm_provider=ScriptedModel(*script),
        tools=[add, broken],
        max_iterations=3,
        task_state_store=InMemoryStateStore(),
    )

    events = await events_of(agent)

    assert [loads(dumps(event)) for event in events] == events


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(value=json_values)
def test_invariant_10_whatever_a_tool_returns_survives_a_round_trip(value: object) -> None:
    async def give() -> object:
        return value

    async def main() -> None:
        events = await events_of(
            AgentLoop(llm_provider=ScriptedModel(calls("give"), says("ok")), tools=[give])
        )
        assert [loads(dumps(event)) for event in events] == events

    asyncio.run(main())


async def test_invariant_13_a_limit_ends_the_task_with_a_typed_error_that_names_it() -> None:
    forever = ScriptedModel(
        otherwise=lambda _: calls("add", a=1) + says(usage=Usage(input_tokens=40, output_tokens=10), cost=0.2)
    )
    wrong = ScriptedModel(otherwise=lambda _: calls("broken"))
    cases = [
        (AgentLoop(llm_provider=forever, tools=[add], max_iterations=2), "max_iterations", 2, 2),
        (AgentLoop(llm_provider=forever, tools=[add], limits=Limits(tokens=100)), "tokens", 100, 100),
        (
            AgentLoop(llm_provider=forever, tools=[add], limits=Limits(cost=0.5)),
            "cost",
            0.5,
            pytest.approx(0.6),
        ),
        (
            AgentLoop(llm_provider=wrong, tools=[broken], limits=Limits(tool_failures=3)),
            "tool_failures",
            3,
            3,
        ),
    ]
    for agent, limit, allowed, spent in cases:
        with pytest.raises(LimitExceeded, match=limit) as caught:
            await agent.execute("go")
        assert (caught.value.limit, caught.value.allowed, caught.value.spent) == (limit, allowed, spent)
        result = caught.value.result
        assert (result.status, result.error.type) == ("failed", "LimitExceeded")
        asked = [call.id for message in result.messages for call in message.tool_calls]
        assert [message.tool_call_id for message in result.messages if message.role == "tool"] == asked


def test_events_have_no_field_that_only_lives_in_a_process() -> None:
    """Invariant 10: no runtime object is in an event; a whole event is made of values that JSON knows."""
    assert {field.name for field in fields(ToolComplete)} >= {"task_id", "seq", "result", "error"}
