"""What model calls came to: a fold of the events of any number of runs, to be read by model, by agent or by conversation.

A report is the memory that it adds up in: whoever holds it decides what belongs together, one user, one job, one process. It knows events
and nothing of runs, so stored events do as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, cast, get_args

from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.subject import BehaviorSubject

from looopy.errors import ConfigurationError
from looopy.events import Event, LLMResponse, Task
from looopy.messages import Usage

By: TypeAlias = Literal["model", "agent", "session"]
"""What a report is read by; a session is a conversation, `context_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What some model calls came to.

    Attributes:
        name: the model as it was asked for (as `Message.model`), the agent or the conversation; empty for all of them.
        calls: model calls that were answered.
        hits: those of them that were kept from an earlier call (`LLMResponse.cached`), and so used no tokens and no money.
        usage: tokens that were used, as far as they were told.
        seconds: from each request to its last byte, added up.
        cost: US dollars of the calls whose price is known; None while none is.
        unpriced: calls whose price nobody knows; `cost` is without them.
        uncounted: calls of which nobody told the tokens; `usage` is without them.
    """

    name: str = ""
    calls: int = 0
    hits: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cost: float | None = None
    unpriced: int = 0
    uncounted: int = 0

    def plus(self, response: LLMResponse) -> UsageRow:
        """The row with one more call in it."""
        cost = self.cost if response.cost is None else (self.cost or 0.0) + response.cost
        return replace(
            self,
            calls=self.calls + 1,
            hits=self.hits + response.cached,
            usage=self.usage if response.cached or response.usage is None else self.usage + response.usage,
            seconds=self.seconds + response.seconds,
            cost=cost,
            unpriced=self.unpriced + (response.cost is None),
            uncounted=self.uncounted + (response.usage is None and not response.cached),
        )


class UsageReport:
    """Tokens, calls, seconds and money of many runs, by model, by agent and by conversation.

    `watch` runs, or `add` events; from any thread, and each event counts once, however often it comes. `print(report)` shows a table.

    Example:
        >>> report = UsageReport()
        >>> report.total.calls
        0
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._agents: dict[str, str] = {}  # by task
        self._newest: dict[str, int] = {}  # by task: the number of the last event that counted
        self._rows: dict[By, dict[str, UsageRow]] = {"model": {}, "agent": {}, "session": {}}
        self._total = BehaviorSubject(UsageRow())

    @property
    def total(self) -> UsageRow:
        """All calls so far."""
        return self._total.value

    @property
    def changes(self) -> Observable[UsageRow]:
        """`total` now and after each call, on the thread that adds it; it never completes."""
        return self._total.pipe(ops.as_observable())

    def watch(self, run: Observable[Event]) -> abc.DisposableBase:
        """Add a run's events, those that it has had already too; disposing leaves it.

        Like every subscriber this begins a run that has not begun, and keeps it going. How it ends is not the report's business.

        Raises:
            ConfigurationError: it is no run and no other stream of events.
        """
        if not isinstance(cast("object", run), Observable):
            kind = f"the class {run.__name__}" if isinstance(run, type) else type(run).__name__
            raise ConfigurationError(
                f"UsageReport.watch: {kind} is no run; pass what agent.execute(…) or llm.complete(…) returned, or its events to add(…) one by one",
                argument="run",
            )
        return run.subscribe(self.add, _ignore)

    def add(self, event: Event) -> None:
        """Add one event; those that tell nothing of a model call change nothing. A task's events must come in their order."""
        if not isinstance(event, LLMResponse | Task):
            return
        with self._lock:
            if event.seq and event.seq <= self._newest.get(event.task_id, 0):
                return
            self._newest[event.task_id] = event.seq
            if isinstance(event, Task):
                self._agents[event.task_id] = event.agent_id
                return
            names: dict[By, str] = {
                "model": event.message.model or event.model,
                "agent": self._agents.get(event.task_id, ""),
                "session": event.context_id,
            }
            for by, name in names.items():
                rows = self._rows[by]
                rows[name] = rows.get(name, UsageRow(name=name)).plus(event)
            self._total.on_next(self.total.plus(event))

    def rows(self, by: By = "model") -> tuple[UsageRow, ...]:
        """What each came to, the dearest first, and then those with the most tokens.

        Raises:
            ConfigurationError: it cannot be read by that.
        """
        if by not in get_args(By):
            raise ConfigurationError(
                f"by={by!r}: a report is read by {', '.join(map(repr, get_args(By)))}; one for each user is a UsageReport for each",
                argument="by",
            )
        with self._lock:
            rows = list(self._rows[by].values())
        return tuple(sorted(rows, key=lambda row: (-(row.cost or 0.0), -row.usage.total_tokens, row.name)))

    def table(self, by: By = "model") -> str:
        """The rows as text in columns, with a line for all together.

        Raises:
            ConfigurationError: as `rows`.
        """
        head = (by, "calls", "hits", "input", "cached", "output", "reasoning", "seconds", "cost")
        lines = [head, *(_cells(row) for row in self.rows(by)), _cells(replace(self.total, name="total"))]
        return "\n".join(_aligned(lines))

    def __str__(self) -> str:
        return self.table()


def _ignore(_: Exception) -> None:
    """A run that fails has counted up to there."""


def _cells(row: UsageRow) -> tuple[str, ...]:
    usage = row.usage
    tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
    return (
        row.name or "(unnamed)",
        f"{row.calls:,}",
        f"{row.hits:,}",
        *(f"{count:,}" for count in tokens),
        f"{row.seconds:,.1f}",
        _money(row),
    )


def _money(row: UsageRow) -> str:
    known = "" if row.cost is None else f"${_dollars(row.cost)}"
    unknown = f"unknown for {row.unpriced:,}" if row.unpriced else ""
    return " + ".join(filter(None, (known, unknown))) or "–"


def _dollars(amount: float) -> str:
    """Four places, and more where these would show next to nothing."""
    return f"{amount:.8f}".rstrip("0") if 5e-9 < amount < 0.001 else f"{amount:,.4f}"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *numbers, last in lines:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *cells, last])
