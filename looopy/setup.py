"""What a task is worked on with: its model, its tools, its limits.

`AgentLoop` makes a `Setup`; the loop only reads it. Values only, no logic but the check of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from looopy.errors import ConfigurationError, LimitExceeded
from looopy.output import Output
from looopy.ports import ArtifactStore, LLMProvider, LLMRequest, StateStore, ToolProvider
from looopy.prompts import Instructions
from looopy.state import LoopState

SystemPrompt: TypeAlias = Instructions | Callable[[LoopState], "Instructions | Awaitable[Instructions]"]
"""The instructions, or a function of the state, sync or async, that is asked for them before every model call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a task may use. Each limit that is reached ends the task with `LimitExceeded`, which names it and keeps what was reached.

    None means no limit. Times are in seconds on the loop's clock. How many model calls a task may make is `max_iterations`.

    Attributes:
        run_seconds: the whole run.
        model_seconds: one model call.
        first_token_seconds: from a model call to its first piece.
        idle_seconds: between two pieces of a model's answer.
        tool_seconds: one tool call. (A tool's own `timeout=` is a failure that the model reads instead.)
        tokens: input and output of all model calls together; looked at before each step.
        cost: US dollars of all model calls together, as far as known; looked at before each step.
        tool_failures: tool calls that failed in a row.

    Raises:
        ConfigurationError: a limit is not above 0.
    """

    run_seconds: float | None = None
    model_seconds: float | None = None
    first_token_seconds: float | None = None
    idle_seconds: float | None = None
    tool_seconds: float | None = None
    tokens: int | None = None
    cost: float | None = None
    tool_failures: int | None = 10

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                raise ConfigurationError(
                    f"Limits({name}={value!r}): a limit must be above 0; leave it out for none",
                    argument=name,
                )


def exceeded(limit: str, *, allowed: float, spent: float, what: str) -> LimitExceeded:
    """The error of a limit: its name as users write it, what it was set to, what happened."""
    name = limit if limit == "max_iterations" else f"Limits.{limit}"
    return LimitExceeded(
        f"run stopped by {name}={allowed:g}: {what}; raise the limit, or go on from the partial result in error.result",
        limit=limit,
        allowed=allowed,
        spent=spent,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that the steps of a task use; the arguments of `AgentLoop`, which says what each means."""

    llm_provider: LLMProvider
    tool_providers: tuple[ToolProvider, ...] = ()
    system_prompt: SystemPrompt = None
    task_state_store: StateStore | None = None
    artifact_store: ArtifactStore | None = None
    max_iterations: int = 20
    max_parallel_tools: int = 8
    max_result_chars: int = 100_000
    limits: Limits = Limits()
    on_tool_error: Literal["model", "raise"] = "model"
    deps: Any = None
    output: Output[Any] | None = None
    request: LLMRequest = field(default_factory=lambda: LLMRequest(messages=()))
