"""Cancelling from a handler that `signal.signal` has set: it comes in between anywhere, also where RxPY holds a lock."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from looopy import AgentLoop, Run
from looopy.testing import ScriptedModel, stalls
from looopy.threads import in_signal_handler

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGUSR1")

SWEEP = """
import asyncio, signal, sys
from looopy import AgentLoop, TaskCanceled
from looopy.testing import ScriptedModel, calls, says

async def look() -> str:
    "Look."
    return "fine"

async def struck(step):
    "How a run ends that is cancelled in the middle of the n-th step of RxPY's schedulers; nothing if it has fewer."
    run = AgentLoop(llm_provider=ScriptedModel(calls("look"), says("Hi")), tools=[look]).execute("go")
    signal.signal(signal.SIGUSR1, lambda *_: run.cancel("a signal"))

    def strike(frame, *_):
        nonlocal step
        step -= "/reactivex/scheduler/" in frame.f_code.co_filename.replace("\\\\", "/")
        if step == 0:
            signal.raise_signal(signal.SIGUSR1)

    sys.setprofile(strike)
    try:
        await run
    except TaskCanceled:
        pass
    finally:
        sys.setprofile(None)
    return run.state.status.state if step <= 0 else ""

step = 1
while ended := asyncio.run(struck(step)):
    print(ended)
    step += 1
"""


def test_a_signals_handler_may_cancel_in_the_middle_of_whatever_rxpy_is_doing() -> None:
    """In a process of its own, since a lock that is waited for on its own thread is waited for for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", SWEEP], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert ended.count("canceled") > 100
    assert set(ended) <= {"canceled", "completed"}


class Handles:
    """Handlers of each kind."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.seen: list[bool] = []

    def method(self, signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)  # the second one kills
        self.seen.append(in_signal_handler())
        self.run.cancel("a signal")

    def partly(self, why: str, *_: Any) -> None:
        self.seen.append(in_signal_handler())
        self.run.cancel(why)

    def __call__(self, *signum_and_frame: Any) -> None:
        self.method(*signum_and_frame)


@pytest.mark.parametrize(
    "kind",
    [
        lambda handles: handles.method,
        lambda handles: partial(handles.partly, "a signal"),
        lambda handles: handles,
        lambda handles: lambda *_: handles.partly("a signal"),
    ],
    ids=["a method", "a partial", "an object", "a lambda"],
)
async def test_a_handler_of_any_kind_cancels_at_the_next_turn_of_the_loop(
    kind: Callable[[Handles], Any],
) -> None:
    run = AgentLoop(llm_provider=ScriptedModel(stalls())).execute("go").start()
    handles = Handles(run)
    before = signal.signal(signal.SIGUSR1, kind(handles))
    try:
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGUSR1)
        states = [run.state.status.state]
        await asyncio.sleep(0)
        states.append(run.state.status.state)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handles.seen == [True]
    assert states == ["working", "canceled"]


async def test_who_is_no_handler_cancels_at_once() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(stalls())).execute("go").start()
    await asyncio.sleep(0)
    run.cancel()
    assert (run.state.status.state, in_signal_handler()) == ("canceled", False)


def test_in_another_thread_than_the_main_one_there_is_no_handler() -> None:
    seen: list[bool] = []

    def look(*_: Any) -> None:
        seen.append(in_signal_handler())

    thread = threading.Thread(target=lambda: look(signal.SIGUSR1, inspect.currentframe()))
    thread.start()
    thread.join(5)
    assert seen == [False]
