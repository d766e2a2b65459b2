"""`llm.stream`: an answer as it comes, as text and as events, with an event loop and without."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import pytest

from looopy import ModelOverloaded, StreamBroken, TaskCanceled, llm
from looopy.errors import WrongThread
from looopy.llm import Done, Reset, Text, ToolUse
from looopy.providers.fallback import Fallback
from looopy.testing import ScriptedModel, ScriptedServer, calls, cuts, fails, says, stalls, thinks

TRANSITION = {
    "type": "function",
    "function": {
        "name": "transition_to_next",
        "description": "Call this when the user is ready to move on.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def told(pieces):
    """Pieces without what only the whole has."""
    return ["done" if isinstance(piece, Done) else piece for piece in pieces]


async def test_it_gives_the_text_piece_by_piece_and_then_the_whole(at_proxy):
    server = at_proxy(ScriptedServer(thinks("Hm.") + says("Hel", "lo", ".", cost=0.5)))
    stream = llm.stream("Hi", model="gpt-4o-mini")

    assert [piece async for piece in stream] == ["Hel", "lo", "."]
    assert ((await stream).output, (await stream).cost) == ("Hello.", 0.5)
    assert len(server.requests) == 1


def test_without_an_event_loop_an_ordinary_for_gives_the_same(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel", "lo", ".")))
    stream = llm.stream("Hi", model="gpt-4o-mini")

    assert list(stream) == ["Hel", "lo", "."]
    assert stream.result(5).output == "Hello."
    assert len(server.requests) == 1


async def test_it_is_an_observable_of_text_tool_uses_and_the_end():
    model = ScriptedModel(says("Let me ", "see. ") + calls("add", a=1, b=2), says("3."))
    stream = llm.stream("1 + 2?", provider=model, tools=[add])
    watched: list[llm.Piece] = []
    stream.subscribe(watched.append)

    result = await stream

    call = result.messages[1].tool_calls[0]
    pieces = [
        Text(content="Let me "),
        Text(content="see. "),
        ToolUse(name="add", arguments={"a": 1, "b": 2}, call_id=call.id),
        Text(content="3."),
        Done(result=result),
    ]
    assert [piece async for piece in stream.events()] == pieces
    assert watched == pieces
    assert [piece.type for piece in watched] == ["text", "text", "tool_use", "text", "done"]


def test_it_is_watched_without_an_event_loop_too():
    over = threading.Event()
    watched: list[llm.Piece] = []
    stream = llm.stream("Hi", provider=ScriptedModel(says("Hel", "lo.")))

    stream.subscribe(watched.append, print, over.set)

    assert over.wait(5)
    assert watched == [Text(content="Hel"), Text(content="lo."), Done(result=stream.result(5))]


async def test_a_tool_that_the_caller_runs_ends_the_stream_and_comes_back_as_a_tool_use():
    model = ScriptedModel(says("Good. ") + calls("transition_to_next"))
    chat = [
        {"role": "user", "content": "I'm ready"},
        {"role": "assistant", "content": "Sure?"},
        {"role": "user", "content": "Yes"},
    ]
    stream = llm.stream(
        chat,
        system="You are a tutor.",
        provider=model,
        tools=[TRANSITION],
        model="gemini/gemini-2.5-pro",
        max_tokens=1024,
    )

    pieces = [piece async for piece in stream.events()]

    result = await stream
    (call,) = result.messages[-1].tool_calls
    assert pieces == [
        Text(content="Good. "),
        ToolUse(name="transition_to_next", call_id=call.id),
        Done(result=result),
    ]
    assert (result.status, model.requests[0].model, model.requests[0].params) == (
        "input-required",
        "gemini/gemini-2.5-pro",
        {"max_tokens": 1024},
    )


async def test_leaving_the_loop_closes_the_models_connection(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel") + stalls()))

    async for piece in llm.stream("Hi", model="gpt-4o-mini"):
        assert piece == "Hel"
        break

    await server.hung_up()


def test_so_does_leaving_an_ordinary_for(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel") + stalls()))

    for piece in llm.stream("Hi", model="gpt-4o-mini"):
        assert piece == "Hel"
        break

    asyncio.run(server.hung_up())


def test_so_does_an_interrupt_while_an_ordinary_for_waits(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel") + stalls()))
    main, goes_on = threading.main_thread().ident, threading.Event()

    def interrupt() -> None:
        goes_on.wait(5)
        while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
            pass  # it does not wait yet: the interrupt would hit the test, and end them all
        signal.pthread_kill(main, signal.SIGINT)

    pieces = iter(llm.stream("Hi", model="gpt-4o-mini"))
    assert next(pieces) == "Hel"
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it may come from here on
        goes_on.set()
        next(pieces)

    asyncio.run(server.hung_up())


async def test_so_does_closing_a_reader(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel") + stalls()))
    pieces = llm.stream("Hi", model="gpt-4o-mini").events()

    assert await anext(pieces) == Text(content="Hel")
    await pieces.aclose()

    await server.hung_up()
    with pytest.raises(StopAsyncIteration):
        await anext(pieces)


async def test_so_does_the_last_subscriber_who_goes(at_proxy):
    server = at_proxy(ScriptedServer(says("Hel") + stalls()))
    first = asyncio.Event()
    subscription = llm.stream("Hi", model="gpt-4o-mini").subscribe(lambda _: first.set())

    await asyncio.wait_for(first.wait(), 5)
    subscription.dispose()

    await server.hung_up()


@pytest.mark.parametrize(
    ("answer", "error"), [(fails(429), ModelOverloaded), (says("Hel") + cuts(), StreamBroken)]
)
async def test_what_ends_it_early_is_raised_and_is_an_error_of_the_observable(answer, error, at_proxy):
    at_proxy(ScriptedServer(answer))
    stream = llm.stream("Hi", model="gpt-4o-mini")
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    stream.subscribe(lambda _: None, failed.set_result)

    with pytest.raises(error):
        _ = [piece async for piece in stream]
    with pytest.raises(error):
        _ = [piece async for piece in stream.events()]
    with pytest.raises(error):
        await stream
    assert isinstance(await failed, error)


def test_so_is_it_out_of_an_ordinary_for():
    with pytest.raises(ModelOverloaded):
        list(llm.stream("Hi", provider=ScriptedModel(fails(429))))


async def test_it_replays_for_whoever_comes_late_and_is_asked_once():
    model = ScriptedModel(says("Hel", "lo."))
    stream = llm.stream("Hi", provider=model)

    assert [piece async for piece in stream] == ["Hel", "lo."]
    assert [piece async for piece in stream] == ["Hel", "lo."]
    assert len(model.requests) == 1


async def test_an_answer_that_starts_over_is_a_reset_and_no_text():
    def stream():
        first, second = ScriptedModel(says("Hel") + fails(500)), ScriptedModel(says("Good day."))
        return llm.stream("Hi", provider=Fallback(first, second, mid_stream="restart"))

    assert told([piece async for piece in stream().events()]) == [
        Text(content="Hel"),
        Reset(),
        Text(content="Good day."),
        "done",
    ]
    with pytest.raises(StreamBroken, match=r"loop over llm.stream\(…\).events\(\)"):
        _ = [piece async for piece in stream()]


async def test_an_ordinary_for_on_the_thread_of_an_event_loop_says_what_to_write():
    with pytest.raises(WrongThread, match="write `async for`"):
        iter(llm.stream("Hi", provider=ScriptedModel()))
    with pytest.raises(WrongThread):
        llm.stream("Hi", provider=ScriptedModel(says("Hi."))).result()


async def test_cancelling_who_reads_it_cancels_it():
    model = ScriptedModel(says("Hel") + stalls())
    stream = llm.stream("Hi", provider=model)
    pieces = aiter(stream)

    assert await anext(pieces) == "Hel"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(pieces), 0.05)
    assert model.disposed == 1
    with pytest.raises(TaskCanceled):
        await stream


def test_it_shows_where_it_stands():
    stream = llm.stream("Hi", provider=ScriptedModel(says("Hi.")))
    before = repr(stream)
    stream.result(5)

    assert (before.split()[0], before.split()[-1], repr(stream).split()[-1]) == (
        "<Stream",
        "submitted>",
        "completed>",
    )
