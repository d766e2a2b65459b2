"""A request as the bytes of `POST /v1/chat/completions`, and what the bodies of all requests have in common.

What is the same in every call of a provider is made once; messages and tools bring their own bytes, made once each. So a conversation of a
thousand turns is joined, never serialised anew. Nothing here does I/O; `litellm.py` sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from looopy.errors import ConfigurationError
from looopy.messages import JSON, Message
from looopy.ports import EmbedRequest, LLMRequest, ToolDefinition

_OURS: Mapping[str, str] = dict.fromkeys(
    ("messages", "model", "stream"),
    "the model is an argument, the messages are the request's, and every call is streamed",
)
"""Fields of the body that are set in their own place, and which that is."""


class Constant(NamedTuple):
    """What calls with the same configuration have in common."""

    head: bytes  # a JSON object without its last brace
    tools: bytes  # tools that the user's own fields bring, comma-separated
    metadata: dict[str, JSON]
    given: Collection[str]  # names in the user's own fields
    fields: Mapping[str, JSON]  # what `head` and `tools` say


class Body:
    """The part of the request that a configuration decides.

    Args:
        model: the name to ask for where the request has none.
        fields: for a model's name, the fields of the body that each request has.
        extra: the user's own fields, which win.

    Raises:
        ConfigurationError: `extra` has no JSON form, or sets what has its own place.
    """

    __slots__ = ("_constant", "_extra", "_fields", "_model", "_other", "_tools")

    def __init__(
        self, model: str, fields: Callable[[str], dict[str, JSON]], extra: Mapping[str, JSON]
    ) -> None:
        self._model = model
        self._fields = fields
        self._extra = extra
        self._constant = constant_of(fields(model), extra, "extra_params")
        self._other: tuple[tuple[str, bytes], Constant] = ((model, b""), self._constant)
        self._tools: tuple[Sequence[ToolDefinition], bytes] = ((), b"")

    def of(self, request: LLMRequest) -> bytes:
        """The body of one request.

        Raises:
            ConfigurationError: `request.params` have no JSON form, or set what has its own place.
        """
        model, constant = request.model or self._model, self._for(request)
        parts = [constant.head, b',"messages":[', _messages(request.messages, model), b"]"]
        if tools := b",".join(wire for wire in (self._tools_of(request.tools), constant.tools) if wire):
            parts += b',"tools":[', tools, b"]"
            if request.tool_choice != "auto" and "tool_choice" not in constant.given:
                parts += b',"tool_choice":', to_json(_tool_choice(request.tool_choice))
        parts.append(bookkeeping(request, constant))
        parts.append(b"}")
        return b"".join(parts)

    def fields(self, request: LLMRequest) -> Mapping[str, JSON]:
        """The fields of a request's body, but for the conversation, the request's tools and the bookkeeping.

        Raises:
            ConfigurationError: as `of`.
        """
        return self._for(request).fields

    def _for(self, request: LLMRequest) -> Constant:
        """What a request has in common with others; of those with parameters of their own the newest is remembered, since a `Retry` asks alike."""
        model = request.model or self._model
        if not request.params and model == self._model:
            return self._constant
        try:
            alike = model, to_json(request.params)
        except (PydanticSerializationError, ValueError):
            alike = None
        known, constant = self._other
        if known != alike:
            constant = constant_of(self._fields(model), {**self._extra, **request.params}, "params")
            if alike is not None:
                self._other = alike, constant
        return constant

    def _tools_of(self, tools: Sequence[ToolDefinition]) -> bytes:
        known, wire = self._tools
        if known is not tools:
            wire = b",".join([tool.wire for tool in tools])
            self._tools = (tools, wire)
        return wire


def _check(params: Mapping[str, JSON], where: str, ours: Mapping[str, str]) -> None:
    for name, place in ours.items():
        if name in params:
            raise ConfigurationError(
                f"{where} sets {name!r}, which has its own place: {place}", argument=where
            )
    if not isinstance(params.get("metadata", {}), Mapping):
        raise ConfigurationError(f"{where}: metadata must be a JSON object", argument=where)
    if not isinstance(params.get("tools", ()), list | tuple):
        raise ConfigurationError(f"{where}: tools must be a JSON array", argument=where)


def constant_of(
    fields: dict[str, JSON], extra: Mapping[str, JSON], where: str, *, ours: Mapping[str, str] = _OURS
) -> Constant:
    """What requests have in common.

    Args:
        fields: of the body that each has.
        extra: the user's own, which win.
        where: what the user calls them.
        ours: names that the user must not set, and where they are set instead.

    Raises:
        ConfigurationError: `extra` has no JSON form, or sets what has its own place.
    """
    _check(extra, where, ours)
    merged = {**fields, **extra}
    if "max_completion_tokens" in merged:
        merged.pop("max_tokens", None)
    metadata = merged.pop("metadata", {})
    said = dict(merged)
    tools = merged.pop("tools", ())
    try:
        head = to_json(merged, inf_nan_mode="null")[:-1]
        tools = to_json(tools, inf_nan_mode="null")[1:-1]
        to_json(metadata)
    except (PydanticSerializationError, ValueError) as error:
        raise ConfigurationError(f"{where} cannot be sent as JSON: {error}", argument=where) from None
    return Constant(head, tools, metadata, tuple(extra), said)


def _messages(messages: Sequence[Message], model: str) -> bytes:
    # What a provider wants back (signatures of thoughts) breaks a call to another: only the model that wrote it gets it (litellm#15601).
    return b",".join(
        [
            message.wire_back if message.extra and message.model in ("", model) else message.wire
            for message in messages
        ]
    )


def _tool_choice(choice: str) -> JSON:
    return choice if choice in ("required", "none") else {"type": "function", "function": {"name": choice}}


def bookkeeping(request: LLMRequest | EmbedRequest, constant: Constant) -> bytes:
    """Who asks, for the proxy's logs and Langfuse: fields that follow others in the body, or nothing.

    The session stands in both places: `litellm_session_id` alone leaves Langfuse without one, and the header `x-litellm-session-id` would
    discard the trace id. LiteLLM consumes these fields; any other top-level one would reach the model's provider.
    """
    own = {
        "session_id": request.session_id,
        "trace_id": request.trace_id,
        "parent_observation_id": request.parent_span_id,
        "trace_name": request.trace_name,
        "trace_user_id": request.user_id,
        "tags": request.tags,
    }
    fields = {
        "litellm_session_id": request.session_id,
        "user": request.user_id,
        "metadata": {name: value for name, value in own.items() if value} | constant.metadata,
    }
    # `metadata` is joined above; of the others the user's own win, and stand in the head already.
    told = {
        name: value
        for name, value in fields.items()
        if value and (name == "metadata" or name not in constant.given)
    }
    return b"," + to_json(told, inf_nan_mode="null")[1:-1] if told else b""
