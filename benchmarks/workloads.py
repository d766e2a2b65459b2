"""The workloads, each a coroutine that measures and gives rows of the table; README.md describes them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import requires
from itertools import count
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from benchmarks.embeddings import TEXTS, Embed, embed_all, embed_by_hand
from benchmarks.loops import Loop, aiohttp_loop, httpx_loop
from benchmarks.measure import Clock, Row, Sample, cost, in_turns
from benchmarks.ours import LooopyLoop, looopy_loop, texts_to
from benchmarks.server import ask
from benchmarks.tracing import blind, receiver, unwatched, watched
from benchmarks.wrappers import ask as ask_provider
from benchmarks.wrappers import bare, cached, stacked, wrapped
from looopy import LLMProvider
from looopy.events import ContentDelta
from looopy.observe import Instrumentation

TWO_TURNS = "iterations-1"
BURST = 2000


@dataclass(slots=True)
class Bench:
    """What every workload gets: the three loops, the server, and how long it may take."""

    url: str
    ours: LooopyLoop
    httpx: Loop
    aiohttp: Loop
    quick: bool
    hangups: count[int] = field(default_factory=partial(count, 1))

    def times(self, full: int) -> int:
        """Pairs to measure: `full`, or with `--quick` a quarter, at least three."""
        return max(3, full // 4) if self.quick else full


Workload = Callable[[Bench], Awaitable[list[Row]]]


async def again(loop: Loop, model: str, runs: int) -> None:
    for _ in range(runs):
        await loop.run(model)


async def at_once(loop: Loop, model: str, runs: int) -> None:
    await asyncio.gather(*(loop.run(model) for _ in range(runs)))


async def two_turns(bench: Bench) -> list[Row]:
    runs = 40

    async def sample(loop: Loop) -> float:
        return await cost(again(loop, TWO_TURNS, runs)) / runs * 1e3

    ours, floor = await in_turns(partial(sample, bench.ours), partial(sample, bench.httpx), bench.times(24))
    return [Row("two-turn streamed tool run, CPU", "ms", ours, floor, "httpx", target=0.9)]


async def listened(loop: Loop, model: str, chunks: int) -> None:
    """One run, each piece of whose answer reaches a subscriber; anything else is an error."""
    seen: list[str] = []
    await loop.run(model, seen.append)
    if len(seen) != chunks:
        raise AssertionError(f"{model}: {len(seen)} pieces of text reached the subscriber, not {chunks}")


async def chunk_cost(loop: Loop, script: str, chunks: int, runs: int = 1) -> float:
    """Microseconds of CPU for each chunk."""
    costs = [await cost(listened(loop, f"{script}-{chunks}", chunks)) for _ in range(runs)]
    return sum(costs) / runs / chunks * 1e6


async def burst(bench: Bench) -> list[Row]:
    sample = partial(chunk_cost, script="burst", chunks=BURST)
    ours, floor = await in_turns(partial(sample, bench.ours), partial(sample, bench.httpx), bench.times(24))
    long = partial(chunk_cost, bench.ours, "burst", 4000)
    short = partial(chunk_cost, bench.ours, "burst", 500, 8)
    at_4000, at_500 = await in_turns(long, short, bench.times(12))
    return [
        Row("2,000 chunks in a burst, CPU per chunk", "µs", ours, floor, "httpx", target=0.7),
        Row("… at 4,000 chunks ÷ at 500", "µs", at_4000, at_500, "looopy", target=1.1),
    ]


async def first_token(loop: Loop) -> float:
    """Milliseconds from the call to the first piece of text, on a warm connection, the burst behind it."""
    seen: list[float] = []
    start = time.perf_counter()
    await loop.run(f"burst-{BURST}", lambda _: seen or seen.append(time.perf_counter()))
    return (seen[0] - start) * 1e3


async def decoded_before_subscriber(bench: Bench) -> float:
    """JSON documents decoded, by whatever C function, when a subscriber gets its first delta."""
    decoders = {"from_json", "raw_decode", "scan_once", "validate_json"}
    decoded: list[str] = []
    at_first: list[int] = []

    def watch(frame: object, happened: str, what: object) -> None:
        if happened == "c_call" and getattr(what, "__name__", "") in decoders:
            decoded.append(happened)

    run = bench.ours.execute(f"burst-{BURST}")
    run.subscribe(on_next=texts_to(lambda _: at_first or at_first.append(len(decoded))))
    sys.setprofile(watch)
    try:
        await run
    finally:
        sys.setprofile(None)
    if len(decoded) < BURST:
        raise AssertionError(
            f"only {len(decoded)} decodings of {BURST} chunks were seen: which function decodes?"
        )
    return at_first[0]


async def emitted_before_async_for(bench: Bench) -> float:
    """Deltas that a plain subscriber has had when an `async for` over the same run gets its first."""
    emitted: list[str] = []
    run = bench.ours.execute(f"burst-{BURST}")
    run.subscribe(on_next=texts_to(emitted.append))
    async for event in run:
        if isinstance(event, ContentDelta):
            return len(emitted)
    raise AssertionError("the run had no delta")


async def first(bench: Bench) -> list[Row]:
    sides = partial(first_token, bench.ours), partial(first_token, bench.httpx)
    ours, floor = await in_turns(*sides, bench.times(60))
    subscriber = tuple([await decoded_before_subscriber(bench) for _ in range(5)])
    iterator = tuple([await emitted_before_async_for(bench) for _ in range(5)])
    most = BURST / 100
    return [
        Row("time to the first token of a burst", "ms", ours, floor, "httpx", target=1.2),
        Row("… chunks decoded before a subscriber's first", "chunks", subscriber, target=most, judged="ours"),
        Row("… deltas emitted before an `async for`'s first", "chunks", iterator, target=most, judged="ours"),
    ]


async def paced(bench: Bench) -> list[Row]:
    sample = partial(chunk_cost, script="paced", chunks=300)
    ours, floor = await in_turns(partial(sample, bench.ours), partial(sample, bench.httpx), bench.times(12))
    return [Row("300 chunks, one a millisecond, CPU per chunk", "µs", ours, floor, "httpx")]


async def concurrent(bench: Bench) -> list[Row]:
    async def rate(loop: Loop) -> float:
        return 200 / await cost(at_once(loop, TWO_TURNS, 200), clock=time.perf_counter)

    async def cpu(loop: Loop, runs: int, rounds: int = 1) -> float:
        costs = [await cost(at_once(loop, TWO_TURNS, runs)) for _ in range(rounds)]
        return sum(costs) / runs / rounds * 1e3

    sides = partial(rate, bench.ours), partial(rate, bench.aiohttp)
    ours, floor = await in_turns(*sides, bench.times(16))
    at_1000, at_200 = await in_turns(
        partial(cpu, bench.ours, 1000), partial(cpu, bench.ours, 200, 5), bench.times(12)
    )
    return [
        Row("200 two-turn runs at once", "runs/s", ours, floor, "aiohttp", target=0.333, sense="at least"),
        Row("1,000 at once ÷ 200 at once, CPU per run", "ms", at_1000, at_200, "looopy", target=1.5),
    ]


async def tracing(bench: Bench) -> list[Row]:
    """CPU of a run with tracing on, its spans sent, against the same without; and what an event waits longer."""
    loop = bench.ours
    batch = 85  # runs of six spans
    longer = 4 * batch  # metrics are sent once in a sample, and in a program once a minute

    async def untraced(times: int) -> float:
        return await cost(again(loop, TWO_TURNS, times)) / times * 1e3

    async def traced(times: int, instrumentation: Instrumentation) -> float:
        async def all_of_it() -> None:
            await again(loop, TWO_TURNS, times)
            if not await asyncio.to_thread(instrumentation.flush):
                raise AssertionError("the spans were not sent")

        before = instrumentation.delivered
        spent = await cost(all_of_it()) / times * 1e3
        if (instrumentation.delivered - before, instrumentation.lost) != (6 * times, 0):
            raise AssertionError(f"{instrumentation.delivered - before} spans arrived, not all")
        return spent

    async def burst() -> float:
        return await cost(listened(loop, f"burst-{BURST}", BURST)) / BURST * 1e6

    async def unseeing() -> float:
        with blind():
            return await untraced(batch)

    async def beside(
        seen: Callable[[Instrumentation], Awaitable[float]], unseen: Sample, pairs: int, *, metrics: bool
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Samples of both, while recording is on as it is in a program: from its start."""

        async def nobody_looks() -> float:
            with unwatched():
                return await unseen()

        with receiver() as url, watched(url, metrics=metrics) as instrumentation:
            return await in_turns(partial(seen, instrumentation), nobody_looks, bench.times(pairs))

    alone = await in_turns(partial(untraced, batch), unseeing, bench.times(60))
    traces = await beside(partial(traced, batch), partial(untraced, batch), 120, metrics=False)
    both = await beside(partial(traced, longer), partial(untraced, longer), 40, metrics=True)
    first = await beside(lambda _: first_token(loop), lambda: first_token(loop), 40, metrics=True)
    bursts = await beside(lambda _: burst(), burst, 16, metrics=True)
    name = "2,000 chunks in a burst, traced, CPU per chunk"
    return [
        Row("two-turn run, not traced, CPU", "ms", *alone, "without the calls", target=1.02),
        Row("two-turn run, traced with content, sent", "ms", *traces, "untraced", target=1.25),
        Row("… and measured, sent", "ms", *both, "untraced", target=1.25),
        Row("time to the first token, traced", "ms", *first, "untraced", target=1.25),
        Row(name, "µs", *bursts, "untraced", target=1.1),
    ]


