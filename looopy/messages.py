"""What is said in a conversation: messages, their parts, tool calls, and what they cost.

The shapes are those of OpenAI's chat format, in Python's spelling. Values only: nothing here does I/O, and nothing above
(events, state, providers) is known. A message is turned into bytes once and remembers them (`Message.wire`), so that a
conversation of a thousand turns is not serialised a thousand times.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal, TypeAlias, assert_never, cast

from pydantic_core import from_json, to_json, to_jsonable_python

JSON: TypeAlias = Any
"""A value as JSON knows it: None, bool, int, float, str, list of JSON, dict of str to JSON."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "interrupted"]
"""Why an answer ended. `interrupted` is looopy's own: cut by a cancel, a limit or an error; what came until then is kept."""


def jsonable(value: object) -> JSON:
    """Turn a Python value into plain JSON values that equal themselves after a round trip.

    Dataclasses, pydantic models, dates, enums, sets and tuples become what pydantic makes of them; bytes become URL-safe base64; NaN
    and infinities become text; lone surrogates in text become U+FFFD.

    Raises:
        TypeError: a part of the value has no JSON form, or it is nested more than 180 levels deep; the message says which.
    """
    if type(value) is str:
        return whole(value)
    if value is None or type(value) is bool or (type(value) is int and value.bit_length() < _SMALL):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    try:
        return _within(to_json(value, bytes_mode="base64", inf_nan_mode="strings"))
    except ValueError as error:
        if "surrogate" not in str(error):
            raise TypeError(str(error)) from None
    try:
        plain = to_jsonable_python(_mended(value), bytes_mode="base64", inf_nan_mode="strings")
        return jsonable(json.loads(whole(json.dumps(plain, ensure_ascii=False))))
    except (ValueError, RecursionError) as error:
        raise TypeError(str(error)) from None


def _mended(value: object) -> object:
    """The value with whole text for keys: pydantic makes none of keys that cannot be encoded, such as names of files."""
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {whole(key) if isinstance(key, str) else key: _mended(inner) for key, inner in items}
    if isinstance(value, list | tuple):
        return [_mended(inner) for inner in cast("list[object]", value)]
    return value


_SMALL = 64
"""Bits of a whole number that every reader of JSON takes."""

_ENVELOPE = 21
"""Levels of lists and objects that an event or a state may put around a value; pydantic reads 201 in all."""


def _within(text: bytes) -> JSON:
    """Parse JSON so that it can still be read with an envelope around it."""
    value = from_json(b"[" * _ENVELOPE + text + b"]" * _ENVELOPE, cache_strings=False)
    for _ in range(_ENVELOPE):
        value = value[0]
    return value


def render(value: JSON) -> str:
    """The text that a model reads for a tool's result: text as it is, everything else as JSON (`0`, `false`, `null`)."""
    return value if isinstance(value, str) else to_json(value).decode()


def digest(value: object) -> bytes:
    """32 bytes that stand for a value: the same for equal ones, also where the keys of a dict stand in another order.

    Raises:
        TypeError: as `jsonable`.
    """
    try:
        text = _sorted(value)
    except (TypeError, ValueError, RecursionError):
        text = _sorted(jsonable(value))
    return sha256(text.encode()).digest()


_sorted = json.JSONEncoder(sort_keys=True).encode


def whole(text: str) -> str:
    """Text that can be encoded: a lone surrogate (half of an emoji, a byte of a file name) would break every sink."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str
    _: KW_ONLY
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file: an image, a sound, a document; by URL or inline.

    Attributes:
        url: where it is; empty when the bytes are inline.
        data: the bytes in base64; empty when there is a URL.
        mime_type: for example "image/png"; decides how a model is shown it.
        name: a file name; optional.
    """

    url: str = ""
    data: str = ""
    _: KW_ONLY
    mime_type: str = "application/octet-stream"
    name: str = ""
    type: Literal["file"] = "file"

    @classmethod
    def of(cls, content: bytes, *, mime_type: str, name: str = "") -> FilePart:
        """A file from its bytes."""
        return cls(data=base64.b64encode(content).decode(), mime_type=mime_type, name=name)


