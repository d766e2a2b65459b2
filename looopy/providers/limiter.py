"""How often something may be done: so many times and so much a minute, so many at once. Who comes too early waits in a queue.

Nothing here knows of models; `rate_limit.py` asks for the turns.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import OrderedDict, deque
from weakref import WeakSet

from looopy import threads
from looopy.errors import ConfigurationError

_MINUTE = 60.0
_LOOK = 1.0  # seconds until somebody who waits for another event loop looks whether that is still there


class Limiter:
    """How often models may be asked: the memory of a `RateLimit`. Whoever shares it shares the limits, in any thread and on any event loop.

    Who comes first goes first. The limits hold for every minute, not on the average. One call that is larger than a minute's tokens goes alone.

    Args:
        requests_per_minute: calls that begin in any minute.
        tokens_per_minute: tokens in any minute: an estimate when a call begins, what it was when it has ended.
        at_once: calls under way at the same time.

    Raises:
        ConfigurationError: a limit is not a whole number above 0, or there is none at all.

    Example:
        >>> Limiter(requests_per_minute=500, tokens_per_minute=200_000, at_once=20)
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        at_once: int | None = None,
    ) -> None:
        limits: dict[str, object] = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "at_once": at_once,
        }
        for name, value in limits.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigurationError(
                    f"Limiter({name}={value!r}): it must be a whole number above 0; leave it out for none",
                    argument=name,
                )
        self._limits = {name: value for name, value in limits.items() if value is not None}
        if not self._limits:
            raise ConfigurationError(
                "Limiter(): it has no limit; give it requests_per_minute=, tokens_per_minute= or at_once=",
                argument="requests_per_minute",
            )
        self._requests = _Window(requests_per_minute or math.inf)
        self._tokens = _Window(tokens_per_minute or math.inf)
        self._at_once = at_once or math.inf
        self.counts_tokens = tokens_per_minute is not None
        self._forget()
        _limiters.add(self)

    def __repr__(self) -> str:
        return f"Limiter({', '.join(f'{name}={value}' for name, value in self._limits.items())})"

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def turn_now(self, tokens: float = 0.0) -> Turn | None:
        """A turn for a call of about so many tokens, if it need not wait; None if it must."""
        with self._lock:
            if self._queue and self._first():
                return None
            now = threads.now()
            return None if self._wait(tokens, now) else self._take(tokens, now)

    async def turn(self, tokens: float = 0.0) -> Turn:
        """Wait for a turn for a call of about so many tokens; its `done` must be called. Cancelling the wait leaves the queue."""
        return await self.line_up(tokens).turn()

    def line_up(self, tokens: float = 0.0) -> Place:
        """A place in the queue, for a call of about so many tokens; it is held from now on."""
        place = Place(self, tokens)
        with self._lock:
            self._queue[place] = None
        return place

    def _forget(self) -> None:
        """Nobody has a turn, or waits for one; so it is in a fork's child, where the parent's calls do not end."""
        self._under_way = 0
        self._open: dict[asyncio.AbstractEventLoop, int] = {}  # the same, by the loop that they end on
        self._queue: OrderedDict[Place, None] = OrderedDict()  # whoever leaves is found at once
        self._lock = threading.Lock()

    def leave(self, turn: Turn) -> None:
        """A call has ended; for `Turn.done`."""
        with self._lock:
            if not turn.open:
                return
            turn.open = False
            left = self._open.get(turn.loop, 0) - 1
            if left >= 0:  # else its loop was found to have ended, and the turn given back
                self._under_way -= 1
                self._open[turn.loop] = left
                if not left:
                    del self._open[turn.loop]
        self._nudge()

    def correct(self, entry: _Entry, tokens: float) -> None:
        """A call was of so many tokens; for `Turn.used`."""
        if self.counts_tokens:
            with self._lock:
                self._tokens.correct(entry, tokens)
            self._nudge()

    def take(self, place: Place) -> Turn | None:
        """The turn, if it has come; else the place is told when to try again, or to wait until it is nudged. For `Place.turn`."""
        with self._lock:
            now = threads.now()
            wait = self._wait(place.tokens, now) if self._first() is place else math.inf
            if wait:
                place.arm(wait)
                return None
            del self._queue[place]
            turn = self._take(place.tokens, now)
        self._nudge()
        return turn

    def give_up(self, place: Place) -> None:
        """A place is not wanted any more; for `Place.leave`."""
        with self._lock:
            first = next(iter(self._queue), None) is place
            self._queue.pop(place, None)
        if first:
            self._nudge()

    def _first(self) -> Place | None:
        """Who is next; those whose event loop has ended without a word are not."""
        while (first := next(iter(self._queue), None)) is not None and first.loop.is_closed():
            del self._queue[first]
        return first

    def _wait(self, tokens: float, now: float) -> float:
        """Seconds until a call may begin; infinity where it depends on another's end."""
        if self._under_way >= self._at_once:
            # A loop that ended without a word ends no call any more; if that is another one, nobody will say so.
            for loop in tuple(self._open):
                if loop.is_closed():
                    self._under_way -= self._open.pop(loop)
            if self._under_way >= self._at_once:
                return math.inf if self._open.keys() <= {threads.loop_here()} else _LOOK
        return max(self._requests.wait(1, now), self._tokens.wait(tokens, now))

    def _take(self, tokens: float, now: float) -> Turn:
        turn = Turn(self, self._tokens.add(tokens, now))
        self._under_way += 1
        self._open[turn.loop] = self._open.get(turn.loop, 0) + 1
        self._requests.add(1, now)
        return turn

    def _nudge(self) -> None:
        """Let the first in the queue try again."""
        if not self._queue:  # mostly; one who lines up in this moment looks for himself
            return
        with self._lock:
            first = self._first()
        if first is not None:
            threads.on_loop(first.loop, first.nudge)


