"""Other people's code at its worst, and a run that ends all the same: exceptions without words, models that emit what is not theirs, handlers that
exit, loops that close under those who wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable

from looopy import AgentLoop, InMemoryStateStore, Limits, LiteLLMProvider, LLMRequest, Message
from looopy.errors import ConfigurationError, ModelFailed, TaskCanceled, ToolFailed
from looopy.events import ContentDelta, Event, LLMResponse, Status, StatusUpdate
from looopy.providers.litellm import Timeouts
from looopy.providers.transport import HTTP
from looopy.reactive import at_once, from_aiter
from looopy.rounds import iterate
from looopy.run import Run
from looopy.state import LoopState
from looopy.testing import ScriptedModel, ScriptedServer, calls, run_virtual, says, stalls, waits
from tests.agents import delete, events_of, kinds


class Wordless(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def raises_wordless() -> str:
    """Fail without words."""
    raise Wordless


def hello() -> AgentLoop:
    return AgentLoop(llm_provider=ScriptedModel(otherwise=lambda _: says("Hel", "lo")))


# ------------------------------------------------------------------------------------------------------- errors without words


async def test_a_tool_whose_error_has_no_words_is_a_failure_that_the_model_reads() -> None:
    model = ScriptedModel(calls("raises_wordless"), says("done"))
    async with asyncio.timeout(5):
        result = await AgentLoop(llm_provider=model, tools=[raises_wordless]).execute("go")
    assert [message.text for message in result.messages if message.role == "tool"] == ["Error: Wordless"]


async def test_a_tool_whose_error_has_no_words_ends_the_task_when_it_shall() -> None:
    model = ScriptedModel(calls("raises_wordless"), says("never"))
    agent = AgentLoop(llm_provider=model, tools=[raises_wordless], on_tool_error="raise")
    async with asyncio.timeout(5):
        with pytest.raises(ToolFailed, match="Wordless"):
            await agent.execute("go")


async def test_a_prompt_whose_error_has_no_words_fails_the_task() -> None:
    def prompt(_: object) -> str:
        raise Wordless

    events = await events_of(AgentLoop(llm_provider=ScriptedModel(), system_prompt=prompt).execute("go"))
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].error is not None
    assert (events[-1].error.type, events[-1].error.message) == ("Wordless", "Wordless")


class Silent:
    """A model that says a word, and then waits in a task for ever."""

    def call(self, request: LLMRequest, /) -> Observable[Any]:
        async def items() -> Any:
            yield ContentDelta(delta="Hel")
            await asyncio.Event().wait()

        return from_aiter(items)


# ------------------------------------------------------------------------------------------------- models that say the wrong thing


class Emits:
    """A model that emits these, at once or from a task."""

    def __init__(self, *items: Any, later: bool) -> None:
        self.items = items
        self.later = later

    def call(self, request: LLMRequest, /) -> Observable[Any]:
        async def items() -> Any:
            for item in self.items:
                yield item

        return from_aiter(items) if self.later else rx.of(*self.items)


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize(
    ("stranger", "told"),
    [
        (42, "int"),
        (None, "NoneType"),
        (StatusUpdate(status=Status(state="completed"), final=True), "StatusUpdate"),
        (ContentDelta(delta=5), "ContentDelta"),  # type: ignore[arg-type]
        (LLMResponse(message="Hi"), "LLMResponse"),  # type: ignore[arg-type]
        (LLMResponse(message=Message.user("Hi")), "LLMResponse"),
    ],
)
async def test_a_model_that_emits_what_a_model_may_not_say_fails_the_task(
    stranger: Any, told: str, *, later: bool
) -> None:
    events = await events_of(AgentLoop(llm_provider=Emits(stranger, later=later)).execute("go"))

    assert [event.kind for event in events] == ["task", "status-update", "llm-call", "status-update"]
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].error is not None
    assert events[-1].error.type == ModelFailed.__name__
    assert f"emitted a {told}" in events[-1].error.message


async def test_a_model_that_goes_on_after_its_answer_fails_the_task() -> None:
    answer = LLMResponse(message=Message.assistant("a"))
    events = await events_of(AgentLoop(llm_provider=Emits(answer, answer, later=True)).execute("go"))

    assert [event.kind for event in events][-2:] == ["llm-response", "status-update"]
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].error is not None
    assert "after its LLMResponse" in events[-1].error.message


# ---------------------------------------------------------------------------------------------------- bugs in the loop's functions


@pytest.mark.parametrize("broken", ["prepare", "advance", "perform"])
async def test_a_bug_in_one_of_the_loops_functions_ends_the_stream_with_it(broken: str) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    def perform(state: int) -> Observable[int] | None:
        return at_once([1]) if state == 0 else fail() if broken == "perform" else None

    stream = iterate(
        0,
        perform=perform,
        advance=fail if broken == "advance" else lambda state, item: state + item,
        prepare=fail if broken == "prepare" else lambda item: item,
    )
    seen: list[object] = []
    stream.subscribe(seen.append, lambda error: seen.append(type(error)), lambda: seen.append("completed"))
    assert seen[-1] is ZeroDivisionError


# ------------------------------------------------------------------------------------------------------------- handlers that exit


@pytest.mark.parametrize("exits", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("kind", ["task", "llm-response", "status-update"])
@pytest.mark.filterwarnings("error")
def test_a_handler_that_exits_in_the_background_ends_neither_the_run_nor_the_loop(
    exits: type[BaseException], kind: str
) -> None:
    def handler(event: Event) -> None:
        if event.kind == kind:
            raise exits

    run = hello().execute("Hi")
    run.subscribe(handler)
    assert run.result(5).output == "Hello"
    assert hello().execute("Hi").result(5).output == "Hello"


def test_a_handler_that_exits_on_a_loop_of_ones_own_exits_the_program_and_the_run_ends() -> None:
    runs: list[Run] = []

    async def main() -> None:
        run = AgentLoop(llm_provider=Silent()).execute("Hi")
        runs.append(run)

        def handler(event: Event) -> None:
            if isinstance(event, ContentDelta):
                raise SystemExit(3)

        run.subscribe(handler)
        await run

    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())
    assert (runs[0].status, runs[0].done) == ("canceled", True)


# ------------------------------------------------------------------------------------------------------- threads, and loops that end


def test_who_waits_from_another_thread_is_told_when_the_runs_loop_ends_meanwhile() -> None:
    """A subscription was posted to the loop, which closed before it came to it: the waiter waited for ever."""

    async def main(run: Run, subscribe: Callable[[], object]) -> None:
        run.start()
        await asyncio.sleep(0)
        poster = threading.Thread(target=subscribe)
        poster.start()
        poster.join()  # the loop is blocked meanwhile, and closes without another turn for what was posted

    run = AgentLoop(llm_provider=Silent()).execute("Hi")
    over = threading.Event()
    asyncio.run(main(run, lambda: run.subscribe(lambda _: None, lambda _: over.set(), over.set)))
    assert over.wait(5)
    assert run.status == "canceled"


def test_a_subscription_made_on_the_runs_loop_may_be_disposed_of_on_any_thread() -> None:
    """The list of subscribers is the loop's: changed on another thread, it lost those who came at that moment."""

    async def main() -> None:
        run = AgentLoop(llm_provider=ScriptedModel(stalls())).execute("Hi").start()
        places: list[int] = []
        run._gone = lambda _: places.append(threading.get_ident())  # type: ignore[method-assign]
        subscription = run.subscribe(lambda _: None)
        await asyncio.to_thread(subscription.dispose)
        await asyncio.sleep(0)
        assert places == [threading.get_ident()]

    asyncio.run(main())


