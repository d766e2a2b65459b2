"""The loop of a state machine as an Observable: perform, fold what happens into the state, and again. Of agents and models it knows nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar, cast

from reactivex import Observable, abc, throw
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable

from looopy.reactive import Lockless

S = TypeVar("S")
E = TypeVar("E")


def iterate(
    start: S,
    *,
    perform: Callable[[S], Observable[E] | None],
    advance: Callable[[S, E], S],
    prepare: Callable[[E], E],
) -> Observable[E]:
    """The loop of a state machine as one cold Observable: perform, fold each event into the state, and again, until there is nothing to do.

    It is flat: a round that ends at once is followed by a turn of a `while`, not by a deeper call, so ten thousand rounds cost no stack.
    Every round is subscribed in a copy of the subscriber's context, not in the context that the last round's task happened to have.

    Args:
        start: the first state.
        perform: the next round's events; None ends the stream.
        advance: folds one event into the state.
        prepare: what is done to an event before it is folded and shown.
    """

    def subscribe(
        observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        rounds = _Rounds(observer, scheduler, start, perform=perform, advance=advance, prepare=prepare)
        rounds.turn()
        return Disposable(rounds.dispose)

    return Lockless(subscribe)


class _Rounds(Generic[S, E]):
    """One subscription of `iterate`. No function in here holds another: what a run leaves behind is gone with its last reference, without the
    garbage collector.
    """

    __slots__ = (
        "_advance",
        "_context",
        "_current",
        "_due",
        "_observer",
        "_over",
        "_perform",
        "_prepare",
        "_scheduler",
        "_state",
        "_turning",
    )

    def __init__(
        self,
        observer: abc.ObserverBase[E],
        scheduler: abc.SchedulerBase | None,
        start: S,
        *,
        perform: Callable[[S], Observable[E] | None],
        advance: Callable[[S, E], S],
        prepare: Callable[[E], E],
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._state = start
        self._perform = perform
        self._advance = advance
        self._prepare = prepare
        self._context = copy_context()
        self._current = SerialDisposable()
        self._turning, self._due, self._over = False, True, False

    def turn(self) -> None:
        """Go on with the next round, and with those that follow on one that has ended already."""
        self._turning = True
        while self._due and not self._over:
            self._due = False
            events = _round(self._perform, self._state)
            if events is None:
                self._observer.on_completed()
                return
            single = SingleAssignmentDisposable()
            self._current.disposable = single
            single.disposable = self._context.copy().run(
                events.subscribe,
                self._on_next,
                self._observer.on_error,
                self._on_completed,
                scheduler=self._scheduler,
            )
        self._turning = False

    def _on_next(self, event: E) -> None:
        # What ends the round meanwhile, who is shown the event, a signal or a finalizer, is heard after it: else the next one knew nothing of it.
        turning, self._turning = self._turning, True
        try:
            try:
                event = self._prepare(event)
                self._state = self._advance(self._state, event)
            except Exception as error:  # noqa: BLE001  else nobody would ever hear of this stream again
                self.dispose()
                self._observer.on_error(error)
            else:
                self._observer.on_next(event)
        finally:
            self._turning = turning
            if self._due and not turning:
                self.turn()

    def _on_completed(self) -> None:
        self._due = True
        if not self._turning:
            self.turn()

    def dispose(self) -> None:
        """Begin no other round, and give up this one."""
        self._over = True
        self._current.dispose()


def _round(perform: Callable[[S], Observable[E] | None], state: S) -> Observable[E] | None:
    try:
        return perform(state)
    except Exception as error:  # noqa: BLE001  as in `on_next`
        return cast("Observable[E]", throw(error))
