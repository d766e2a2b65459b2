"""A first look without any backend: each run that is over is drawn on stderr."""

from __future__ import annotations

import sys
from dataclasses import replace

from looopy.events import Event, LLMRetry, StatusUpdate, ToolComplete
from looopy.observe.content import Content, told
from looopy.observe.picture import draw


class Drawing:
    """One run, drawn when it is over. An agent within it is drawn where it ends, before the one that called it.

    Args:
        content: what failures may say in it; None for no more than spans show.
    """

    __slots__ = ("_events", "_shown")

    def __init__(self, content: Content | None) -> None:
        self._events: list[Event] = []
        self._shown = content.transcript() if content else None

    def on_event(self, event: Event) -> None:
        """Keep one event."""
        self._events.append(event)

    def end(self) -> None:
        """Draw what was kept, once."""
        events, self._events = self._events, []
        if events:
            draw(map(self._as_shown, events), file=sys.stderr)

    def _as_shown(self, event: Event) -> Event:
        if isinstance(event, LLMRetry | StatusUpdate | ToolComplete) and event.error is not None:
            by_tool = isinstance(event, ToolComplete)
            return replace(event, error=told(event.error, self._shown, by_tool=by_tool))
        return event
