"""The items that a tool yields: generators of both kinds and Observables as one async generator, and each item as an event.

Nothing here knows which tool it is or what it was called with: `function.py` does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TypeAlias, cast

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.scheduler.eventloop import AsyncIOThreadSafeScheduler

from looopy import reactive, threads
from looopy.events import ArtifactUpdate, InputRequired, ToolComplete, ToolEvent, ToolProgress
from looopy.messages import JSON, jsonable


def items_of(value: object, answer: Callable[[object], ToolEvent]) -> AsyncGenerator[object, None] | None:
    """The items of a generator or an Observable, to be pulled on the loop; None for any other value.

    Closing what is returned stops what makes the items. A generator that is not async runs in a thread; `answer` makes an item of what it
    returns, if that is not None.
    """
    if isinstance(value, Observable):
        return _observed(cast("Observable[object]", value))
    if isinstance(value, AsyncGeneratorType):
        return cast("AsyncGenerator[object, None]", value)
    if isinstance(value, GeneratorType):
        return _pumped(_with_return(cast("Generator[object, None, object]", value), answer))
    return None


def shown(item: object) -> ToolEvent:
    """An item of a generator or Observable as an event."""
    match item:
        case ToolProgress() | ArtifactUpdate() | ToolComplete() | InputRequired():
            return item
        case str():
            return ToolProgress(note=item)
        case (int() | float() as done, str() as note) if _is_progress(done):
            return ToolProgress(progress=float(done), note=note)
        case int() | float() if _is_progress(item):
            return ToolProgress(progress=float(item))
        case _:
            return ToolProgress(data=_data(item))


def _is_progress(number: float) -> bool:
    return not isinstance(number, bool) and 0 <= number <= 1


def _data(item: object) -> JSON:
    try:
        return jsonable(item)
    except TypeError:
        return repr(item)  # progress is for people: they would rather see this than a failure


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in a queue of items."""

    error: BaseException | None = None


_Post: TypeAlias = Callable[[object], None]


async def _queued(begin: Callable[[_Post], abc.DisposableBase]) -> AsyncGenerator[object, None]:
    """Items that are pushed, from any thread, for somebody who pulls; `begin` is told where to post them, and `_End` last."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[object] = asyncio.Queue()
    pushing = begin(lambda item: threads.on_loop(loop, lambda: queue.put_nowait(item)))
    try:
        while not isinstance(item := await queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        pushing.dispose()


def _observed(source: Observable[object]) -> AsyncGenerator[object, None]:
    # Time operators in the tool's Observable shall run on the loop, not start timer threads.
    scheduler = AsyncIOThreadSafeScheduler(asyncio.get_running_loop())
    return _queued(
        lambda post: source.subscribe(
            post, lambda error: post(_End(error)), lambda: post(_End()), scheduler=scheduler
        )
    )


def _with_return(
    generator: Generator[object, None, object], answer: Callable[[object], ToolEvent]
) -> Generator[object, None, None]:
    value = yield from generator
    if value is not None:
        yield answer(value)


def _pumped(generator: Generator[object, None, None]) -> AsyncGenerator[object, None]:
    """A generator's items, all of them made in one thread of its own; once nobody listens, it is closed at its next `yield`."""
    left = threading.Event()

    def pump(post: _Post) -> None:
        try:
            with closing(generator):
                for item in generator:
                    if left.is_set():
                        return
                    post(item)
        except BaseException as error:  # noqa: BLE001  whatever ends the generator belongs to the one who pulls
            post(_End(error))
        else:
            post(_End())

    def begin(post: _Post) -> abc.DisposableBase:
        thread = reactive.from_awaitable(lambda: threads.in_thread(partial(pump, post)))
        return CompositeDisposable(Disposable(left.set), thread.subscribe())

    return _queued(begin)