async def test_a_loop_over_a_run_that_is_cancelled_leaves_the_run_at_once_however_long_its_error_is_kept() -> (
    None
):
    """The error's traceback holds the reader: the run went on behind it, with the model's connection."""
    run = AgentLoop(llm_provider=Silent()).execute("Hi")

    async def watch() -> None:
        async for _ in run:
            pass

    error: BaseException | None = None
    try:
        async with asyncio.timeout(0.01):
            await watch()
    except TimeoutError as late:
        error = late
    assert error is not None
    assert run.status == "canceled"


class Slow:
    """A store that never answers."""

    async def save(self, state: object, *, after: int = 0) -> None:
        await asyncio.Event().wait()

    async def load(self, task_id: str) -> None:
        return None


def test_a_run_whose_loop_closed_while_it_was_being_saved_is_over_for_who_asks_later() -> None:
    async def main(run: Run) -> None:
        run.start()
        await asyncio.sleep(0)  # the first save has begun
        run.cancel()

    run = AgentLoop(llm_provider=ScriptedModel(stalls()), task_state_store=Slow()).execute("Hi")
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, __: None)
    loop.run_until_complete(main(run))
    loop.close()
    with pytest.raises(TaskCanceled, match="closed"):
        run.result(5)


# ------------------------------------------------------------------------------------------------------------------------- stores


