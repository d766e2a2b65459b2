"""Messages in OpenAI's chat format, as other libraries keep them, read as looopy's.

The other direction is `messages.chat_format`. What is read here and written there is the same again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

from looopy.errors import ConfigurationError
from looopy.messages import (
    JSON,
    FilePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolCall,
    chat_format,
    jsonable,
    read_arguments,
)

Chat: TypeAlias = Sequence["Message | Mapping[str, JSON]"]
"""A conversation, oldest first: messages, or dicts in OpenAI's chat format."""

_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
}  # fmt: skip
_OWN = {"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}
_DATA = re.compile(r"data:(?P<mime>[^;,]*)(?:;[^,]*)?;base64,(?P<data>.*)", re.DOTALL)
_SOUNDS = {"mp3": "audio/mpeg"}


def messages_of(chat: Chat) -> tuple[Message, ...]:
    """The messages of a conversation.

    What else a message has (a `name`, thoughts with their signatures) is sent back to the model as it is.

    Raises:
        ConfigurationError: one cannot be read; `.argument` says which, as "prompt[2]".
    """
    return tuple(
        each if isinstance(each, Message) else _Reading(f"prompt[{place}]").message(each)
        for place, each in enumerate(chat)
    )


class _Reading:
    """One message, and where it stands."""

    def __init__(self, place: str) -> None:
        self._place = place

    def message(self, given: object) -> Message:
        if not isinstance(given, Mapping):
            raise self._wrong(
                f"is a {type(given).__name__}: pass Messages, or dicts such as {{'role': 'user', 'content': …}}"
            )
        fields = cast("Mapping[str, JSON]", given)
        role = _ROLES.get(str(fields.get("role")))
        if role is None:
            raise self._wrong(f"has the role {fields.get('role')!r}: it must be one of {', '.join(_ROLES)}")
        for name in fields.keys() - _OWN:
            meant = get_close_matches(str(name), _OWN - fields.keys(), n=1, cutoff=0.85)
            if meant:
                raise self._wrong(f"has the key {name!r}: did you mean {meant[0]!r}?")
        thoughts = fields.get("reasoning_content")
        extra = {
            name: value
            for name, value in fields.items()
            if value and (name not in _OWN or name == "reasoning_content")
        }
        try:
            return Message(
                role,
                self._content(fields.get("content")),
                tool_calls=self._calls(fields.get("tool_calls") or []),
                tool_call_id=self._call_id(fields.get("tool_call_id") or ""),
                reasoning=thoughts if isinstance(thoughts, str) else "",
                extra=jsonable(extra),
            )
        except TypeError as error:
            raise self._wrong(f"has no JSON form ({error})") from None

    def _call_id(self, given: JSON) -> str:
        if not isinstance(given, str):
            raise self._wrong("has a tool_call_id that is no text")
        return given

    def _calls(self, given: JSON) -> tuple[ToolCall, ...]:
        if not isinstance(given, list | tuple):
            raise self._wrong("has tool calls that are no list")
        return tuple(map(self._call, cast("list[JSON]", given)))

    def _call(self, given: JSON) -> ToolCall:
        match given:
            case {"id": str(name), "function": {"name": str(tool), "arguments": str(text)}}:
                arguments, problem = read_arguments(text)
                return ToolCall(name, tool, arguments, problem)
            case _:
                raise self._wrong(
                    "has a tool call that cannot be read: write "
                    '{"id": …, "type": "function", "function": {"name": …, "arguments": "{…}"}}'
                )

    def _content(self, given: JSON) -> str | tuple[Part, ...]:
        match given:
            case None:
                return ""
            case str():
                return given
            case [*parts]:
                return tuple(map(self._part, parts))
            case _:
                raise self._wrong(
                    f"has a {type(given).__name__} for content: it must be text, or a list of parts"
                )

    def _part(self, given: JSON) -> Part:
        fields = cast("Mapping[str, JSON]", given if isinstance(given, Mapping) else {})
        kind = str(fields.get("type"))
        read = _PARTS.get(kind)
        part = read(fields) if read else None
        if part is None:
            raise self._wrong(
                f"has a part that cannot be read, of type {kind!r}: it must be one of {', '.join(_PARTS)}, as OpenAI writes them"
            )
        if lost := sorted(_keys(fields, kind) - _keys(_written(part), kind)):
            # Left out silently, it would be missed only on the bill.
            raise self._wrong(
                f"has a part with {', '.join(lost)}, which looopy does not carry; to have a prompt cached, pass "
                "params={'cache_control_injection_points': [{'location': 'message', 'role': 'system'}]}"
            )
        return part

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._place} {what}", argument=self._place)


def _written(part: Part) -> JSON:
    return chat_format(Message("user", (part,)))["content"][0]


def _keys(part: Mapping[str, JSON], kind: str) -> set[str]:
    """The names of the fields of a part that say something."""
    inner: Any = part.get(kind)
    fields: dict[str, JSON] = {**part, **inner} if isinstance(inner, Mapping) else {**part}
    return {
        name for name, value in fields.items() if value is not None and (name, value) != ("detail", "auto")
    }


def _text(given: Mapping[str, Any]) -> Part | None:
    text = given.get("text")
    return TextPart(text) if isinstance(text, str) else None


def _image(given: Mapping[str, Any]) -> Part | None:
    match given.get("image_url"):
        case {"url": str(url)} | str(url):
            return _file_at(url, "image/*")
        case _:
            return None


def _sound(given: Mapping[str, Any]) -> Part | None:
    match given.get("input_audio"):
        case {"data": str(data), "format": str(form)}:
            return FilePart(data=data, mime_type=_SOUNDS.get(form, f"audio/{form}"))
        case _:
            return None


def _file(given: Mapping[str, Any]) -> Part | None:
    match given.get("file"):
        case {"file_data": str(url), **rest} | {"file_id": str(url), **rest}:
            name = rest.get("filename")
            return _file_at(url, "application/octet-stream", name if isinstance(name, str) else "")
        case _:
            return None


def _file_at(url: str, mime_type: str, name: str = "") -> FilePart:
    if inline := _DATA.fullmatch(url):
        return FilePart(data=inline["data"], mime_type=inline["mime"] or mime_type, name=name)
    return FilePart(url, mime_type=mime_type, name=name)


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], Part | None]] = {
    "text": _text,
    "image_url": _image,
    "input_audio": _sound,
    "file": _file,
}
