"""Watching a run to its last event: signals, exit codes, and a reader that leaves.

The first Ctrl-C (or SIGTERM) cancels the run and waits for its last event; the second ends the process, and so does a run that does not
end within `GRACE` seconds. What the events look like is `show.py`'s business.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import aclosing
from types import FrameType
from typing import Any, Self

from looopy.events import Event, TaskState
from looopy.run import Run

GRACE = 3.0
"""Seconds that a cancelled run may take to end."""

FAILED, USAGE, INPUT_REQUIRED, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141
"""Exit codes; 128 and more are those of signals: 130 Ctrl-C, 143 SIGTERM, 141 a reader such as `head` that has left."""

_CODES: dict[TaskState, int] = {
    "completed": 0,
    "input-required": INPUT_REQUIRED,
    "auth-required": INPUT_REQUIRED,
}


class Interruption:
    """What SIGINT and SIGTERM do while a run goes on. A context manager, around the event loop.

    Args:
        say: tells the person at the keyboard.

    Attributes:
        code: 130 or 143 once a signal came; 0 before.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.code = 0
        self._say = say
        self._run: Run | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[int, Any] = {}
        self._deadline: threading.Timer | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._deadline is not None:
            self._deadline.cancel()

    def concerns(self, run: Run) -> None:
        """The run to cancel; called on its loop, before it begins."""
        self._loop = asyncio.get_running_loop()
        self._run = run
        for number in self._before:
            # A signal that comes just before the loop falls asleep would wait for whatever wakes it: so the loop is woken by the signal itself.
            self._loop.add_signal_handler(number, self._woken, number)
            signal.signal(number, self._came)

    def _woken(self, number: int) -> None:
        if not self.code:  # it came between the two lines above
            self._came(number, None)

    def _came(self, number: int, _: FrameType | None) -> None:
        # Between two instructions of whatever the main thread does: nothing here may wait for a lock of the run's or of a stream's.
        if self.code:
            _leave(128 + number)
        self.code = 128 + number
        # The loop may be busy with a tool that blocks it, or a thread hang at the exit: then the clock decides.
        self._deadline = threading.Timer(GRACE, _give_up, (128 + number,))
        self._deadline.daemon = True
        self._deadline.start()
        if self._loop is None:
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._cancel, "Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    def _cancel(self, reason: str) -> None:
        fresh_line = "\n" if sys.stderr.isatty() else ""  # behind the ^C that a terminal writes
        if self._run is not None:
            self._run.cancel(reason)
        self._say(f"{fresh_line}{reason}: cancelling the run (once more to exit at once)")


async def watched(run: Run, show: Callable[[Event], None], interruption: Interruption) -> int:
    """Show a run's events until its last; the exit code.

    Raises:
        BrokenPipeError: nobody reads what is shown any more; the run is cancelled.
    """
    interruption.concerns(run)
    async with aclosing(run.events()) as events:
        async for event in events:
            show(event)
    return interruption.code or _CODES.get(run.status, FAILED)


def hush() -> None:
    """Nobody reads stdout any more: let nothing complain about it at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _give_up(code: int) -> None:
    os.write(2, f"looopy: the run did not end within {GRACE:g} s of being cancelled; leaving it\n".encode())
    _leave(code)


def _leave(code: int) -> None:
    os._exit(code)
