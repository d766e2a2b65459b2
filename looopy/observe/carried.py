"""What the context of a recorded run carries for those who begin in it: agents that its tools call, and texts that they embed."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context as Variables
from typing import cast

from opentelemetry import context as otel
from opentelemetry.context import Context

from looopy.observe.attributes import Attributes
from looopy.observe.opened import within

_INHERITED = otel.create_key("looopy-run")
_CALLED_FROM = otel.create_key("looopy-call")


def by_run(task_id: str, inherited: Attributes) -> Mapping[str, object]:
    """What the context of an agent's span carries."""
    return {_INHERITED: inherited, _CALLED_FROM: (task_id, "")}


def in_tool(task_id: str, call_id: str) -> Variables:
    """The context variables of a tool call without a span: an agent that it calls may be drawn, and shall know who called it."""
    return within(Context({**otel.get_current(), **by_tool(task_id, call_id)}))


def by_tool(task_id: str, call_id: str) -> Mapping[str, object]:
    """What the context of a tool's span carries beside that."""
    return {_CALLED_FROM: (task_id, call_id)}


def inherited(context: Context) -> Attributes:
    """The attributes that all spans of the run have in which this context is; empty where it is in none."""
    return cast("Attributes | None", context.get(_INHERITED)) or {}


def called_from(context: Context) -> tuple[str, str]:
    """The task in which this context is, and the tool call; each empty where it is in none."""
    return cast("tuple[str, str] | None", context.get(_CALLED_FROM)) or ("", "")
