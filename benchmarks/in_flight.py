"""`python -m benchmarks.in_flight looopy|aiohttp URL`: prints the KiB that each of 1,000 runs takes.

A process of its own for each figure, because memory that was used once is not given back. Each run holds
its second request, after the tool has answered, and the server has not sent a byte of the reply. Linux
only: it reads /proc.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

from benchmarks.loops import Loop, aiohttp_loop
from benchmarks.ours import looopy_loop
from benchmarks.server import allow_many_sockets, ask

RUNS = 1000
WARM = 20  # enough for imports and caches; so few that their memory is no reserve for the 1,000


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def holding(loop: Loop, url: str, runs: int) -> int:
    """Resident bytes while `runs` runs wait for their model; then lets them end."""
    tasks = [asyncio.create_task(loop.run("held")) for _ in range(runs)]
    await ask(url, f"/held/{runs}")
    held = resident()
    await ask(url, "/release")
    await asyncio.gather(*tasks)
    return held


async def main(name: str, url: str) -> None:
    async with (looopy_loop if name == "looopy" else aiohttp_loop)(url) as loop:
        await holding(loop, url, WARM)
        before = resident()
        print((await holding(loop, url, RUNS) - before) / RUNS / 1024)


if __name__ == "__main__":
    allow_many_sockets()
    asyncio.run(main(*sys.argv[1:]))
