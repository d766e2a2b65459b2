"""A first look without any backend: each run that is over is drawn on stderr, with the agents that its tools called."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field, replace

from looopy.events import Event, LLMRetry, StatusUpdate, ToolComplete
from looopy.observe.content import Content, told
from looopy.observe.pictures.picture import draw
from looopy.observe.pictures.timeline import Origin


@dataclass(slots=True)
class _Sketch:
    """What one picture will show. `runs` are those of its runs that have not ended."""

    runs: int = 0
    events: list[Event] = field(default_factory=list[Event])
    origins: dict[str, Origin] = field(default_factory=dict[str, Origin])


class Drawings:
    """The pictures that are being made: one for each run that no other run began.

    Args:
        content: what failures may say in them; None for no more than spans show.
    """

    def __init__(self, content: Content | None) -> None:
        self._shown = content.transcript() if content else None
        self._lock = threading.Lock()  # runs may be on several loops
        self._sketches: dict[str, _Sketch] = {}  # by each task under way

    def of(self, task_id: str, origin: Origin) -> Drawing:
        """Begin with a run: a picture of its own, or its part of that of the run which began it."""
        with self._lock:
            sketch = self._sketches.get(origin.parent) or _Sketch()
            sketch.runs += 1
            sketch.origins[task_id] = origin
            self._sketches[task_id] = sketch
        return Drawing(self, task_id, sketch)

    def over(self, task_id: str, sketch: _Sketch) -> None:
        """A run has ended. With the last one of a picture, that is drawn."""
        with self._lock:
            sketch.runs -= 1
            self._sketches.pop(task_id, None)
            drawn = not sketch.runs and bool(sketch.events)
        if drawn:
            draw(map(self._as_shown, sketch.events), file=sys.stderr, origins=sketch.origins)
            sys.stderr.write("\n")  # another picture may follow

    def _as_shown(self, event: Event) -> Event:
        if isinstance(event, LLMRetry | StatusUpdate | ToolComplete) and event.error is not None:
            by_tool = isinstance(event, ToolComplete)
            return replace(event, error=told(event.error, self._shown, by_tool=by_tool))
        return event


class Drawing:
    """One run's part of a picture."""

    __slots__ = ("_drawings", "_sketch", "_task_id")

    def __init__(self, drawings: Drawings, task_id: str, sketch: _Sketch) -> None:
        self._drawings = drawings
        self._task_id = task_id
        self._sketch = sketch

    def on_event(self, event: Event) -> None:
        """Keep one event."""
        self._sketch.events.append(event)

    def end(self) -> None:
        """Let it be drawn; called once."""
        self._drawings.over(self._task_id, self._sketch)