class Acknowledges(InMemoryStateStore):
    """A store that keeps a state at once, and says so when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.acknowledge = asyncio.Event(), asyncio.Event()

    async def save(self, state: LoopState, /, *, after: int) -> None:
        await super().save(state, after=after)
        self.kept.set()
        await self.acknowledge.wait()


async def test_a_cancel_between_a_save_and_its_acknowledgement_is_what_the_store_keeps() -> None:
    """The save was cut, the next conflicted with it, and the store kept a task at work that had been cancelled."""
    store = Acknowledges()
    agent = AgentLoop(llm_provider=ScriptedModel(says("never")), task_state_store=store)
    run = agent.execute("go", task_id="t").start()
    await asyncio.wait_for(store.kept.wait(), 5)

    run.cancel()
    store.acknowledge.set()

    async with asyncio.timeout(5):
        events = [event async for event in run]
    assert kinds(events) == ["task", "working", "checkpoint", "checkpoint", "canceled"]
    assert await store.load("t") == run.state


class FullAtTheEnd(InMemoryStateStore):
    """A store that cannot keep a task that waits."""

    async def save(self, state: LoopState, /, *, after: int) -> None:
        if state.final:
            raise OSError("the disk is full")
        await super().save(state, after=after)


async def test_a_task_that_cannot_be_kept_while_it_waits_fails_with_its_calls_answered() -> None:
    store = FullAtTheEnd()
    model = ScriptedModel(calls("delete", path="a.txt"))
    events = await events_of(
        AgentLoop(llm_provider=model, tools=[delete], task_state_store=store).execute("go")
    )
    assert kinds(events)[-3:] == ["input-required", "tool-complete", "failed"]


# ----------------------------------------------------------------------------------------------------------------- limits and clocks


@pytest.mark.parametrize(("heard", "silence"), [(0.1, 4.0), (0.1, 0.2)])
def test_a_clock_that_rings_a_breath_early_by_rounding_does_not_ring_for_ever(
    heard: float, silence: float
) -> None:
    """0.1 + 4 - 0.1 is less than 4, and virtual time stood still while the timer was set again and again."""
    script = waits(heard) + says("Hel") + stalls()

    async def struck(agent: AgentLoop) -> str:
        events = await events_of(agent.execute("go"))
        assert isinstance(events[-1], StatusUpdate)
        assert events[-1].error is not None
        return events[-1].error.type

    scripted = AgentLoop(llm_provider=ScriptedModel(script), limits=Limits(idle_seconds=silence))
    assert run_virtual(struck(scripted)) == "LimitExceeded"
    over_http = LiteLLMProvider(
        "http://proxy",
        "m",
        None,
        timeout=Timeouts(between_tokens=silence),
        transport=HTTP(ScriptedServer(script).transport()),
    )
    assert run_virtual(struck(AgentLoop(llm_provider=over_http))) == "ModelTimeout"


@pytest.mark.parametrize("value", [True, "5", float("nan"), 0, -1])
@pytest.mark.parametrize("name", ["run_seconds", "tokens", "tool_failures"])
def test_a_limit_that_is_no_number_above_0_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Limits\({name}="):
        Limits(**{name: value})
