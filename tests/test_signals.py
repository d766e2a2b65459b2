"""Whoever ends a run from what comes in between anywhere: a handler that `signal.signal` has set, a finalizer."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGUSR1")

SWEEP = """
import asyncio, signal, sys
from looopy import AgentLoop, TaskCanceled
from looopy.testing import ScriptedModel, calls, says, stalls

async def look() -> str:
    "Look."
    return "fine"

async def struck(step):
    "How the run ends that a handler ends in the middle of the n-th step of RxPY's; nothing if it has fewer."
    run = AgentLoop(llm_provider=ScriptedModel(calls("look"), says("Hi")), tools=[look]).execute("go")
    ended, left = run, []
    if sys.argv[1] == "leave":
        ended = AgentLoop(llm_provider=ScriptedModel(stalls())).execute("go")
        left.append(ended.events())
        await anext(left[0])

    def handler(signum, frame):
        del frame
        left.clear() if left else run.cancel("a signal")

    def strike(frame, *_):
        nonlocal step
        name = frame.f_code.co_filename.replace("\\\\", "/")
        step -= "/reactivex/scheduler/" in name or "/reactivex/internal/" in name
        if step == 0:
            signal.raise_signal(signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, handler)
    sys.setprofile(strike)
    try:
        await run
    except TaskCanceled:
        pass
    finally:
        sys.setprofile(None)
    await asyncio.sleep(0)
    return ended.state.status.state if step <= 0 else ""

step = 1
while how := asyncio.run(struck(step)):
    print(how)
    step += 1
"""


@pytest.mark.parametrize(("what", "least"), [("cancel", 200), ("leave", 300)])
def test_a_run_may_be_ended_in_the_middle_of_whatever_rxpy_is_doing(what: str, least: int) -> None:
    """In a process of its own, since a lock that is waited for on its own thread is waited for for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", SWEEP, what], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    states = ended.stdout.split()
    assert states.count("canceled") > least
    assert set(states) <= {"canceled", "completed"}
