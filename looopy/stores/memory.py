"""Stores in memory, for tests and for work that need not outlive the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from looopy.errors import StateConflict
from looopy.events import ArtifactUpdate
from looopy.state import LoopState


class InMemoryStateStore:
    """A `StateStore` that keeps states as the bytes that a real store would keep."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, bytes]] = {}

    async def save(self, state: LoopState, /, *, after: int) -> None:
        """Keep the state of its task, if checkpoint `after` is what is stored (0: nothing).

        Raises:
            StateConflict: another checkpoint is stored.
        """
        found, _ = self._states.get(state.task_id, (0, b""))
        if found != after:
            raise StateConflict(task_id=state.task_id, expected=after, found=found)
        self._states[state.task_id] = state.saved, state.dumps()

    async def load(self, task_id: str, /) -> LoopState | None:
        """The state kept for a task; None when there is none."""
        kept = self._states.get(task_id)
        return None if kept is None else LoopState.loads(kept[1])

    async def delete(self, task_id: str, /) -> None:
        """Forget a task; nothing happens when it is unknown."""
        self._states.pop(task_id, None)


class InMemoryArtifactStore:
    """An `ArtifactStore` that keeps each artifact whole."""

    def __init__(self) -> None:
        self._artifacts: dict[tuple[str, str], ArtifactUpdate] = {}

    async def save(self, update: ArtifactUpdate, /) -> None:
        """Replace the artifact's parts, or add to them."""
        key = (update.context_id, update.artifact.artifact_id)
        before = self._artifacts.get(key)
        if update.append and before is not None:
            parts = (*before.artifact.parts, *update.artifact.parts)
            update = replace(update, artifact=replace(before.artifact, parts=parts))
        self._artifacts[key] = replace(update, append=False)

    async def load(self, context_id: str, artifact_id: str, /) -> ArtifactUpdate | None:
        """The whole artifact as one update; None when there is none."""
        return self._artifacts.get((context_id, artifact_id))

    async def list(self, context_id: str, /) -> Sequence[str]:
        """The ids of a context's artifacts, oldest first."""
        return [artifact_id for context, artifact_id in self._artifacts if context == context_id]
