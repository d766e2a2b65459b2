"""Loops and threads: whose loop it is, and work in a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from typing import Any

import pytest

from looopy import threads
from looopy.testing import run_virtual
from looopy.threads import in_thread


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_background_loop_of_its_own() -> None:
    mine = threads.background_loop()
    child = os.fork()
    if child == 0:  # pragma: no cover  the child reports by its exit code
        fine = threads.background_loop() is not mine
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert threads.background_loop() is mine


async def test_a_thread_gives_back_its_result_its_error_and_the_callers_context() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    who.set("the caller")

    def stop() -> None:
        raise StopIteration

    assert await in_thread(who.get) == "the caller"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(stop)


async def test_a_thread_that_hangs_is_abandoned_when_nobody_awaits_it_any_more() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(5)
        ended.set()

    waiting = asyncio.ensure_future(in_thread(hang))
    await asyncio.to_thread(begun.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await asyncio.to_thread(ended.wait, 5)
    await turns()


def test_a_thread_whose_loop_is_closed_has_nobody_to_tell() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(5)
        ended.set()

    async def leave() -> None:
        asyncio.ensure_future(in_thread(work)).cancel()
        task = asyncio.ensure_future(in_thread(work))
        await turns()
        task.cancel()

    asyncio.run(leave())
    release.set()
    assert ended.wait(5)


def test_a_loop_that_cannot_be_woken_though_open_is_a_bug_that_shows() -> None:
    class Odd(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("out of order")

    loop = Odd()
    with pytest.raises(RuntimeError, match="out of order"):
        threads.on_loop(loop, int)
    loop.close()
    threads.on_loop(loop, int)


def test_the_clock_is_the_loops_or_the_machines() -> None:
    async def virtual() -> float:
        await asyncio.sleep(3600)
        return threads.now()

    assert run_virtual(virtual()) == 3600
    assert threads.now() > 0


async def test_what_was_called_off_does_not_happen() -> None:
    happened: list[str] = []
    threads.after(0, lambda: happened.append("called off"))()
    threads.after(0, lambda: happened.append("on time"))
    await turns(5)
    assert happened == ["on time"]
