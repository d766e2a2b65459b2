"""What spans add up to: tokens and money, also by model, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from looopy.messages import Usage
from looopy.observe.pictures.timeline import Span


@dataclass(frozen=True, slots=True)
class Spent:
    """What model calls took.

    Attributes:
        calls: how many there were.
        usage: tokens; None while nobody said.
        cost: US dollars, of the calls whose price is known; None while none is.
    """

    calls: int = 0
    usage: Usage | None = None
    cost: float | None = None

    def __add__(self, other: Spent) -> Spent:
        usage = self.usage if other.usage is None else (self.usage or Usage()) + other.usage
        cost = self.cost if other.cost is None else (self.cost or 0.0) + other.cost
        return Spent(self.calls + other.calls, usage, cost)


def spent(spans: Iterable[Span]) -> Spent:
    """What all model calls within some spans took together."""
    return sum(spent_by_model(spans).values(), Spent())


def spent_by_model(spans: Iterable[Span]) -> dict[str, Spent]:
    """What the model calls within some spans took, by the model that answered; the dearest first, then the one with most tokens."""
    models: dict[str, Spent] = {}
    for span in spans:
        for each in span.walk():
            if each.kind == "chat":
                one = Spent(1, each.usage, each.cost)
                models[each.model] = models.get(each.model, Spent()) + one
    return dict(sorted(models.items(), key=lambda entry: _weight(entry[1]), reverse=True))


def _weight(spent: Spent) -> tuple[float, int]:
    return spent.cost or 0.0, spent.usage.total_tokens if spent.usage else 0


@dataclass(frozen=True, slots=True)
class Time:
    """Where the seconds of some streams went; each second is counted once.

    Attributes:
        models: a model was being asked.
        tools: a tool ran, and no model was being asked.
        own: neither: looopy itself, the stores, the network in between.
    """

    models: float = 0.0
    tools: float = 0.0
    own: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(self.models + other.models, self.tools + other.tools, self.own + other.own)

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.models + self.tools + self.own


def time_of(span: Span) -> Time:
    """Where the time of a span went, with all that ran within."""
    within = list(span.walk())
    models = _covered([(each.start, each.end) for each in within if each.kind == "chat"])
    busy = _covered([(each.start, each.end) for each in within if each.kind in ("chat", "tool")])
    return Time(models, busy - models, span.seconds - busy)


def _covered(stretches: Sequence[tuple[float, float]]) -> float:
    """Seconds that at least one of the stretches covers."""
    seconds = 0.0
    until = float("-inf")
    for start, end in sorted(stretches):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds
