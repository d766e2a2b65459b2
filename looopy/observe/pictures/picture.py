"""The spans of a record as a picture for a terminal: a tree, a time bar for each span, and at the foot where time and money went.

Needs rich, and is imported only when somebody wants a picture. `rows.py` says what is in it; here are the colours and the widths.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO

from looopy.errors import MissingExtra
from looopy.events import Event
from looopy.observe.pictures.bars import ASCII, UNICODE, Axis, Signs
from looopy.observe.pictures.figures import duration, harmless
from looopy.observe.pictures.rows import Bar, Look, Row, Rows, foot
from looopy.observe.pictures.timeline import Origin, Span, SpanStatus, timeline
from looopy.observe.pictures.totals import Time, spent_by_model, time_of

try:
    from rich.cells import cell_len, chop_cells, set_cell_size
    from rich.console import Console, ConsoleOptions
    from rich.text import Text
except ImportError as error:
    raise MissingExtra("drawing a trace", needs="rich", extra="cli") from error

_WIDTH = 100  # of a picture that is made into a text
_TITLES = ("time", "share", "tokens", "cost")
_NARROWEST = 18  # characters of a bar; before that, columns are left out
_SHORTEST = 12  # characters of a name
_BARS: dict[Look, str] = {
    "agent": "bold blue",
    "iteration": "dim",
    "chat": "cyan",
    "tool": "magenta",
    "several": "dim",
    "own": "dim",
    "money": "green",
}
_NAMES: dict[Look, str] = {"agent": "bold", "iteration": "dim", "several": "dim"}
_TROUBLE: dict[SpanStatus, str] = {"error": "red", "canceled": "yellow", "waiting": "yellow"}
_WORDS: dict[SpanStatus, str] = {
    "ok": "completed",
    "error": "failed",
    "canceled": "canceled",
    "waiting": "waits for an answer",
    "open": "no end seen",
}


def draw(
    events: Iterable[Event],
    *,
    file: IO[str] | None = None,
    until: datetime | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> None:
    """Draw where the time and the money of some events went.

    Args:
        events: of one task or of many.
        file: where to; left out: stdout.
        until: the present, for what is still open.
        origins: what is known of tasks beside their events, by task.
    """
    Console(file=file).print(Picture(timeline(events, until=until, origins=origins)))


@dataclass(frozen=True, slots=True)
class Picture:
    """Spans that rich can print, in the width and the colours of its console; `str` makes a text of it.

    Attributes:
        spans: as `timeline` makes them.
        everything: show each row; else the middle of many is left out, but for what stands out.
    """

    spans: tuple[Span, ...]
    everything: bool = False

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines."""
        if not self.spans:
            yield Text("nothing has happened yet", "dim")
        signs = ASCII if options.ascii_only else UNICODE
        parts = [(span, [*Rows(span, signs, everything=self.everything)]) for span in self.spans]
        feet = [[*_foot([span], signs)] for span in self.spans]
        total = [*_foot(self.spans, signs)] if len(self.spans) > 1 else []
        shown = [row for rows in (*(rows for _, rows in parts), *feet, total) for row in rows]
        layout = _Layout.fitting(shown, signs, options.max_width)
        for number, ((span, rows), sums) in enumerate(zip(parts, feet, strict=True)):
            if number:
                yield Text()
            yield layout.heading(span)
            yield layout.titles(layout.axis(span.start, span.end))
            yield from layout.lines(rows, layout.axis(span.start, span.end))
            if sums:
                yield Text()
            yield from layout.lines(sums, layout.axis(0.0, span.seconds))
        if total:
            yield Text()
            yield Text(f"{len(self.spans)} trees together", "bold")
            yield from layout.lines(total, layout.axis(0.0, sum(span.seconds for span in self.spans)))

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=_WIDTH, color_system=None).print(self)
        return text.getvalue()


