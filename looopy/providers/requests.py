"""Requests to models on behalf of one subscriber: what the wrappers that make several of them have in common.

A request is made in its subscriber's context. It may be closed at any time, from another thread too, and while it is being made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import RLock
from typing import Any

from reactivex import Observable, abc
from reactivex.internal import default_error, noop

from looopy import threads
from looopy.events import LLMEvent


class Requests(Observable[LLMEvent]):
    """A model call that may take several requests.

    Each request is an Observable and keeps what Rx promises: it stops at its end, and when it is disposed of. So this one hands its subscriber
    on instead of wrapping it once more, which in a stack of wrappers would be most of their price.

    Args:
        begin: makes the first request for a subscriber; what it returns ends them all.
    """

    def __init__(self, begin: Callable[[Subscriber], abc.DisposableBase]) -> None:
        # Not Observable's: it makes a lock, a tenth of the price of a wrapper, for the few operators that take it.
        self._begin = begin

    @property
    def lock(self) -> RLock:
        """For operators that join streams; made at the first need."""
        return vars(self).get("_lock") or vars(self).setdefault("_lock", RLock())

    def subscribe(
        self,
        on_next: abc.ObserverBase[LLMEvent] | abc.OnNext[LLMEvent] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Make the first request."""
        if hasattr(on_next, "on_next"):
            observer: Any = on_next
            on_next, on_error, on_completed = observer.on_next, observer.on_error, observer.on_completed
        show: Any = on_next or noop
        return self._begin(Subscriber(show, on_error or default_error, on_completed or noop, scheduler))


class Subscriber:
    """Who waits for the answer.

    Attributes:
        show: takes an event.
        loop: where it waits, for timers.
        left: whether it does not wait any more; then nothing reaches it.
    """

    __slots__ = ("_complete", "_context", "_fail", "_scheduler", "left", "loop", "show")

    def __init__(
        self,
        show: Callable[[LLMEvent], None],
        fail: Callable[[Exception], None],
        complete: Callable[[], None],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self.show = show
        self._fail = fail
        self._complete = complete
        self.loop = threads.loop_here()
        self.left = False
        self._context = copy_context()
        self._scheduler = scheduler

    def ask(self, request: Request, begin: Callable[[], Observable[LLMEvent]]) -> None:
        """Make a request. In the subscriber's context: in that of another request, spans would become children of a span that has ended."""
        self._context.copy().run(self._ask, request, begin)

    def leave(self) -> None:
        """Hear nothing more."""
        self.left = True
        self.show = self._fail = self._complete = noop

    def end(self, error: Exception | None = None) -> None:
        """Hear the last: that all is over, or why."""
        fail, complete = self._fail, self._complete
        self.leave()
        if error is None:
            complete()
        else:
            fail(error)

    def _ask(self, request: Request, begin: Callable[[], Observable[LLMEvent]]) -> None:
        try:
            events = begin()
        except Exception as error:  # noqa: BLE001  a provider may raise whatever it likes
            request.on_error(error)
            return
        request.made(
            events.subscribe(
                request.on_next, request.on_error, request.on_completed, scheduler=self._scheduler
            )
        )


class Request:
    """A request under way: what hears its events, and closes it."""

    __slots__ = ("_closed", "_upstream")

    def __init__(self) -> None:
        self._upstream: abc.DisposableBase | None = None
        self._closed = False

    def made(self, upstream: abc.DisposableBase) -> None:
        """It is made; it may be over by now."""
        self._upstream = upstream
        if self._closed:
            self.close()

    def close(self) -> None:
        """End it at once, and hear nothing more of it; also when it has ended, since its source and it hold each other."""
        self._closed = True
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.dispose()

    def on_next(self, event: LLMEvent) -> None:
        """An event came."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> None:
        """It failed."""
        raise NotImplementedError

    def on_completed(self) -> None:
        """It is over."""
        raise NotImplementedError
