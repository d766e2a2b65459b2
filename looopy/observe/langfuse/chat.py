"""Messages as Langfuse's chat view reads them.

Spans carry the messages that OpenTelemetry's GenAI conventions describe: each a role and a list of parts. Langfuse shows those as raw JSON
and finds no tool calls in them; OpenAI's chat format it shows as bubbles. So the one is turned into the other on its way to Langfuse, and
only there: other backends get what the conventions say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic_core import from_json, to_json

from looopy.messages import JSON, render

_SYSTEM = "gen_ai.system_instructions"
_INPUT = "gen_ai.input.messages"
_OUTPUT = "gen_ai.output.messages"
_SEEN_INPUT = "langfuse.observation.input"
_SEEN_OUTPUT = "langfuse.observation.output"
_FROM = (_SYSTEM, _INPUT, _OUTPUT)
_TWICE = frozenset(
    (*_FROM, "input.value", "output.value", "gen_ai.prompt", "gen_ai.completion")
)  # the same under names for others


def chat_view(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of a span with its messages in OpenAI's chat format, so that Langfuse shows a conversation.

    `gen_ai.system_instructions`, `gen_ai.input.messages` and `gen_ai.output.messages` become `langfuse.observation.input` and
    `langfuse.observation.output`, the same under other names is left out, and everything else stays. Attributes with no messages, with
    messages that cannot be read (cut, or of another shape), or that were turned already are given back as they are, as the same object.
    Nothing is raised.
    """
    if not any(name in attributes for name in _FROM) or (
        _SEEN_INPUT in attributes or _SEEN_OUTPUT in attributes
    ):
        return attributes
    try:
        said = [*_instructions(attributes), *_messages(attributes, _INPUT)]
        answers = _messages(attributes, _OUTPUT)
        seen = {name: value for name, value in attributes.items() if name not in _TWICE}
        if said:
            seen[_SEEN_INPUT] = to_json(said).decode()
        if answers:
            seen[_SEEN_OUTPUT] = to_json(answers[0] if len(answers) == 1 else answers).decode()
    except (ValueError, TypeError, KeyError):  # no JSON, or not of the shape that the conventions describe
        return attributes
    return seen


def _instructions(attributes: Mapping[str, Any]) -> list[JSON]:
    parts = _listed(attributes, _SYSTEM)
    return [{"role": "system", "content": _content([_part(part) for part in parts])}] if parts else []


def _messages(attributes: Mapping[str, Any], name: str) -> list[JSON]:
    return [turned for message in _listed(attributes, name) for turned in _turned(message)]


def _listed(attributes: Mapping[str, Any], name: str) -> Sequence[JSON]:
    """The list that an attribute holds as JSON; empty where there is none."""
    listed: object = from_json(attributes[name], allow_inf_nan=False) if name in attributes else []
    if not isinstance(listed, list):
        raise TypeError(name)
    return cast("list[JSON]", listed)


def _turned(message: JSON) -> list[JSON]:
    """One message in chat format. The answers of tools are messages of their own there, each with the id of its call."""
    role: JSON = message["role"]
    if not isinstance(role, str):
        raise TypeError("a role is text")
    content: list[JSON] = []
    calls: list[JSON] = []
    thoughts: list[JSON] = []
    answers: list[JSON] = []
    for part in message["parts"]:
        match part:
            case {"type": "tool_call", "name": str(name)}:
                arguments = render(part.get("arguments") or {})
                function = {"name": name, "arguments": arguments}
                calls.append({"id": part.get("id") or "", "type": "function", "function": function})
            case {"type": "tool_call_response"}:
                text = render(part.get("response", part.get("result")))
                answers.append({"role": "tool", "tool_call_id": part.get("id") or "", "content": text})
            case {"type": "reasoning", "content": str(thought)}:
                thoughts.append({"type": "thinking", "content": thought})
            case _:
                content.append(_part(part))
    if answers and not (content or calls or thoughts):
        return answers
    turned: dict[str, JSON] = {"role": role, "content": _content(content)}
    if name := message.get("name"):
        turned["name"] = name
    if thoughts:
        turned["thinking"] = thoughts
    if calls:
        turned["tool_calls"] = calls
    return [*answers, turned]


def _content(parts: list[JSON]) -> JSON:
    """One text as it is, several parts as a list; null where there is nothing, as beside tool calls."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts or None


def _part(part: JSON) -> JSON:
    match part:
        case {"type": "text", "content": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "uri", "modality": "image", "uri": str(url)}:
            return {"type": "image_url", "image_url": {"url": url}}
        case {"type": "blob", "modality": "image", "mime_type": str(kind), "content": str(data)} if data:
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case {"type": "blob" | "uri" | "file" as kind}:
            named = [part.get(key) for key in ("name", "mime_type", "modality", "uri", "file_id")]
            return {"type": "text", "text": f"[{kind}: {', '.join(str(each) for each in named if each)}]"}
        case {"type": str()}:
            return {"type": "text", "text": render(part)}
        case _:
            raise TypeError("a part has no type")
