"""A page of operators: a run is an RxPY Observable, so all of them work on it, on as many subscriptions as you like. Runs offline."""

from __future__ import annotations

import asyncio

import reactivex as rx
from reactivex import operators as ops

from looopy import AgentLoop, Usage
from looopy.events import ContentDelta, Event, LLMResponse, ToolComplete
from looopy.testing import ScriptedModel, calls, says


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def script() -> ScriptedModel:
    usage = Usage(input_tokens=20, output_tokens=5)
    return ScriptedModel(
        calls("add", a=1, b=2) + calls("add", a=3, b=4) + says(usage=usage, cost=0.001),
        says("Three ", "and ", "seven.", usage=usage, cost=0.002),
    )


def agent() -> AgentLoop:
    return AgentLoop(llm_provider=script(), tools=[add])


def is_text(event: Event) -> bool:
    return isinstance(event, ContentDelta)


def is_result(event: Event) -> bool:
    return isinstance(event, ToolComplete)


async def main() -> None:
    run = agent().execute("Add.")

    # Many subscriptions, one execution, one bill. Late ones see everything from the start.
    text = run.filter(is_text).map(lambda event: event.delta).reduce(lambda said, piece: said + piece, "")
    results = run.filter(is_result).map(lambda event: event.result).to_list()
    cost = run.filter(lambda event: isinstance(event, LLMResponse)).map(lambda event: event.cost or 0).sum()
    print("text, results, cost:", await rx.zip(text, results, cost))

    # Time operators run on the run's own loop, with no timer thread.
    chunks = agent().execute("Add.").filter(is_text).buffer_with_time(0.05).filter(bool).map(len)
    print("pieces per 50 ms:", await chunks.to_list())

    # Leaving early is cancelling.
    first = agent().execute("Add.")
    complete = await first.filter(is_result).first()
    print("first tool result:", complete.result, "→", first.status)

    # Whole runs merge like any streams.
    both = rx.merge(agent().execute("one"), agent().execute("two")).pipe(ops.count())
    print("events of two runs at once:", await both)


if __name__ == "__main__":
    asyncio.run(main())