@dataclass(frozen=True, slots=True)
class DataPart:
    """Structured data; a model reads it as JSON text."""

    data: JSON
    _: KW_ONLY
    type: Literal["data"] = "data"


Part: TypeAlias = TextPart | FilePart | DataPart


def plain(part: Part) -> Part:
    """The part with nothing in it but what JSON knows.

    Raises:
        TypeError: its data has no JSON form.
    """
    match part:
        case TextPart():
            return replace(part, text=whole(part.text))
        case DataPart():
            return replace(part, data=jsonable(part.data))
        case FilePart():
            return part
        case _:
            assert_never(part)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool.

    Attributes:
        id: the provider's id, opaque and of any length; looopy makes one where the provider sends none.
        name: the tool's name as the model wrote it.
        arguments: the parsed arguments; `{}` when they could not be read.
        problem: why the arguments could not be read (broken JSON, cut off); the call is then answered with this text and
            never run. Empty for a good call.
    """

    id: str
    name: str
    arguments: dict[str, JSON] = field(default_factory=dict[str, Any])
    problem: str = ""


class _Kept:
    """Room for what a message was turned into; no fields, so that it is neither compared nor stored."""

    __slots__ = ("_digest", "_wire", "_wire_back")
    _digest: bytes
    _wire: bytes
    _wire_back: bytes


@dataclass(frozen=True, slots=True)
class Message(_Kept):
    """One message of a conversation.

    Attributes:
        role: who speaks.
        content: text, or parts of several kinds.
        tool_calls: what an assistant asks for.
        tool_call_id: for role "tool": which call this answers.
        reasoning: the model's thoughts, as text; shown to people, sent back only inside `extra`.
        extra: what a provider wants back as it came (`thinking_blocks`, `provider_specific_fields`, `reasoning_content`, `extra_content`);
            under `tool_calls`, by their ids, what it wants back with the calls.
        model: the model that wrote it; `extra` is sent back only to the same one.
    """

    role: Role
    content: str | tuple[Part, ...] = ""
    _: KW_ONLY
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""
    extra: dict[str, JSON] = field(default_factory=dict[str, Any])
    model: str = ""

    @classmethod
    def system(cls, content: str) -> Message:
        """The instructions."""
        return cls("system", content)

    @classmethod
    def user(cls, content: str | tuple[Part, ...]) -> Message:
        """What a person says."""
        return cls("user", content)

    @classmethod
    def assistant(cls, content: str = "", *, tool_calls: tuple[ToolCall, ...] = ()) -> Message:
        """What a model says."""
        return cls("assistant", content, tool_calls=tool_calls)

    @classmethod
    def tool(cls, content: str, *, tool_call_id: str) -> Message:
        """What a tool answers."""
        return cls("tool", content, tool_call_id=tool_call_id)

    @property
    def text(self) -> str:
        """The text of the message: its content, or its text parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def wire(self) -> bytes:
        """The message in OpenAI's chat format, as JSON bytes without `extra`; made once."""
        try:
            return self._wire
        except AttributeError:
            object.__setattr__(self, "_wire", to_json(chat_format(self)))
            return self._wire

    @property
    def wire_back(self) -> bytes:
        """As `wire`, with `extra` merged in: what goes back to the model that wrote the message; made once."""
        if not self.extra:
            return self.wire
        try:
            return self._wire_back
        except AttributeError:
            body = to_json(_with_extra(chat_format(self), self.extra), inf_nan_mode="null")
            object.__setattr__(self, "_wire_back", body)
            return self._wire_back

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the message, as `digest` makes them; made once.

        Raises:
            TypeError: something in it has no JSON form.
        """
        try:
            return self._digest
        except AttributeError:
            object.__setattr__(self, "_digest", digest(self))
            return self._digest


def chat_format(message: Message) -> dict[str, JSON]:
    """The message as OpenAI's chat format has it, without `extra`.

    An assistant's empty text beside tool calls is null: an empty string reaches some models as a remark about empty content.
    """
    match message:
        case Message(role="tool"):
            return {
                "role": "tool",
                "tool_call_id": message.tool_call_id,
                "content": _content(message.content),
            }
        case Message(role="assistant", tool_calls=calls) if calls:
            return {
                "role": "assistant",
                "content": _content(message.content) or None,
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": _name(call.name), "arguments": render(call.arguments)},
                    }
                    for call in calls
                ],
            }
        case _:
            return {"role": message.role, "content": _content(message.content)}


def _with_extra(body: dict[str, JSON], extra: Mapping[str, JSON]) -> dict[str, JSON]:
    """A message with what its provider wants back: beside it, and beside its calls."""
    beside = {name: value for name, value in extra.items() if name != "tool_calls"}
    signed = extra.get("tool_calls")
    if signed and "tool_calls" in body:
        body["tool_calls"] = [_object(_object(signed).get(call["id"])) | call for call in body["tool_calls"]]
    return {**beside, **body}


def _object(value: JSON) -> dict[str, JSON]:
    return cast("dict[str, JSON]", value) if isinstance(value, dict) else {}


def _name(name: str) -> str:
    """A model may call a tool by a name that no API takes back: one bad name would make every further request fail."""
    return _NO_NAME.sub("_", name)[:64] or "_"


_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def _content(content: str | tuple[Part, ...]) -> JSON:
    if isinstance(content, str):
        return whole(content)
    return [_part(part) for part in content]


def _part(part: Part) -> dict[str, JSON]:
    match part:
        case TextPart():
            return {"type": "text", "text": whole(part.text)}
        case DataPart():
            return {"type": "text", "text": render(part.data)}
        case FilePart():
            return _file(part)
        case _:
            assert_never(part)


def _file(part: FilePart) -> dict[str, JSON]:
    url = part.url or f"data:{part.mime_type};base64,{part.data}"
    family, _, form = part.mime_type.partition("/")
    if family == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if family == "audio" and part.data:
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": _SOUNDS.get(form, form)}}
    if part.url:
        # The proxy takes a URL where OpenAI has the id of an upload.
        return {"type": "file", "file": {"file_id": url, **({"filename": part.name} if part.name else {})}}
    # Without a name OpenAI takes no inline file: it then asks for a `file_id`.
    import mimetypes  # noqa: PLC0415  few agents send files

    name = part.name or f"file{mimetypes.guess_extension(part.mime_type) or ''}"
    return {"type": "file", "file": {"file_data": url, "filename": name}}


_SOUNDS = {"mpeg": "mp3", "x-mp3": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}
"""What OpenAI's chat format calls a form of sound whose media type is another word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model call or of many; counts include their parts, as OpenTelemetry's GenAI conventions have it.

    Attributes:
        input_tokens: the prompt, cached tokens included.
        output_tokens: the answer, reasoning included.
        cached_tokens: the part of the input that a provider's cache served.
        reasoning_tokens: the part of the output that was thought.
        cache_creation_tokens: the part of the input that was written into a provider's cache, which Anthropic takes more for.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cache_creation_tokens=self.cache_creation_tokens + other.cache_creation_tokens,
        )


def read_arguments(text: str) -> tuple[dict[str, JSON], str]:
    """Parse the arguments of a tool call as a model wrote them.

    Args:
        text: JSON text; the empty text stands for no arguments.

    Returns:
        The arguments and an empty text, or `{}` and what is wrong with them, in words for the model.
    """
    text = whole(text)
    if not text.strip():
        return {}, ""
    try:
        value: object = jsonable(from_json(text, allow_inf_nan=False))
    except (ValueError, TypeError) as error:
        return {}, f"the arguments are not valid JSON ({error}); they were: {text[:500]}"
    if not isinstance(value, dict):
        return (
            {},
            f'the arguments must be a JSON object such as {{"name": "value"}}, not {type(value).__name__}: {text[:500]}',
        )
    return cast("dict[str, JSON]", value), ""
