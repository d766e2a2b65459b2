"""Observables that live on one event loop: whoever subscribes from whichever thread, it all happens there.

`Run` is one. RxPY's own operators would start timer threads and call handlers wherever they happen to be; behind an `OnLoop` they do neither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.pipe import pipe as compose
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.typing import RelativeTime

from looopy.threads import on_loop, running_loop, soon

T = TypeVar("T")
State = TypeVar("State")


class LoopScheduler(AsyncIOScheduler):
    """Rx's scheduler on an event loop, from whichever thread: what a source emits on a thread of its own comes to the loop.

    Its `now` is the machine's date when it was made, and goes on by that loop's clock: RxPY's takes the machine's, which differs in virtual time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._ahead = time.time() - loop.time()

    @property
    def now(self) -> datetime:
        """The date and time."""
        return self.to_datetime(self._loop.time() + self._ahead)

    def schedule(self, action: abc.ScheduledAction[State], state: State | None = None) -> abc.DisposableBase:
        """Let an action be done at the loop's next turn."""
        return self._there(partial(super().schedule, action, state))

    def schedule_relative(
        self, duetime: RelativeTime, action: abc.ScheduledAction[State], state: State | None = None
    ) -> abc.DisposableBase:
        """Let an action be done after a time."""
        return self._there(partial(super().schedule_relative, duetime, action, state))

    def _there(self, schedule: Callable[[], abc.DisposableBase]) -> abc.DisposableBase:
        if running_loop() is self._loop:
            return schedule()
        single = SingleAssignmentDisposable()
        soon(self._loop, lambda: single.set_disposable(schedule()))
        return single


def rx_is_interrupted() -> bool:
    """Whether RxPY is in the midst of its scheduling on this thread, so that whoever asks is a signal's handler or a finalizer.

    It holds a lock then that it would wait for in vain, if one scheduled anything. RxPY does not say so; without its lock nobody is interrupted.
    """
    lock: Any = getattr(CurrentThreadScheduler.singleton().get_trampoline(), "_lock", None)
    return lock is not None and lock.locked()


class OnLoop(Observable[T]):
    """An Observable whose subscriptions live on one event loop's thread, from whichever thread they are made.

    Time operators behind it run on that loop instead of starting timer threads, also after `pipe`.
    """

    if TYPE_CHECKING:
        __iter__: None  # so that type checkers refuse a plain `for`, too
    else:

        def __iter__(self) -> NoReturn:
            """Refuse a plain `for`: Python would ask for item 0, 1, 2 …, and an Observable has an answer to each, for ever."""
            raise TypeError(
                "items come when they happen, which a plain `for` or list() cannot wait for: "
                "write `async for event in run`, `run.subscribe(print)`, or `await run.map(…).to_list()`"
            )

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None when there is nothing left to wait for, so that any thread will do."""
        raise NotImplementedError

    def _post(self, home: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
        """Run an action on the loop's thread, from another; should the loop end before, then when there is nothing left to wait for."""
        raise NotImplementedError

    def _attach(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        """Subscribe, on the loop's thread."""
        raise NotImplementedError

    def _subscribe_core(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        home = self._home()
        if home is None:
            here = running_loop()
            return self._attach(observer, scheduler or (LoopScheduler(here) if here else None))
        scheduler = scheduler or LoopScheduler(home)
        if running_loop() is home:
            return self._attach(observer, scheduler)
        single, left = SingleAssignmentDisposable(), False

        def attach() -> None:
            if not left:
                single.disposable = self._attach(observer, scheduler)

        def leave() -> None:
            nonlocal left
            left = True
            on_loop(home, single.dispose)

        self._post(home, partial(copy_context().run, attach))
        return Disposable(leave)

    def pipe(self, *operators: Callable[[Any], Any]) -> Any:  # type: ignore[override]  # the overloads of the base stay valid
        """Compose operators as `Observable.pipe` does; the outcome lives on the same loop."""
        composed: Any = cast("Any", compose)(self, *operators)
        return (
            Piped(self, cast("Observable[Any]", composed)) if isinstance(composed, Observable) else composed
        )

    def __await__(self) -> Generator[Any, None, T]:
        """The last item; works on any loop."""
        return last(self).__await__()


async def last(source: Observable[T]) -> T:
    """Subscribe and wait for the last item; cancelling the wait disposes.

    Raises:
        SequenceContainsNoElementsError: the stream was empty.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    newest: list[T] = []

    def settle(error: Exception | None = None) -> None:
        if outcome.done():
            return
        if error is not None or not newest:
            outcome.set_exception(error or SequenceContainsNoElementsError())
        else:
            outcome.set_result(newest[0])

    subscription = source.subscribe(
        lambda item: newest.__setitem__(slice(None), [item]),
        lambda error: on_loop(loop, lambda: settle(error)),
        lambda: on_loop(loop, settle),
    )
    try:
        return await outcome
    finally:
        subscription.dispose()


class Piped(OnLoop[T]):
    """What operators made of an Observable, on the loop that it lives on.

    Args:
        source: whose loop it is.
        composed: what is subscribed to there.
    """

    def __init__(self, source: OnLoop[Any], composed: Observable[T]) -> None:
        super().__init__()
        self._source = source
        self._composed = composed

    def _home(self) -> asyncio.AbstractEventLoop | None:
        return self._source._home()  # noqa: SLF001  the same class's part

    def _post(self, home: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
        self._source._post(home, action)  # noqa: SLF001

    def _attach(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        return self._composed.subscribe(observer, scheduler=scheduler)
