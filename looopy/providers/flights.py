"""Calls that several subscribers share, and answers that are kept. `cache.py` says which requests are equal; what happens to their answers is here.

A `Seat` is a subscriber, a `Flight` a call that has as many as there are, a `Kept` an answer as it is written down. All on one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol, TypeAlias, TypeVar, cast

from pydantic_core import from_json, to_json
from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from looopy import threads
from looopy.events import (
    BLANK,
    ContentDelta,
    ContentReset,
    LLMEvent,
    LLMResponse,
    LLMRetry,
    ThoughtDelta,
    ToolCallDelta,
    dumps,
    loads,
)
from looopy.frozen import changed, copies
from looopy.messages import JSON, Message, jsonable
from looopy.providers.requests import Hearer, Passage
from looopy.reactive import from_aiter, from_awaitable, gate

_BREATH = 64  # pieces that are replayed at once, without letting others on the event loop go on

Piece: TypeAlias = ContentDelta | ThoughtDelta | ToolCallDelta
E = TypeVar("E", bound=LLMEvent)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is to be given again; each time with new events, which nobody else holds.

    Attributes:
        briefs: the pieces that it was streamed in, as `_brief` has them.
        response: its end, without ids.
    """

    briefs: list[JSON]
    response: LLMResponse

    @classmethod
    def read(cls, value: object) -> Kept | None:
        """What `written` made; None of anything else."""
        if not isinstance(value, bytes):
            return None
        if len(value) > _LONG:
            return _read(value)
        known = _read_lately(value)
        if known is None or _only_text(known.response.message):
            return known
        return _read(value)  # somebody may change an argument of a tool call in place

    def pieces(self) -> list[Piece]:
        """New pieces."""
        if set(map(type, self.briefs)) == {str}:  # all at once, since there are thousands of them
            return copies(_TEXT, "delta", self.briefs)
        return [_piece(brief) for brief in self.briefs]


def _read(value: bytes) -> Kept | None:
    briefs, _, response = value.partition(b"\n")
    try:
        kept = Kept(from_json(briefs), cast("LLMResponse", loads(response)))
        kept.pieces()
    except (ValueError, TypeError):
        return None
    return kept if isinstance(kept.response, LLMResponse) else None  # pyright: ignore[reportUnnecessaryIsInstance]


_LONG = 16_384  # bytes; what is longer is read anew each time
_read_lately = lru_cache(maxsize=64)(_read)


def _only_text(message: Message) -> bool:
    """Whether there is nothing in a message that could be changed in place."""
    return isinstance(message.content, str) and not (message.tool_calls or message.extra)


def written(events: Sequence[LLMEvent]) -> bytes | None:
    """An answer as two lines of JSON, its pieces and its end; None where it is not whole, so that it is not worth keeping."""
    *pieces, last = events or [None]
    if not isinstance(last, LLMResponse) or last.finish_reason not in ("stop", "tool_calls"):
        return None
    if any(call.problem for call in last.tool_calls):
        return None
    shown = [piece for piece in pieces if not isinstance(piece, LLMRetry)]
    if not all(isinstance(piece, Piece) for piece in shown):
        return None  # whatever its author's type checker would have said
    return to_json(jsonable([*map(_brief, cast("list[Piece]", shown))])) + b"\n" + dumps(_blank(last))


def _brief(piece: Piece) -> JSON:
    match piece:
        case ContentDelta(delta=delta):
            return delta
        case ThoughtDelta(delta=delta):
            return [delta]
        case _:
            return [piece.call_id, piece.tool_name, piece.delta]


_TEXT: Piece = ContentDelta(delta="")


def _piece(brief: JSON) -> Piece:
    match brief:
        case str():
            return ContentDelta(delta=brief)
        case [str(delta)]:
            return ThoughtDelta(delta=delta)
        case [str(call_id), str(name), str(delta)]:
            return ToolCallDelta(call_id=call_id, tool_name=name, delta=delta)
        case _:
            raise ValueError("no piece of an answer")


