"""What of a conversation goes on spans: messages, arguments and results, in the form that OpenTelemetry's GenAI conventions give them.

`Content` says how much of it, and who may change it first; a `Transcript` writes it for the spans of one run, as JSON text. Each message is
written once, though every model call of a run carries the whole conversation. Nothing here knows a span.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import dropwhile, takewhile
from typing import Any, Literal, TypeAlias, TypeVar, assert_never, cast, get_args

from looopy.errors import ConfigurationError
from looopy.events import Failure
from looopy.messages import JSON, DataPart, FilePart, FinishReason, Message, Part, TextPart, ToolCall
from looopy.observe import reasons
from looopy.observe.shown import Allow, address, bytes_in, label, quoted, short, text, value
from looopy.ports import ToolDefinition

_log = logging.getLogger("looopy.observe")

Where: TypeAlias = Literal["system", "user", "assistant", "reasoning", "tool-arguments", "tool-result"]
"""Whose words a text is: the instructions, a person's, the model's, its thoughts, what it gives a tool, what a tool gives back."""

Redaction: TypeAlias = Callable[[str, Where], str]
"""Is given a text and whose it is, and returns what a trace shows instead."""

Shelf: TypeAlias = dict[object, tuple[object, str]]
"""What was written before, by what it was written of, with whatever must live as long as it lies here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What of a conversation goes on spans, and in which form.

    What looks like a credential (`looopy.errors.redact`) is hidden always: after the hook, and before a text is cut. Files are named, never
    dumped. Signatures of thoughts are left out.

    Attributes:
        redact: is given each text and whose it is, and returns what to show instead, for example
            `lambda text, where: NAMES.sub("[name]", text)`. It sees each string inside of arguments and results, but no key, id, name of a tool
            or tool definition. It is called in the context in which the run began, often in another thread. Where it raises or returns no text, a remark stands instead and a warning is logged once; the run goes on.
        max_chars: longest part of a message, arguments of a call, or result, in characters; a longer one is cut, with a remark.
        max_total: longest attribute, in characters of JSON, at least 16,384. Of a longer conversation messages in the middle are left out, with
            a remark that says how many.

    Raises:
        ConfigurationError: a limit is too small, or `redact` is a coroutine function.
    """

    redact: Redaction | None = None
    max_chars: int = 16_384
    max_total: int = 262_144
    _shared: Shelf = field(default_factory=Shelf, init=False, repr=False, compare=False)
    _told: list[str] = field(default_factory=list[str], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("max_chars", 1), ("max_total", 16_384)):
            if (limit := getattr(self, name)) < least:
                raise ConfigurationError(f"{name} must be at least {least:,}, not {limit:,}", argument=name)
        if inspect.iscoroutinefunction(self.redact):
            what = "redact must be a plain function, not `async def`: a span cannot wait for it"
            raise ConfigurationError(what, argument="redact")

    def transcript(self) -> Transcript:
        """The transcript of one run."""
        if self.redact is None:
            return Transcript(self, allow={}, definitions=self._shared, instructions=self._shared)
        # A hook may go by what it knows of a run: so it is asked in the context in which the run began, whoever writes, and what it made of the
        # instructions is for that run only.
        variables = copy_context()
        allow = {where: partial(self._allowed, variables, where) for where in get_args(Where)}
        return Transcript(self, allow=allow, definitions=self._shared, instructions={})

    def _allowed(self, variables: Variables, where: Where, said: str) -> str:
        assert self.redact is not None
        try:
            # A copy, since two threads may ask at once.
            shown = cast("object", variables.copy().run(self.redact, said, where))
        except KeyboardInterrupt:  # a person's, whatever is running just then
            raise
        except BaseException as error:  # also SystemExit: a hook ends no run, nor the thread that sends
            return self._dropped(f"raised {type(error).__name__}")
        if isinstance(shown, str):
            return shown
        if inspect.iscoroutine(shown):
            shown.close()  # else Python warns, at another place
        return self._dropped(f"returned a {type(shown).__name__}, not a text")

    def _dropped(self, why: str) -> str:
        """The remark. The error's own words are in it nowhere, nor in the log: they may hold the text."""
        if not self._told:
            self._told.append(why)
            name = getattr(self.redact, "__qualname__", type(self.redact).__name__)
            what = "the redaction hook %s %s: each text that it fails on is left out of the traces (this is said once)"
            _log.warning(what, name, why)
        return f"[content dropped: the redaction hook {why}]"


