"""What happens to recording in a fork's child: it forgets what its parent sees to, and sends what is its own when it ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakSet


class Forgets(Protocol):
    """Something that belongs to one process."""

    def forked(self) -> None:
        """This is a child now: forget the parent's affairs, and the locks that its threads may have held."""
        ...


class Ends(Protocol):
    """Something that has to do when its process ends."""

    def shutdown(self) -> None:
        """The process ends."""
        ...


_forgetful: WeakSet[Forgets] = WeakSet()


def forget_in_forks(thing: Forgets) -> None:
    """Let something forget in each fork's child, for as long as it lives."""
    _forgetful.add(thing)


def _forked() -> None:
    for thing in tuple(_forgetful):
        thing.forked()


_whole = threading.RLock()


@contextmanager
def in_one_process() -> Generator[None]:
    """Let no other thread fork meanwhile: what this one has half made or half closed, a TLS context above all, would lock up in the child for ever."""
    with _whole:
        yield


# Windows has no fork.
getattr(os, "register_at_fork", dict)(
    before=_whole.acquire, after_in_parent=_whole.release, after_in_child=_whole.release
)
getattr(os, "register_at_fork", dict)(after_in_child=_forked)


def end_with_process(thing: Ends) -> None:
    """Shut something down when this process ends, also if that is a worker of `multiprocessing`, which may not ask `atexit`."""
    atexit.register(thing.shutdown)
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _end_with_worker(thing)


def end_with_fork(thing: Ends) -> None:
    """The same for what has come along into a fork's child; `atexit` knows of it."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # If this child becomes a worker, it will forget what it was to do at its end, but for what is registered so.
        util.register_after_fork(thing, _end_with_worker)


def _end_with_worker(thing: Ends) -> None:
    util: Any = sys.modules["multiprocessing.util"]
    util.Finalize(None, thing.shutdown, exitpriority=0)
