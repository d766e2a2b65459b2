"""Requests to Langfuse's public API that nobody has to wait for: a line of them, a thread that sends while there are any, and their replies.

A handler in a web server must not block its loop, a script must not lose its last score, and a server that is down must hold up neither.
So a request goes into the line and its reply can be awaited, waited for, or left alone. The thread is no daemon: the interpreter ends when
the line is empty, which is soon also where nobody answers, since all that wait behind a request that found no server fail with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import httpx

from looopy.errors import LangfuseFailed, WrongThread, words
from looopy.messages import JSON
from looopy.observe.forks import in_one_process
from looopy.observe.langfuse.account import Account
from looopy.threads import running_loop

T = TypeVar("T")

SECONDS = 5.0  # one request may take
TRIES = 3
LONGEST_WAIT = 5.0  # seconds between two tries, whatever the server asks for
ROOM = 10_000  # requests that may wait

_log = logging.getLogger("looopy.observe")


class Reply(Generic[T]):
    """What Langfuse will answer: await it, or call `result()` where no event loop runs, or leave it alone.

    Who leaves the await, or lets it time out, does not take the request back. A failure that nobody waits for is logged.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._future: Future[T] = Future()
        self._watched = False

    def __repr__(self) -> str:
        state = "on its way" if not self._future.done() else "failed" if self._future.exception() else "done"
        return f"<Reply: {self._what}, {state}>"

    def __await__(self) -> Generator[Any, None, T]:
        """The answer.

        Raises:
            LangfuseFailed: there will be none.
        """
        self._watched = True
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def result(self, timeout: float | None = None) -> T:
        """The answer, for code without an event loop: blocks until it is there.

        Args:
            timeout: seconds to wait; None waits as long as the request may take.

        Raises:
            LangfuseFailed: there will be none.
            TimeoutError: it is not there yet; the request goes on.
            WrongThread: an event loop runs in this thread.
        """
        if running_loop() is not None:
            raise WrongThread(
                "result() would block the event loop of this thread: write `await` before the call instead"
            )
        self._watched = True
        return self._future.result(timeout)

    @classmethod
    def of(cls, value: T) -> Reply[T]:
        """A reply that is there already."""
        reply = cls("nothing to ask")
        reply.settle(value)
        return reply

    def settle(self, value: T) -> None:
        """The answer is there."""
        self._future.set_result(value)

    def fail(self, error: LangfuseFailed) -> None:
        """There will be none."""
        if not self._watched:
            _log.warning("%s failed: %s", self._what, error)
        self._future.set_exception(error)


class Outbox:
    """The line of requests to one account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._working = False

    def request(
        self, what: str, method: str, path: str, body: JSON = None, *, read: Callable[[JSON], T]
    ) -> Reply[T]:
        """Send a request when its turn comes.

        Args:
            what: the request in words, for the log.
            method: GET or POST.
            path: below the server's address.
            body: sent as JSON; None for none.
            read: makes the reply of the JSON that was answered; raises KeyError, TypeError or ValueError where it cannot.
        """
        reply: Reply[T] = Reply(what)

        def carry_out(client: httpx.Client) -> None:
            try:
                answer = _answer(client, self._account, method, path, body)
                reply.settle(_read(self._account, answer, read))
            except LangfuseFailed as error:
                reply.fail(error)
                if not error.status:
                    self._fail_all(error)

        with self._lock:
            full = len(self._waiting) >= ROOM
            if not full:
                self._waiting.append(_Request(carry_out, reply.fail))
            idle, self._working = not self._working, True
        if full:
            reply.fail(
                LangfuseFailed(f"{ROOM:,} requests to Langfuse are waiting already: send fewer at a time")
            )
        if idle:
            threading.Thread(target=self._work, name="looopy-langfuse").start()
        return reply

    def _work(self) -> None:
        try:
            with in_one_process():
                client = httpx.Client(
                    base_url=self._account.base_url, headers=self._account.headers, timeout=SECONDS
                )
        except Exception as error:
            with self._lock:
                self._working = False
            self._fail_all(LangfuseFailed(f"no HTTP client can be made for Langfuse: {words(error)}"))
            return
        try:
            while (request := self._next()) is not None:
                request.carry_out(client)
        finally:
            with in_one_process():
                client.close()

    def _next(self) -> _Request | None:
        with self._lock:
            self._working = bool(self._waiting)
            return self._waiting.popleft() if self._waiting else None

    def _fail_all(self, error: LangfuseFailed) -> None:
        """Nobody is there: those that wait would find out the same, one after the other."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            request.fail(error)


class _Request(NamedTuple):
    """One request in the line."""

    carry_out: Callable[[httpx.Client], None]
    fail: Callable[[LangfuseFailed], None]


def outbox(account: Account) -> Outbox:
    """The line of this account, in this process: a forked child has no thread that sends, and what waits in its parent is the parent's."""
    return _outbox(account, os.getpid())


@cache
def _outbox(account: Account, _process: int) -> Outbox:
    return Outbox(account)


def _answer(client: httpx.Client, account: Account, method: str, path: str, body: JSON) -> httpx.Response:
    """What the server says, after up to three tries; a request that it takes may arrive twice, so it carries its own id."""
    tried = 0
    while True:
        tried += 1
        wait = float(tried)
        try:
            response = client.request(method, path, json=body)
        except Exception as error:
            failed = LangfuseFailed(
                f"no answer from Langfuse at {account.base_url}: {account.hide(words(error))}; is LANGFUSE_BASE_URL right, and the server up?"
            )
        else:
            if response.is_success:
                return response
            failed = _refused(account, response)
            asked = response.headers.get("retry-after", "")
            wait = float(asked) if asked.isdigit() else wait
        if tried == TRIES or not failed.retryable:
            raise failed
        time.sleep(min(wait, LONGEST_WAIT))


def _refused(account: Account, response: httpx.Response) -> LangfuseFailed:
    status = response.status_code
    said = " ".join(account.hide(response.text).split())[:300]
    mend = _MENDS.get(status) or _MENDS.get(status // 100, "see what it says")
    return LangfuseFailed(f"Langfuse at {account.base_url} answered {status}: {mend} ({said})", status=status)


_MENDS = {
    3: "it sends one elsewhere, so check LANGFUSE_BASE_URL",
    5: "it is broken or overloaded; try again later",
    400: "the request is wrong",
    401: "the keys are not those of a project there; keys of one region or server do not work on another, so check LANGFUSE_PUBLIC_KEY, "
    "LANGFUSE_SECRET_KEY and LANGFUSE_BASE_URL together",
    403: "the keys may not do this; they must be those of a project, not of an organisation",
    404: "there is no Langfuse API at this address, so check LANGFUSE_BASE_URL",
    429: "too many requests; send fewer",
}


def _read(account: Account, response: httpx.Response, read: Callable[[JSON], T]) -> T:
    try:
        return read(response.json())
    except (KeyError, IndexError, TypeError, ValueError):
        said = " ".join(account.hide(response.text).split())[:300]
        raise LangfuseFailed(
            f"{account.base_url} answered something that is not Langfuse's: is LANGFUSE_BASE_URL the server's address? ({said})",
            status=response.status_code,
        ) from None