def _foot(spans: Sequence[Span], signs: Signs) -> Iterator[Row]:
    tools = sum(1 for span in spans for each in span.walk() if each.kind == "tool")
    return foot(sum(map(time_of, spans), Time()), spent_by_model(spans), tools, signs)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide the columns are. `figures` are those to the right of the bar; 0 leaves one out."""

    signs: Signs
    width: int
    name: int
    bar: int
    figures: tuple[int, ...]

    @classmethod
    def fitting(cls, rows: Sequence[Row], signs: Signs, width: int) -> _Layout:
        """The layout that these rows want, in so many characters."""
        columns = [[row.time, row.share, row.tokens, row.cost] for row in rows]
        figures = [max((len(column[place]) for column in columns), default=0) for place in range(4)]
        figures = [max(size, len(title)) if size else 0 for size, title in zip(figures, _TITLES, strict=True)]
        wanted = max((len(row.stem) + cell_len(_label(row, signs)) for row in rows if row.look), default=0)
        name = max(_SHORTEST, min(wanted, width * 2 // 5))
        for place in (1, 2, 3):  # what can be left out where there is no room
            if width - name - 1 - sum(size + 2 for size in figures if size) < _NARROWEST:
                figures[place] = 0
        room = max(1, width - 1 - sum(size + 2 for size in figures if size))
        name = max(name, min(wanted, room - min(_NARROWEST, width // 5)))  # a name says more than a long bar
        bar = max(1, room - name)
        return cls(signs, width, name, bar, tuple(figures))

    def axis(self, start: float, end: float) -> Axis:
        """The time axis of a tree."""
        return Axis(start, end, self.bar)

    def heading(self, span: Span) -> Text:
        """Who it was, how it ended and when, how long it took, and what to search for."""
        words = [
            "resumed" if span.resumed else "",
            _WORDS[span.status],
            duration(span.seconds),
            f"trace {span.trace_id}" if span.trace_id else span.task_id and f"task {span.task_id}",
        ]
        rest = harmless(", ".join(filter(None, words)), self.signs.encoding)
        room = max(8, self.width - 4 - cell_len(rest))  # a long name makes way for what came of it
        name = harmless(span.name.removeprefix("invoke_agent").strip(), self.signs.encoding)
        said = ", ".join(filter(None, (_shortened(name, room, self.signs), rest)))
        said = _shortened(said, max(1, self.width - 2), self.signs)
        date = _date(span.start)
        if date and cell_len(said) + len(date) + 4 <= self.width:
            said = f"{said}, {date}"
        mark = self.signs.marks[span.status]
        line = Text.assemble((mark, _TROUBLE.get(span.status, "green")), " ", (said, "dim"))
        return self._cut(line)

    def titles(self, axis: Axis) -> Text:
        """The axis, and what the columns are."""
        line = Text(" " * (self.name + 1) + axis.ticks().ljust(self.bar), "dim")
        for title, size in zip(_TITLES, self.figures, strict=True):
            line.append(f"  {title:>{size}}" if size else "")
        return self._cut(line)

    def lines(self, rows: Iterable[Row], axis: Axis) -> Iterator[Text]:
        """The rows, each on a line."""
        for row in rows:
            if row.look is None:
                yield from map(self._cut, self._note(row))
            else:
                yield self._cut(self._line(row, row.look, axis))

    def _note(self, row: Row) -> Iterator[Text]:
        """On two lines, if it needs them."""
        style = _TROUBLE.get(row.status, "")
        room = self.width - len(row.stem)
        first = _begun(row.name, room)
        rest = row.name[len(first) :].strip()
        yield Text.assemble((row.stem, "dim"), (first, style))
        if rest:
            yield Text.assemble((row.stem, "dim"), (_fitted(rest, room, self.signs), style))

    def _line(self, row: Row, look: Look, axis: Axis) -> Text:
        stem = row.stem[: self.name - _SHORTEST]  # however deep it stands, one can read what it is
        style = _TROUBLE.get(row.status, _NAMES.get(look, ""))
        line = Text.assemble(
            (stem, "dim"), (_fitted(_label(row, self.signs), self.name - len(stem), self.signs), style), " "
        )
        drawn = [(" " * self.bar, "")] if row.bar is None else self._bar(row, look, row.bar, axis)
        for text, style in drawn:
            line.append(text, style)
        line.append(" " * (self.bar - sum(len(text) for text, _ in drawn)))
        styles = ("bold" if row.slowest else "", "dim", "", "bold green" if row.dearest else "")
        for text, size, style in zip(
            (row.time, row.share, row.tokens, row.cost), self.figures, styles, strict=True
        ):
            if size:
                line.append("  ")
                line.append(f"{text:>{size}}", style)
        return line

    def _bar(self, row: Row, look: Look, bar: Bar, axis: Axis) -> list[tuple[str, str]]:
        colour = _TROUBLE.get(row.status, _BARS[look]) if look in ("chat", "tool") else _BARS[look]
        signs = self.signs
        thin = {"agent": signs.agent, "iteration": signs.line, "several": signs.several}
        if look in thin:
            return [(axis.line(bar.start, bar.end, thin[look]), colour)]
        space, waiting, solid = axis.block(bar.start, bar.end, signs, spoke=bar.spoke)
        return [(space, ""), (waiting, f"dim {colour}"), (solid, colour)]

    def _cut(self, line: Text) -> Text:
        """A line that no console breaks, without spaces at its end."""
        line.rstrip()
        line.truncate(self.width, overflow="crop")
        line.no_wrap = True
        return line


def _label(row: Row, signs: Signs) -> str:
    """How it ended, unless well, and the name."""
    return row.name if row.status == "ok" else f"{signs.marks[row.status]} {row.name}"


def _begun(text: str, room: int) -> str:
    """As much of a text as fits into so many columns, up to the end of a word unless that is far away."""
    if cell_len(text) <= room:
        return text
    fitting = next(iter(chop_cells(text, max(1, room))), "")
    words = fitting.rpartition(" ")[0]
    return words if len(words) > len(fitting) // 3 else fitting


def _fitted(text: str, room: int, signs: Signs) -> str:
    """Text in exactly so many columns."""
    return set_cell_size(_shortened(text, room, signs), max(0, room))


def _shortened(text: str, room: int, signs: Signs) -> str:
    """Text that is cut, with a mark, where it has more than so many columns."""
    if cell_len(text) <= room:
        return text
    return set_cell_size(text, max(0, room - len(signs.cut))) + signs.cut


def _date(moment: float) -> str:
    """Date and time; empty for an event that nobody stamped."""
    if not 0 < moment < 1e11:
        return ""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)).strftime("%Y-%m-%d %H:%M:%S UTC")
