"""A recorded run: a file with one event a line, as `looopy run --json` writes it, which may be cut or written by a newer version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import get_args

from looopy.errors import UnknownEvent
from looopy.events import Event, loads

_KINDS = {piece.default for each in get_args(Event) for piece in fields(each) if piece.name == "kind"}


class Record:
    """The events of some lines; iterate once.

    Args:
        lines: JSON, one event each; empty ones are passed over.

    Attributes:
        events: how many could be read so far.
        broken: line number and what is wrong with it.
        unknown: how many lines are of each kind that this version does not know.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.events = 0
        self.broken: list[tuple[int, str]] = []
        self.unknown: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Event]:
        for number, line in enumerate(self._lines, start=1):
            if not (said := line.strip()):
                continue
            try:
                event = loads(said)
            except UnknownEvent as error:
                if error.kind and error.kind not in _KINDS:
                    self.unknown[error.kind] += 1
                else:
                    self.broken.append((number, str(error)))
            else:
                self.events += 1
                yield event
