"""10,000 texts of 100 tokens as vectors: looopy's embedder, and the loop that one would write by hand on aiohttp.

Both send batches of 96, eight at once, ask for base64 and end with the vectors in order, as arrays of 32-bit floats. The hand-written one
does nothing else: no retries, no checks of what came, no usage, no cost.
"""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Awaitable, Callable

import aiohttp

from benchmarks.loops import KEY
from looopy import LiteLLMEmbedder

TEXTS = [f"{number:05d}" + " word" * 79 for number in range(10_000)]
"""400 characters each."""

MODEL = "embed-1536"
BATCH = 96
PARALLEL = 8

Embed = Callable[[str], Awaitable[int]]
"""Embeds the texts at a URL; how many vectors came."""


async def embed_by_hand(url: str) -> int:
    vectors: dict[int, array[float]] = {}
    starts = iter(range(0, len(TEXTS), BATCH))
    async with aiohttp.ClientSession(url, headers=KEY) as session:

        async def work() -> None:
            for start in starts:
                texts = TEXTS[start : start + BATCH]
                body = {"model": MODEL, "input": texts, "encoding_format": "base64"}
                async with session.post("/v1/embeddings", json=body) as response:
                    response.raise_for_status()
                    answer = await response.json()
                for entry in answer["data"]:
                    vectors[start + entry["index"]] = array("f", base64.b64decode(entry["embedding"]))

        await asyncio.gather(*(work() for _ in range(PARALLEL)))
    return len([vectors[index] for index in range(len(TEXTS))])


async def embed_all(url: str) -> int:
    embedder = LiteLLMEmbedder(url, MODEL, "sk-bench", batch_texts=BATCH, parallel=PARALLEL)
    return len((await embedder.embed(TEXTS)).vectors)
