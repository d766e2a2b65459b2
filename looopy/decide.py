"""What to do next: one pure function of a task's state.

`loop.py` performs the steps; `state.py` folds what comes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from looopy.errors import LimitExceeded
from looopy.messages import ToolCall
from looopy.output import Judged, Output
from looopy.setup import Setup, exceeded
from looopy.state import LoopState, settled


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model."""


@dataclass(frozen=True, slots=True)
class CallTools:
    """Run these calls."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """Say what is wrong with an answer, so that the model gives another."""

    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Keep the state."""


@dataclass(frozen=True, slots=True)
class Report:
    """Say where the task stands, and end the stream."""

    state: Literal["completed", "input-required", "failed", "canceled"]
    error: Exception | None = None
    answer: Judged | None = None


Step: TypeAlias = CallModel | CallTools | Reject | Save | Report


def decide(state: LoopState, setup: Setup) -> Step | None:
    """The next step of a task in this state; None when its stream is at its end. Pure."""
    if settled(state):
        return None
    if reached := limit_reached(state, setup):
        return Report("failed", reached)
    runnable, answers = parted(state, setup)
    if not runnable and state.waiting:
        return Report("input-required")
    if state.answered or (answers and not runnable):
        return Report("completed") if setup.output is None else _judge(state, setup.output, answers)
    if setup.task_state_store is not None and state.saved < state.seq:
        return Save()
    return CallTools(runnable) if runnable else CallModel()


def parted(state: LoopState, setup: Setup) -> tuple[tuple[ToolCall, ...], tuple[ToolCall, ...]]:
    """The calls that can be run, and those that are answers of the task's output type."""
    return (state.runnable, ()) if setup.output is None else setup.output.parted(state.runnable)


def _judge(state: LoopState, output: Output[Any], answers: Sequence[ToolCall]) -> Report | Reject:
    """What follows from an answer that shall be of a type."""
    judged = output.judge(state.output, answers, state.finish_reason)
    fitting = next((each for each in judged if not each.problem), None)
    if fitting is not None:
        return Report("completed", answer=fitting)
    if state.rejected < output.retries and not judged[0].hopeless:
        return Reject(judged)
    return Report("failed", output.failure(judged[0], answers=state.rejected + 1))


def limit_reached(state: LoopState, setup: Setup) -> LimitExceeded | None:
    """The limit that forbids the next step; None when none does. An answer that is there is not thrown away for having been dear."""
    limits, tokens, cost = setup.limits, state.usage.total_tokens, state.cost or 0.0
    if limits.tool_failures is not None and state.failures >= limits.tool_failures:
        what = f"{state.failures} tool calls failed in a row"
        return exceeded("tool_failures", allowed=limits.tool_failures, spent=state.failures, what=what)
    if state.answered or state.waiting or parted(state, setup)[1]:
        return None
    if limits.tokens is not None and tokens >= limits.tokens:
        return exceeded("tokens", allowed=limits.tokens, spent=tokens, what=f"{tokens} tokens used")
    if limits.cost is not None and cost >= limits.cost:
        what = f"spent {cost:.4f} USD in {state.iteration} model calls"
        return exceeded("cost", allowed=limits.cost, spent=cost, what=what)
    if not state.pending and state.iteration >= setup.max_iterations:
        what = f"{state.iteration} model calls and no final answer"
        return exceeded("max_iterations", allowed=setup.max_iterations, spent=state.iteration, what=what)
    return None