class Turn:
    """Leave to make one call.

    Attributes:
        open: whether the call counts as under way.
        loop: where it was taken, and the call ends.
    """

    __slots__ = ("_entry", "_limiter", "loop", "open")

    def __init__(self, limiter: Limiter, entry: _Entry) -> None:
        self._limiter = limiter
        self._entry = entry
        self.loop = threads.loop_here()
        self.open = True

    def used(self, tokens: float) -> None:
        """Say once how many tokens it was, in place of the estimate."""
        self._limiter.correct(self._entry, tokens)

    def done(self) -> None:
        """The call is over; a second time does nothing."""
        self._limiter.leave(self)


class Place:
    """A place in the queue.

    Attributes:
        tokens: what it asks for.
        loop: where it waits.
    """

    __slots__ = ("_limiter", "_nudged", "_seconds", "loop", "tokens")

    def __init__(self, limiter: Limiter, tokens: float) -> None:
        self.tokens = tokens
        self.loop = threads.loop_here()
        self._limiter = limiter
        self._nudged: asyncio.Future[None] | None = None
        self._seconds: float | None = None

    async def turn(self) -> Turn:
        """Wait for the turn, on the loop of this place; its `done` must be called. Cancelling the wait leaves the queue."""
        try:
            while (turn := self._limiter.take(self)) is None:
                assert self._nudged is not None, "who must wait was told for what"
                await asyncio.wait([self._nudged], timeout=self._seconds)
        except BaseException:
            self.leave()
            raise
        return turn

    def leave(self) -> None:
        """Want no turn any more; does nothing once it has come."""
        self._limiter.give_up(self)

    def arm(self, seconds: float) -> None:
        """Wait so long, or to be nudged."""
        self._nudged = self.loop.create_future()
        self._seconds = None if math.isinf(seconds) else seconds

    def nudge(self) -> None:
        """Try again; on its loop."""
        if self._nudged is not None and not self._nudged.done():
            self._nudged.set_result(None)


class _Entry:
    """What one call takes of a window."""

    __slots__ = ("amount", "at", "over")

    def __init__(self, amount: float, at: float) -> None:
        self.amount = amount
        self.at = at
        self.over = False


class _Window:
    """What was let through in the last minute: in any minute no more than the limit, unless it is one call alone."""

    __slots__ = ("_entries", "_limit", "_sum")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._entries: deque[_Entry] = deque()
        self._sum = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much more may go; 0 for now."""
        if self._limit == math.inf:
            return 0.0
        while self._entries and self._entries[0].at + _MINUTE <= now + threads.TICK:
            entry = self._entries.popleft()
            entry.over = True
            self._sum = self._sum - entry.amount if self._entries else 0.0  # rounding is not carried on
        wait, left = 0.0, self._sum
        for entry in self._entries:
            if left <= 0 or left + amount <= self._limit:
                break
            wait, left = entry.at + _MINUTE - now, left - entry.amount
        return wait

    def add(self, amount: float, now: float) -> _Entry:
        """So much goes."""
        entry = _Entry(amount, now)
        if self._limit != math.inf:
            self._entries.append(entry)
            self._sum += amount
        return entry

    def correct(self, entry: _Entry, amount: float) -> None:
        """It was another amount: what is too much is taken back, and what comes on top goes now."""
        if amount > entry.amount:
            self.add(amount - entry.amount, threads.now())
        elif not entry.over and self._limit != math.inf:
            self._sum -= entry.amount - amount
            entry.amount = amount


_limiters: WeakSet[Limiter] = WeakSet()

# Windows has no fork.
getattr(os, "register_at_fork", dict)(
    after_in_child=lambda: [limiter._forget() for limiter in tuple(_limiters)]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
)