async def leaks(bench: Bench) -> list[Row]:
    runs = 2_000 if bench.quick else 10_000
    with receiver() as url:
        grown = float(await child("-m", "benchmarks.leaks", bench.url, url, str(runs)))
    name = f"memory after {runs:,} traced runs ÷ after 1,000"
    return [Row(name, "", (grown,), target=1.02, judged="ours")]


async def memory(bench: Bench) -> list[Row]:
    async def sample(name: str) -> float:
        return float(await child("-m", "benchmarks.in_flight", name, bench.url))

    ours, floor = await in_turns(partial(sample, "looopy"), partial(sample, "aiohttp"), bench.times(4))
    name = "memory of a run in flight, of 1,000"
    return [Row(name, "KiB", ours, floor, "aiohttp", target=45, judged="ours")]


async def iterations(bench: Bench) -> list[Row]:
    async def sample(loop: Loop, iterations: int) -> float:
        return await cost(loop.run(f"iterations-{iterations}")) / iterations * 1e3

    ours_100 = partial(sample, bench.ours, 100)
    ours, floor = await in_turns(ours_100, partial(sample, bench.httpx, 100), bench.times(12))
    at_200, at_100 = await in_turns(partial(sample, bench.ours, 200), ours_100, bench.times(12))
    return [
        Row("100 tool iterations in one run, CPU for each", "ms", ours, floor, "httpx", target=0.6),
        Row("… at 200 ÷ at 100", "ms", at_200, at_100, "looopy", target=1.15),
    ]