def told(failure: Failure, shown: Transcript | None, *, by_tool: bool = False) -> Failure:
    """A failure as it may be shown.

    Args:
        failure: what there is to show.
        shown: writes content; None where none is shown: then only looopy's own words are.
        by_tool: whether a tool says it. Then it is a result that the model reads, so it is content.
    """
    if shown is not None:
        said = shown.failure(failure.message)
    else:
        said = "" if by_tool else reasons.own_words(failure)
    return replace(failure, type=reasons.kind(failure), message=said)


class Transcript:
    """Writes the content of one run's spans as JSON text; made by `Content.transcript`.

    The span of a whole run shows its turn only: `input_messages((prompt,))` and `output_messages(answer)`.
    """

    __slots__ = ("_allow", "_chars", "_definitions", "_given", "_instructions", "_messages", "_total")

    def __init__(
        self, content: Content, *, allow: Mapping[Where, Allow], definitions: Shelf, instructions: Shelf
    ) -> None:
        self._chars = content.max_chars
        self._total = content.max_total
        self._allow = allow
        self._definitions = definitions
        self._instructions = instructions
        # By identity, since neither has a hash; each is kept, so that no other one gets its id.
        self._messages: dict[int, tuple[Message, str]] = {}
        self._given: dict[int, tuple[dict[str, JSON], str]] = {}

    def system_instructions(self, messages: Sequence[Message]) -> str:
        """`gen_ai.system_instructions`: the system messages that a conversation begins with; empty when there is none."""
        said = tuple(takewhile(_instructs, messages))
        if not said:
            return ""
        if not all(isinstance(message.content, str) for message in said):
            return self._write_instructions(said)
        key = tuple(message.content for message in said)
        return _once(self._instructions, key, said, self._write_instructions)

    def input_messages(self, messages: Sequence[Message]) -> str:
        """`gen_ai.input.messages`: a conversation, without the system messages that it begins with."""
        written = [self._message(message) for message in dropwhile(_instructs, messages)]
        return f"[{','.join(_ends(written, self._total))}]"

    def output_messages(self, message: Message, finish_reason: FinishReason = "stop") -> str:
        """`gen_ai.output.messages`: one answer. Its calls are in it twice, the second time flat, where Langfuse looks for them."""
        calls = ""
        if message.tool_calls:
            flat, _ = self._fitting(
                [(self._flat_call, call, "tool-arguments") for call in message.tool_calls]
            )
            calls = f',"tool_calls":[{",".join(flat)}]'
        return f'[{self._message(message)[:-1]},"finish_reason":"{_FINISHED[finish_reason]}"{calls}}}]'

    def tool_definitions(self, tools: Sequence[ToolDefinition]) -> str:
        """`gen_ai.tool.definitions`: what the model may call; empty when there is nothing."""
        if not tools:
            return ""
        # By identity: a definition has no hash, and an agent offers the same ones again and again.
        return _once(self._definitions, tuple(map(id, tools)), tuple(tools), self._write_definitions)

    def arguments(self, arguments: Mapping[str, JSON]) -> str:
        """`gen_ai.tool.call.arguments`: a JSON object."""
        given = arguments if isinstance(arguments, dict) else dict(arguments)
        return self._within(self._total, (self._arguments, given, "tool-arguments"))

    def result(self, result: JSON) -> str:
        """`gen_ai.tool.call.result`: what the model reads, a text as it is and everything else as JSON."""
        return self._within(self._total, (text if isinstance(result, str) else value, result, "tool-result"))

    def line(self, message: Message) -> str:
        """What a message says, as plain text: for backends that list runs by their question and answer."""
        return self._within(
            self._total, (text, message.text, "user" if message.role == "user" else "assistant")
        )

    def failure(self, said: str) -> str:
        """What a failure says: it may quote what it failed on."""
        return self._within(self._total, (text, said, "tool-result"))

    def forget(self) -> None:
        """Let go of the messages that were written: the run is over, and what was said of it may wait for long to be sent."""
        self._messages.clear()
        self._given.clear()

    def _message(self, message: Message) -> str:
        known = self._messages.get(id(message))
        if known is None:
            written = f'{{"role":"{message.role}","parts":[{self._parts(self._pieces(message))}]}}'
            known = self._messages[id(message)] = (message, written)
        return known[1]

    def _pieces(self, message: Message) -> list[_Piece]:
        """The parts of a message, in the order in which they came to be."""
        if message.role == "tool":
            return [(_response_part, message, "tool-result")]
        pieces: list[_Piece] = []
        if message.reasoning:
            pieces.append((_reasoning_part, message.reasoning, "reasoning"))
        if not isinstance(message.content, str):
            pieces.extend((_part, part, message.role) for part in message.content)
        elif message.content:
            pieces.append((_text_part, message.content, message.role))
        if message.tool_calls:
            pieces.extend((self._call_part, call, "tool-arguments") for call in message.tool_calls)
        return pieces

    def _call_part(self, call: ToolCall, limit: int, allow: Allow | None) -> str:
        arguments = self._arguments(call.arguments, limit, allow)
        return (
            f'{{"type":"tool_call","id":{label(call.id)},"name":{label(call.name)},"arguments":{arguments}}}'
        )

    def _flat_call(self, call: ToolCall, limit: int, allow: Allow | None) -> str:
        arguments = quoted(self._arguments(call.arguments, limit, allow))
        return (
            f'{{"id":{label(call.id)},"type":"function","name":{label(call.name)},"arguments":{arguments}}}'
        )

    def _arguments(self, given: dict[str, JSON], limit: int, allow: Allow | None) -> str:
        """What a tool is given: a part of the message that asks for it, of that message's flat calls, and of the tool's own span."""
        known = self._given.get(id(given))
        if known is None or limit != self._chars:
            known = given, value(given, limit, allow)
            if limit == self._chars:
                self._given[id(given)] = known
        return known[1]

    def _write_instructions(self, messages: tuple[Message, ...]) -> str:
        return f"[{self._parts([piece for message in messages for piece in self._pieces(message)])}]"

    def _write_definitions(self, tools: tuple[ToolDefinition, ...]) -> str:
        written, left = self._fitting([(_definition, tool, None) for tool in tools])
        if left:
            written.append(f'{{"type":"remark","name":"[cut: {left:,} of {len(tools):,} tools left out]"}}')
        return f"[{','.join(written)}]"

    def _parts(self, pieces: Sequence[_Piece]) -> str:
        written, left = self._fitting(pieces)
        if left:
            written.append(
                _text_part(f"[cut: {left:,} of {len(pieces):,} parts left out]", self._chars, None)
            )
        return ",".join(written)

    def _fitting(self, pieces: Sequence[_Piece]) -> tuple[list[str], int]:
        """The pieces that fit into half of an attribute, so that two messages fit into one; and how many do not."""
        room, chars = self._total // 2, self._chars
        if len(pieces) == 1 and len(part := self._written(pieces[0], chars)) <= room:
            return [part], 0  # as most are
        written: list[str] = []
        for piece in pieces:
            part = self._written(piece, chars)
            fits = len(part) <= room
            if not fits:
                part = self._within(room, piece)
            if len(part) <= room:
                written.append(part)
            if not fits:
                break
            room -= len(part) + 1
        return written, len(pieces) - len(written)

    def _within(self, room: int, piece: _Piece) -> str:
        """The piece, cut shorter than others where the room demands it."""
        written = self._written(piece, self._chars)
        if len(written) <= room:
            return written
        for limit in (room - _AROUND, room // 2, room // _ESCAPED):
            written = self._written(piece, max(min(limit, self._chars), 0))
            if len(written) <= room:
                break
        return written

    def _written(self, piece: _Piece, limit: int) -> str:
        write, given, where = piece
        return write(given, limit, self._allow.get(where) if where else None)


def heavy(given: Message | JSON) -> bool:
    """Whether something is too large to be kept whole until it is sent; found out at a price that does not grow with it."""
    if not isinstance(given, Message):
        return len(given) > _HEAVY if isinstance(given, str) else _nested(given)
    content = given.content
    if isinstance(content, str):
        if len(content) + len(given.reasoning) > _HEAVY:
            return True
    elif any(map(heavy, map(_weighed, content))):
        return True
    # Most have no calls, and `any` would cost them as much as all the rest.
    return bool(given.tool_calls) and any(_nested(call.arguments) for call in given.tool_calls)


def _nested(given: object) -> bool:
    waiting, left = [given], _HEAVY
    while waiting and left >= 0:
        each = waiting.pop()
        if type(each) not in _FLAT and isinstance(each, str | dict | list | tuple):
            sized = cast("str | dict[str, object] | Sequence[object]", each)
            left -= len(sized)
            if left >= 0 and not isinstance(sized, str):
                waiting.extend(sized.values() if isinstance(sized, dict) else sized)
    return left < 0


_HEAVY = 65_536
"""Characters and entries."""

_FLAT = frozenset((int, float, bool, type(None)))
"""What has no size to speak of, as most arguments of tools."""


def _weighed(part: Part) -> JSON:
    match part:
        case TextPart():
            return part.text
        case DataPart():
            return part.data
        case FilePart():
            return [part.data, part.url]
        case _:
            assert_never(part)


_AROUND = 256
"""Characters around a text: those of its part, and of the remark that it is cut."""

_ESCAPED = 10
"""Characters that one may become in JSON within JSON (`\\\\u0000`), with some to spare for what stands around."""

_FINISHED: dict[FinishReason, str] = {
    "stop": "stop",
    "tool_calls": "tool_call",
    "length": "length",
    "content_filter": "content_filter",
    "interrupted": "error",
}

_Piece: TypeAlias = tuple[Callable[[Any, int, Allow | None], str], Any, Where | None]
"""Something to be written: how, what, and whose words it is; None for a program's, which the hook does not see."""

T = TypeVar("T")


def _once(shelf: Shelf, key: object, given: T, write: Callable[[T], str]) -> str:
    known = shelf.get(key)
    if known is None:
        if len(shelf) >= _SHELF:
            shelf.clear()
        known = shelf[key] = (given, write(given))
    return known[1]


_SHELF = 64
"""Sets of tools and instructions that are remembered: more than an application uses at a time."""


def _instructs(message: Message) -> bool:
    return message.role == "system"


def _ends(messages: list[str], room: int) -> list[str]:
    """The messages, without those in the middle for which there is no room."""
    if sum(map(len, messages)) + len(messages) <= room:
        return messages
    first, *rest = messages
    room -= len(first)
    kept: list[str] = []
    for message in reversed(rest):
        room -= len(message) + 1
        if kept and room < 0:
            break
        kept.append(message)
    left = len(rest) - len(kept)
    remark = f"[cut: {left:,} of {len(messages):,} messages left out here]"
    gap = [f'{{"role":"system","parts":[{{"type":"text","content":"{remark}"}}]}}'] if left else []
    return [first, *gap, *reversed(kept)]


# ------------------------------------------------------------------------------------------------------------------------------- parts


def _text_part(said: str, limit: int, allow: Allow | None) -> str:
    return f'{{"type":"text","content":{quoted(text(said, limit, allow))}}}'


def _reasoning_part(said: str, limit: int, allow: Allow | None) -> str:
    return f'{{"type":"reasoning","content":{quoted(text(said, limit, allow))}}}'


def _response_part(message: Message, limit: int, allow: Allow | None) -> str:
    content = message.content
    response = (
        quoted(text(content, limit, allow))
        if isinstance(content, str)
        else f"[{','.join(_part(part, limit // len(content), allow) for part in content)}]"
    )
    return f'{{"type":"tool_call_response","id":{label(message.tool_call_id)},"response":{response}}}'


def _part(part: Part, limit: int, allow: Allow | None) -> str:
    match part:
        case TextPart():
            return _text_part(part.text, limit, allow)
        case DataPart():
            return f'{{"type":"text","content":{quoted(value(part.data, limit, allow))}}}'
        case FilePart():
            return _file_part(part, limit, allow)
        case _:
            assert_never(part)


def _file_part(part: FilePart, limit: int, allow: Allow | None) -> str:
    """A file at a URL as a `uri` part; of one that was sent inline its name and size, as text, since a `blob` part must hold the bytes."""
    name = text(part.name, limit, allow)
    if part.url and part.url[:5].lower() != "data:":
        family = part.mime_type.partition("/")[0]
        modality = family if family in {"image", "audio", "video"} else "document"
        uri = quoted(text(address(part.url), limit, allow))
        named = f',"name":{quoted(name)}' if name else ""
        return (
            f'{{"type":"uri","modality":"{modality}","mime_type":{label(part.mime_type)},"uri":{uri}{named}}}'
        )
    mime_type, data = part.mime_type, part.data
    if part.url:
        kind, _, data = part.url[5:].partition(",")
        mime_type = kind.partition(";")[0] or mime_type
    size = bytes_in(data)
    remark = f"[{name or 'a file'}: {short(mime_type)}, {size:,} bytes, not recorded]"
    return f'{{"type":"text","content":{quoted(remark)},"mime_type":{label(mime_type)},"size":{size}}}'


def _definition(tool: ToolDefinition, limit: int, allow: Allow | None) -> str:
    """A tool; its parameters whole or not at all, since a part of a schema may be none."""
    parameters = value(tool.parameters, sys.maxsize, allow, nested=False)
    shown = f',"parameters":{parameters}' if len(parameters) <= limit else ""
    description = quoted(text(tool.description, limit, allow))
    return f'{{"type":"function","name":{label(tool.name)},"description":{description}{shown}}}'
