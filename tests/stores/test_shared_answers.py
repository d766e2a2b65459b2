"""A cache on a real file and a real server: shared by processes, spoilt, busy, and taken away. Whatever happens to it, the call goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from child import free_ports
from stores.test_answers import REDIS, redis_prefix

from looopy import Cache, LLMRequest, LLMResponse, Message, RedisCache, SQLiteCache
from looopy.ports import AnswerStore
from looopy.testing import ScriptedModel, says

__all__ = ["redis_prefix"]

PROGRAM = """
import asyncio, json, sys
from looopy import Cache, LLMRequest, Message, RedisCache, SQLiteCache
from looopy.testing import ScriptedModel, says

kind, *place = json.loads(sys.argv[1])
store = SQLiteCache(*place) if kind == "sqlite" else RedisCache(place[0], prefix=place[1])
model = ScriptedModel(otherwise=lambda request: says("re: ", request.messages[-1].text, cost=0.5))

async def main():
    asked = [LLMRequest(messages=(Message.user(prompt),)) for prompt in sys.argv[2:]]
    return await asyncio.gather(*map(Cache(model, store).call, asked))

answers = asyncio.run(main())
print(json.dumps([len(model.requests), [answer.message.text for answer in answers]]))
"""


@dataclass(frozen=True)
class Shared:
    """A store that is outside of this process.

    Attributes:
        place: how another process finds it.
        store: the same for this one.
    """

    place: tuple[str, ...]
    store: AnswerStore

    def start(self, *prompts: str) -> subprocess.Popen[str]:
        """Ask all of these at once, in another process."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(self.place), *prompts],
            stdout=subprocess.PIPE,
            text=True,
        )


def told(child: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """How often its model was asked, and the answers."""
    said, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    asked, answers = json.loads(said)
    return asked, answers


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    if request.param == "sqlite":
        return Shared(("sqlite", str(tmp_path / "answers.db")), SQLiteCache(tmp_path / "answers.db"))
    prefix = request.getfixturevalue("redis_prefix")
    return Shared(("redis", REDIS, prefix), RedisCache(REDIS, prefix=prefix))


def model() -> ScriptedModel:
    return ScriptedModel(otherwise=lambda request: says("re: ", str(request.messages[-1].text), cost=0.5))


def asks(prompt: str) -> LLMRequest:
    return LLMRequest(messages=(Message.user(prompt),))


@pytest.mark.slow
def test_what_one_process_was_answered_another_has(shared: Shared) -> None:
    assert told(shared.start("one", "two")) == (2, ["re: one", "re: two"])
    assert told(shared.start("two", "one")) == (0, ["re: two", "re: one"])

    here = model()
    answer = asyncio.run(_once(Cache(here, shared.store), "one"))
    assert (answer.message.text, answer.cached, answer.cost, here.requests) == ("re: one", True, 0.0, [])


@pytest.mark.slow
def test_processes_that_write_at_the_same_time_lose_nothing(shared: Shared) -> None:
    prompts = [f"question {number}" for number in range(30)]
    answers = [f"re: {prompt}" for prompt in prompts]

    children = [shared.start(*prompts) for _ in range(3)]

    assert [told(child)[1] for child in children] == [answers] * 3
    assert told(shared.start(*prompts)) == (0, answers)


async def test_equal_calls_at_the_same_time_are_one_and_others_are_not(shared: Shared) -> None:
    here = model()
    cache = Cache(here, shared.store)

    answers = await asyncio.gather(*(cache.call(asks(f"question {number % 5}")) for number in range(50)))

    assert [answer.message.text for answer in answers] == [
        f"re: question {number % 5}" for number in range(50)
    ]
    assert len(here.requests) == 5
    assert sum(answer.cost or 0.0 for answer in answers) == 2.5


async def test_an_answer_whose_time_is_over_is_asked_for_again(shared: Shared) -> None:
    here = model()
    for _ in range(2):
        await Cache(here, shared.store, seconds=0.001).call(asks("Hi"))
        await asyncio.sleep(0.01)  # the server's clock, and the file's, are their own

    assert len(here.requests) == 2


@pytest.mark.parametrize("spoil", ["nonsense", "half", "another version", "nothing"])
async def test_an_entry_that_is_spoilt_is_asked_for_again_and_mended(shared: Shared, spoil: str) -> None:
    here = model()
    cache = Cache(here, shared.store)
    await cache.call(asks("Hi"))
    key = cache.key(asks("Hi"))
    kept = await shared.store.get(key)  # type: ignore[misc]
    assert isinstance(kept, bytes)
    spoilt = {
        "nonsense": b"\x00\xff\n\xfe",
        "half": kept[: len(kept) // 2],
        "another version": kept.replace(b'"kind":"llm-response"', b'"kind":"something-else"'),
        "nothing": b"",
    }
    await shared.store.put(key, spoilt[spoil], seconds=60)  # type: ignore[misc]

    answers = [await cache.call(asks("Hi")) for _ in range(2)]

    assert [(answer.message.text, answer.cached) for answer in answers] == [
        ("re: Hi", False),
        ("re: Hi", True),
    ]
    assert len(here.requests) == 2


def test_a_file_that_somebody_else_writes_to_for_long_holds_no_call_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    here = model()
    cache = Cache(here, SQLiteCache(path))
    asyncio.run(_once(cache, "one"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answers = [asyncio.run(_once(cache, prompt)) for prompt in ("one", "two")]
        other.execute("ROLLBACK")
    again = asyncio.run(_once(cache, "two"))

    assert [(answer.message.text, answer.cached) for answer in (*answers, again)] == [
        ("re: one", True),
        ("re: two", False),
        ("re: two", False),
    ]
    assert caplog.text.count("SQLiteCache fails") == 1


@contextlib.contextmanager
def a_redis(port: int, folder: Path) -> Iterator[None]:
    """A Redis of the test's own, which ends with the block; killed, as a machine dies."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        next(line for line in server.stdout if "Ready to accept connections" in line)
        yield
    finally:
        server.kill()
        server.communicate()


@pytest.mark.redis
async def test_a_redis_that_dies_is_as_if_there_were_no_cache_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "looopy.providers")
    (port,) = free_ports(1)
    here = model()
    cache = Cache(here, RedisCache(f"redis://127.0.0.1:{port}/0"))
    came: list[tuple[bool, int]] = []

    async def ask() -> None:
        async with asyncio.timeout(5):
            came.append(((await _once(cache, "Hi")).cached, len(here.requests)))

    with a_redis(port, tmp_path):
        await ask()
        await ask()
    await ask()
    await ask()
    with a_redis(port, tmp_path):  # it comes back empty
        await ask()
        await ask()

    assert came == [(False, 1), (True, 1), (False, 2), (False, 3), (False, 4), (True, 4)]
    assert caplog.text.count("RedisCache fails; models are asked as if there were no cache") == 1


async def _once(cache: Cache, prompt: str) -> LLMResponse:
    response = await cache.call(asks(prompt))
    assert isinstance(response, LLMResponse)
    return response
