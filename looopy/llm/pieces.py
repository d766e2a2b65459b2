"""An answer as it comes: `stream`, whose pieces of text can be looped over, and whose events any number may watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, Unpack, cast

from reactivex import Observable, abc

from looopy.arguments import Prompt
from looopy.errors import StreamBroken, WrongThread
from looopy.events import ContentDelta, ContentReset, Event, ToolStart
from looopy.llm.chat import Chat
from looopy.llm.once import Asking, Options
from looopy.messages import JSON
from looopy.onloop import Piped
from looopy.run import Run, RunResult
from looopy.threads import background_loop, running_loop

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of the answer's text."""

    type: Literal["text"] = "text"
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The model calls a tool; one that you run ends the stream.

    Attributes:
        name: the tool's name.
        arguments: what it is called with.
        call_id: what the tool's answer refers to, as `Message.tool(…, tool_call_id=…)`.
    """

    type: Literal["tool_use"] = "tool_use"
    name: str
    arguments: dict[str, JSON] = field(default_factory=dict[str, Any])
    call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The answer starts over: forget its text so far. Only a `Fallback` with `mid_stream="restart"` does so."""

    type: Literal["reset"] = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The end, and last.

    Attributes:
        result: the whole: output, usage, cost, messages.
    """

    type: Literal["done"] = "done"
    result: RunResult


Piece: TypeAlias = Text | ToolUse | Reset | Done
"""What a stream tells, in the same words for every model."""


def stream(prompt: Prompt | Chat, **options: Unpack[Options]) -> Stream:
    """Ask a model, and have the answer as it comes: `async for text in llm.stream("Hi")`.

    Args:
        prompt: as for `complete`.
        options: as for `complete`.

    Raises:
        ConfigurationError: the prompt or an option cannot work, or there is no model or proxy.
    """
    return Stream(Asking.of("stream", options).run(prompt))


class Stream(Piped[Piece]):
    """An answer as it comes, in several forms of one execution, which begins at the first use and ends when nobody looks any more.

    `async for text in stream`, and `for text in stream` where no event loop runs, give pieces of text. `stream.events()` gives `Text`, `ToolUse` and
    last `Done` to an `async for`. It is an Observable of these, too: `stream.subscribe(…)`, `stream.pipe(…)`. And as of a `Run`, `await stream`
    and `stream.result()` give the whole, as a `RunResult`.

    Leaving a loop closes the model's connection at once. What ends the answer early is raised, or is `on_error`.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run, _pieces(run))
        self._run = run

    def __repr__(self) -> str:
        return f"<Stream {self._run.task_id} {self._run.status}>"

    def events(self) -> AsyncIterator[Piece]:
        """`Text`, `ToolUse` and last `Done`, for `async for`."""
        return _Pieces(self._run, _any)

    def __aiter__(self) -> AsyncIterator[str]:
        """The text, piece by piece.

        Raises:
            StreamBroken: the answer starts over, which pieces of text cannot say.
        """
        return _Pieces(self._run, _text)

    def __iter__(self) -> Iterator[str]:  # pyright: ignore[reportIncompatibleVariableOverride]  # a Run refuses a plain `for`; here it may wait
        """As `async for`, where no event loop runs in this thread.

        Raises:
            WrongThread: one runs.
        """
        if running_loop() is not None:
            raise WrongThread(
                "a plain `for` over llm.stream(…) would block the event loop that runs in this thread: write `async for`"
            )
        return _pulled(_Pieces(self._run, _text))

    def __await__(self) -> Generator[Any, None, RunResult]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as a Run's
        """The whole, as a run's."""
        return self._run.__await__()

    def result(self, timeout: float | None = None) -> RunResult:
        """The whole, for code without an event loop, as `Run.result`."""
        return self._run.result(timeout)


def _pieces(run: Run) -> Observable[Piece]:
    """The events of a run as pieces, and last the whole or what ended it early."""

    def subscribe(
        observer: abc.ObserverBase[Piece], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        def on_next(event: Event) -> None:
            piece = _piece(event)
            if piece is not None:
                observer.on_next(piece)

        def on_completed() -> None:
            try:
                done = Done(result=run.result())
            except Exception as error:  # noqa: BLE001  a failed run's outcome is this stream's error
                observer.on_error(error)
            else:
                observer.on_next(done)
                observer.on_completed()

        return run.subscribe(on_next, observer.on_error, on_completed, scheduler=scheduler)

    return Observable(subscribe)


def _piece(event: Event) -> Piece | None:
    match event:
        case ContentDelta():
            return Text(content=event.delta)
        case ToolStart():
            return ToolUse(name=event.tool_name, arguments=event.arguments, call_id=event.call_id)
        case ContentReset():
            return Reset()
        case _:
            return None


def _any(piece: Piece) -> Piece:
    return piece


def _text(piece: Piece) -> str | None:
    match piece:
        case Text():
            return piece.content
        case Reset():
            return _starts_over()
        case _:
            return None


def _starts_over() -> NoReturn:
    raise StreamBroken(
        "the answer starts over with another model, which a loop over pieces of text cannot show: loop over llm.stream(…).events(), "
        "and forget the text so far at a Reset",
        events_seen=1,
    )


class _Pieces(AsyncIterator[T], Generic[T]):
    """The pieces that a reader wants, one at a time; `pick` gives None for the others."""

    def __init__(self, run: Run, pick: Callable[[Piece], T | None]) -> None:
        self._run = run
        self._events = run.events()
        self._pick = pick
        self._over = False

    async def __anext__(self) -> T:
        async for event in self._events:
            piece = _piece(event)
            picked = None if piece is None else self._pick(piece)
            if picked is not None:
                return picked
        last = None if self._over else self._pick(Done(result=await self._run))
        self._over = True
        if last is None:
            raise StopAsyncIteration
        return last

    async def aclose(self) -> None:
        """Leave now."""
        self.leave()

    def leave(self) -> None:
        """Leave now, from any thread."""
        self._over = True
        self._events.leave()


_END = object()


def _pulled(pieces: _Pieces[str]) -> Iterator[str]:
    """The pieces for a thread without a loop, each awaited on the background loop."""
    loop = background_loop()
    try:
        while True:
            coming = asyncio.run_coroutine_threadsafe(_next(pieces), loop)
            try:
                piece = coming.result()
            finally:
                coming.cancel()  # after Ctrl-C nobody waits for it any more; one that is done stays as it is
            if piece is _END:
                return
            yield cast("str", piece)
    finally:
        # Not awaited on the loop: this may be the garbage collector, on the loop's own thread.
        pieces.leave()


async def _next(pieces: _Pieces[str]) -> object:
    return await anext(pieces, _END)
