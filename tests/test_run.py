"""A run is shared, replayed, isolated from its subscribers, and lives on one loop whoever watches from wherever."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import reactivex as rx
from agents import add, garbage_of
from reactivex import Observable
from reactivex import operators as ops
from reactivex.scheduler import CurrentThreadScheduler, NewThreadScheduler

from looopy import AgentLoop, LLMRequest, Message, Run, RunResult, Usage
from looopy.errors import LooopyError, NotResumable, TaskCanceled, WrongThread
from looopy.events import ContentDelta, Event, LLMEvent, LLMResponse, StatusUpdate
from looopy.onloop import LoopScheduler
from looopy.reactive import from_aiter
from looopy.run import REPLAY
from looopy.stores.memory import InMemoryStateStore
from looopy.testing import ScriptedModel, calls, run_virtual, says, stalls

KINDS = [
    "task",
    "status-update",
    "llm-call",
    "content-delta",
    "content-delta",
    "llm-response",
    "status-update",
]


def hello(*, usage: Usage | None = None) -> AgentLoop:
    return AgentLoop(llm_provider=ScriptedModel(otherwise=lambda _: says("Hel", "lo", usage=usage)))


def stalled() -> tuple[AgentLoop, ScriptedModel]:
    model = ScriptedModel(says("Hel") + stalls())
    return AgentLoop(llm_provider=model), model


async def test_the_result_holds_what_the_run_came_to() -> None:
    usage = Usage(input_tokens=3, output_tokens=2)
    run = hello(usage=usage).execute("Hi", task_id="t", context_id="c")

    result = await run

    assert result == RunResult(
        output="Hello",
        status="completed",
        messages=result.messages,
        usage=usage,
        cost=None,
        iterations=1,
        waiting=(),
        error=None,
        task_id="t",
        context_id="c",
        trace_id=run.trace_id,
    )
    assert [(message.role, message.text) for message in result.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert repr(run) == "<Run t completed>"


async def test_nothing_happens_before_the_first_subscriber() -> None:
    model = ScriptedModel(says("Hello"))
    run = AgentLoop(llm_provider=model).execute("Hi")
    await asyncio.sleep(0)

    assert (run.status, run.state, run.done, model.requests) == ("submitted", None, False, [])


async def test_a_late_subscriber_sees_everything_from_the_start_and_then_the_rest() -> None:
    agent, _ = stalled()
    run = agent.execute("Hi").start()
    early: list[str] = []

    run.subscribe(lambda event: early.append(event.kind))
    run.cancel()

    assert early == ["task", "status-update", "llm-call", "content-delta", "llm-response", "status-update"]


async def test_a_subscriber_that_raises_is_reported_and_harms_nobody() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    run = hello().execute("Hi")
    raised: list[str] = []
    seen: list[str] = []

    def bad(event: Event) -> None:
        raised.append(event.kind)
        raise RuntimeError("a subscriber's bug")

    def bad_end() -> None:
        raise RuntimeError("a bug at the end")

    run.subscribe(bad, on_completed=bad_end)
    run.subscribe(lambda event: seen.append(event.kind))
    result = await run

    assert result.output == "Hello"
    assert seen == raised == KINDS
    assert [str(context["exception"]) for context in reported] == ["a subscriber's bug"] * 7 + [
        "a bug at the end"
    ]


async def test_an_event_caused_inside_a_handler_never_overtakes_the_one_being_handled() -> None:
    run = stalled()[0].execute("Hi")
    second: list[str] = []

    def cancelling(event: Event) -> None:
        if isinstance(event, ContentDelta):
            run.cancel()

    run.subscribe(cancelling)
    run.subscribe(lambda event: second.append(event.kind))

    assert second == ["task", "status-update", "llm-call", "content-delta", "llm-response", "status-update"]


async def test_a_piece_that_a_handler_has_the_model_say_comes_after_the_one_being_handled() -> None:
    said: rx.Subject[LLMEvent] = rx.Subject()

    class Model:
        def call(self, request: LLMRequest) -> rx.Observable[LLMEvent]:
            return said

    run = AgentLoop(llm_provider=Model()).execute("Hi")
    second: list[str] = []

    def answering(event: Event) -> None:
        if isinstance(event, ContentDelta) and event.delta == "one":
            said.on_next(ContentDelta(delta="two"))

    run.subscribe(answering)
    run.subscribe(lambda event: second.append(event.delta) if isinstance(event, ContentDelta) else None)
    said.on_next(ContentDelta(delta="one"))
    said.on_next(LLMResponse(message=Message.assistant("one two")))
    said.on_completed()

    assert (await run).output == "one two"
    assert second == ["one", "two"]


async def test_take_leaves_the_run_and_so_ends_it() -> None:
    agent, model = stalled()
    run = agent.execute("Hi")

    kinds = await run.pipe(ops.map(lambda event: event.kind), ops.take(4), ops.to_list())

    assert kinds == ["task", "status-update", "llm-call", "content-delta"]
    assert (run.status, model.disposed) == ("canceled", 1)


async def test_a_subscriber_that_leaves_during_the_replay_is_not_kept() -> None:
    run = hello().execute("Hi").start()

    assert await run.pipe(ops.map(lambda event: event.kind), ops.first()) == "task"


async def test_a_late_subscriber_that_cancels_while_it_catches_up_sees_the_end_too() -> None:
    run = stalled()[0].execute("Hi").start()
    seen: list[str] = []

    def cancelling(event: Event) -> None:
        seen.append(event.kind)
        run.cancel()

    run.subscribe(cancelling)

    assert seen == ["task", "status-update", "llm-call", "content-delta", "llm-response", "status-update"]


async def test_a_late_subscriber_may_leave_while_it_catches_up() -> None:
    run = stalled()[0].execute("Hi").start()
    assert await run.pipe(ops.map(lambda event: event.kind), ops.first()) == "task"
    assert run.status == "working"
    run.cancel()


def test_time_operators_run_on_the_runs_loop_and_start_no_timer_thread() -> None:
    run = stalled()[0].execute("Hi")
    threads: list[str] = []

    async def watch() -> None:
        with pytest.raises(Exception, match="Timeout"):
            await (
                run.debounce(1)
                .do_action(lambda _: threads.append(threading.current_thread().name))
                .timeout(20)
            )

    run_virtual(watch())

    assert threads == [threading.current_thread().name]
    assert run.status == "canceled"


async def test_time_operators_on_a_finished_run_start_no_timer_thread_either() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello"))).execute("Hi")
    await run
    threads: set[str] = set()

    def note(_: object) -> None:
        threads.add(threading.current_thread().name)

    await run.delay(0.001).do_action(note)

    assert threads == {threading.current_thread().name}


async def test_cancel_before_the_start_ends_the_run_as_soon_as_somebody_looks() -> None:
    model = ScriptedModel(says("never"))
    run = AgentLoop(llm_provider=model).execute("Hi")
    run.cancel("changed my mind")
    run.cancel("again")

    kinds = [event.kind async for event in run]

    assert kinds == ["task", "status-update", "status-update"]
    assert model.requests == []
    with pytest.raises(TaskCanceled, match="changed my mind") as caught:
        await run
    assert caught.value.reason == "changed my mind"


async def test_cancelling_twice_or_after_the_end_changes_nothing() -> None:
    run = hello().execute("Hi")
    result = await run
    run.cancel()
    assert await run == result


async def test_cancelling_the_await_of_the_only_watcher_cancels_the_run() -> None:
    agent, model = stalled()
    run = agent.execute("Hi")
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (run.status, model.disposed) == ("canceled", 1)


async def test_a_blocking_result_on_a_loops_own_thread_says_what_to_write_instead() -> None:
    with pytest.raises(WrongThread, match="await run"):
        hello().execute("Hi").result()


async def test_the_result_of_a_run_that_is_over_blocks_nobody() -> None:
    run = hello().execute("Hi")

    assert await run == run.result()


@pytest.mark.parametrize("name", ["output", "messages", "usage"])
def test_a_forgotten_await_is_told_with_what_to_write(name: str) -> None:
    run = hello().execute("Hi")

    with pytest.raises(AttributeError) as caught:
        getattr(run, name)
    assert (
        str(caught.value)
        == f"a Run has no {name!r}, its result has: write `(await run).{name}`, or `run.result().{name}` where no event loop runs"
    )


def test_what_neither_a_run_nor_its_result_has_is_a_plain_attribute_error() -> None:
    run = hello().execute("Hi")

    assert not hasattr(run, "moon")
    with pytest.raises(AttributeError, match="'Run' object has no attribute 'moon'"):
        getattr(run, "moon")  # noqa: B009  a type checker would refuse `run.moon`


async def test_a_plain_for_says_what_to_write_instead() -> None:
    run = hello().execute("Hi")

    for stream in (run, run.pipe(ops.map(lambda event: event))):
        with pytest.raises(TypeError, match=r"`async for event in run`.*\.to_list\(\)"):
            list(stream)
    assert run.status == "submitted"


def test_without_any_loop_result_blocks_until_the_run_is_over() -> None:
    assert hello().execute("Hi").result(timeout=5).output == "Hello"


def test_result_raises_what_ended_the_run() -> None:
    run = stalled()[0].execute("Hi").start()
    run.cancel()
    with pytest.raises(TaskCanceled) as caught:
        run.result(timeout=5)
    assert caught.value.result.status == "canceled"


def test_result_with_a_timeout_gives_up_and_cancels() -> None:
    run = stalled()[0].execute("Hi")
    with pytest.raises(TimeoutError, match=r"timeout=0\.01"):
        run.result(timeout=0.01)
    with pytest.raises(TaskCanceled):
        run.result(timeout=5)


def test_events_reach_a_subscriber_of_another_thread_and_dispose_works_from_there() -> None:
    agent, model = stalled()
    run = agent.execute("Hi")
    spoken, over = threading.Event(), threading.Event()

    subscription = run.subscribe(lambda event: spoken.set() if isinstance(event, ContentDelta) else None)
    assert spoken.wait(5)
    run.subscribe(on_completed=over.set)
    subscription.dispose()
    assert not over.is_set()
    run.cancel()

    assert over.wait(5)
    assert model.disposed == 1


def test_operators_work_from_a_thread_without_a_loop() -> None:
    kinds: list[list[str]] = []
    over = threading.Event()
    run = hello().execute("Hi")

    run.map(lambda event: event.kind).to_list().subscribe(kinds.append, on_completed=over.set)

    assert over.wait(5)
    assert kinds == [KINDS]


def test_who_subscribes_while_the_run_ends_on_another_thread_sees_all_of_it() -> None:
    class Slow(CurrentThreadScheduler):
        """A scheduler that holds the subscription up, between choosing the loop and reaching it."""

        def __bool__(self) -> bool:
            run.result(timeout=5)
            return True

    run = hello().execute("Hi")
    kinds: list[str] = []
    run.subscribe(lambda event: kinds.append(event.kind), scheduler=Slow())
    assert kinds == KINDS


def test_a_run_can_be_awaited_from_another_loop_than_its_own() -> None:
    run = hello().execute("Hi").start()

    async def elsewhere() -> tuple[str, list[str]]:
        return (await run).output, [event.kind async for event in run]

    assert asyncio.run(elsewhere()) == ("Hello", KINDS)


def test_a_run_whose_loop_was_closed_is_canceled_and_says_so() -> None:
    agent, _ = stalled()
    runs: list[Run] = []

    async def abandon() -> None:
        runs.append(agent.execute("Hi").start())

    asyncio.run(abandon())

    with pytest.raises(TaskCanceled, match="event loop was closed") as caught:
        runs[0].result(timeout=5)
    assert (runs[0].status, caught.value.result.output) == ("canceled", "Hel")


def test_a_run_whose_loop_was_closed_before_its_task_was_loaded_says_so() -> None:
    class Slow(InMemoryStateStore):
        async def load(self, _: str, /) -> None:
            await asyncio.Event().wait()

    agent = AgentLoop(llm_provider=ScriptedModel(), task_state_store=Slow())
    loop = asyncio.new_event_loop()

    async def begin() -> Run:
        return agent.resume("t").start()

    run = loop.run_until_complete(begin())
    loop.close()

    with pytest.raises(TaskCanceled, match="event loop was closed"):
        run.result(timeout=5)


@pytest.mark.parametrize(("moment", "seen"), [(LLMResponse, 4), (StatusUpdate, 5)])
async def test_a_subscriber_may_dispose_of_another_in_a_handler(moment: type[Event], seen: int) -> None:
    run = stalled()[0].execute("Hi")
    kinds: list[str] = []
    others: list[Any] = []

    def leaving(event: Event) -> None:
        if others and isinstance(event, moment):
            others[0].dispose()

    run.subscribe(leaving)
    others.append(
        run.subscribe(lambda event: kinds.append(event.kind), on_completed=lambda: kinds.append("completed"))
    )
    run.cancel()

    assert (
        kinds
        == ["task", "status-update", "llm-call", "content-delta", "llm-response", "status-update"][:seen]
    )


async def test_leaving_and_cancelling_in_the_last_handler_change_nothing() -> None:
    others: list[Any] = []
    run = stalled()[0].execute("Hi")
    run.subscribe(on_completed=lambda: others.pop().dispose())
    run.subscribe(on_completed=run.cancel)
    others.append(run.subscribe())
    run.cancel("once")

    with pytest.raises(TaskCanceled, match="once"):
        await run


async def test_an_answer_that_comes_in_time_is_cut_inside_the_handler_of_a_piece() -> None:
    async def answer() -> AsyncIterator[LLMEvent]:
        yield ContentDelta(delta="Hel")
        yield ContentDelta(delta="lo")

    class Streaming:
        def call(self, _: LLMRequest, /) -> Observable[LLMEvent]:
            return from_aiter(answer)

    run = AgentLoop(llm_provider=Streaming()).execute("Hi")
    second: list[str] = []
    run.subscribe(lambda event: run.cancel() if isinstance(event, ContentDelta) else None)
    run.subscribe(lambda event: second.append(event.kind))
    with pytest.raises(TaskCanceled) as caught:
        await run

    assert caught.value.result.output == "Hel"
    assert second == ["task", "status-update", "llm-call", "content-delta", "llm-response", "status-update"]


def test_a_finished_run_can_be_watched_after_its_loop_is_gone() -> None:
    async def main() -> Run:
        run = hello().execute("Hi")
        await run
        return run

    run = asyncio.run(main())
    kinds: list[str] = []
    run.subscribe(lambda event: kinds.append(event.kind))
    assert kinds == KINDS
    assert run.result().output == "Hello"


async def test_beyond_its_room_the_log_drops_deltas_and_nothing_else() -> None:
    long = says(*("x" for _ in range(2 * REPLAY)))
    run = AgentLoop(llm_provider=ScriptedModel(long)).execute("Hi").start()
    await run

    late = [event async for event in run]

    assert len(late) <= REPLAY + 10
    assert [event.kind for event in late if not isinstance(event, ContentDelta)] == [
        "task",
        "status-update",
        "llm-call",
        "llm-response",
        "status-update",
    ]
    response = next(event for event in late if isinstance(event, LLMResponse))
    assert response.message.text == "x" * 2 * REPLAY


async def test_resuming_what_is_not_there_ends_with_the_error_and_no_event() -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(), task_state_store=InMemoryStateStore())
    run = agent.resume("nobody")
    seen: list[Event] = []
    errors: list[Exception] = []

    run.subscribe(seen.append, errors.append)
    with pytest.raises(NotResumable, match="nobody"):
        await run

    assert seen == []
    assert [type(error) for error in errors] == [NotResumable]


async def test_two_hundred_runs_at_once_do_not_mix() -> None:
    model = ScriptedModel(otherwise=lambda request: says(request.messages[-1].text))
    agent = AgentLoop(llm_provider=model)

    results = await asyncio.gather(*(agent.execute(f"say {n}") for n in range(200)))

    assert [result.output for result in results] == [f"say {n}" for n in range(200)]


async def test_a_dropped_run_leaves_no_garbage_that_warns() -> None:
    agent, model = stalled()
    agent.execute("never watched")
    subscription = agent.execute("Hi").subscribe()
    subscription.dispose()
    del subscription
    gc.collect()
    assert model.disposed == 1


async def test_a_run_is_gone_with_its_last_reference_and_leaves_the_garbage_collector_nothing() -> None:
    model = ScriptedModel(*(calls("add", a=2, b=3), says("5")) * 2)
    agent = AgentLoop(llm_provider=model, tools=[add])

    async def work() -> None:
        assert (await agent.execute("2 + 3?")).output == "5"

    assert await garbage_of(work) == []


async def test_a_looopy_error_keeps_the_result_and_the_last_event_says_the_same() -> None:
    run = stalled()[0].execute("Hi").start()
    run.cancel("enough")
    with pytest.raises(LooopyError) as caught:
        await run
    last = [event async for event in run][-1]
    assert isinstance(last, StatusUpdate)
    assert last.error == caught.value.result.error


DONE = LLMResponse(message=Message.assistant("done"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: rx.start(lambda: DONE, NewThreadScheduler()).pipe(ops.flat_map(rx.of)),
        lambda: rx.start(lambda: DONE, NewThreadScheduler()).pipe(ops.delay(0.001)),
        lambda: rx.timer(datetime.now(UTC) + timedelta(seconds=0.01)).pipe(ops.map(lambda _: DONE)),
        lambda: rx.never().pipe(ops.timeout(datetime.now(UTC) + timedelta(seconds=0.01), rx.of(DONE))),
    ],
    ids=["a thread, flat_map", "a thread, delay", "a date", "a timeout at a date"],
)
async def test_a_model_composed_of_rx_comes_to_the_loop_from_whichever_thread_and_clock(
    answer: Callable[[], Observable[Any]],
) -> None:
    class Composed:
        def call(self, _: LLMRequest, /) -> Observable[Any]:
            return answer()

    async with asyncio.timeout(5):
        assert (await AgentLoop(llm_provider=Composed()).execute("go")).output == "done"
    assert (
        await asyncio.to_thread(AgentLoop(llm_provider=Composed()).execute("go").result, 5)
    ).output == "done"


async def test_what_is_scheduled_from_another_thread_may_be_called_off_there() -> None:
    done: list[str] = []
    scheduler = LoopScheduler(asyncio.get_running_loop())

    def elsewhere() -> None:
        scheduler.schedule(lambda *_: done.append("kept"))
        scheduler.schedule(lambda *_: done.append("called off")).dispose()
        scheduler.schedule_relative(60, lambda *_: done.append("late")).dispose()

    await asyncio.to_thread(elsewhere)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == ["kept"]
    assert abs((scheduler.now - datetime.now(UTC).replace(tzinfo=scheduler.now.tzinfo)).total_seconds()) < 60
