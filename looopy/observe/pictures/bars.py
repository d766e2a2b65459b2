"""Bars of characters on a time axis, to an eighth of a character where there are blocks.

Only texts; `picture.py` colours them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What a picture is drawn with.

    Attributes:
        encoding: what texts are held to.
        parts: a block from its left edge: nothing, then in equal steps up to the whole.
        right_half: a block's right half; of use where there are parts.
        waiting: before anything comes.
        agent: the line of an agent.
        line: the line of an iteration.
        several: the line of rows that are left out.
        branch: to a row with others below it; `last` to the last one.
        stem: passes by a row; `blank` after the last.
        arrow: between tokens in and out.
        more: stands for rows left out; `cut` for the rest of a text.
        again: before what was tried again.
        marks: how spans ended, by status.
    """

    encoding: str
    parts: str
    right_half: str
    waiting: str
    agent: str
    line: str
    several: str
    branch: str
    last: str
    stem: str
    blank: str
    arrow: str
    more: str
    cut: str
    again: str
    marks: dict[str, str]


UNICODE = Signs(
    encoding="utf-8",
    parts=" ▏▎▍▌▋▊▉█",
    right_half="▐",
    waiting="░",
    agent="━",
    line="─",
    several="┄",
    branch="├─ ",
    last="└─ ",
    stem="│  ",
    blank="   ",
    arrow="→",
    more="⋮",
    cut="…",
    again="↻",
    marks={"ok": "✔", "error": "✘", "canceled": "⊘", "waiting": "?", "open": "…"},
)

ASCII = Signs(
    encoding="ascii",
    parts=" #",
    right_half="#",
    waiting=".",
    agent="=",
    line="-",
    several="~",
    branch="|- ",
    last="`- ",
    stem="|  ",
    blank="   ",
    arrow=">",
    more=":",
    cut="...",
    again="again:",
    marks={"ok": "+", "error": "x", "canceled": "!", "waiting": "?", "open": "..."},
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of time on so many characters.

    Attributes:
        start: seconds.
        end: seconds, not before `start`.
        width: characters.
    """

    start: float
    end: float
    width: int

    def place(self, moment: float) -> float:
        """Where a moment is, in characters from the left."""
        if self.end <= self.start:
            return 0.0
        share = (moment - self.start) / (self.end - self.start)
        return self.width * min(1.0, max(0.0, share))

    def line(self, start: float, end: float, sign: str) -> str:
        """A line through each character that the time touches, at least one."""
        first = min(int(self.place(start)), self.width - 1)
        cells = max(1, round(self.place(end)) - first)
        return " " * first + sign * cells

    def block(
        self, start: float, end: float, signs: Signs, *, spoke: float | None = None
    ) -> tuple[str, str, str]:
        """A bar in three texts: the space before it, its waiting part, and the rest.

        Args:
            start: when it begins.
            end: when it ends.
            signs: what to draw it with.
            spoke: when the waiting ended; left out where there is none.
        """
        steps = len(signs.parts) - 1
        most = self.width * steps
        begin = min(round(self.place(start) * steps), most - 1)
        stop = max(round(self.place(end) * steps), begin + 1)
        cell = begin // steps
        waiting = 0
        if spoke is not None and stop - begin >= 2 * steps:  # in less there is no room for both
            waiting = max(0, round(self.place(spoke)) - cell)
            waiting = min(waiting, -(-stop // steps) - cell)
        if waiting:
            begin = (cell + waiting) * steps
        solid = _solid(begin, stop, signs, steps) if stop > begin else ""
        return " " * cell, signs.waiting * waiting, solid

    def ticks(self) -> str:
        """The axis: times where they are, about one for each eight characters."""
        span = self.end - self.start
        if span <= 0:
            return "0"
        step = _step(span / max(1, self.width // 8))
        drawn = ""
        number = 0
        while (moment := number * step) <= span:
            place = int(self.width * moment / span + 1e-9)
            label = _label(moment, step)
            if (not drawn or place > len(drawn)) and place + len(label) <= self.width:
                drawn = drawn.ljust(place) + label
            number += 1
        return drawn


def _solid(begin: int, stop: int, signs: Signs, steps: int) -> str:
    """Blocks from one step to another, the first cell with `begin` in it. A cell can be filled from the left, or its right half."""
    offset = begin % steps
    next_cell = begin - offset + steps
    if stop < next_cell:  # it fits into one cell: its length counts for more than its place
        return signs.parts[stop - begin]
    head = signs.right_half if offset * 4 > steps else signs.parts[-1]
    whole, rest = divmod(stop - next_cell, steps)
    return head + signs.parts[-1] * whole + (signs.parts[rest] if rest else "")


def _step(least: float) -> float:
    """The smallest round number of seconds that is not less."""
    if least > 5:
        rounds = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
        fitting = next((step for step in rounds if step >= least), None)
        return fitting or 3600 * _step(least / 3600)
    size = 1e-6
    while size * 10 < least:
        size *= 10
    return next((size * factor for factor in (1, 2, 5) if size * factor >= least), size * 10)


def _label(moment: float, step: float) -> str:
    if not moment:
        return "0"
    if step < 0.1:
        return f"{moment * 1000:g} ms"
    seconds = round(moment, 6)
    if seconds % 60:
        return f"{seconds:g} s"
    return f"{seconds / 3600:g} h" if seconds % 3600 == 0 else f"{seconds / 60:g} min"
