"""How things are measured: samples taken in turns, and a row of the table for each question.

A ratio is worth more than a figure: the two sides of every ratio are measured in pairs, close together in
time, and each pair's order is the other way round from the last one's, so that a busy machine or a slow
drift meets both alike. A row gives the median of the pairs' ratios, and the smallest and the greatest. The
garbage collector is on, as in an application, and is run before each sample, so that nobody pays for what
another one left.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

Clock = Callable[[], float]
Sample = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        name: the workload.
        unit: of `ours` and `floor`.
        ours, floor: the samples, in pairs; no floor where the question has none.
        against: what the floor is.
        target: of the ratio, or of `ours` itself where `judged` says so; None: for information.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    floor: tuple[float, ...] = ()
    against: str = ""
    target: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    judged: Literal["ratio", "ours"] = "ratio"

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(ours / floor for ours, floor in zip(self.ours, self.floor, strict=False))

    @property
    def verdict(self) -> Literal["ok", "over", ""]:
        if self.target is None:
            return ""
        value = median(self.ratios if self.judged == "ratio" else self.ours)
        return "ok" if (value <= self.target if self.sense == "at most" else value >= self.target) else "over"

    def cells(self) -> tuple[str, ...]:
        ratios = self.ratios
        sign = "≤" if self.sense == "at most" else "≥"
        unit = f" {self.unit}" if self.judged == "ours" else ""
        return (
            self.name,
            f"{number(median(self.ours))} {self.unit}",
            f"{number(median(self.floor))} {self.unit} ({self.against})" if self.floor else "",
            f"{number(median(ratios))} ({number(min(ratios))}–{number(max(ratios))})" if ratios else "",
            "" if self.target is None else f"{sign} {self.target:g}{unit}",
            self.verdict,
        )

    def record(self) -> dict[str, object]:
        """The row for `--json`, every sample of it."""
        return {**asdict(self), "ratios": self.ratios, "verdict": self.verdict}


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [("workload", "looopy", "floor", "ratio (min–max)", "target", ""), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    drawn = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


async def in_turns(ours: Sample, floor: Sample, times: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`times` samples of each, in pairs A B, B A, A B …, after one of each that does not count."""
    sides: list[tuple[Sample, list[float]]] = [(ours, []), (floor, [])]
    for sample, _ in sides:
        await sample()
    for _ in range(times):
        for sample, taken in sides:
            gc.collect()
            taken.append(await sample())
        sides.reverse()
    samples = {id(sample): tuple(taken) for sample, taken in sides}
    return samples[id(ours)], samples[id(floor)]


async def cost(work: Coroutine[object, object, object], *, clock: Clock = time.process_time) -> float:
    """What `work` takes: by default seconds of this process's CPU, all its threads together."""
    start = clock()
    await work
    return clock() - start
