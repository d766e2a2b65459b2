"""Virtual time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import reactivex as rx
from reactivex import operators as ops

from looopy import AgentLoop, Limits
from looopy.errors import ConfigurationError, LimitExceeded, WrongThread
from looopy.testing import Deadlock, ScriptedModel, calls, run_virtual, says


async def now():
    return asyncio.get_running_loop().time()


def test_time_jumps_to_the_next_timer():
    async def main():
        async def nap(seconds):
            await asyncio.sleep(seconds)
            return await now()

        return await asyncio.gather(nap(3600), nap(0.1), nap(86_400 * 3))

    before = time.monotonic()
    assert run_virtual(main()) == [3600, 0.1, 86_400 * 3]
    assert time.monotonic() - before < 5


def test_sums_of_decimal_pauses_are_exact():
    async def main():
        for _ in range(10):
            await asyncio.sleep(0.1)
        return await now()

    assert run_virtual(main()) == 1.0


def test_a_timeout_strikes_at_its_time():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return await now()

    assert run_virtual(main()) == 30


def test_time_stands_still_while_a_thread_works():
    def work():
        time.sleep(0.02)  # a thread's time is real
        return threading.current_thread().name

    def tool() -> str:
        """Work."""
        time.sleep(0.02)
        return "done"

    async def main():
        asyncio.get_running_loop().call_later(0.001, seen.append, "timer")
        await asyncio.to_thread(work)
        seen.append("thread")
        await asyncio.sleep(1)
        result = await AgentLoop(llm_provider=ScriptedModel(calls("tool"), says("ok")), tools=[tool]).execute(
            "go"
        )
        return result.output, await now()

    seen = []
    assert run_virtual(main()) == ("ok", 1.0)
    assert seen == ["thread", "timer"]


def test_a_thread_that_hangs_is_given_up_after_real_patience():
    release = threading.Event()

    async def main():
        hung = asyncio.get_running_loop().run_in_executor(None, release.wait, 5)
        await asyncio.sleep(60)
        await asyncio.sleep(60)
        release.set()
        await hung
        return await now()

    assert run_virtual(main(), patience=0.5) == 120


def test_what_can_never_happen_is_said_at_once():
    async def waits_for_nobody():
        await asyncio.Event().wait()

    with pytest.raises(
        Deadlock, match=r"at 0 s of virtual time: .* and 1 tasks wait: .*waits_for_nobody at line \d+"
    ):
        run_virtual(waits_for_nobody())


def test_a_deadlock_names_threads_that_do_not_end():
    release = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(None, release.wait, 5)
        try:
            await waiting
        finally:
            release.set()

    with pytest.raises(Deadlock, match="1 worker threads do not end"):
        run_virtual(main(), patience=0.1)


def test_a_real_socket_is_refused():
    left, right = socket.socketpair()

    async def main():
        left.setblocking(False)
        await asyncio.get_running_loop().sock_recv(left, 1)

    with left, right, pytest.raises(ConfigurationError, match="use a ScriptedModel"):
        run_virtual(main())


async def test_a_running_loop_is_in_the_way():
    with pytest.raises(WrongThread, match="call it from a plain function"):
        run_virtual(now())


def test_the_limits_of_a_run_are_in_virtual_time():
    async def slow() -> str:
        """Take an hour."""
        await asyncio.sleep(3600)
        return "late"

    async def main():
        agent = AgentLoop(
            llm_provider=ScriptedModel(calls("slow")), tools=[slow], limits=Limits(run_seconds=1800)
        )
        with pytest.raises(LimitExceeded):
            await agent.execute("go")
        return await now()

    assert run_virtual(main()) == 1800


def test_the_time_operators_of_a_run_are_in_virtual_time():
    async def main():
        run = AgentLoop(llm_provider=ScriptedModel(says("ok"))).execute("go")
        await run.pipe(ops.delay(3600), ops.merge(rx.never()), ops.take(1))
        return await now()

    assert run_virtual(main()) == 3600
