"""The times that one model call may take, on the running loop's clock.

One timer a call, however many pieces come: a piece only writes down the time, and the timer is set anew when it has run out.
`litellm.py` says when it waits and when it has heard something; nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Literal, NamedTuple

from looopy.errors import ConfigurationError
from looopy.threads import TICK

LARGEST = sys.float_info.max
"""What can be counted with: a whole number may be larger, and breaks at the first sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a model call may take, in seconds; None means for ever.

    Attributes:
        connect: until the connection to the proxy is there.
        first_token: from the request to the first piece of the answer.
        between_tokens: from one piece to the next. A proxy's keep-alive comments (`: ping`) are not pieces.
        call: the whole call. The proxy does not always stop a call upstream when the client leaves (litellm#37140), so have one.

    Raises:
        ConfigurationError: one of them is not above 0.
    """

    connect: float | None = 5.0
    first_token: float | None = None
    between_tokens: float | None = None
    call: float | None = 60.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            seconds = getattr(self, name)
            if seconds is not None and not (is_seconds(seconds) and seconds > 0):
                raise ConfigurationError(
                    f"timeout: {name}={seconds!r} must be a number of seconds above 0, or None for no limit",
                    argument="timeout",
                )


class Expired(Exception):
    """A clock ran out.

    Attributes:
        clock: its name, as in `ModelTimeout`.
        seconds: what it was set to.
    """

    def __init__(self, clock: str, seconds: float) -> None:
        super().__init__(f"{clock}: {seconds:g} s")
        self.clock = clock
        self.seconds = seconds


class _Deadline(NamedTuple):
    at: float  # the loop's clock
    clock: Literal["first-token", "between-tokens", "call"]
    seconds: float


class Clocks:
    """The clocks of one call; they run from the construction to `stop`.

    `with clocks:` stands around each wait on the network, and raises `Expired` out of it when a clock runs out. It stands around nothing
    else: a cancel that comes while the caller holds the last piece would cancel the caller.
    """

    __slots__ = ("_cancelling", "_expired", "_heard", "_loop", "_task", "_timeouts", "_timer", "start")

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._heard: float | None = None
        self._expired: _Deadline | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self.start = self._loop.time()
        self._arm()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._loop.time() - self.start

    def heard(self) -> None:
        """A piece came, just now."""
        first, self._heard = self._heard is None, self._loop.time()
        if first:
            self._arm()

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        if self._expired is not None:
            raise Expired(self._expired.clock, self._expired.seconds)
        task = self._task = asyncio.current_task()
        assert task is not None, "async code runs in a task"
        self._cancelling = task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._expired is None or task is None:
            return
        # As asyncio.timeout does: our own cancel becomes the error, somebody else's goes its way.
        if task.uncancel() <= self._cancelling:
            raise Expired(self._expired.clock, self._expired.seconds) from None

    def _arm(self) -> None:
        self.stop()
        if (deadline := self._next()) is not None:
            self._timer = self._loop.call_at(deadline.at, self._ring)

    def _ring(self) -> None:
        deadline = self._next()
        assert deadline is not None, "a timer is set for a deadline"
        if deadline.at > self._loop.time() + TICK:
            self._arm()
        elif self._task is not None:
            self._expired = deadline
            self._task.cancel()
        elif deadline.clock == "call":
            self._expired = deadline
        else:
            # The caller is busy with the last piece: that is not the model's silence. The next wait counts from `heard`.
            self._heard = self._loop.time()
            self._arm()

    def _next(self) -> _Deadline | None:
        timeouts = self._timeouts
        deadlines: list[_Deadline] = []
        if timeouts.call is not None:
            deadlines.append(_Deadline(self.start + timeouts.call, "call", timeouts.call))
        if self._heard is None and timeouts.first_token is not None:
            deadlines.append(
                _Deadline(self.start + timeouts.first_token, "first-token", timeouts.first_token)
            )
        if self._heard is not None and timeouts.between_tokens is not None:
            deadlines.append(
                _Deadline(self._heard + timeouts.between_tokens, "between-tokens", timeouts.between_tokens)
            )
        return min(deadlines, default=None)


def is_seconds(value: object) -> bool:
    """Whether it is a number of seconds that somebody can wait: finite, 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST
