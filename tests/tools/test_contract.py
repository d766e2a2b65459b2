"""`FunctionTools` keeps what every tool provider must keep."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from looopy.messages import ToolCall
from looopy.testing import ToolRig, tool_provider_contract
from looopy.tools.function import FunctionTools


def rig(*, streams: bool) -> ToolRig:
    running: list[int] = []

    async def double(word: str) -> str:
        return word * 2

    async def stop(word: str) -> str:
        raise RuntimeError(f"no more {word}")

    async def hang() -> None:
        running.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            running.pop()

    async def double_in_steps(word: str) -> AsyncIterator[Any]:
        yield 0.5
        yield await double(word)

    async def stop_in_steps(word: str) -> AsyncIterator[Any]:
        yield 0.5
        yield await stop(word)

    async def hang_in_steps() -> AsyncIterator[Any]:
        yield await hang()

    works, fails, hangs = (double_in_steps, stop_in_steps, hang_in_steps) if streams else (double, stop, hang)
    return ToolRig(
        provider=FunctionTools([works, fails, hangs]),
        works=ToolCall("1", works.__name__, {"word": "a"}),
        result="aa",
        fails=ToolCall("2", fails.__name__, {"word": "a"}),
        hangs=ToolCall("3", hangs.__name__),
        running=lambda: len(running),
    )


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("check", tool_provider_contract, ids=lambda check: check.__name__)
async def test_function_tools_keep_the_contract(check: Callable[..., Any], streams: bool) -> None:
    await check(functools.partial(rig, streams=streams))
