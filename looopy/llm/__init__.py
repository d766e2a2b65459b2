"""The one-shot front door: ask a model in one line, without an agent.

`complete` and `stream` are an agent that lives for one task, `embed` an embedder. What they do not say is as the environment has it.
Everything here stands on `AgentLoop`, `Run` and the providers, and adds no way of its own to ask a model.
"""

from __future__ import annotations

from looopy.llm.once import Options, complete
from looopy.llm.pieces import Done, Piece, Reset, Stream, Text, ToolUse, stream
from looopy.llm.vectors import Pending, embed

__all__ = [
    "Done",
    "Options",
    "Pending",
    "Piece",
    "Reset",
    "Stream",
    "Text",
    "ToolUse",
    "complete",
    "embed",
    "stream",
]
