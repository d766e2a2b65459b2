"""The one-shot front door: ask a model in one line, without an agent.

`complete` and `stream` are an agent that lives for one task, `embed` an embedder, `llm_function` a `complete` that looks like a function. What they do not say is as the environment has it.
Everything here stands on `AgentLoop`, `Run` and the providers, and adds no way of its own to ask a model.
"""

from __future__ import annotations

from looopy.llm.function import LLMFunction, llm_function
from looopy.llm.once import Options, complete
from looopy.llm.pieces import Done, Piece, Reset, Stream, Text, ToolUse, stream
from looopy.llm.templates import Template
from looopy.llm.vectors import Pending, embed

__all__ = [
    "Done",
    "LLMFunction",
    "Options",
    "Pending",
    "Piece",
    "Reset",
    "Stream",
    "Template",
    "Text",
    "ToolUse",
    "complete",
    "embed",
    "llm_function",
    "stream",
]
