"""What the contract suites are made of: an error that teaches, and a subscription that is watched. `model_contract.py` and
`tool_contract.py` hold the checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable

from looopy.errors import LooopyError

E = TypeVar("E")

_SECONDS = 5.0  # the longest that a check waits for anything


class ContractBroken(LooopyError, AssertionError):
    """A provider does not do what the loop relies on."""


class Watcher:
    """One subscription.

    Attributes:
        events: what it has seen.
        over: whether the stream has ended.
    """

    def __init__(self, source: Observable[Any]) -> None:
        self.events: list[Any] = []
        self.over = False
        self._error: Exception | None = None
        self._subscription = source.subscribe(self.events.append, self._end, self._end)

    def leave(self) -> None:
        """Dispose of it."""
        self._subscription.dispose()

    async def failure(self) -> Exception | None:
        """How the stream ended: None where it completed."""
        await until(lambda: self.over, "the stream did not end")
        return self._error

    async def end(self) -> list[Any]:
        """The events of a stream that must complete."""
        error = await self.failure()
        require(error is None, f"the stream must complete; it ended with {error!r} after {self.events}")
        return self.events

    def _end(self, error: Exception | None = None) -> None:
        self.over = True
        self._error = error


async def collect(source: Observable[E]) -> list[E]:
    """The events of a stream that must complete."""
    return await Watcher(source).end()


async def until(true: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is true that nobody announces.

    Raises:
        ContractBroken: it did not become true in time.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            while not true():  # noqa: ASYNC110  a third party's rig has counters, not events
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise ContractBroken(f"{otherwise}, within {_SECONDS:g} s") from None


def require(kept: bool, otherwise: str) -> None:
    """Check a part of a contract.

    Raises:
        ContractBroken: it is not kept.
    """
    if not kept:
        raise ContractBroken(otherwise)
