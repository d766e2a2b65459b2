"""A first look without any backend: each run that is over is drawn on stderr."""

from __future__ import annotations

import sys

from looopy.events import Event
from looopy.observe.picture import draw


class Drawing:
    """One run, drawn when it is over. An agent within it is drawn where it ends, before the one that called it."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep one event."""
        self._events.append(event)

    def end(self) -> None:
        """Draw what was kept, once."""
        events, self._events = self._events, []
        if events:
            draw(events, file=sys.stderr)
