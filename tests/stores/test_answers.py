"""The stores of answers: all keep the same contract, each on the real thing. What is said of Redis needs one at 127.0.0.1:6379."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import re
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from looopy import AgentLoop, Cache, MemoryCache, RedisCache, SQLiteCache
from looopy.errors import ConfigurationError, MissingExtra
from looopy.ports import AnswerStore
from looopy.testing import ScriptedModel, run_virtual, says

REDIS = "redis://127.0.0.1:6379/0"


@pytest.fixture
def redis_prefix() -> Iterator[str]:
    """A part of the Redis that nobody else uses; emptied in the end."""
    try:
        client = importlib.import_module("redis").Redis.from_url(REDIS, socket_connect_timeout=2)
        client.ping()
    except Exception as error:  # noqa: BLE001  whatever is missing
        why = f"no Redis at {REDIS} ({error!r})"
        if os.environ.get("LOOOPY_REQUIRE_SERVICES") == "1":
            pytest.fail(why)
        pytest.skip(why)
    prefix = f"looopy-test:{uuid.uuid4().hex}:"
    yield prefix
    for key in client.scan_iter(f"{prefix}*"):
        client.delete(key)
    client.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AnswerStore:
    match request.param:
        case "memory":
            return MemoryCache()
        case "sqlite":
            return SQLiteCache(tmp_path / "answers.db")
        case _:
            return RedisCache(REDIS, prefix=request.getfixturevalue("redis_prefix"))


async def get(store: AnswerStore, key: str) -> bytes | None:
    found = store.get(key)
    return await found if inspect.isawaitable(found) else found  # type: ignore[return-value]


async def put(store: AnswerStore, key: str, value: bytes, *, seconds: float = 60.0) -> None:
    done = store.put(key, value, seconds=seconds)
    if done is not None:
        await done


async def test_what_is_put_is_there_and_the_newest_counts(store: AnswerStore):
    assert isinstance(store, AnswerStore)
    assert await get(store, "a") is None
    await put(store, "a", b"1\x00\xff")
    await put(store, "b", b"")
    assert [await get(store, key) for key in "abc"] == [b"1\x00\xff", b"", None]
    await put(store, "a", b"2" * 1_000_000)
    assert await get(store, "a") == b"2" * 1_000_000


async def test_what_is_over_is_not_there(store: AnswerStore):
    await put(store, "a", b"1", seconds=1e-9)
    if isinstance(store, RedisCache):
        await asyncio.sleep(0.01)  # it counts in milliseconds
    assert await get(store, "a") is None
    await put(store, "a", b"2")
    assert await get(store, "a") == b"2"


def test_it_serves_several_event_loops_and_threads_at_once(store: AnswerStore):
    def work(number: int) -> list[bytes | None]:
        async def main() -> list[bytes | None]:
            for round_ in range(5):
                await put(store, f"{number}-{round_}", b"%d" % number)
            return [await get(store, f"{number}-{round_}") for round_ in range(5)]

        return asyncio.run(main())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[b"%d" % number] * 5 for number in range(4)]


def test_an_agent_is_answered_out_of_it(store: AnswerStore):
    model = ScriptedModel(says("4", cost=0.5))
    agent = AgentLoop(llm_provider=Cache(model, store))
    results = [agent.execute("2 + 2?").result() for _ in range(2)]

    assert [(result.output, result.cost) for result in results] == [("4", 0.5), ("4", 0.0)]
    assert len(model.requests) == 1


# ---------------------------------------------------------------------------------------------------------- memory


def test_memory_forgets_what_was_not_asked_for_the_longest():
    store = MemoryCache(entries=2)
    for key in "ab":
        store.put(key, b"1", seconds=60)
    store.get("a")
    store.put("c", b"1", seconds=60)

    assert [store.get(key) for key in "abc"] == [b"1", None, b"1"]
    assert (len(store), repr(store)) == (2, "MemoryCache(2 of 2 entries)")


def test_memory_goes_by_the_clock_of_the_loop():
    async def main() -> list[bytes | None]:
        store = MemoryCache()
        store.put("a", b"1", seconds=10)
        found = []
        for wait in (9.9, 0.1):
            await asyncio.sleep(wait)
            found.append(store.get("a"))
        assert len(store) == 0
        return found

    assert run_virtual(main()) == [b"1", None]


@pytest.mark.parametrize("entries", [0, -1, True, 1.5, None])
def test_memory_needs_room(entries: Any):
    with pytest.raises(ConfigurationError, match=re.escape(f"MemoryCache(entries={entries!r})")):
        MemoryCache(entries=entries)


# ---------------------------------------------------------------------------------------------------------- sqlite


async def test_a_file_outlives_its_store_and_what_is_over_is_deleted(tmp_path: Path):
    path = tmp_path / "answers.db"
    await SQLiteCache(path).put("a", b"1", seconds=60)
    await SQLiteCache(path).put("b", b"1", seconds=1e-9)
    await SQLiteCache(path).put("c", b"1", seconds=60)

    assert await SQLiteCache(str(path)).get("a") == b"1"
    file = sqlite3.connect(path)
    assert file.execute("SELECT key FROM answers").fetchall() == [("a",), ("c",)]
    assert file.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    file.close()
    assert repr(SQLiteCache(path)) == f"SQLiteCache({str(path)!r})"


def test_a_file_that_is_no_database_is_as_if_there_were_no_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "answers.db"
    path.write_bytes(b"nonsense" * 1_000)
    agent = AgentLoop(llm_provider=Cache(ScriptedModel(says("4")), SQLiteCache(path)))

    assert agent.execute("2 + 2?").result().output == "4"
    assert "SQLiteCache fails" in caplog.text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (":memory:", "MemoryCache() keeps answers in memory"),
        ("", "MemoryCache()"),
        ("/no/such/folder/answers.db", "a folder that is there"),
        ("/tmp", "a folder that is there"),
    ],
)
def test_a_path_that_cannot_work_is_said_at_once(path: str, text: str):
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        SQLiteCache(path)
    assert caught.value.argument == "path"


# ----------------------------------------------------------------------------------------------------------- redis


@pytest.mark.redis
@pytest.mark.parametrize("module", ["redis", "redis.asyncio"])
async def test_redis_takes_a_client_sync_or_async(module: str, redis_prefix: str):
    client = importlib.import_module(module).Redis.from_url(REDIS)
    store = RedisCache(client, prefix=redis_prefix)
    await store.put("a", b"1", seconds=60)

    assert await store.get("a") == b"1"
    left = client.pttl(f"{redis_prefix}a")
    assert 0 < (await left if inspect.isawaitable(left) else left) <= 60_000
    closed = client.aclose() if module == "redis.asyncio" else client.close()
    if closed is not None:
        await closed


@pytest.mark.redis
@pytest.mark.usefixtures("redis_prefix")
def test_a_redis_that_is_not_there_is_as_if_there_were_no_cache(caplog: pytest.LogCaptureFixture):
    store = RedisCache("redis://user:hunter2@127.0.0.1:1/0")
    agent = AgentLoop(llm_provider=Cache(ScriptedModel(says("4")), store))

    assert agent.execute("2 + 2?").result().output == "4"
    assert "RedisCache fails" in caplog.text
    assert "hunter2" not in caplog.text + repr(store) + repr(agent)


@pytest.mark.redis
@pytest.mark.usefixtures("redis_prefix")
def test_a_url_that_is_none_is_said_at_once_without_its_password():
    with pytest.raises(ConfigurationError, match="no URL of Redis") as caught:
        RedisCache("http://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("client", [object(), None, threading.Thread])
def test_redis_needs_a_client_or_a_url(client: Any):
    with pytest.raises(
        ConfigurationError, match="is no client of the redis package; it takes one, or a URL"
    ) as caught:
        RedisCache(client)
    assert caught.value.argument == "redis"


def test_redis_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=re.escape("RedisCache needs redis: pip install 'looopy[redis]'")):
        RedisCache(REDIS)
