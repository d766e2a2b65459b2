"""`async for` over a run: a bounded buffer, a rule for lagging, and leaving at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from reactivex import Observable

from looopy import AgentLoop, LLMRequest, Message
from looopy.errors import BufferOverflow, ConfigurationError
from looopy.events import ContentDelta, LLMEvent, LLMResponse
from looopy.reactive import from_aiter
from looopy.reader import Overflow
from looopy.testing import ScriptedModel, says, stalls
from looopy.threads import in_thread


class Counting:
    """A model that counts the pieces it has been asked for, and could go on for long."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.made = 0

    def call(self, _: LLMRequest, /) -> Observable[LLMEvent]:
        async def answer() -> AsyncIterator[LLMEvent]:
            for _ in range(self.pieces):
                self.made += 1
                yield ContentDelta(delta="x")
            yield LLMResponse(message=Message.assistant("x" * self.pieces))

        return from_aiter(answer)


async def test_leaving_the_loop_ends_the_run_while_it_is_still_held() -> None:
    model = ScriptedModel(says("Hel") + stalls())
    run = AgentLoop(llm_provider=model).execute("Hi")

    async for event in run:
        if isinstance(event, ContentDelta):
            break

    assert (run.status, model.disposed) == ("canceled", 1)


async def test_each_loop_over_a_run_starts_from_the_first_event() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello"))).execute("Hi").start()

    assert [event.seq async for event in run] == [event.seq async for event in run] == [1, 2, 3, 4, 5, 6]


async def test_a_cursor_skips_what_was_seen() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says("Hello"))).execute("Hi").start()

    assert [event.seq async for event in run.events(after=4)] == [5, 6]


async def test_a_slow_reader_holds_the_run_back_up_to_the_model() -> None:
    model = Counting(2_000)
    run = AgentLoop(llm_provider=model).execute("Hi")
    lead: list[int] = []
    read = 0

    async for _ in run.events(buffer=16):
        read += 1
        lead.append(model.made - read)
        await asyncio.sleep(0)

    assert model.made == 2_000
    assert max(lead) <= 16 + 1


async def test_a_reader_that_leaves_no_longer_holds_the_others_back() -> None:
    run = AgentLoop(llm_provider=Counting(500)).execute("Hi")
    slow = run.events(buffer=1)
    await anext(slow)
    others = asyncio.ensure_future(run)
    await asyncio.sleep(0)

    await slow.aclose()

    async with asyncio.timeout(5):
        assert len((await others).output) == 500


@pytest.mark.parametrize(("overflow", "kept"), [("drop-oldest", 4), ("latest", 1)])
async def test_a_lagging_reader_may_choose_to_lose_the_oldest(overflow: Overflow, kept: int) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says(*"abcdefgh"))).execute("Hi")
    reader = run.events(buffer=4, overflow=overflow)

    # The scripted model says everything at once, so the reader is 13 events behind before it reads the first.
    seen = [event.seq async for event in reader]

    assert seen == list(range(14 - kept, 14))


async def test_a_lagging_reader_may_choose_an_error() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says(*"abcdefgh"))).execute("Hi")

    with pytest.raises(BufferOverflow, match="more than 4 events behind") as caught:
        [event async for event in run.events(buffer=4, overflow="error")]

    assert caught.value.size == 4


@pytest.mark.parametrize("overflow", ["wait", "error"])
async def test_what_a_late_reader_has_to_catch_up_with_is_no_lag(overflow: Overflow) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says(*"abcdefgh"))).execute("Hi").start()

    assert [event.seq async for event in run.events(buffer=4, overflow=overflow)] == list(range(1, 14))


async def test_a_reader_that_got_an_error_has_left_and_with_the_last_one_goes_the_run() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says(*"abcdefgh") + stalls())).execute("Hi")

    with pytest.raises(BufferOverflow):
        [event async for event in run.events(buffer=4, overflow="error")]

    assert run.status == "canceled"


async def test_after_its_end_a_reader_stays_ended() -> None:
    reader = AgentLoop(llm_provider=ScriptedModel(says("Hello"))).execute("Hi").events()
    assert len([event async for event in reader]) == 6
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_a_reader_without_room_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="room for at least one"):
        AgentLoop(llm_provider=ScriptedModel()).execute("Hi").events(buffer=0)


async def test_the_first_event_of_a_burst_reaches_an_async_for_before_a_hundredth_of_it_is_made() -> None:
    model = Counting(2_000)
    run = AgentLoop(llm_provider=model).execute("Hi")

    async for event in run:
        if isinstance(event, ContentDelta):
            assert model.made <= 20
            break


async def test_a_reader_waits_without_spinning_until_something_comes() -> None:
    model = ScriptedModel(says("Hel") + stalls())
    run = AgentLoop(llm_provider=model).execute("Hi").start()
    reader = run.events(after=4)
    arrival = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not arrival.done()

    run.cancel()

    assert (await arrival).kind == "llm-response"


def test_a_reader_on_another_loop_than_the_runs_holds_it_back_too_and_misses_nothing() -> None:
    run = AgentLoop(llm_provider=Counting(300)).execute("Hi")

    async def elsewhere() -> list[int]:
        return [event.seq async for event in run.events(buffer=4)]

    run.start()

    assert asyncio.run(elsewhere()) == list(range(1, 306))


def test_a_reader_of_a_finished_run_may_be_slow() -> None:
    run = AgentLoop(llm_provider=Counting(300)).execute("Hi")
    run.result(timeout=5)

    async def elsewhere() -> list[int]:
        return [event.seq async for event in run.events(buffer=4)]

    assert asyncio.run(elsewhere()) == list(range(1, 306))


def test_a_reader_that_is_busy_while_events_come_from_another_loop_finds_them_all() -> None:
    go = threading.Event()

    class Held:
        def call(self, _: LLMRequest, /) -> Observable[LLMEvent]:
            async def answer() -> AsyncIterator[LLMEvent]:
                await in_thread(lambda: go.wait(5))
                for _ in range(20):
                    yield ContentDelta(delta="x")
                yield LLMResponse(message=Message.assistant("x" * 20))

            return from_aiter(answer)

    run = AgentLoop(llm_provider=Held()).execute("Hi").start()

    async def elsewhere() -> list[int]:
        reader = run.events()
        first = await anext(reader)
        over = threading.Event()
        run.subscribe(on_completed=over.set)
        go.set()
        over.wait(5)  # this loop stands still until the run, on its own, is over
        await asyncio.sleep(0)
        return [first.seq, *[event.seq async for event in reader]]

    assert asyncio.run(elsewhere()) == list(range(1, 26))
