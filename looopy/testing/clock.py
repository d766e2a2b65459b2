"""An asyncio event loop in virtual time: it jumps to the next timer instead of waiting for it.

Everything that asks the loop for the time or for a timer runs on it: the clocks and limits of a run, `asyncio.sleep` in a tool, back-off, the
time operators of Rx on the run's scheduler. A run of an hour takes milliseconds and is the same each time.

It has no network: a real socket would be ready at a real time. `ScriptedModel` and `ScriptedServer.transport()` work. While a
worker thread runs (a sync tool, `asyncio.to_thread`) time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from looopy.errors import ConfigurationError, LooopyError, WrongThread
from looopy.threads import running_loop, threads_at_work

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(LooopyError, RuntimeError):
    """Nothing can happen any more in virtual time: no timer is set, and nobody is there to wake a task."""


def run_virtual(coroutine: Coroutine[Any, Any, T], *, patience: float = 5.0) -> T:
    """Run a coroutine on an event loop of its own in virtual time, which starts at 0.

    Args:
        coroutine: what to run; the loop is closed after it.
        patience: real seconds to wait for worker threads before time goes on without them, so that a limit can strike a tool that hangs.

    Raises:
        Deadlock: nothing can happen any more and the coroutine is not done.
        ConfigurationError: a real socket was opened.
        WrongThread: an event loop runs in this thread; make the test a plain function.
    """
    if running_loop() is not None:
        coroutine.close()
        raise WrongThread(
            "virtual time needs an event loop of its own, and one runs in this thread: call it from a plain "
            "function (`def test_…`), not from a coroutine"
        )
    with asyncio.Runner(loop_factory=partial(VirtualLoop, patience=patience)) as runner:
        return runner.run(coroutine)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop behind `run_virtual`.

    Args:
        patience: real seconds to wait for worker threads before time goes on without them.

    Attributes:
        when_stuck: called once, in place of a `Deadlock`.
    """

    when_stuck: Callable[[], object] | None = None

    def __init__(self, *, patience: float = 5.0) -> None:
        self._now = 0.0
        self._executing = 0
        super().__init__(_Jumps(self, patience))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass; for the loop itself."""
        self._now = round(self._now + seconds, 9)

    @property
    def threads(self) -> int:
        """Worker threads that this loop waits for."""
        return self._executing + threads_at_work.get(self, 0)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As asyncio has it; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As asyncio has it, by a thread that is waited for."""
        self._executing += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._executing -= 1

    def _executed(self, _: asyncio.Future[Any]) -> None:
        self._executing -= 1


class _Jumps(selectors.DefaultSelector):
    """Where an event loop waits: this one does not."""

    def __init__(self, loop: VirtualLoop, patience: float) -> None:
        super().__init__()
        self._loop = loop
        self._patience = patience
        self._given_up = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready: at once, after a worker thread has woken the loop, or else after a jump to the next timer."""
        self._given_up = min(self._given_up, self._loop.threads)
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if len(self.get_map()) > 1:  # the first is the loop's own, by which threads wake it
            raise ConfigurationError(
                "a real socket was opened in virtual time, where nothing waits for it: use a ScriptedModel, or "
                "ScriptedServer.transport()",
                argument="transport",
            )
        if self._loop.threads > (0 if timeout is None else self._given_up):
            if ready := super().select(self._patience):
                return ready
            self._given_up = self._loop.threads
        if timeout is None:
            if self._loop.when_stuck is None:
                raise Deadlock(self._stuck())
            self._loop.when_stuck()
            self._loop.when_stuck = None
            return []
        self._loop.jump(timeout)
        return []

    def _stuck(self) -> str:
        waiting = sorted(_place(task) for task in asyncio.all_tasks(self._loop))
        threads = f", {self._loop.threads} worker threads do not end" if self._loop.threads else ""
        return (
            f"nothing can happen any more at {self._loop.time():g} s of virtual time: no timer is set{threads}, and "
            f"{len(waiting)} tasks wait: {'; '.join(waiting)}"
        )


def _place(task: asyncio.Task[Any]) -> str:
    """Where a task waits."""
    frames = task.get_stack(limit=1)
    at = f" at line {frames[0].f_lineno}" if frames else ""
    return f"{getattr(task.get_coro(), '__qualname__', task.get_name())}{at}"
