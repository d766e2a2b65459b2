"""Where `Cache` keeps models' answers: in memory, in an SQLite file, or in Redis.

Each is an `AnswerStore`: bytes under a key, for a while. Errors of the file or the server are raised as they are: `Cache` makes misses of them.
"""

from __future__ import annotations

import inspect
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from looopy import threads
from looopy.errors import ConfigurationError, MissingExtra
from looopy.redaction import redact

T = TypeVar("T")


class MemoryCache:
    """Answers in this process; of more than `entries` the one that was not asked for the longest is forgotten. For any thread and event loop.

    Args:
        entries: how many are kept.

    Raises:
        ConfigurationError: that is not at least 1.
    """

    def __init__(self, *, entries: int = 1_000) -> None:
        if isinstance(entries, bool) or not isinstance(entries, int) or entries < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"MemoryCache(entries={entries!r}): it must be a whole number, at least 1", argument="entries"
            )
        self._most = entries
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"MemoryCache({len(self)} of {self._most} entries)"

    def get(self, key: str, /) -> bytes | None:
        """What is kept under a key; None when there is nothing, or its time is over."""
        with self._lock:
            until, value = self._kept.get(key, _NEVER)
            if until <= threads.now():
                self._kept.pop(key, None)
                return None
            self._kept.move_to_end(key)
            return value

    def put(self, key: str, value: bytes, /, *, seconds: float) -> None:
        """Keep a value for so long, in place of what was there."""
        with self._lock:
            self._kept[key] = (threads.now() + seconds, value)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


_NEVER = (float("-inf"), b"")


class SQLiteCache:
    """Answers in an SQLite file, for any number of processes; those whose time is over are deleted. Made at the first use.

    Each access opens the file anew, in a thread of its own: nothing is to be closed, and a fork does no harm.

    Args:
        path: the file; its folder must be there.

    Raises:
        ConfigurationError: there is no such folder, or it is no path of a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if str(path) in ("", ":memory:"):
            raise ConfigurationError(
                f"SQLiteCache({str(path)!r}): it needs the path of a file; MemoryCache() keeps answers in memory",
                argument="path",
            )
        self._path = Path(path).absolute()
        if not self._path.parent.is_dir() or self._path.is_dir():
            raise ConfigurationError(
                f"SQLiteCache({str(path)!r}): it needs the path of a file in a folder that is there, for example 'answers.db'",
                argument="path",
            )

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self._path)!r})"

    async def get(self, key: str, /) -> bytes | None:
        """What is kept under a key; None when there is nothing, or its time is over."""

        def read(file: sqlite3.Connection) -> bytes | None:
            rows = file.execute("SELECT value FROM answers WHERE key = ? AND until > ?", (key, time.time()))
            found = rows.fetchone()
            return found[0] if found else None

        return await threads.in_thread(partial(self._open, read))

    async def put(self, key: str, value: bytes, /, *, seconds: float) -> None:
        """Keep a value for so long, in place of what was there."""

        def write(file: sqlite3.Connection) -> None:
            now = time.time()
            file.execute("DELETE FROM answers WHERE until <= ?", (now,))
            file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, value, now + seconds))

        await threads.in_thread(partial(self._open, write))

    def _open(self, action: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self._path, timeout=_SECONDS)) as file, file:
            file.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
            file.execute(
                "PRAGMA synchronous = NORMAL"
            )  # a power cut may lose the newest answers, and breaks nothing
            file.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB, until REAL) WITHOUT ROWID"
            )
            file.execute("CREATE INDEX IF NOT EXISTS answers_until ON answers (until)")
            return action(file)


_SECONDS = 1.0
"""How long a busy file or a silent server is waited for."""


class RedisCache:
    """Answers in Redis, for any number of machines; Redis forgets those whose time is over.

    Args:
        redis: its URL, `redis://…`, `rediss://…` or `unix://…`; or a client of the `redis` package, sync or async. An async one
            belongs to the event loop that it is used on.
        prefix: what its keys begin with.

    Raises:
        MissingExtra: a URL is given and the `redis` package is not installed.
        ConfigurationError: it is neither.
    """

    def __init__(self, redis: Any, *, prefix: str = "looopy:answer:") -> None:
        self._client: Any = _client(redis) if isinstance(redis, str) else redis
        execute = getattr(self._client, "execute_command", None)
        if isinstance(self._client, type) or not callable(execute):
            given = f"the class {redis.__name__}" if isinstance(redis, type) else f"a {type(redis).__name__}"
            raise ConfigurationError(
                f"RedisCache: {given} is no client of the redis package; it takes one, or a URL such as 'redis://localhost:6379/0'",
                argument="redis",
            )
        self._awaits = inspect.iscoroutinefunction(execute)
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"RedisCache(prefix={self._prefix!r})"  # a client's repr may show its password

    async def get(self, key: str, /) -> bytes | None:
        """What is kept under a key; None when there is nothing, or its time is over."""
        return await self._ask("GET", self._prefix + key)

    async def put(self, key: str, value: bytes, /, *, seconds: float) -> None:
        """Keep a value for so long, in place of what was there."""
        await self._ask("SET", self._prefix + key, value, "PX", max(1, round(seconds * 1000)))

    async def _ask(self, *command: str | bytes | int) -> Any:
        ask = partial(self._client.execute_command, *command)
        return await (ask() if self._awaits else threads.in_thread(ask))


def _client(url: str) -> Any:
    """A sync client: it serves every thread and event loop, survives a fork, and needs no closing."""
    try:
        redis = import_module("redis")
    except ImportError:
        raise MissingExtra("RedisCache", needs="redis", extra="redis") from None
    once = import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
    try:
        return redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=once)
    except ValueError as error:
        raise ConfigurationError(
            f"RedisCache({redact(url)!r}): it is no URL of Redis, such as 'redis://localhost:6379/0' ({redact(str(error))})",
            argument="redis",
        ) from None