async def hangup(bench: Bench) -> list[Row]:
    async def seen(left: float) -> float:
        """Milliseconds from `left` to the server's seeing it."""
        return (float(await ask(bench.url, f"/hangups/{next(bench.hangups)}")) - left) * 1e3

    async def by_hand() -> float:
        speaking = asyncio.Event()
        task = asyncio.create_task(bench.httpx.run("hang", lambda _: speaking.set()))
        await speaking.wait()
        left = time.monotonic()
        task.cancel()
        return await seen(left)

    async def ours(cancels: bool) -> float:
        speaking = asyncio.Event()
        run = bench.ours.execute("hang")
        watching = run.subscribe(on_next=texts_to(lambda _: speaking.set()))
        await speaking.wait()
        leave = run.cancel if cancels else watching.dispose
        left = time.monotonic()
        leave()
        return await seen(left)

    cancelled, floor = await in_turns(partial(ours, True), by_hand, bench.times(40))
    disposed, floor_again = await in_turns(partial(ours, False), by_hand, bench.times(40))
    return [
        Row("cancel to the upstream's hang-up", "ms", cancelled, floor, "httpx", target=5),
        Row("dispose to the upstream's hang-up", "ms", disposed, floor_again, "httpx", target=5),
    ]


async def embeddings(bench: Bench) -> list[Row]:
    async def sample(embed: Embed, clock: Clock) -> float:
        """Microseconds for each text."""

        async def every() -> None:
            if await embed(bench.url) != len(TEXTS):
                raise AssertionError("a text has no vector")

        return await cost(every(), clock=clock) / len(TEXTS) * 1e6

    rows: list[Row] = []
    for what, clock in (("CPU", time.process_time), ("wall time", time.perf_counter)):
        sides = partial(sample, embed_all, clock), partial(sample, embed_by_hand, clock)
        ours, floor = await in_turns(*sides, bench.times(12))
        rows.append(Row(f"10,000 embeddings, {what} for each", "µs", ours, floor, "aiohttp", target=1.3))
    return rows


