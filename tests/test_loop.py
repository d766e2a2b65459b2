"""The loop in virtual time: what it decides, which clock ends what, and how a task ends whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from looopy import AgentLoop, LimitExceeded, Limits, LLMRequest, Message, ToolContext, ToolDefinition
from looopy.errors import ConfigurationError, LooopyError, ModelFailed, StoreFailed, ToolFailed
from looopy.events import (
    ContentDelta,
    Event,
    LLMCall,
    LLMEvent,
    LLMResponse,
    StatusUpdate,
    Task,
    ToolComplete,
    ToolEvent,
    ToolStart,
)
from looopy.messages import ToolCall
from looopy.reactive import from_aiter
from looopy.run import Run
from looopy.state import LoopState
from looopy.stores.memory import InMemoryStateStore
from looopy.testing import Answer, Marbles, ScriptedModel, calls, run_virtual, says, stalls, thinks, waits


def asks(*tools: str) -> LLMResponse:
    return LLMResponse(
        message=Message.assistant(tool_calls=tuple(ToolCall(f"call_{name}", name) for name in tools))
    )


ANSWER = LLMResponse(message=Message.assistant("done"))
CUT = LLMResponse(message=Message("assistant", "x", model="m"), finish_reason="interrupted", model="m")
MARBLES: dict[str, Any] = {
    "t": Task,
    "w": "working",
    "L": LLMCall,
    "d": ContentDelta(delta="x"),
    "A": asks("slow"),
    "B": asks("slow", "fast"),
    "Z": ANSWER,
    "X": lambda event: isinstance(event, LLMResponse) and event.finish_reason == "interrupted",
    "s": ToolStart,
    "S": lambda event: isinstance(event, ToolComplete) and event.tool_name == "slow",
    "F": lambda event: isinstance(event, ToolComplete) and event.tool_name == "fast",
    "c": "completed",
    "f": "failed",
    "k": "canceled",
    "r": ToolComplete(result=1),
}


class Drawn:
    """Tools whose calls are marble diagrams."""

    def __init__(self, **diagrams: Observable[ToolEvent]) -> None:
        self.diagrams = diagrams

    def tools(self, _: LoopState, /) -> list[ToolDefinition]:
        return [ToolDefinition(name=name) for name in self.diagrams]

    def call(self, call: ToolCall, _: ToolContext[Any], /) -> Observable[ToolEvent]:
        return self.diagrams[call.name]


def drawn_agent(m: Marbles, *answers: str, limits: Limits | None = None, **tools: str) -> AgentLoop:
    return AgentLoop(
        llm_provider=ScriptedModel(*(m.cold(answer) for answer in answers)),
        tool_providers=[Drawn(**{name: m.cold(diagram) for name, diagram in tools.items()})],
        limits=limits or Limits(),
    )


def test_a_slow_tool_holds_the_next_model_call_and_a_fast_one_does_not_wait_for_it() -> None:
    m = Marbles(**MARBLES)
    agent = drawn_agent(m, "d-(B|)", "-d-(Z|)", slow="----(r|)", fast="-(r|)")

    assert m.draw(agent.execute("go")) == "(twLd)-(Bss)F--(SL)d-(Zc|)"


@pytest.mark.parametrize(
    ("limits", "answer", "drawn", "limit"),
    [
        (Limits(first_token_seconds=3), "-----(Z|)", "(twL)--(f|)", "first_token_seconds"),
        (Limits(first_token_seconds=3), "--d---(Z|)", "(twL)-d---(Zc|)", None),
        (Limits(idle_seconds=3), "d-d-d----(Z|)", "(twLd)-d-d--(Xf|)", "idle_seconds"),
        (Limits(idle_seconds=3), "------d--(Z|)", "(twL)-----d--(Zc|)", None),
        (Limits(model_seconds=4), "d-d----(Z|)", "(twLd)-d-(Xf|)", "model_seconds"),
        (Limits(run_seconds=3), "-d-----(Z|)", "(twL)d-(Xf|)", "run_seconds"),
        (Limits(run_seconds=9), "-d-----(Z|)", "(twL)d-----(Zc|)", None),
    ],
)
def test_each_clock_of_a_model_call_ends_the_task_at_its_time_and_keeps_what_was_said(
    limits: Limits, answer: str, drawn: str, limit: str | None
) -> None:
    m = Marbles(**MARBLES)
    run = drawn_agent(m, answer, limits=limits).execute("go")

    assert m.draw(run) == drawn
    assert named(run) == limit


def named(run: Run) -> str | None:
    """The limit that ended a run that is over."""
    try:
        run.result(timeout=5)
    except LimitExceeded as error:
        return error.limit
    return None


def test_the_clock_of_a_tool_ends_the_task_and_answers_every_call() -> None:
    m = Marbles(**MARBLES)
    run = drawn_agent(m, "(B|)", limits=Limits(tool_seconds=3), slow="-----(r|)", fast="-(r|)").execute("go")

    assert m.draw(run) == "(twLBss)F-(Sf|)"
    with pytest.raises(LimitExceeded, match="'slow' took longer") as caught:
        run.result(timeout=5)
    texts = [message.text for message in caught.value.result.messages if message.role == "tool"]
    assert texts == [f"Error: not finished: {caught.value}", "1"]


def test_a_run_that_is_left_cancels_its_tools_on_the_spot() -> None:
    m = Marbles(**MARBLES)
    slow = m.cold("-----(r|)")
    agent = AgentLoop(llm_provider=ScriptedModel(m.cold("(A|)")), tool_providers=[Drawn(slow=slow)])

    assert m.draw(agent.execute("go"), dispose_at=2) == "(twLAs)-!"
    assert slow.subscriptions == [(0, 2)]


def test_sleeping_tools_and_models_take_no_real_time() -> None:
    async def nap() -> str:
        await asyncio.sleep(3600)
        return "rested"

    async def main() -> tuple[str, float]:
        model = ScriptedModel(calls("nap"), waits(60) + says("good morning", every=30))
        result = await AgentLoop(llm_provider=model, tools=[nap]).execute("sleep")
        return result.output, asyncio.get_running_loop().time()

    assert run_virtual(main()) == ("good morning", 3690)


@pytest.mark.parametrize("pieces", [says("Hello", every=20), waits(20) + thinks("Hm") + says("Hello")])
def test_an_answer_that_was_cut_says_when_its_first_piece_came(pieces: Answer) -> None:
    async def main() -> list[tuple[str, float | None, float]]:
        run = AgentLoop(llm_provider=ScriptedModel(pieces + stalls())).execute("Hi").start()
        await asyncio.sleep(100)
        run.cancel()
        return [
            (event.finish_reason, event.first_token, event.seconds)
            async for event in run
            if isinstance(event, LLMResponse)
        ]

    assert run_virtual(main()) == [("interrupted", 20, 100)]


async def test_ten_thousand_iterations_cost_no_stack() -> None:
    answers = iter([*(asks("one") for _ in range(10_000)), ANSWER])
    model = Emitting(lambda: rx.of(next(answers)))
    tools = Drawn(one=rx.of(ToolComplete(result=1)))

    result = await AgentLoop(llm_provider=model, tool_providers=[tools], max_iterations=20_000).execute("go")

    assert (result.output, result.iterations) == ("done", 10_001)


async def test_an_answer_is_not_thrown_away_for_having_been_dear() -> None:
    model = ScriptedModel(says("dear", cost=5.0))
    assert (await AgentLoop(llm_provider=model, limits=Limits(cost=1)).execute("go")).output == "dear"


async def test_a_prompt_function_that_raises_fails_the_task_with_its_error() -> None:
    def prompt(_: LoopState) -> str:
        raise KeyError("no such template")

    run = AgentLoop(llm_provider=ScriptedModel(), system_prompt=prompt).execute("go")
    with pytest.raises(KeyError, match="no such template"):
        await run
    assert [event.kind async for event in run] == ["task", "status-update", "status-update"]


@pytest.mark.parametrize("prompt", ["Be brief.", lambda state: f"Call {state.iteration + 1}.", None])
async def test_the_system_prompt_goes_first_and_is_never_part_of_the_history(prompt: Any) -> None:
    model = ScriptedModel(calls("one"), says("done"))
    tools = Drawn(one=rx.of(ToolComplete(result=1)))

    result = await AgentLoop(llm_provider=model, tool_providers=[tools], system_prompt=prompt).execute("go")

    said = [
        [message.text for message in request.messages if message.role == "system"]
        for request in model.requests
    ]
    assert (
        said
        == {
            "str": [["Be brief."], ["Be brief."]],
            "function": [["Call 1."], ["Call 2."]],
            "NoneType": [[], []],
        }[type(prompt).__name__]
    )
    assert all(message.role != "system" for message in result.messages)


async def test_a_prompt_that_is_awaited_and_tools_that_are_awaited_make_one_request() -> None:
    class Slow(Drawn):
        async def tools(self, state: LoopState, /) -> list[ToolDefinition]:  # pyright: ignore[reportIncompatibleMethodOverride]
            await asyncio.sleep(0)
            return Drawn.tools(self, state)

    async def prompt(_: LoopState) -> str:
        return "Be brief."

    model = ScriptedModel(calls("one"), says("done"))
    agent = AgentLoop(
        llm_provider=model,
        tool_providers=[Slow(one=rx.of(ToolComplete(result=1))), Drawn(two=rx.of(ToolComplete(result=2)))],
        system_prompt=prompt,
    )

    assert (await agent.execute("go")).output == "done"
    assert [tool.name for tool in model.requests[0].tools] == ["one", "two"]


async def test_two_tools_of_one_name_are_refused() -> None:
    providers = [Drawn(one=rx.never()), Drawn(one=rx.never())]
    with pytest.raises(LooopyError, match="a tool called 'one': rename one"):
        await AgentLoop(llm_provider=ScriptedModel(), tool_providers=providers).execute("go")


async def test_tools_may_change_from_call_to_call() -> None:
    class Growing(Drawn):
        def tools(self, state: LoopState, /) -> list[ToolDefinition]:
            return Drawn.tools(self, state)[: state.iteration + 1]

    model = ScriptedModel(calls("one"), calls("two"), says("done"))
    tools = Growing(one=rx.of(ToolComplete(result=1)), two=rx.of(ToolComplete(result=2)))

    await AgentLoop(llm_provider=model, tool_providers=[tools]).execute("go")

    assert [[tool.name for tool in request.tools] for request in model.requests] == [
        ["one"],
        ["one", "two"],
        ["one", "two"],
    ]


class Emitting:
    """A provider that emits what it is given."""

    def __init__(self, make: Callable[[], Observable[LLMEvent]]) -> None:
        self.call: Callable[[LLMRequest], Observable[LLMEvent]] = lambda _: make()


async def test_a_provider_that_completes_without_an_answer_failed() -> None:
    agent = AgentLoop(llm_provider=Emitting(lambda: rx.of(ContentDelta(delta="Hel"))))
    with pytest.raises(ModelFailed, match="Emitting completed without an LLMResponse") as caught:
        await agent.execute("go")
    assert caught.value.result.output == "Hel"


async def test_a_provider_whose_call_is_async_is_told_to_return_an_observable() -> None:
    class Async:
        async def call(self, request: LLMRequest) -> str:
            return "Hello"

    with pytest.raises(
        ConfigurationError, match=r"^Async\.call\(\) returned a coroutine, .*`def call`"
    ) as caught:
        await AgentLoop(llm_provider=Async()).execute("go")
    assert caught.value.argument == "llm_provider"


async def test_a_provider_whose_call_returns_anything_else_is_told_so() -> None:
    agent = AgentLoop(llm_provider=Emitting(lambda: "Hello"))  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ConfigurationError, match=r"^Emitting\.call\(\) returned a str, but it must return an Observable"
    ):
        await agent.execute("go")


async def test_a_provider_that_raises_when_called_fails_the_task() -> None:
    def make() -> Observable[LLMEvent]:
        raise ZeroDivisionError("a bug in a provider")

    run = AgentLoop(llm_provider=Emitting(make)).execute("go")
    with pytest.raises(ZeroDivisionError):
        await run
    assert run.status == "failed"


async def test_calls_with_the_same_id_or_none_are_told_apart() -> None:
    twins = tuple(ToolCall(call_id, "one", {"n": n}) for n, call_id in enumerate(("a", "a", "", "")))
    answers = iter([LLMResponse(message=Message.assistant(tool_calls=twins)), ANSWER])
    tools = Drawn(one=rx.of(ToolComplete(result=1)))
    agent = AgentLoop(llm_provider=Emitting(lambda: rx.of(next(answers))), tool_providers=[tools])

    result = await agent.execute("go")

    asked = [call.id for message in result.messages for call in message.tool_calls]
    assert asked == ["a", "a_1", "call_2", "call_3"]
    assert [message.tool_call_id for message in result.messages if message.role == "tool"] == asked


async def test_at_most_so_many_tools_run_at_once() -> None:
    running = 0
    most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    many = calls("work")
    for _ in range(9):
        many = many + calls("work")
    await AgentLoop(
        llm_provider=ScriptedModel(many, says("done")), tools=[work], max_parallel_tools=3
    ).execute("go")

    assert most == 3


async def test_a_cancel_answers_also_the_calls_that_had_not_begun() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    model = ScriptedModel(calls("wait") + calls("wait") + calls("wait"))
    run = AgentLoop(llm_provider=model, tools=[wait], max_parallel_tools=1).execute("go")
    kinds: list[str] = []
    async for event in run:
        kinds.append(event.kind)
        if isinstance(event, ToolStart):
            run.cancel()

    assert kinds[-5:] == ["tool-start", "tool-complete", "tool-complete", "tool-complete", "status-update"]


async def test_when_a_tool_raises_the_task_may_end_with_its_siblings_answered() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def broken() -> None:
        raise ValueError("it broke")

    model = ScriptedModel(calls("wait") + calls("broken"))
    agent = AgentLoop(llm_provider=model, tools=[wait, broken], on_tool_error="raise")

    with pytest.raises(ToolFailed, match="'broken' raised ValueError: it broke") as caught:
        await agent.execute("go")

    assert isinstance(caught.value.__cause__, ValueError)
    texts = [message.text for message in caught.value.result.messages if message.role == "tool"]
    assert texts == [f"Error: not finished: {caught.value}", "Error: it broke"]


class Full(InMemoryStateStore):
    """A store that fails after so many saves."""

    def __init__(self, saves: int) -> None:
        super().__init__()
        self.left = saves

    async def save(self, state: LoopState, /, *, after: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("disk full")
        await super().save(state, after=after)


@pytest.mark.parametrize(("saves", "kinds"), [(0, 3), (1, 7)])
async def test_a_store_that_fails_ends_the_task_and_the_last_event_says_so(saves: int, kinds: int) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello")), task_state_store=Full(saves)).execute("go")

    events: list[Event] = [event async for event in run]

    assert len(events) == kinds
    last = events[-1]
    assert isinstance(last, StatusUpdate)
    assert (last.status.state, last.final) == ("failed", True)
    with pytest.raises(StoreFailed, match="could not be saved in Full: disk full"):
        await run


async def test_a_task_that_a_process_left_in_mid_tools_goes_on_without_repeating_what_was_answered() -> None:
    store = InMemoryStateStore()
    ran: list[str] = []

    async def quick() -> str:
        ran.append("quick")
        return "quick"

    async def slow() -> str:
        ran.append("slow")
        await (asyncio.Event().wait() if ran.count("slow") == 1 else asyncio.sleep(0))
        return "slow"

    model = ScriptedModel(calls("quick") + calls("slow"), says("done"))
    agent = AgentLoop(llm_provider=model, tools=[quick, slow], task_state_store=store)
    run = agent.execute("go").start()
    async for event in run:
        if isinstance(event, ToolComplete):
            break
    left = await store.load(run.task_id)
    assert left is not None
    assert (left.status.state, [call.name for call in left.runnable]) == ("working", ["quick", "slow"])

    result = await agent.resume(run.task_id)

    assert result.output == "done"
    assert ran == ["quick", "slow", "quick", "slow"]


async def test_interruptions_after_the_end_change_nothing() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello"))).execute("go")
    last = await run.pipe(ops.last())
    run.cancel()
    assert last.status.state == "completed"
    assert run.status == "completed"


async def test_a_cancel_while_the_request_is_being_prepared_makes_no_request() -> None:
    async def prompt(_: LoopState) -> str:
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel(stalls())
    run = AgentLoop(llm_provider=model, system_prompt=prompt).execute("go")
    async for event in run:
        if isinstance(event, StatusUpdate) and not event.final:
            run.cancel()

    assert model.requests == []
    assert run.status == "canceled"


async def test_an_awaitable_that_is_no_coroutine_may_be_left_unawaited() -> None:
    class Slow(Drawn):
        async def tools(self, state: LoopState, /) -> list[ToolDefinition]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return Drawn.tools(self, state)

    prompt: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    agent = AgentLoop(llm_provider=ScriptedModel(), tool_providers=[Slow()], system_prompt=lambda _: prompt)
    run = agent.execute("go")
    run.subscribe().dispose()

    assert run.status == "canceled"


async def test_a_cancelled_provider_task_ends_the_run_as_canceled() -> None:
    """Somebody cancels every task, as `asyncio.run` does at its end."""

    async def answer() -> AsyncIterator[LLMEvent]:
        yield ContentDelta(delta="Hel")
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    run = AgentLoop(llm_provider=Emitting(lambda: from_aiter(answer))).execute("go").start()
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:
        task.cancel()

    assert [event.kind async for event in run][-2:] == ["llm-response", "status-update"]
    assert run.status == "canceled"
