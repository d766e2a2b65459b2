"""The bridges between asyncio and Rx.

RxPY has no source that owns a task, no async iteration and no back-pressure; asyncio has no streams that many can watch. What is
here joins them: Observables that own an asyncio task (`from_aiter`, `from_awaitable`), and the few small things that they need. The state loop is
in `rounds.py`, Observables that live on one loop's thread are in `onloop.py`. Nothing here knows of agents, models or events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import Context, ContextVar, copy_context
from threading import RLock
from typing import Generic, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from looopy.errors import TaskCanceled
from looopy.threads import loop_here, on_loop

T = TypeVar("T")
S = TypeVar("S")
E = TypeVar("E")

_BREATH = 64
"""Items between two returns to the event loop: a burst must not starve those who watch it."""


# ---------------------------------------------------------------------------------------------------------- Observables that own a task


class Gate:
    """Back-pressure: while it is shut, the sources under it wait before their next item."""

    __slots__ = ("_holders", "_waiters")

    def __init__(self) -> None:
        self._holders: set[int] = set()
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def shut(self) -> bool:
        """Whether somebody holds it shut."""
        return bool(self._holders)

    def hold(self, holder: object) -> None:
        """Shut it, on behalf of a holder."""
        self._holders.add(id(holder))

    def release(self, holder: object) -> None:
        """Let go; it opens when nobody holds it any more."""
        self._holders.discard(id(holder))
        if not self._holders:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    async def opened(self) -> None:
        """Wait until nobody holds it."""
        while self._holders:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


gate: ContextVar[Gate | None] = ContextVar("looopy_gate", default=None)
"""The gate over the sources that are subscribed in this context."""


class Lockless(Observable[T]):
    """An Observable that makes its lock when it is first asked for: making it is most of the price of an Observable, and few operators take it."""

    def __init__(self, subscribe: abc.Subscription[T] | None = None) -> None:
        # Not Observable's, which makes the lock.
        self._subscribe = subscribe

    @property
    def lock(self) -> RLock:
        """For operators that join streams."""
        return vars(self).get("_lock") or vars(self).setdefault("_lock", RLock())


class Direct(Lockless[T]):
    """An Observable that keeps Rx's promises by itself: it stops at its end, and when it is disposed of.

    So an observer may be handed to it as it is (`attach`), where `subscribe` would wrap it.
    """

    def attach(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        """Subscribe an observer that keeps itself from hearing more once it has disposed."""
        return self._subscribe_core(observer, scheduler)


class _Source(Generic[T]):
    """One subscription's task. Disposing cancels it; while it is showing an item it is only told to stop, so that a pending cancel never
    strikes in the middle of closing a connection.
    """

    __slots__ = ("_loop", "_observer", "_showing", "_stopped", "_task")

    def __init__(self, observer: abc.ObserverBase[T]) -> None:
        self._observer = observer
        self._stopped = False
        self._showing = False
        self._task: asyncio.Task[None] | None = None
        self._loop = loop_here()
        on_loop(self._loop, self._begin, context=copy_context())

    def _begin(self) -> None:
        if not self._stopped:
            self._task = self._loop.create_task(self._guarded())
            self._task.add_done_callback(self._done)

    async def _guarded(self) -> None:
        try:
            await self._run()
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            # Not by dispose: the loop is closing, or the source gave up by itself. A stream must end all the same.
            if not self._stopped:
                self._fail(
                    TaskCanceled("the event loop cancelled the task behind this stream", reason="event loop")
                )
            raise

    async def _run(self) -> None:
        raise NotImplementedError

    def _complete(self) -> None:
        if not self._stopped:
            self._stopped = self._showing = True
            self._observer.on_completed()

    def _fail(self, error: Exception) -> None:
        if self._stopped:
            raise error
        self._stopped = self._showing = True
        self._observer.on_error(error)

    def _done(self, task: asyncio.Task[None]) -> None:
        """An exception here is a subscriber's bug, or a failure while closing after dispose: nobody awaits it, so the loop is told."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "an observer of a looopy stream raised", "exception": error}
            )

    def dispose(self) -> None:
        if not self._stopped:
            self._stopped = True
            on_loop(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._showing:
            self._task.cancel()


class _Pump(_Source[T]):
    __slots__ = ("_factory",)

    def __init__(self, observer: abc.ObserverBase[T], factory: Callable[[], AsyncIterator[T]]) -> None:
        self._factory = factory
        super().__init__(observer)

    async def _run(self) -> None:
        items, shown, failure = self._factory(), 0, None
        barrier = gate.get()
        try:
            while not self._stopped:
                # Pull and push are apart: what the source raises is the stream's error, what a subscriber raises is not.
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001  a stream's failure is a value
                    failure = error
                    break
                if self._stopped:  # by another thread, in this moment
                    break
                self._showing = True
                self._observer.on_next(item)
                self._showing = False
                shown += 1
                if shown % _BREATH == 1:
                    await asyncio.sleep(0)
                if barrier is not None and barrier.shut:
                    await barrier.opened()
        finally:
            if (close := getattr(items, "aclose", None)) is not None:
                await close()
        if failure is not None:
            self._fail(failure)
        else:
            self._complete()


class _Once(_Source[T]):
    __slots__ = ("_factory",)

    def __init__(self, observer: abc.ObserverBase[T], factory: Callable[[], Awaitable[T]]) -> None:
        self._factory = factory
        super().__init__(observer)

    async def _run(self) -> None:
        try:
            item = await self._factory()
        except Exception as error:  # noqa: BLE001  a stream's failure is a value
            self._fail(error)
            return
        if not self._stopped:
            self._showing = True
            self._observer.on_next(item)
            self._complete()


def from_aiter(factory: Callable[[], AsyncIterator[T]]) -> Direct[T]:
    """An Observable over an async iterator, cold: each subscription runs a fresh one in a task of its own.

    It returns to the event loop after the first item and every 64, and before each item waits at the context's `gate`. Disposing cancels
    the task, from any thread, and closes the iterator, so that its `finally` blocks run.
    """
    return Direct(lambda observer, _=None: cast("abc.DisposableBase", _Pump(observer, factory)))


def from_awaitable(factory: Callable[[], Awaitable[T]]) -> Direct[T]:
    """An Observable of one item, cold: each subscription awaits a fresh awaitable in a task of its own; disposing cancels it."""
    return Direct(lambda observer, _=None: cast("abc.DisposableBase", _Once(observer, factory)))


class Within(Lockless[T]):
    """A source that is subscribed in a context of its own.

    It stands in for its source and adds nothing to it, so it hands observers on instead of wrapping them.

    Args:
        context: the context, which nobody else may be in meanwhile.
        source: what is subscribed.
        leaving: is called when the subscription is disposed of, before anything else is.
    """

    def __init__(
        self, context: Context, source: Observable[T], leaving: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self._context = context
        self._source = source
        self._leaving = leaving

    def subscribe(
        self,
        on_next: abc.ObserverBase[T] | abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe to the source."""
        upstream = self._context.run(
            self._source.subscribe, on_next, on_error, on_completed, scheduler=scheduler
        )
        return upstream if self._leaving is None else _Leaves(self._leaving, upstream)


class _Leaves(abc.DisposableBase):
    """A subscription whose end somebody hears of."""

    __slots__ = ("_leaving", "_upstream")

    def __init__(self, leaving: Callable[[], object], upstream: abc.DisposableBase) -> None:
        self._leaving = leaving
        self._upstream = upstream

    def dispose(self) -> None:
        self._leaving()
        self._upstream.dispose()


def at_once(items: Iterable[T]) -> Observable[T]:
    """A stream of these items, emitted while subscribing: `from_iterable` would put them off to the end of whatever RxPY is doing."""

    def subscribe(observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return Disposable()

    return Lockless(subscribe)


class Signal(Generic[T]):
    """A value that is set at most once, and tells those who wait for it; on one thread."""

    __slots__ = ("_waiting", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self._waiting: list[Callable[[], None]] = []

    def fire(self, value: T) -> None:
        """Set the value; a second time does nothing."""
        if self.value is None:
            self.value = value
            waiting, self._waiting = self._waiting, []
            for action in waiting:
                action()

    def wait(self, action: Callable[[], None]) -> Callable[[], None]:
        """Call the action when the value is set; the returned function calls it off."""
        self._waiting.append(action)

        def forget() -> None:
            if action in self._waiting:
                self._waiting.remove(action)

        return forget


def stopped_by(signal: Signal[Exception], source: Observable[T]) -> Observable[T]:
    """The source until the signal fires; then it is disposed of and the stream completes. The source's own error fires the signal."""

    def subscribe(
        observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        if signal.value is not None:
            observer.on_completed()
            return Disposable()
        upstream = SingleAssignmentDisposable()

        def stop() -> None:
            upstream.dispose()
            observer.on_completed()

        forget = signal.wait(stop)

        def on_completed() -> None:
            forget()
            observer.on_completed()

        def dispose() -> None:
            forget()
            upstream.dispose()

        upstream.disposable = source.subscribe(
            observer.on_next, signal.fire, on_completed, scheduler=scheduler
        )
        return Disposable(dispose)

    return Lockless(subscribe)
