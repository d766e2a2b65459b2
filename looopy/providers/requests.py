"""Requests to models on behalf of one subscriber: what wrappers have in common.

A request is made in its subscriber's context: in that of another request, spans would become children of a span that has ended. It may be closed at any time, from another thread too, and while it is being made.

In a stack of wrappers each hands the next one on as it is (`Direct`). The pieces of an answer's text, of which there are thousands, take a way of
their own (`text`), past the wrappers that need not see them; every other event goes through all of them (`other`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.internal import default_error, noop

from looopy import threads
from looopy.events import ContentDelta, LLMEvent
from looopy.reactive import Direct


class Hearer(abc.ObserverBase[LLMEvent]):
    """Who hears a call: a wrapper, a request of one that makes several, or who subscribed to the outermost."""

    __slots__ = ()

    def on_next(self, value: LLMEvent) -> None:
        """An event came from a source. What breaks on it ends the call: a source goes no further then, and those behind would wait for ever."""
        try:
            if type(value) is ContentDelta:
                self.text(value)
            else:
                self.other(value)
        except Exception as error:
            self.on_error(error)
            raise

    def text(self, event: LLMEvent, /) -> None:
        """A piece of text came."""
        raise NotImplementedError

    def other(self, event: LLMEvent, /) -> None:
        """Another event came."""
        raise NotImplementedError

    def made(self, upstream: abc.DisposableBase) -> None:
        """The request is made; it may be over by now."""
        raise NotImplementedError


class _Outside(Hearer):
    """The subscriber of the outermost wrapper."""

    __slots__ = ("on_completed", "on_error", "other", "text")

    def __init__(self, on_next: Any, on_error: Any, on_completed: Any) -> None:
        self.text = self.other = on_next
        self.on_error = on_error
        self.on_completed = on_completed


NOBODY: Hearer = _Outside(noop, noop, noop)


class Requests(Direct[LLMEvent]):
    """A model call that takes a request, or several.

    Each request is an Observable and keeps what Rx promises: it stops at its end, and when it is disposed of. So this one hands its subscriber
    on instead of wrapping it once more, which in a stack of wrappers would be most of their price.

    Args:
        subscriber: makes what stands for a subscriber: of who hears, and the scheduler.
    """

    def __init__(self, subscriber: Callable[[Hearer, abc.SchedulerBase | None], Subscriber]) -> None:
        # Not its base's: all that it would set is for a `subscribe` that is not used here.
        self._subscriber = subscriber

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
        outside = _Outside(on_next or noop, on_error or default_error, on_completed or noop)
        return self.attach(outside, scheduler)

    def attach(self, observer: Any, scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        """Make the first request, for another wrapper, which is a `Hearer`."""
        try:
            subscriber = self._subscriber(observer, scheduler)
        except Exception as error:  # noqa: BLE001  a request may hold whatever it likes
            observer.on_error(error)
            return Disposable()
        subscriber.begin()
        return subscriber


class Subscriber(abc.DisposableBase):
    """Who waits for the answer.

    Attributes:
        below: takes the events.
        left: whether it does not wait any more; then nothing reaches it.
    """

    __slots__ = ("_scheduler", "below", "left")

    def __init__(self, below: Hearer, scheduler: abc.SchedulerBase | None) -> None:
        self.below = below
        self.left = False
        self._scheduler = scheduler

    def begin(self) -> None:
        """Make the first request."""
        raise NotImplementedError

    def ask(self, request: Hearer, begin: Callable[[], Observable[LLMEvent]]) -> None:
        """Make a request."""
        try:
            events = begin()
        except Exception as error:  # noqa: BLE001  a provider may raise whatever it likes
            request.on_error(error)
            return
        if type(events) is Requests or isinstance(events, Direct):  # the first alone would do, but is quick
            upstream = events.attach(request, self._scheduler)
        else:
            upstream = events.subscribe(
                request.on_next, request.on_error, request.on_completed, scheduler=self._scheduler
            )
        request.made(upstream)

    def leave(self) -> None:
        """Hear nothing more."""
        self.left = True
        self.below = NOBODY

    def end(self, error: Exception | None = None) -> None:
        """Hear the last: that all is over, or why."""
        below = self.below
        self.leave()
        if error is None:
            below.on_completed()
        else:
            below.on_error(error)


class Patient(Subscriber):
    """A subscriber that other requests may be made for, later.

    Attributes:
        loop: where it waits, for timers.
    """

    __slots__ = ("_context", "loop")

    def __init__(self, below: Hearer, scheduler: abc.SchedulerBase | None) -> None:
        super().__init__(below, scheduler)
        self.loop = threads.loop_here()
        self._context = copy_context()

    def later(self, seconds: float, action: Callable[[], object]) -> Callable[[], None]:
        """Do something after some seconds, on the loop of this thread and in the subscriber's context; the returned function calls it off."""
        return threads.after(seconds, action, context=self._context.copy())


class Request(Hearer):
    """One of several requests for a subscriber: what hears its events, and closes it.

    Attributes:
        closed: whether nothing more of it is wanted.
    """

    __slots__ = ("_upstream", "closed")

    def __init__(self) -> None:
        self._upstream: abc.DisposableBase | None = None
        self.closed = False

    def made(self, upstream: abc.DisposableBase) -> None:
        """It is made; it may be over by now."""
        self._upstream = upstream
        if self.closed:
            self.close()

    def close(self) -> None:
        """End it at once, and hear nothing more of it; also when it has ended, since its source and it hold each other."""
        self.closed = True
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.dispose()


class Passage(Subscriber, Hearer):
    """A subscriber, and its only request: what comes is passed on."""

    __slots__ = ("_upstream",)

    def __init__(self, below: Hearer, scheduler: abc.SchedulerBase | None) -> None:
        super().__init__(below, scheduler)
        self._upstream: abc.DisposableBase | None = None

    def made(self, upstream: abc.DisposableBase) -> None:
        """The request is made; it may be over by now."""
        self._upstream = upstream
        if self.left:
            self.dispose()

    def dispose(self) -> None:
        """Close it: nobody wants it any more."""
        self.leave()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.dispose()

    def text(self, event: LLMEvent, /) -> None:
        """Pass it on."""
        self.below.text(event)

    def on_error(self, error: Exception) -> None:
        """Pass it on."""
        below = self.below
        self.dispose()
        below.on_error(error)

    def on_completed(self) -> None:
        """Pass it on."""
        below = self.below
        self.dispose()
        below.on_completed()
