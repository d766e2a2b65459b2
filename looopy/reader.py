"""`async for` over a stream of events: a buffer of its own for each reader, and a rule for when it lags.

`Run.events` makes readers. Rx pushes and has no back-pressure; here a slow reader may hold the run back (through its `Gate`), or lose events by the
rule that it chose, but never grows without bound and never slows the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeAlias

from reactivex import Observable, abc

from looopy.errors import BufferOverflow, ConfigurationError
from looopy.events import Event
from looopy.reactive import Gate
from looopy.threads import on_loop, running_loop

Overflow: TypeAlias = Literal["wait", "drop-oldest", "latest", "error"]
"""When a reader lags by more than its buffer: "wait" holds the run back, up to the model's connection; "drop-oldest" drops the oldest unread
event; "latest" keeps only the newest; "error" raises `BufferOverflow` in the reader."""


class Events(AsyncIterator[Event]):
    """A reader for one `async for`. It subscribes at the first event asked for, and leaves when the loop over it is left, by whatever way."""

    def __init__(
        self,
        source: Observable[Event],
        *,
        newest: Callable[[], int],
        gate: Gate,
        after: int,
        buffer: int,
        overflow: Overflow,
    ) -> None:
        self._source = source
        self._newest = newest
        self._letters = _Letters(
            gate, after=after, buffer=1 if overflow == "latest" else buffer, overflow=overflow
        )
        self._subscription: abc.DisposableBase | None = None
        if buffer < 1:
            raise ConfigurationError(
                f"buffer={buffer}: a reader needs room for at least one event", argument="buffer"
            )

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        letters = self._letters
        if self._subscription is None:
            letters.loop = asyncio.get_running_loop()
            letters.known = self._newest()
            self._subscription = self._source.subscribe(letters.receive, letters.end, letters.end)
        while not letters.unread:
            if letters.ended:
                self.leave()  # also after an error, which would else keep this reader, and the run, until it is collected
                error, letters.error = letters.error, None
                raise error or StopAsyncIteration
            try:
                await letters.arrival()
            except BaseException:
                self.leave()  # cancelled here it is over, as a generator would be: the traceback may keep this reader for long
                raise
        event = letters.take()
        letters.make_room()
        return event

    async def aclose(self) -> None:
        """Leave now."""
        self.leave()

    def __del__(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Leave now, from any thread."""
        self._letters.ended = True
        if self._subscription is not None:
            self._letters.unread.clear()
            self._letters.make_room()
            self._subscription.dispose()


class _Letters:
    """What the stream holds of a reader, so that the reader itself can be let go of. Filled on the stream's loop, emptied on the reader's."""

    __slots__ = (
        "_after",
        "_buffer",
        "_gate",
        "_held",
        "_home",
        "_overflow",
        "_replayed",
        "_waiter",
        "ended",
        "error",
        "known",
        "loop",
        "unread",
    )
    _home: asyncio.AbstractEventLoop

    def __init__(self, gate: Gate, *, after: int, buffer: int, overflow: Overflow) -> None:
        self._gate = gate
        self._after = after
        self._buffer = buffer
        self._overflow = overflow
        self._held = False
        self._waiter: asyncio.Future[None] | None = None
        self.unread: deque[Event] = deque(maxlen=buffer if overflow in ("drop-oldest", "latest") else None)
        self._replayed = 0
        self.ended = False
        self.error: Exception | None = None
        self.known = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def receive(self, event: Event) -> None:
        if event.seq <= self._after or self.ended:
            return
        if event.seq <= self.known:
            self._replayed += 1  # what a late reader has to catch up with is no lag of its own
        elif len(self.unread) - self._replayed >= self._buffer:
            if self._overflow == "error":
                what = f"this reader is more than {self._buffer} events behind: read faster, or choose another overflow="
                self.end(BufferOverflow(what, size=self._buffer))
                return
            self._hold()
        self.unread.append(event)
        self._wake()

    def take(self) -> Event:
        """The oldest unread event."""
        if self._replayed:
            self._replayed -= 1
        return self.unread.popleft()

    def end(self, error: Exception | None = None) -> None:
        if not self.ended:
            self.ended = True
            self.error = error
            self._wake()

    async def arrival(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def make_room(self) -> None:
        """Let the run go on, if this reader held it back and has caught up with half of its buffer."""
        if self._held and len(self.unread) - self._replayed <= self._buffer // 2:
            self._held = False
            on_loop(self._home, lambda: self._gate.release(self))

    def _hold(self) -> None:
        home = running_loop()
        if self._overflow == "wait" and not self._held and home is not None:
            self._home = home  # before `_held`, at which another thread may look
            self._held = True
            self._gate.hold(self)

    def _wake(self) -> None:
        loop = self.loop
        if loop is not None and (self._waiter is not None or running_loop() is not loop):
            on_loop(loop, self._arrived)

    def _arrived(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None
