"""A model's answer out of the chunks of OpenAI's chat-completions format, as LiteLLM and everybody else really send it.

`Answer` takes bytes and yields events; it knows no HTTP, no clocks and no URLs. `sse.py` finds the events in the bytes, `calls.py` puts
tool calls together, `litellm.py` above does the I/O and turns what goes wrong into typed errors. Unknown fields are passed over, unknown
types are taken as absent: nothing that a server sends may raise anything but `Refused` here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping

from pydantic_core import from_json

from looopy.events import ContentDelta, LLMEvent, ThoughtDelta
from looopy.messages import JSON, FinishReason, Message, Usage, jsonable
from looopy.providers.calls import Calls, as_list, as_object, as_text
from looopy.providers.sse import ErrorData, Events

_FINISH: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
_BROKEN = ("error", "insufficient_system_resource")
"""Finish reasons of an answer that was broken off: of OpenRouter, of DeepSeek."""
_HEAD = 2_000  # bytes of the body that are kept to be shown when they were no answer
_BLOCK_TEXTS = ("thinking", "text", "summary")


class Refused(Exception):
    """The stream says, instead of a chunk, that something went wrong.

    Attributes:
        error: the `error` object as it came, or what stood in its place.
    """

    def __init__(self, error: JSON) -> None:
        super().__init__("the stream carries an error")
        self.error = error


class Answer:
    """One answer while it comes in: `feed` it the body and `close` it at its end, or let it `take` the chunks; then read what it was.

    Attributes:
        head: the first bytes of the body that are not blank.
        done: `[DONE]` came, or a whole completion instead of a stream.
        unstreamed: the body is a whole completion.
        response_id: the first id in the chunks; they may differ.
        model: the first name in the chunks: with LiteLLM the name asked for, elsewhere the real one.
        usage: what the last usage says; None while there is none.
        cost: US dollars as the last usage says; None while it does not.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_calls",
        "_events",
        "_extra",
        "_finish",
        "_kept_thoughts",
        "_text",
        "_thoughts",
        "cost",
        "done",
        "head",
        "model",
        "response_id",
        "unstreamed",
        "usage",
    )

    def __init__(self) -> None:
        self.head = b""
        self.done = self.unstreamed = False
        self.response_id = self.model = ""
        self.usage: Usage | None = None
        self.cost: float | None = None
        self._events = Events()
        self._body: list[bytes] = []  # of a whole completion
        self._begun = False
        self._finish = ""
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls = Calls()
        self._extra: dict[str, JSON] = {}
        self._kept_thoughts: list[str] = []

    @property
    def seen(self) -> int:
        """How many events were yielded."""
        return len(self._text) + len(self._thoughts) + self._calls.seen

    @property
    def begun(self) -> bool:
        """Whether anything at all was a chunk of a completion."""
        return self._begun

    @property
    def complete(self) -> bool:
        """Whether it ended rather than stopped: complete streams lack `[DONE]` or a finish reason, but not both."""
        return self.done or bool(self._finish)

    @property
    def empty(self) -> bool:
        """Whether it says nothing, which is how a broken upstream looks behind LiteLLM (litellm#32086)."""
        said = self.seen or self.usage or self.finish_reason in ("content_filter", "length")
        return not said

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; calls decide it, not the word that came: some say `stop` with calls, some words nobody knows."""
        return _FINISH.get(self._finish.lower(), "tool_calls" if self._calls else "stop")

    def message(self, model: str) -> Message:
        """The whole message, as written by `model`."""
        kept = self._extra | {
            "reasoning_content": "".join(self._kept_thoughts),
            "tool_calls": self._calls.extras(),
        }
        extra: dict[str, JSON]
        try:
            extra = jsonable({name: value for name, value in kept.items() if value})
        except TypeError:
            extra = {}  # nested deeper than an event can hold
        return Message(
            "assistant",
            "".join(self._text),
            tool_calls=self._calls.finished(cut=self.finish_reason == "length"),
            reasoning="".join(self._thoughts),
            extra=extra,
            model=model,
        )

    def feed(self, portion: bytes) -> Iterator[LLMEvent]:
        """The events that these bytes complete; each chunk is parsed when its event is asked for.

        Raises:
            Refused: an error in place of a chunk, or a chunk that is no JSON.
        """
        if len(self.head) < _HEAD:
            self._sniff(portion)
        if self.unstreamed:
            self._body.append(portion)
            return iter(())
        return self._read(self._events.feed(portion))

    def take(self, chunk: JSON) -> Iterator[LLMEvent]:
        """The events of one chunk that is no bytes any more; for who has something else than a body to feed.

        Raises:
            Refused: it is an error.
        """
        return self._fold(chunk, named=False)

    def close(self) -> Iterator[LLMEvent]:
        """The events that the end of the body completes.

        Raises:
            Refused: as `feed`; or the body is JSON without a completion.
        """
        if self.unstreamed:
            return self._completion()
        return self._read(self._events.flush())

    def _sniff(self, portion: bytes) -> None:
        if self.head:
            self.head = (self.head + portion)[:_HEAD]
            return
        start = portion.lstrip(b"\xef\xbb\xbf \t\r\n")
        self.head = start[:_HEAD]
        # No line of an event stream can begin so. The content type is no help: recordings have each body with each type.
        self.unstreamed = start.startswith((b"{", b"["))

    def _read(self, events: Iterable[bytes]) -> Iterator[LLMEvent]:
        said, begun = self._text.append, self._begun
        choice: JSON = None
        delta: JSON = None
        for data in events:
            try:
                chunk = from_json(data)
            except ValueError:
                chunk = self._unusual(data)
            try:
                (choice,) = chunk["choices"]
                delta = choice["delta"]
                text = delta["content"]
            except (LookupError, TypeError, ValueError):
                text = None
            # What nearly every chunk is: a piece of text, and nothing else.
            if (
                text
                and begun
                and type(text) is str
                and len(delta) == 1
                and not choice.get("finish_reason")
                and not choice.get("index")
                and not chunk.get("usage")
                and not chunk.get("error")
            ):
                said(text)
                yield ContentDelta(delta=text)
                continue
            yield from self._fold(chunk, named=isinstance(data, ErrorData))
            begun = self._begun
            if self.done:
                return

    def _unusual(self, data: bytes) -> JSON:
        """Data that the fast parser refuses: the end mark, nothing, lone surrogates, broken UTF-8, or no JSON at all."""
        stripped = data.strip()
        if stripped == b"[DONE]":
            self.done = True
            return None
        if not stripped or stripped.startswith(b":"):  # a comment that a gateway has made data
            return None
        try:
            return jsonable(json.loads(stripped.decode("utf-8", "replace")))
        except (ValueError, TypeError, RecursionError):
            if self.complete:  # the answer is whole; what is cut is its usage
                return {}
            raise Refused(f"a chunk is not JSON: {stripped[:_HEAD].decode('utf-8', 'replace')}") from None

    def _completion(self) -> Iterator[LLMEvent]:
        chunk = self._unusual(b"".join(self._body))
        yield from self._fold(chunk, named=False)
        if not as_list(as_object(chunk).get("choices")):
            raise Refused(None)
        self.done = True

    def _fold(self, chunk: JSON, *, named: bool) -> Iterator[LLMEvent]:
        fields = as_object(chunk)
        if error := _error(fields, named=named):
            raise Refused(error)
        if "choices" not in fields and "usage" not in fields:
            return
        self._begun = True
        self.response_id = self.response_id or as_text(fields.get("id"))
        self.model = self.model or as_text(fields.get("model"))
        self._note_usage(
            as_object(fields.get("usage")) or as_object(as_object(fields.get("x_groq")).get("usage"))
        )
        for choice in map(as_object, as_list(fields.get("choices"))):
            # Only the first is the answer; who asks for several gets one.
            if not choice.get("index"):
                yield from self._choice(choice)

    def _choice(self, choice: dict[str, JSON]) -> Iterator[LLMEvent]:
        if self._finish.lower() not in _FINISH:
            self._finish = as_text(choice.get("finish_reason")) or self._finish
        delta = as_object(choice.get("delta")) or as_object(choice.get("message"))
        if self._finish.lower() in _BROKEN:
            raise Refused({"message": f"the server broke off with the finish reason {self._finish!r}"})
        self._keep(delta)
        if thought := _thought(delta):
            yield self._thinks(thought)
        yield from self._content(delta.get("content") or delta.get("refusal"))
        pieces = as_list(delta.get("tool_calls"))
        for piece in pieces:
            if event := self._calls.take(piece):
                yield event
        # From the days of one call an answer; some send both for the same call.
        if not pieces and (event := self._calls.take_legacy(delta.get("function_call"))):
            yield event

    def _content(self, content: JSON) -> Iterator[LLMEvent]:
        if isinstance(content, str):
            if content:
                yield self._says(content)
            return
        for part in as_list(content):
            fields = as_object(part)
            if thought := _texts(fields.get("thinking") or fields.get("reasoning")):
                yield self._thinks(thought)
            elif text := as_text(part) or as_text(fields.get("text")):
                yield self._says(text)

    def _says(self, text: str) -> ContentDelta:
        self._text.append(text)
        return ContentDelta(delta=text)

    def _thinks(self, thought: str) -> ThoughtDelta:
        self._thoughts.append(thought)
        return ThoughtDelta(delta=thought)

    def _note_usage(self, usage: dict[str, JSON]) -> None:
        """The last one wins; some send a running total with every chunk."""
        if not usage:
            return
        self.usage = usage_of(usage) or self.usage
        cost = dollars(usage.get("cost"))
        self.cost = self.cost if cost is None else cost

    def _keep(self, delta: dict[str, JSON]) -> None:
        """Gather what the model wants back with the conversation."""
        if len(delta) < 2 and ("content" in delta or "tool_calls" in delta):
            return
        extra = self._extra
        if thought := as_text(delta.get("reasoning_content")):
            self._kept_thoughts.append(thought)
        for name in ("thinking_blocks", "reasoning_details"):
            for block in as_list(delta.get(name)):
                _add_block(extra.setdefault(name, []), as_object(block))
        if signed := as_object(delta.get("extra_content")):
            extra["extra_content"] = as_object(extra.get("extra_content")) | signed
        for name, value in as_object(delta.get("provider_specific_fields")).items():
            # LiteLLM repeats each piece of `thinking_blocks` here; joined above, they are kept once.
            if name not in delta:
                _merge(extra.setdefault("provider_specific_fields", {}), name, value)


def dollars(value: JSON) -> float | None:
    """An amount of money as somebody wrote it; None when it is none."""
    try:
        amount = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def _error(fields: dict[str, JSON], *, named: bool) -> JSON:
    """What the chunk says went wrong; something false when it is a chunk of an answer."""
    if error := fields.get("error"):
        return error
    if named or fields.get("object") == "error" or fields.get("type") == "error":
        return fields or "the server sent an error event and did not say what is wrong"
    return None if "choices" in fields else fields.get("detail")


def _thought(delta: dict[str, JSON]) -> str:
    """The reasoning in a delta; the same text often stands in several fields."""
    return (
        as_text(delta.get("reasoning_content"))
        or as_text(delta.get("reasoning"))
        or _texts(delta.get("reasoning_details"))
        or _texts(delta.get("thinking_blocks"))
    )


def _texts(value: JSON) -> str:
    """The text in a value that is text, or a list of blocks that have some."""
    if isinstance(value, str):
        return value
    blocks = (as_object(block) for block in as_list(value))
    return "".join(as_text(block.get(name)) for block in blocks for name in _BLOCK_TEXTS)


def _add_block(blocks: list[JSON], piece: dict[str, JSON]) -> None:
    """Add a piece of a block of thoughts: to the last block while that is open, else as a new one.

    A signature closes a block. What has no text (redacted or encrypted thoughts) is whole.
    """
    last = as_object(blocks[-1]) if blocks else {}
    same = last.get("type") == piece.get("type") and last.get("index") == piece.get("index")
    if not last or last.get("signature") or not same or not any(name in piece for name in _BLOCK_TEXTS):
        blocks.append(dict(piece))
        return
    for name, value in piece.items():
        if name in _BLOCK_TEXTS:
            last[name] = as_text(last.get(name)) + as_text(value)
        elif value is not None:
            last[name] = value


def _merge(fields: dict[str, JSON], name: str, value: JSON) -> None:
    old = fields.get(name)
    if isinstance(old, list) and isinstance(value, list):
        as_list(old).extend(as_list(value))  # in place: a new list each time would be quadratic
    elif value is not None:
        fields[name] = value


def usage_of(usage: dict[str, JSON]) -> Usage | None:
    """The tokens that an answer's `usage` counts; None when it counts none."""
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    if not any(name in usage for name in names):
        return None
    read = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    written = as_object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens") or usage.get("input_tokens")),
        output_tokens=_count(usage.get("completion_tokens") or usage.get("output_tokens")),
        cached_tokens=_count(read.get("cached_tokens")),
        reasoning_tokens=_count(written.get("reasoning_tokens")),
        cache_creation_tokens=_count(
            # Anthropic's name, which LiteLLM passes on; then LiteLLM's own, and OpenRouter's.
            usage.get("cache_creation_input_tokens")
            or read.get("cache_creation_tokens")
            or read.get("cache_write_tokens")
        ),
    )


def _count(value: JSON) -> int:
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return min(max(0, value), _MOST_TOKENS) if isinstance(value, int) else 0


_MOST_TOKENS = 2**53  # more is a server's nonsense, and larger than what can be multiplied by a price
