"""The bridges between asyncio and Rx: who owns a task, on which thread things happen, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.internal import SequenceContainsNoElementsError

from looopy import AgentLoop, threads
from looopy.errors import TaskCanceled
from looopy.onloop import last
from looopy.reactive import Gate, Signal, from_aiter, from_awaitable, gate, stopped_by
from looopy.rounds import iterate
from looopy.testing import ScriptedModel, says


class Source:
    """An async iterator that tells when it began, gave and was closed."""

    def __init__(self, *items: int, then: str = "end") -> None:
        self.items = items
        self.then = then
        self.begun = 0
        self.closed = 0

    async def __call__(self) -> AsyncIterator[int]:
        self.begun += 1
        try:
            for item in self.items:
                yield item
            if self.then == "error":
                raise ValueError("the source broke")
            if self.then == "hang":
                await asyncio.Event().wait()
        finally:
            self.closed += 1


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_each_subscription_runs_a_source_of_its_own() -> None:
    source = Source(1, 2, 3)
    stream = from_aiter(source)
    assert source.begun == 0

    assert await stream.pipe(ops.to_list()) == [1, 2, 3]
    assert await stream.pipe(ops.to_list()) == [1, 2, 3]

    assert (source.begun, source.closed) == (2, 2)


async def test_what_a_source_raises_is_the_streams_error() -> None:
    source = Source(1, then="error")
    with pytest.raises(ValueError, match="the source broke"):
        await last(from_aiter(source))
    assert source.closed == 1


async def test_disposing_closes_the_source_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    source = Source(1, then="hang")
    subscription = from_aiter(source).subscribe()
    await turns()

    subscription.dispose()
    subscription.dispose()
    await turns()

    assert source.closed == 1
    assert asyncio.all_tasks() == before


async def test_disposing_before_the_task_began_never_begins() -> None:
    source = Source(1)
    from_aiter(source).subscribe().dispose()
    await turns()
    assert source.begun == 0


async def test_disposing_inside_a_handler_closes_the_source_without_a_cancel_in_its_clean_up() -> None:
    tidied: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            tidied.append("closed in peace")

    assert await last(from_aiter(source).pipe(ops.take(1))) == 1
    await turns()
    assert tidied == ["closed in peace"]


async def test_a_source_that_ends_its_own_subscription_from_within_is_cancelled() -> None:
    """A tool may cause the cancel of the run that it serves."""
    ended = asyncio.Event()
    subscriptions: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            await asyncio.sleep(0)
            subscriptions[0].dispose()
            await asyncio.Event().wait()
            yield 1
        finally:
            ended.set()

    subscriptions.append(from_aiter(source).subscribe())
    async with asyncio.timeout(5):
        await ended.wait()


async def test_an_iterator_that_cannot_be_closed_is_a_source_too() -> None:
    class Two:
        def __init__(self) -> None:
            self.left = [2, 1]

        def __aiter__(self) -> Two:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    assert await from_aiter(Two).pipe(ops.to_list()) == [1, 2]


async def test_a_source_that_closes_itself_ends_the_stream_with_an_error() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise GeneratorExit

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with pytest.raises(TaskCanceled):
        await last(from_aiter(source))
    await turns()
    assert [type(context["exception"]) for context in reported] == [GeneratorExit]


async def test_a_task_that_somebody_else_cancels_ends_the_stream_with_an_error() -> None:
    before = asyncio.all_tasks()
    errors: list[Exception] = []
    from_aiter(Source(1, then="hang")).subscribe(on_error=errors.append)
    await turns()
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await turns()
    assert [type(error) for error in errors] == [TaskCanceled]


async def test_a_subscribers_bug_goes_to_the_loop_and_closes_the_source() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    source = Source(1, 2)

    def bad(_: int) -> None:
        raise RuntimeError("a subscriber's bug")

    from_aiter(source).subscribe(bad)
    await turns(5)

    assert [str(context["exception"]) for context in reported] == ["a subscriber's bug"]
    assert source.closed == 1


async def test_a_failure_while_closing_after_a_dispose_goes_to_the_loop() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise OSError("could not close")

    subscription = from_aiter(source).subscribe()
    await turns()
    subscription.dispose()
    await turns(5)

    assert [str(context["exception"]) for context in reported] == ["could not close"]


async def test_a_burst_returns_to_the_loop_after_the_first_item_and_every_sixty_four() -> None:
    seen: list[int] = []
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(len(seen))
        if len(seen) < 200:
            asyncio.get_running_loop().call_soon(tick)

    stream = from_aiter(Source(*range(200)))
    asyncio.get_running_loop().call_soon(tick)
    await last(stream.pipe(ops.do_action(seen.append)))

    assert {1, 65, 129, 193} <= set(ticks)


async def test_a_shut_gate_holds_the_sources_under_it() -> None:
    barrier = Gate()
    context = contextvars.copy_context()
    context.run(gate.set, barrier)
    seen: list[int] = []
    over = asyncio.Event()

    def take(item: int) -> None:
        seen.append(item)
        barrier.hold(seen)

    context.run(from_aiter(Source(1, 2, 3)).subscribe, take, None, over.set)
    await turns(6)
    assert seen == [1]
    barrier.release("somebody else")
    await turns(6)
    assert seen == [1]
    for _ in range(3):
        barrier.release(seen)
        await turns(6)

    assert seen == [1, 2, 3]
    assert over.is_set()


async def test_a_source_disposed_of_before_a_shut_gate_ends() -> None:
    barrier = Gate()
    context = contextvars.copy_context()
    context.run(gate.set, barrier)
    source = Source(1, 2)
    subscription = context.run(from_aiter(source).subscribe, lambda _: barrier.hold(source))
    await turns()

    subscription.dispose()
    await turns()
    barrier.release(source)

    assert source.closed == 1


async def test_an_awaitable_is_a_stream_of_one() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> int:
        raise ValueError("no answer")

    assert await from_awaitable(answer).pipe(ops.to_list()) == [42]
    with pytest.raises(ValueError, match="no answer"):
        await last(from_awaitable(fail))


async def test_an_awaitable_that_shields_itself_from_a_dispose_says_nothing_afterwards() -> None:
    release = asyncio.Event()
    seen: list[object] = []

    async def stubborn() -> int:
        try:
            await release.wait()
        except asyncio.CancelledError:
            await turns(1)
        return 1

    subscription = from_awaitable(stubborn).subscribe(seen.append)
    await turns()
    subscription.dispose()
    await turns(5)
    assert seen == []


def test_without_a_loop_a_source_runs_on_the_background_loop() -> None:
    over = threading.Event()
    names: list[str] = []
    stream = from_aiter(Source(1)).pipe(
        ops.do_action(lambda _: names.append(threading.current_thread().name))
    )
    stream.subscribe(on_completed=over.set)
    assert over.wait(5)
    assert names == ["looopy-loop"]


@pytest.mark.parametrize("exits", [SystemExit, KeyboardInterrupt])
def test_what_wants_to_exit_in_the_background_is_told_and_the_loop_goes_on(
    exits: type[BaseException],
) -> None:
    told: list[type[BaseException]] = []
    loop, goes_on = asyncio.new_event_loop(), threading.Event()
    loop.set_exception_handler(lambda _, about: told.append(type(about["exception"])))

    def leave() -> None:
        raise exits

    loop.call_soon(leave)
    loop.call_soon(goes_on.set)
    threading.Thread(target=threads._for_ever, args=(loop,), daemon=True).start()
    assert goes_on.wait(5)
    assert told == [exits]


def test_disposing_from_another_thread_wakes_the_loop_at_once() -> None:
    source = Source(1, then="hang")
    first, closed = threading.Event(), threading.Event()
    stream = from_aiter(source).pipe(ops.finally_action(closed.set))

    subscription = stream.subscribe(lambda _: first.set())
    assert first.wait(5)
    subscription.dispose()

    assert closed.wait(5)


def count_to(limit: int) -> Observable[int]:
    return iterate(
        0,
        perform=lambda state: rx.of(state) if state < limit else None,
        advance=lambda state, _: state + 1,
        prepare=lambda event: event * 10,
    )


async def test_an_item_that_comes_in_the_moment_in_which_another_thread_leaves_is_not_shown() -> None:
    seen: list[int] = []

    async def items() -> AsyncIterator[int]:
        yield 1
        leaving = threading.Thread(target=subscription.dispose)
        leaving.start()
        leaving.join(5)
        yield 2

    subscription = from_aiter(items).attach(rx.Observer[int](seen.append))
    await turns(9)

    assert seen == [1]


async def test_iterate_folds_each_event_and_shows_it_prepared() -> None:
    assert await count_to(4).pipe(ops.to_list()) == [0, 10, 20, 30]


async def test_iterate_is_flat() -> None:
    assert await count_to(10_000).pipe(ops.count()) == 10_000


async def test_iterate_stops_when_it_is_left() -> None:
    assert await count_to(10_000).pipe(ops.take(3), ops.to_list()) == [0, 10, 20]


async def test_an_error_in_a_round_or_in_the_fold_is_the_streams_error() -> None:
    def bad(_: int, __: int) -> int:
        raise ZeroDivisionError("a bug in a fold")

    broken = iterate(0, perform=lambda _: rx.of(1), advance=bad, prepare=lambda event: event)
    failing: Observable[int] = iterate(
        0, perform=lambda _: rx.throw(ValueError("a round broke")), advance=bad, prepare=lambda event: event
    )
    with pytest.raises(ZeroDivisionError):
        await last(broken)
    with pytest.raises(ValueError, match="a round broke"):
        await last(failing)


async def test_a_signal_fires_once_and_tells_those_who_still_wait() -> None:
    signal: Signal[str] = Signal()
    told: list[str] = []
    signal.wait(lambda: told.append("first"))
    forget = signal.wait(lambda: told.append("second"))
    forget()

    signal.fire("now")
    signal.fire("again")
    forget()

    assert (signal.value, told) == ("now", ["first"])


async def test_what_is_stopped_by_a_signal_completes_and_its_own_error_fires_it() -> None:
    error = ValueError("the source broke")
    signal: Signal[Exception] = Signal()

    assert await stopped_by(signal, rx.concat(rx.of(1), rx.throw(error))).pipe(ops.to_list()) == [1]
    assert signal.value is error
    assert await stopped_by(signal, rx.of(1)).pipe(ops.to_list()) == []


async def test_a_stopped_stream_may_be_left_before_the_signal() -> None:
    signal: Signal[Exception] = Signal()
    seen: list[int] = []
    stopped_by(signal, rx.never()).subscribe(seen.append).dispose()
    assert await stopped_by(signal, rx.of(1)).pipe(ops.to_list()) == [1]
    signal.fire(ValueError())
    assert seen == []


async def test_the_last_of_nothing_is_an_error() -> None:
    with pytest.raises(SequenceContainsNoElementsError):
        await last(rx.empty())


def test_what_is_left_before_the_loop_came_to_it_never_begins() -> None:
    """From a thread without a loop, while the background loop is busy."""
    busy, release = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        release.wait(5)

    loop = threads.background_loop()
    loop.call_soon_threadsafe(hold)
    assert busy.wait(5)
    source, model = Source(1), ScriptedModel(says("never"))

    from_aiter(source).subscribe().dispose()
    run = AgentLoop(llm_provider=model).execute("Hi")
    run.subscribe().dispose()
    release.set()
    asyncio.run_coroutine_threadsafe(turns(), loop).result(5)

    assert source.begun == 0
    assert (model.requests, run.status) == ([], "submitted")


async def test_a_wait_that_was_given_up_does_not_mind_an_end_that_comes_from_another_thread() -> None:
    subject: rx.Subject[int] = rx.Subject()
    waiting = asyncio.ensure_future(last(subject))
    await turns()
    ending = threading.Thread(target=subject.on_completed)
    ending.start()
    ending.join()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
