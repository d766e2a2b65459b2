"""Marble diagrams: streams in virtual time, written and drawn as text.

One column is one tick, one character is one event: `-` a tick without an event, `|` the end, `#` an error, `!` where the subscriber left; what
shares a tick stands in a group, `(ab|)`, which is one column however long it is. Blanks mean nothing. So an event in the column n, counted
from 0, happens n ticks after the subscription.

    m = Marbles(w="working", d=ContentDelta, Z=LLMResponse, c="completed", _=Event)
    model = ScriptedModel(m.cold("-d-(Z|)"))
    assert m.draw(AgentLoop(llm_provider=model).execute("Hi")) == "wd-(Zc|)"

`cold` writes sources, `draw` runs anything that is an Observable, a `Run` above all, on an event loop in virtual time and draws what it
emitted: every clock of the run is driven by it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from types import UnionType
from typing import Any, TypeAlias, cast

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from looopy.errors import ConfigurationError, ModelFailed
from looopy.events import BLANK, Event, LLMResponse, StatusUpdate, ToolComplete
from looopy.onloop import LoopScheduler
from looopy.testing.clock import VirtualLoop, run_virtual

Meaning: TypeAlias = object
"""What a character stands for: a value (`cold` emits a copy of it; an event equals it when all but ids, number and times is the same), and to draw with also a
class, a text (a `kind`, or the state of a status update), a function of the event, or a tuple of these."""

_TOKEN = re.compile(r"\(([^()]*)\)|([^()])")
_BLANK: dict[str, Any] = {
    "task_id": "",
    "context_id": "",
    "seq": 0,
    "timestamp": BLANK,
    "parent_task_id": "",
    "path": (),
}
_HIDDEN = {*_BLANK, "kind", "seconds", "first_token"}


class Marbles:
    """A vocabulary for diagrams.

    Args:
        meanings: characters that are no Python names, such as digits; "#" is the error that `cold` emits.
        tick: seconds of virtual time in a column.
        more: the other characters, one letter each. `_` stands for what is not drawn.
    """

    def __init__(
        self, meanings: Mapping[str, Meaning] | None = None, /, *, tick: float = 1.0, **more: Meaning
    ) -> None:
        self._meanings = {**(meanings or {}), **more}
        self._tick = tick
        for symbol in self._meanings:
            if len(symbol) != 1 or symbol in "-|!() ":
                raise ConfigurationError(
                    f"{symbol!r} cannot stand for an event: a symbol is one character, and - | ! ( ) have a "
                    "meaning of their own",
                    argument=symbol,
                )

    def cold(self, diagram: str) -> Cold:
        """A stream as drawn, from each subscription on; what stands in the first column is emitted while subscribing.

        Raises:
            ConfigurationError: a character has no meaning that can be emitted, or stands after the end.
        """
        ticks = [token[0] or token[1] for token in _TOKEN.findall(diagram.replace(" ", ""))]
        events = "".join(ticks)
        if sum(map(diagram.count, "()")) != 2 * len(re.findall(r"\([^()]*\)", diagram)):
            raise ConfigurationError(f"{diagram!r}: the parentheses do not match", argument="diagram")
        if re.search(r"[|#].", events):
            raise ConfigurationError(f"{diagram!r}: nothing can follow | or #", argument="diagram")
        steps = [[self._source(symbol, diagram) for symbol in tick if symbol != "-"] for tick in ticks]
        return Cold(steps, self._tick)

    def draw(self, source: Observable[Any], *, dispose_at: int | None = None, patience: float = 5.0) -> str:
        """Subscribe to a stream in virtual time and draw what it emits.

        It draws to the end of the stream; without an end where nothing can happen any more. An event without a meaning is drawn as `?` and
        named below the diagram. Events between two ticks are drawn in the column of the tick before.

        Args:
            source: for example `agent.execute("Hi")`, made but not yet subscribed to.
            dispose_at: leave in this column, after its events.
            patience: real seconds to wait for worker threads, as in `run_virtual`.

        Raises:
            ConfigurationError: the stream is endless; give `dispose_at`.
            WrongThread: an event loop runs in this thread; make the test a plain function.
        """
        drawing = _Drawing(self._symbol)
        run_virtual(drawing.watch(source, self._tick, dispose_at), patience=patience)
        return str(drawing)

    def _source(self, symbol: str, diagram: str) -> object:
        if symbol == "|":
            return _END
        if symbol == "#":
            error = self._meanings.get("#", ModelFailed("# in a marble diagram"))
            if not isinstance(error, Exception):
                raise ConfigurationError(f"# is to be an exception, not {error!r}", argument="#")
            return _Error(error)
        if symbol not in self._meanings:
            known = " ".join(sorted(self._meanings)) or "none"
            raise ConfigurationError(
                f"{diagram!r}: {symbol!r} has no meaning; write Marbles({symbol}=…). Those with one: {known}",
                argument="diagram",
            )
        return self._meanings[symbol]

    def _symbol(self, event: object) -> str:
        return next((symbol for symbol, meaning in self._meanings.items() if _means(meaning, event)), "?")


class Cold(Observable[Any]):
    """What `Marbles.cold` makes: a stream that begins anew with each subscription.

    Attributes:
        subscriptions: for each subscription the columns of its beginning and its end, on the loop's clock; None while it lasts.
    """

    def __init__(self, columns: list[list[object]], tick: float) -> None:
        super().__init__(self._play)
        self.subscriptions: list[tuple[int, int | None]] = []
        self._columns = columns
        self._tick = tick

    def _play(
        self,
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002  Rx's signature
    ) -> abc.DisposableBase:
        loop = asyncio.get_running_loop()
        number, began = len(self.subscriptions), _column(loop.time(), self._tick)
        self.subscriptions.append((began, None))
        timers = [
            loop.call_later(column * self._tick, _emit, steps, observer)
            for column, steps in enumerate(self._columns)
            if column and steps
        ]

        def dispose() -> None:
            self.subscriptions[number] = (began, _column(loop.time(), self._tick))
            for timer in timers:
                timer.cancel()

        _emit(self._columns[0] if self._columns else [], observer)
        return Disposable(dispose)


class _Drawing:
    """One stream, watched and drawn."""

    def __init__(self, symbol_of: Callable[[object], str]) -> None:
        self._symbol_of = symbol_of
        self._columns: list[str] = []
        self._unknown: list[str] = []

    async def watch(self, source: Observable[Any], tick: float, dispose_at: int | None) -> None:
        """Subscribe, and wait until the stream is over, or left, or stuck."""
        loop = cast("VirtualLoop", asyncio.get_running_loop())  # run_virtual made it
        over = asyncio.Event()

        def on_next(event: object) -> None:
            self._note(event, _column(loop.time(), tick))
            if len(self._columns) > _LONGEST:
                over.set()

        def end(symbol: str, _: object = None) -> None:
            self._draw(symbol, _column(loop.time(), tick))
            over.set()

        def leave() -> None:
            subscription.dispose()
            end("!")

        loop.when_stuck = over.set
        subscription = source.subscribe(
            on_next, partial(end, "#"), partial(end, "|"), scheduler=LoopScheduler(loop)
        )
        if dispose_at is not None:
            loop.call_later((dispose_at + 0.5) * tick, leave)
        await over.wait()
        subscription.dispose()
        if len(self._columns) > _LONGEST:
            raise ConfigurationError(
                f"the stream goes on after {_LONGEST} columns: draw it with dispose_at=…, or a larger tick",
                argument="dispose_at",
            )

    def __str__(self) -> str:
        drawn = (f"({column})" if len(column) > 1 else column or "-" for column in self._columns)
        return "\n".join(["".join(drawn), *self._unknown])

    def _note(self, event: object, column: int) -> None:
        symbol = self._symbol_of(event)
        if symbol == "?":
            self._unknown.append(f"? in column {column}: {_shown(event)}")
        if symbol != "_":
            self._draw(symbol, column)

    def _draw(self, symbol: str, column: int) -> None:
        self._columns.extend([""] * (column + 1 - len(self._columns)))
        self._columns[column] += symbol


class _Error:
    """An error in a diagram."""

    def __init__(self, error: Exception) -> None:
        self.error = error


_END = object()
_LONGEST = 10_000


def _emit(steps: list[object], observer: abc.ObserverBase[Any]) -> None:
    for step in steps:
        if step is _END:
            observer.on_completed()
        elif isinstance(step, _Error):
            observer.on_error(step.error)
        else:
            observer.on_next(replace(step) if isinstance(step, Event) else step)


def _column(seconds: float, tick: float) -> int:
    return int(seconds / tick + 1e-6)


def _shown(event: object) -> str:
    """An event with the fields that say something."""
    if not isinstance(event, Event):
        return repr(event)
    said = ((part.name, getattr(event, part.name)) for part in fields(event) if part.name not in _HIDDEN)
    return f"{type(event).__name__}({', '.join(f'{name}={value!r}' for name, value in said if value)})"


def _means(meaning: Meaning, event: object) -> bool:
    if _plain(meaning) == _plain(event):
        return True
    match meaning:
        case tuple():
            return any(_means(one, event) for one in cast("tuple[object, ...]", meaning))
        case type() | UnionType():
            return isinstance(event, meaning)
        case str():
            state = event.status.state if isinstance(event, StatusUpdate) else ""
            return meaning in (getattr(event, "kind", ""), state)
        case _:
            return callable(meaning) and bool(meaning(event))


def _plain(value: object) -> object:
    """An event without what the loop stamps and measures; anything else as it is."""
    match value:
        case StatusUpdate():
            return replace(value, **_BLANK, status=replace(value.status, timestamp=BLANK))
        case LLMResponse():
            return replace(value, **_BLANK, seconds=0.0, first_token=None)
        case ToolComplete():
            return replace(value, **_BLANK, seconds=0.0)
        case _:
            return replace(value, **_BLANK) if isinstance(value, Event) else value
