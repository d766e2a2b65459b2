"""Loops and threads: which event loop this is, how to get onto another's thread, and blocking work in a thread of its own.

Plain asyncio; no Rx. `reactive.py` builds on it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")

TICK = 1e-6
"""Seconds by which a timer may ring early, by rounding: it counts as in time, for set anew it could ring at once for ever."""


def loop_here() -> asyncio.AbstractEventLoop:
    """The loop that runs in this thread, else the background loop."""
    return running_loop() or background_loop()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread; None in a thread without one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Background:
    """One loop in a daemon thread, for code that has none; made at the first need, anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def __call__(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(
                    target=_for_ever, args=(self._loop,), name="looopy-loop", daemon=True
                ).start()
            return self._loop


def _for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop that ends only with the process: who calls `sys.exit` in it ends neither."""
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit) as error:
            loop.call_exception_handler(
                {"message": "something on looopy's background loop wanted to exit", "exception": error}
            )


background_loop = _Background()


def on_loop(
    loop: asyncio.AbstractEventLoop, action: Callable[[], object], *, context: Context | None = None
) -> None:
    """Run an action on a loop's thread: now when this is it, else soon. A closed loop runs nothing any more."""
    if running_loop() is loop:
        action()
    else:
        soon(loop, action, context=context)


def soon(
    loop: asyncio.AbstractEventLoop, action: Callable[[], object], *, context: Context | None = None
) -> None:
    """Run an action on a loop's thread at its next turn, from any thread and from whatever came in between. A closed loop runs nothing any more."""
    try:
        loop.call_soon_threadsafe(action, context=context)
    except RuntimeError:
        if not loop.is_closed():
            raise


def after(
    seconds: float, action: Callable[[], object], *, context: Context | None = None
) -> Callable[[], None]:
    """Run an action on this thread's loop after some seconds, by the loop's clock; the returned function calls it off."""
    return asyncio.get_running_loop().call_later(seconds, action, context=context).cancel


def now() -> float:
    """Seconds on the clock of this thread's loop, which may be virtual; on the machine's where none runs."""
    loop = running_loop()
    return time.monotonic() if loop is None else loop.time()


threads_at_work: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""How many threads started by `in_thread` each loop waits for; a loop in virtual time must not jump meanwhile."""


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a thread of its own and await its result.

    The thread is a daemon: one that hangs is abandoned when the await is cancelled, and holds up neither other calls nor the
    interpreter's exit. Context variables are those of the caller.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        threads_at_work[loop] -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(cast("T", result))
        else:
            future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def work() -> None:
        result, failure = None, None
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001  whatever ends the function belongs to the one who awaits it
            failure = error
        on_loop(loop, lambda: settle(result, failure))

    threads_at_work[loop] = threads_at_work.get(loop, 0) + 1
    threading.Thread(target=work, name="looopy-tool", daemon=True).start()
    return await future
