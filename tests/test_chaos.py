"""Random schedules in virtual time, and all invariants of ARCHITECTURE.md at the end of each.

A seed draws what the models answer, what the tools do, who watches and for how long, when somebody cancels, and how the store fails.
A seed that failed fails again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from looopy import AgentLoop, InMemoryStateStore, Limits, Run
from looopy.errors import BufferOverflow, LooopyError
from looopy.events import (
    Checkpoint,
    Event,
    InputRequired,
    LLMCall,
    LLMResponse,
    StatusUpdate,
    Task,
    dumps,
    loads,
)
from looopy.ports import ToolContext
from looopy.state import LoopState, advance
from looopy.testing import Answer, ScriptedModel, calls, cuts, fails, run_virtual, says, stalls, thinks, waits

LIMITS = ("run_seconds", "model_seconds", "first_token_seconds", "idle_seconds", "tool_seconds", "tokens")


# ------------------------------------------------------------------------------------------------------------- what is drawn


async def quick(number: int = 0) -> int:
    """Answer at once."""
    return number


async def falls(number: int = 0) -> int:
    """Fail, after a while."""
    await asyncio.sleep(number)
    raise ValueError("no")


async def hangs(number: int = 0) -> int:
    """Take long."""
    await asyncio.sleep(1_000 + number)
    return number


async def reports(number: int = 0) -> AsyncIterator[object]:
    """Tell how it goes."""
    for _ in range(number):
        await asyncio.sleep(0.3)
        yield "half"
    yield number


async def asks(context: ToolContext[Any], number: int = 0) -> str:
    """Ask somebody."""
    return f"{number}: {context.ask('may I?')}"


TOOLS = (quick, falls, hangs, reports, asks)
NAMES = (*(tool.__name__ for tool in TOOLS), "nobody_knows")


class FlakyStore(InMemoryStateStore):
    """A store that is slow before and after it keeps a state, and fails at times."""

    def __init__(self, chance: random.Random, failures: float) -> None:
        super().__init__()
        self._chance = chance
        self._failures = failures

    async def save(self, state: LoopState, /, *, after: int) -> None:
        await asyncio.sleep(self._chance.choice((0, 0.1)))
        if self._chance.random() < self._failures:
            raise OSError("the disk is full")
        await super().save(state, after=after)
        await asyncio.sleep(self._chance.choice((0, 0.1)))


def an_answer(chance: random.Random) -> Answer:
    """What a model says to one request."""
    parts = [waits(chance.choice((0.1, 1.0, 3.0)))]
    if chance.random() < 0.4:
        parts.append(thinks("hm", "so", every=chance.choice((0.0, 0.2))))
    if chance.random() < 0.6:
        parts.append(says(*("word " for _ in range(chance.randrange(1, 6))), every=chance.choice((0.0, 0.3))))
    end = chance.random()
    if end < 0.55:
        parts.extend(
            calls(chance.choice(NAMES), number=chance.randrange(4)) for _ in range(chance.randrange(1, 4))
        )
    elif end < 0.65:
        parts.append(chance.choice((cuts(), stalls(), fails(500, "broke"), fails(429, "slow down"))))
    else:
        parts.append(says("the end"))
    answer = parts[0]
    for part in parts[1:]:
        answer += part
    return answer


def an_agent(chance: random.Random) -> tuple[AgentLoop, ScriptedModel, FlakyStore | None]:
    store = chance.choice((None, FlakyStore(chance, 0.0), FlakyStore(chance, 0.15)))
    model = ScriptedModel(otherwise=lambda _: an_answer(chance))
    limits: dict[str, Any] = {name: 4 for name in LIMITS if chance.random() < 0.15}
    agent = AgentLoop(
        llm_provider=model,
        tools=TOOLS,
        task_state_store=store,
        max_iterations=chance.randrange(1, 6),
        max_parallel_tools=chance.randrange(1, 4),
        on_tool_error=chance.choice(("model", "model", "raise")),
        limits=Limits(**{"run_seconds": 60, **limits}),
    )
    return agent, model, store


# ------------------------------------------------------------------------------------------------------- those who come and go


async def reads(run: Run, chance: random.Random, seen: list[Event]) -> None:
    """Iterate, slowly at times, and stay or leave."""
    await asyncio.sleep(chance.choice((0, 0.5, 2, 9)))
    overflow = chance.choice(("wait", "wait", "drop-oldest", "latest", "error"))
    leaves = chance.choice((0, 0, 3, 12))
    pause = chance.choice((0, 0, 0.2))
    numbers: list[int] = []
    try:
        async for event in run.events(buffer=chance.choice((1, 4, 256)), overflow=overflow):
            numbers.append(event.seq)
            if len(numbers) == leaves:
                break
            await asyncio.sleep(pause)
    except BufferOverflow:
        pass
    else:
        if overflow == "wait" and not leaves:
            assert numbers == [event.seq for event in seen]
    assert numbers == sorted(set(numbers))


async def subscribes(run: Run, chance: random.Random, _: list[Event]) -> None:
    """Subscribe, raise at times, and leave after a while."""
    await asyncio.sleep(chance.choice((0, 0.5, 2)))
    raises = chance.random() < 0.3
    numbers: list[int] = []

    def handler(event: Event) -> None:
        numbers.append(event.seq)
        if raises:
            raise ValueError("a subscriber's bug")

    subscription = run.subscribe(handler)
    await asyncio.sleep(chance.choice((0, 1, 5, 100)))
    subscription.dispose()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


async def awaits(run: Run, chance: random.Random, _: list[Event]) -> None:
    """Await, for some time."""
    await asyncio.sleep(chance.choice((0, 1, 4)))
    try:
        async with asyncio.timeout(chance.choice((1, 5, None))):
            await run
    except (TimeoutError, LooopyError, ValueError):
        pass


async def cancels(run: Run, chance: random.Random, _: list[Event]) -> None:
    """Cancel, at some moment."""
    await asyncio.sleep(chance.uniform(0, 8))
    run.cancel()


# ------------------------------------------------------------------------------------------------------------- one schedule


def check(events: list[Event], *, before: LoopState, run: Run, fresh: bool) -> None:
    """What is true of every stream that ended."""
    assert [event.seq for event in events] == [events[0].seq + place for place in range(len(events))]
    assert {(event.task_id, event.context_id) for event in events} == {(run.task_id, run.context_id)}
    statuses = [event for event in events if isinstance(event, StatusUpdate)]
    assert statuses[0].status.state == "working"
    assert [status for status in statuses if status.final] == [events[-1]]
    assert isinstance(events[0], Task) == fresh
    assert [loads(dumps(event)) for event in events] == events
    state = before
    for event in events:
        state = advance(state, event)
    assert state == run.state
    assert state.status.state == "input-required" or not state.pending
    assert len({event.call_id for event in events if isinstance(event, InputRequired)}) == len(
        [event for event in events if isinstance(event, InputRequired)]
    )


def check_requests(model: ScriptedModel, events: list[Event]) -> None:
    """One request a call, and in each an answer for every tool call, in order."""
    assert len(model.requests) == len([event for event in events if isinstance(event, LLMCall)])
    answered = [event for event in events if isinstance(event, LLMResponse)]
    assert len(answered) <= len(model.requests)
    for request in model.requests:
        owed: list[str] = []
        for message in request.messages:
            if message.role == "tool":
                assert owed.pop(0) == message.tool_call_id
            else:
                assert owed == []
                owed = [call.id for call in message.tool_calls]
        assert owed == []


async def stream(run: Run, chance: random.Random) -> list[Event]:
    """Watch a run to its end, among others who come and go."""
    seen: list[Event] = []
    ended: list[object] = []
    over = asyncio.Event()

    def end(how: object = "completed") -> None:
        ended.append(how)
        over.set()

    run.subscribe(seen.append, end, end)
    others: list[Coroutine[Any, Any, None]] = [
        chance.choice((reads, reads, subscribes, awaits))(run, chance, seen)
        for _ in range(chance.randrange(4))
    ]
    if chance.random() < 0.3:
        others.append(cancels(run, chance, seen))
    async with asyncio.timeout(3_000):
        await asyncio.gather(*others)
        await over.wait()
    assert ended == ["completed"]
    assert run.done
    late: list[Event] = []
    run.subscribe(late.append)
    assert late == seen
    return seen


async def schedule(seed: int) -> None:
    chance = random.Random(seed)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    agent, model, store = an_agent(chance)
    run = agent.execute("go", task_id="t", context_id="c")
    before = LoopState(task_id="t", context_id="c", agent_id="agent")
    everything: list[Event] = []
    for turn in range(4):
        events = await stream(run, chance)
        check(events, before=before, run=run, fresh=turn == 0)
        everything += events
        assert run.state is not None
        before = run.state
        if before.status.state != "input-required":
            break
        answers = {question.input_id: "yes" for question in before.waiting if chance.random() < 0.7}
        run = agent.resume("t" if store else before, inputs=answers)
    check_requests(model, everything)
    if store is not None and isinstance(everything[-2], Checkpoint):
        assert await store.load("t") == before
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [
        str(context["exception"]) for context in reported if str(context["exception"]) != "a subscriber's bug"
    ] == []


@pytest.mark.parametrize("decade", range(30))
def test_every_invariant_holds_under_random_schedules(decade: int) -> None:
    for seed in range(10 * decade, 10 * decade + 10):
        try:
            run_virtual(schedule(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
