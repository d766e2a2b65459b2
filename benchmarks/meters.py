"""`python -m benchmarks.meters`: what recording costs, by the SDK's meter and by looopy's, in µs of CPU.

A record has six attributes; a run is one tool call between two model calls, whose events are folded again and again. The rounds take turns, so
that a busy machine meets all alike; the best round of each is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from looopy import AgentLoop, Usage
from looopy.events import Event
from looopy.observe.meters import LightMeters
from looopy.observe.metrics import Instruments, Meter
from looopy.testing import ScriptedModel, calls, says

ROUNDS = 40
ATTRIBUTES: dict[str, str | int] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "litellm",
    "server.address": "proxy",
    "server.port": 4000,
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5",
}


class Recorded:
    """A meter's record of one amount; and of a run's events, all of them."""

    def __init__(self, meters: MeterProvider | NoOpMeterProvider | Meter, events: list[Event]) -> None:
        self.instruments = Instruments(meters)
        self.events = events

    def record(self) -> None:
        self.instruments.call_duration.record(0.73, ATTRIBUTES)

    def run(self) -> None:
        meter = self.instruments.run(agent="clerk", provider="litellm", address="proxy", port=4000)
        for event in self.events:
            meter.on_event(event)
        meter.end()


def events() -> list[Event]:
    """Those of a run of two model calls and a tool call."""

    def look(_: str = "") -> str:
        """Look."""
        return "fine"

    usage = Usage(input_tokens=50, output_tokens=10)
    model = ScriptedModel(calls("look") + says(usage=usage, cost=0.25), says("Fine.", usage=usage, cost=0.25))
    run = AgentLoop(agent_id="clerk", llm_provider=model, tools=[look]).execute("go")
    found: list[Event] = []
    run.subscribe(found.append)
    run.result()
    return found


def best(actions: dict[str, Callable[[], None]], times: int) -> dict[str, float]:
    """µs of CPU of each."""
    spent: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            began = time.process_time()
            for _ in range(times):
                action()
            spent[name].append((time.process_time() - began) / times * 1e6)
    return {name: min(samples) for name, samples in spent.items()}


def main() -> None:
    told = events()
    sides = {
        "nothing": Recorded(NoOpMeterProvider(), told),
        "SDK": Recorded(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False), told),
        "looopy": Recorded(LightMeters(every=3600), told),
    }
    for what, times in (("record", 2_000), ("run", 100)):
        spent = best({name: getattr(side, what) for name, side in sides.items()}, times)
        print(f"{what}: " + ", ".join(f"{name} {micros:.2f} µs" for name, micros in spent.items()))


if __name__ == "__main__":
    main()