async def wrappers(bench: Bench) -> list[Row]:
    async def sample(provider: LLMProvider, pieces: int, calls: int) -> float:
        """Microseconds for each call."""
        return await cost(ask_provider(provider, pieces, calls)) / calls * 1e6

    rows: list[Row] = []
    call, chunk = ("iterations-0", 9, 100, 1), (f"burst-{BURST}", BURST, 1, BURST)
    for name, made, (model, pieces, calls, parts), target in (
        ("a call through Retry and Fallback, CPU", wrapped, call, 1.15),
        ("… each chunk of 2,000 through them", wrapped, chunk, 1.15),
        ("a call through those, Budget and RateLimit", stacked, call, 1.15),
        ("… each chunk of 2,000 through the four", stacked, chunk, 1.15),
        ("a call that Cache answers out of memory", cached, call, 0.1),
    ):
        sides = [partial(sample, make(bench.url, model), pieces, calls) for make in (made, bare)]
        ours, floor = await in_turns(*sides, bench.times(32))
        ours, floor = (tuple(each / parts for each in side) for side in (ours, floor))
        rows.append(Row(name, "µs", ours, floor, "bare", target=target))
    return rows


async def child(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *arguments]
    run = partial(subprocess.run, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    return (await asyncio.to_thread(run, command)).stdout.decode()


IMPORT = """
import sys, time
sys.modules.update(rich=None, click=None)
start = time.process_time()
{statement}
print((time.process_time() - start) * 1e3)
"""
"""Without rich and click, as after a plain `pip install looopy`: where they are, httpx imports its command line too."""

CORE = "import reactivex, httpx, pydantic, opentelemetry.trace, docstring_parser, httptools"


async def imports(bench: Bench) -> list[Row]:
    async def sample(statement: str) -> float:
        program = IMPORT.format(statement=statement)
        return float(await child("-c", program, PYTHONPYCACHEPREFIX=compiled, PYTHONDONTWRITEBYTECODE=""))

    # As an installer leaves a package: compiled. The samples that do not count write the byte code.
    with TemporaryDirectory() as compiled:
        core = partial(sample, CORE)
        bare, floor = await in_turns(partial(sample, "import looopy"), core, bench.times(24))
        agent = partial(sample, "from looopy import AgentLoop, LiteLLMProvider, tool")
        used, floor_again = await in_turns(agent, core, bench.times(24))
    return [
        Row("import looopy ÷ import its core dependencies", "ms", bare, floor, "they alone", target=1.25),
        Row("… with LiteLLMProvider and tool", "ms", used, floor_again, "they alone"),
    ]


def closure(distribution: str, found: set[str]) -> set[str]:
    """The distributions that installing one brings along, itself included, without extras."""
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name not in found:
        found.add(name)
        for requirement in map(Requirement, requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                closure(requirement.name, found)
    return found


async def packages(bench: Bench) -> list[Row]:
    installed = closure("looopy", set())
    return [Row("packages that `pip install looopy` brings", "", (len(installed),), target=16, judged="ours")]


WORKLOADS: dict[str, Workload] = {
    workload.__name__.replace("_", "-"): workload
    for workload in (
        two_turns,
        burst,
        first,
        paced,
        concurrent,
        memory,
        iterations,
        tracing,
        leaks,
        hangup,
        embeddings,
        wrappers,
        imports,
        packages,
    )
}


async def measured(workload: Workload, *, url: str, quick: bool) -> list[Row]:
    """The workload's rows, on loops of its own, so that no connection of another one's is left."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(looopy_loop(url))
        httpx = await stack.enter_async_context(httpx_loop(url))
        aiohttp = await stack.enter_async_context(aiohttp_loop(url))
        return await workload(Bench(url, ours, httpx, aiohttp, quick))
