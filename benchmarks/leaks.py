"""`python -m benchmarks.leaks URL RECEIVER RUNS`: prints blocks of memory that live after so many recorded runs over those after a thousand.

A process of its own: the count is of the whole interpreter.
"""

from __future__ import annotations

import asyncio
import gc
import sys

from benchmarks.ours import looopy_loop
from benchmarks.tracing import watched

FIRST = 1000


async def main(url: str, receiver: str, runs: int) -> None:
    async with looopy_loop(url) as loop:
        with watched(receiver, metrics=True) as instrumentation:

            async def alive_after(more: int) -> int:
                for _ in range(more // 100):
                    await asyncio.gather(*(loop.run("iterations-1") for _ in range(100)))
                await asyncio.to_thread(instrumentation.flush)
                gc.collect()
                return sys.getallocatedblocks()

            before = await alive_after(FIRST)
            after = await alive_after(runs - FIRST)
            if instrumentation.lost:
                raise AssertionError(f"{instrumentation.lost} spans were lost")
    print(after / before)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