def _blank(event: E, **changes: object) -> E:
    """The event without the ids of the run that has it."""
    return changed(event, **_NO_IDS, **changes)


_NO_IDS: Mapping[str, object] = {
    "task_id": "", "context_id": "", "seq": 0, "timestamp": BLANK, "parent_task_id": "", "path": (),
}  # fmt: skip


class Seat(Passage):
    """A subscriber, and a long answer that is replayed to it.

    Attributes:
        pays: whether the call is made for it; to others its answer is as if out of the cache.
    """

    __slots__ = ("_began", "_first_token", "_flight", "_loop", "_seat", "pays")

    def __init__(
        self, seat: Callable[[Seat], None], below: Hearer, scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(below, scheduler)
        self.pays = False
        self._seat = seat
        self._loop = threads.loop_here()
        self._began = threads.now()
        self._first_token: float | None = None
        self._flight: Flight | None = None

    def begin(self) -> None:
        """Be seated, on the loop."""
        threads.on_loop(self._loop, partial(self._seat, self), context=copy_context())

    def sit(self, flight: Flight, *, pays: bool) -> None:
        """Take part in a call."""
        self._flight, self.pays = flight, pays

    def dispose(self) -> None:
        """Want nothing more."""
        super().dispose()
        threads.on_loop(self._loop, self._stand_up)

    def hear(self, event: LLMEvent) -> None:
        """Pass on an event of the call."""
        if self.pays:
            self.on_next(event)
        elif isinstance(event, LLMResponse):
            self.other(_blank(event, **self._nothing()))
        else:
            if not isinstance(event, LLMRetry | ContentReset):
                self._first_piece()
            self.on_next(_blank(event))

    def other(self, event: LLMEvent, /) -> None:
        """Pass it on."""
        self.below.other(event)

    def end(self, error: Exception | None = None) -> None:
        """The call is over."""
        super().end(error if error is None or self.pays else _copied(error))

    def replay(self, kept: Kept) -> None:
        """Give a kept answer, as it was streamed."""
        if len(kept.briefs) > _BREATH:
            # By a task, which lets others go on in between, and waits for slow readers.
            self.made(from_aiter(lambda: self._one_by_one(kept)).attach(self))
            return
        if kept.briefs:
            self._first_piece()
        for piece in kept.pieces():
            self.on_next(piece)
        self.other(changed(kept.response, **self._nothing()))
        self.end()

    async def _one_by_one(self, kept: Kept) -> AsyncIterator[LLMEvent]:
        self._first_piece()
        for piece in kept.pieces():
            yield piece
        yield changed(kept.response, **self._nothing())

    def _stand_up(self) -> None:
        if self._flight is not None:
            self._flight.leave(self)

    def _first_piece(self) -> None:
        if self._first_token is None:
            self._first_token = threads.now() - self._began

    def _nothing(self) -> Mapping[str, object]:
        """What is different in the answer of one who does not pay."""
        seconds = threads.now() - self._began
        return {
            "cached": True,
            "cost": 0.0,
            "attempts": 0,
            "seconds": seconds,
            "first_token": self._first_token,
        }


def _copied(error: Exception) -> Exception:
    """An error for one more run: each writes its result into it."""
    try:
        twin = copy(error)
    except Exception:  # noqa: BLE001  its author did not think of copies
        return error
    twin.__cause__ = error
    return twin


class Shelf(Protocol):
    """Where the answer to a call is kept."""

    def look(self) -> Awaitable[Kept | None]:
        """What is kept there."""
        ...

    def put(self, value: bytes, /) -> Awaitable[None] | None:
        """Keep an answer; an awaitable is to be awaited."""
        ...


class Flight:
    """One call, and those who share it. The first of them pays, and when that leaves, the next; when the last leaves, it ends.

    Args:
        begin: makes its stream.
        shelf: where its answer is kept; None keeps it nowhere.
        land: called when it is over.
    """

    __slots__ = (
        "_begin",
        "_events",
        "_land",
        "_loop",
        "_paid",
        "_seats",
        "_shelf",
        "_storing",
        "_taken",
        "_work",
    )

    def __init__(
        self, begin: Callable[[], Observable[LLMEvent]], *, shelf: Shelf | None, land: Callable[[], object]
    ) -> None:
        self._begin = begin
        self._shelf = shelf
        self._land = land
        self._loop = threads.loop_here()
        self._seats: list[Seat] = []
        self._taken = False
        self._paid = False
        self._events: list[LLMEvent] = []
        self._storing = False
        self._work = SerialDisposable()

    def take(self, seat: Seat) -> None:
        """Let one more take part: it hears what there was so far, and then the rest."""
        seat.sit(self, pays=not self._taken)
        self._taken = True
        self._seats.append(seat)
        for event in tuple(self._events):
            seat.hear(event)

    def leave(self, seat: Seat) -> None:
        """One wants nothing more."""
        if seat not in self._seats:
            return
        self._seats.remove(seat)
        if self._seats:
            if seat.pays and not self._paid:
                self._seats[0].pays = True
        elif not self._storing:  # what is paid for is kept even if nobody waits for that any more
            self._work.dispose()
            self._land()

    def look(self, shelf: Shelf) -> None:
        """Look for the answer where it is kept, and ask for it where it is not."""
        self._work.disposable = from_awaitable(shelf.look).subscribe(self._found, self._failed)

    def fetch(self) -> None:
        """Ask for the answer."""
        single = SingleAssignmentDisposable()
        self._work.disposable = single
        # Without the first one's gate: who reads slowly must not hold up the others.
        context = copy_context()
        context.run(gate.set, None)
        try:
            events = context.run(self._begin)
            single.disposable = context.run(
                events.subscribe,
                self._here(self._heard),
                self._here(self._failed),
                self._here(self._completed),
            )
        except Exception as error:  # noqa: BLE001  a provider may raise whatever it likes
            self._failed(error)

    def _here(self, action: Callable[..., object]) -> Callable[..., None]:
        """The action on this flight's loop, whichever thread a provider emits on."""
        return lambda *given: threads.on_loop(self._loop, partial(action, *given))

    def _found(self, kept: Kept | None) -> None:
        if kept is None:
            self.fetch()
        else:
            self._end(lambda seat: seat.replay(kept))

    def _heard(self, event: LLMEvent) -> None:
        if isinstance(event, ContentReset):
            self._events.clear()
        else:
            self._events.append(event)
        self._paid = self._paid or isinstance(event, LLMResponse)
        self._tell(self._seats, lambda seat: seat.hear(event))

    def _failed(self, error: Exception) -> None:
        self._end(lambda seat: seat.end(error))

    def _completed(self) -> None:
        value = self._written() if self._shelf else None
        done = self._shelf.put(value) if self._shelf and value else None
        if done is None:
            self._end(Seat.end)
            return
        self._storing = True
        self._work.disposable = from_awaitable(lambda: done).subscribe(
            on_error=lambda _: self._end(Seat.end), on_completed=lambda: self._end(Seat.end)
        )

    def _written(self) -> bytes | None:
        try:
            return written(self._events)
        except Exception:  # noqa: BLE001  it has no JSON form, which is no reason to keep it from anybody
            return None

    def _end(self, tell: Callable[[Seat], object]) -> None:
        self._land()
        seats, self._seats = self._seats, []
        self._tell(seats, tell)

    def _tell(self, seats: Sequence[Seat], action: Callable[[Seat], object]) -> None:
        """Tell each of them; what one raises is no business of the others."""
        for seat in tuple(seats):
            if seat.left:
                continue
            try:
                action(seat)
            except Exception as error:  # noqa: BLE001  a subscriber's bug
                self._loop.call_exception_handler(
                    {"message": "an observer of a looopy stream raised", "exception": error}
                )
                seat.dispose()
