"""Tools that somebody outside runs: the model may call them, and the task then waits for what they gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from reactivex import Observable

from looopy import reactive
from looopy.errors import ConfigurationError
from looopy.events import ToolComplete, ToolEvent
from looopy.messages import JSON, ToolCall, jsonable, render
from looopy.ports import ToolContext, ToolDefinition
from looopy.state import LoopState

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ClientTools:
    """Tools without an implementation here. A call of one is an `input-required`, at which the run ends; `resume` takes what the tool gave.

    Args:
        tools: what the model sees of each: a `ToolDefinition`, or a dict in OpenAI's form,
            `{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}`.

    Raises:
        ConfigurationError: one is neither, or has no name that a model could call.
    """

    def __init__(self, tools: Iterable[ToolDefinition | Mapping[str, JSON]]) -> None:
        self._tools = tuple(map(definition_of, tools))

    def __repr__(self) -> str:
        return f"ClientTools({', '.join(tool.name for tool in self._tools)})"

    def tools(self, state: LoopState, /) -> Sequence[ToolDefinition]:  # noqa: ARG002
        """The tools, the same in every state."""
        return self._tools

    def call(self, call: ToolCall, context: ToolContext[Any], /) -> Observable[ToolEvent]:
        """Wait for whoever runs the tool; once the answer is there, it is the result."""
        answer = context.ask(f"{call.name}({render(call.arguments)})", input_type="data")
        return reactive.at_once((ToolComplete(result=answer),))


def definition_of(tool: ToolDefinition | Mapping[str, JSON]) -> ToolDefinition:
    """A tool as a model sees it, from OpenAI's form.

    Raises:
        ConfigurationError: it is not of that form.
    """
    if isinstance(tool, ToolDefinition):
        return tool
    function: Any = tool.get("function")
    if not isinstance(function, Mapping):
        raise ConfigurationError(
            f"the tool {_shown(tool)} is not in OpenAI's form: write "
            '{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}',
            argument="tools",
        )
    given = cast("Mapping[str, Any]", function)
    name, description = given.get("name"), given.get("description") or ""
    parameters: Any = given.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the tool {_shown(given)} needs a name of 1 to 64 of letters, digits, `_` and `-`",
            argument="tools",
        )
    if not isinstance(description, str) or not isinstance(parameters, dict):
        raise ConfigurationError(
            f"the tool {name!r}: its description must be text, and its parameters a JSON schema of type object",
            argument="tools",
        )
    try:
        return ToolDefinition(
            name=name, description=description, parameters=jsonable(cast("object", parameters))
        )
    except TypeError as error:
        raise ConfigurationError(
            f"the tool {name!r}: its parameters have no JSON form ({error})", argument="tools"
        ) from None


def _shown(tool: Mapping[str, Any]) -> str:
    name = tool.get("name")
    return repr(name) if isinstance(name, str) else f"with the keys {sorted(map(str, tool))}"
