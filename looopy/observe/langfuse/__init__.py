"""What is special about Langfuse: its account, its chat view, the `langfuse` package on our spans, scores, and experiments."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from looopy.observe.langfuse.account import Account
from looopy.observe.langfuse.chat import chat_view

if TYPE_CHECKING:
    from looopy.observe.langfuse.experiment import task_of
    from looopy.observe.langfuse.outbox import Reply
    from looopy.observe.langfuse.package import Attached, Mask, attach
    from looopy.observe.langfuse.scores import score, trace_url

_AT_FIRST_USE = {
    "Attached": "package",
    "Mask": "package",
    "Reply": "outbox",
    "attach": "package",
    "score": "scores",
    "task_of": "experiment",
    "trace_url": "scores",
}


def __getattr__(name: str) -> object:
    """What needs the `langfuse` package or an HTTP client is loaded when it is first used."""
    if name not in _AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_AT_FIRST_USE[name]}"), name)


def __dir__() -> list[str]:
    return __all__


__all__ = ["Account", "Attached", "Mask", "Reply", "attach", "chat_view", "score", "task_of", "trace_url"]
