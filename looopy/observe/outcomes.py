"""How a call ended and how long it took: the same in spans, metrics and logs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from opentelemetry.trace import Status, StatusCode

from looopy.errors import BudgetExceeded, LimitExceeded, TaskCanceled
from looopy.events import Failure, LLMResponse, ToolComplete

CANCELED = TaskCanceled.__name__
"""The `Failure.type` of what ended because somebody cancelled the run."""


def outcome(error: Failure | None) -> Literal["completed", "canceled", "failed"]:
    """How a tool call ended, in the words for a task."""
    if error is None:
        return "completed"
    return "canceled" if error.type == CANCELED else "failed"


def elapsed(since: datetime, until: datetime) -> float:
    """Seconds from one event to a later one; 0 where the clock was set back meanwhile."""
    return max(0.0, (until - since).total_seconds())


def duration(began: datetime, ended: LLMResponse | ToolComplete) -> float:
    """Seconds that a call took: as it says itself, by a clock that nobody sets; else from event to event."""
    return ended.seconds or elapsed(began, ended.timestamp)


_MENDS = frozenset((LimitExceeded.__name__, BudgetExceeded.__name__))
"""Errors that go on, after a semicolon, with what their caller may do: a trace is read by others."""


def failed(failure: Failure) -> Status:
    """The status of what failed: backends show its description, and hardly any reads exceptions."""
    message = failure.message.partition("; ")[0] if failure.type in _MENDS else failure.message
    return Status(StatusCode.ERROR, f"{failure.type}: {message}" if message else failure.type)
