"""What pydantic finds wrong with a value, in words for the model that wrote it: a line for each field, and how to count them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import ErrorDetails

_SHOWN = 200
"""Characters of a wrong value that the model is shown again."""

_LINES = 20
"""Wrong fields that are told of; a model that got more wrong than that starts anew anyway."""


def told(what: str, lines: Sequence[str]) -> str:
    """The text: how many problems there are with what, and then each."""
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    shown = [f"- {line}" for line in lines[:_LINES]]
    if len(lines) > _LINES:
        shown.append(f"- and {len(lines) - _LINES} more")
    return "\n".join([f"{count} {what}:", *shown])


def line(problem: ErrorDetails, *, whole: str) -> str:
    """One problem: where, what, and what was there instead."""
    where = place(problem, whole=whole)
    if problem["type"].startswith("missing"):
        return f"{where}: missing, and it is required"
    return f"{where}: {problem['msg']}, got {short(repr(problem['input']))}"


def place(problem: ErrorDetails, *, whole: str) -> str:
    """Where a problem is, as one writes it: `items[0].name`; `whole` where it is all of it."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
    return short(path.removeprefix(".")) or whole


def short(text: str) -> str:
    """The beginning of a text, as much as a model needs to know it again."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
