"""Tool calls out of the pieces in which models stream them.

The pieces follow OpenAI's format only roughly: indexes may be missing, start anywhere or be 0 for every call; ids may be missing, late,
repeated or double; whole calls may come at once (litellm#14587, #20480, #32759). A call is told from another by index *and* id, never by
its place in a list. `chat.py` hands in the pieces; nothing here knows the rest of an answer.
"""

from __future__ import annotations

from typing import cast
from uuid import uuid4

from pydantic_core import from_json, to_json

from looopy.events import ToolCallDelta
from looopy.messages import JSON, ToolCall, read_arguments

_SHOWN = 500  # characters of cut arguments that the model is shown again


def as_object(value: JSON) -> dict[str, JSON]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, JSON]", value) if isinstance(value, dict) else {}


def as_list(value: JSON) -> list[JSON]:
    """The value if it is a JSON array, else an empty one."""
    return cast("list[JSON]", value) if isinstance(value, list) else []


def as_text(value: JSON) -> str:
    """The value if it is text, else an empty one."""
    return value if isinstance(value, str) else ""


class _Call:
    """One call while it comes in."""

    __slots__ = ("extra", "id", "name", "pieces", "sent_id")

    def __init__(self, call_id: str, sent_id: str) -> None:
        self.extra: dict[str, JSON] = {}  # what the provider wants back with the call
        self.id = call_id
        self.sent_id = sent_id  # what the provider calls it; empty while it has not said
        self.name = ""
        self.pieces: list[str] = []

    def is_whole(self) -> bool:
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False  # told without joining them: some ask at every piece
        try:
            return isinstance(from_json("".join(self.pieces)), dict)
        except ValueError:
            return False


class Calls:
    """The tool calls of one answer, in the order in which they began."""

    __slots__ = ("_by_id", "_calls", "_current", "_ids", "seen")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._current: dict[int, _Call] = {}  # by index: the call that a piece without an id goes on with
        self._by_id: dict[tuple[int, str], _Call] = {}
        self._ids: set[str] = set()
        self.seen = 0  # pieces that became events

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, piece: JSON) -> ToolCallDelta | None:
        """Fold in one piece.

        Args:
            piece: an element of `delta.tool_calls`, whatever it is.

        Returns:
            What is new in it; None when nothing is.
        """
        fields = as_object(piece)
        function = as_object(fields.get("function"))
        index, sent_id = fields.get("index"), as_text(fields.get("id"))
        event = self._add(index, sent_id, function)
        if signed := as_object(fields.get("extra_content")):
            self._keep(index, sent_id, signed)
        return event

    def take_legacy(self, function: JSON) -> ToolCallDelta | None:
        """Fold in one piece of `delta.function_call`, the format before there were several calls."""
        return self._add(0, "", as_object(function))

    def extras(self) -> dict[str, JSON]:
        """What the provider wants back with its calls, by their ids: Gemini signs them (`extra_content`)."""
        return {call.id: {"extra_content": call.extra} for call in self._calls if call.extra}

    def finished(self, *, cut: bool) -> tuple[ToolCall, ...]:
        """The calls, their arguments parsed.

        Args:
            cut: the answer ended at a length limit, so that its last call may be incomplete.
        """
        last = self._calls[-1] if cut and self._calls else None
        return tuple(_tool_call(call, cut=call is last) for call in self._calls)

    def _add(self, index: JSON, sent_id: str, function: dict[str, JSON]) -> ToolCallDelta | None:
        name, arguments = as_text(function.get("name")), _arguments(function.get("arguments"))
        if not (sent_id or name or arguments):
            return None
        known = len(self._calls)
        call = self._call(index if isinstance(index, int) else 0, sent_id, name, arguments)
        news = bool(arguments) or len(self._calls) > known or (bool(name) and not call.name)
        # Assigned, never joined: some repeat the name with every piece.
        call.name = call.name or name
        if not news:
            return None
        self.seen += 1
        call.pieces.append(arguments)
        return ToolCallDelta(call_id=call.id, tool_name=call.name, delta=arguments)

    def _keep(self, index: JSON, sent_id: str, extra: dict[str, JSON]) -> None:
        place = index if isinstance(index, int) else 0
        call = self._by_id.get((place, sent_id)) or self._current.get(place)
        if call is not None:
            call.extra |= extra

    def _call(self, index: int, sent_id: str, name: str, arguments: str) -> _Call:
        call = self._current.get(index)
        if call is None:
            return self._begin(index, sent_id)
        if not sent_id:
            another = name and call.name and (name != call.name or (arguments and call.is_whole()))
            return self._begin(index, sent_id) if another else call
        if sent_id == call.sent_id:
            return call
        if not call.sent_id and not (name and call.name):
            # The id comes late. The one we made stays: it was shown already.
            call.sent_id = sent_id
            self._by_id[index, sent_id] = call
            return call
        call = self._by_id.get((index, sent_id)) or self._begin(index, sent_id)
        self._current[index] = call
        return call

    def _begin(self, index: int, sent_id: str) -> _Call:
        call = _Call(self._unique(sent_id), sent_id)
        self._calls.append(call)
        self._current[index] = call
        if sent_id:
            self._by_id[index, sent_id] = call
        return call

    def _unique(self, sent_id: str) -> str:
        call_id = sent_id or f"call_{uuid4().hex}"
        if call_id in self._ids:
            call_id = f"{sent_id}_{uuid4().hex}"
        self._ids.add(call_id)
        return call_id


def _arguments(value: JSON) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else to_json(value).decode()


def _tool_call(call: _Call, *, cut: bool) -> ToolCall:
    text = "".join(call.pieces)
    arguments, problem = read_arguments(text)
    if cut and (problem or not text.strip()):
        arguments, problem = (
            {},
            (
                "the answer reached its length limit inside this call, so its arguments are cut off; "
                f"call again with shorter arguments. They were: {text[:_SHOWN]}"
            ),
        )
    if not call.name:
        # An empty name in the history is refused by providers, so that the model could never read this.
        return ToolCall(call.id, "unknown", {}, "the call does not say which tool it is for")
    return ToolCall(call.id, call.name, arguments, problem)
