"""What is on a cassette: exchanges as values, the file that holds them, and how a request is known again.

The file is JSON that people read and compare: a request as it was compared, an answer with one line for each piece of its body. A body is
exact, but for credentials: those become `***` before anything is written. `cassette.py` records and replays.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from looopy.errors import LooopyError
from looopy.messages import JSON
from looopy.providers.calls import as_list, as_object, as_text
from looopy.redaction import redact

Compare: TypeAlias = Callable[[JSON], JSON]
"""Makes of a request's body what is compared."""

_VERSION = 1
_SHORTEST_SECRET = 8  # characters; the text `key` in a prompt is no leak of the key "key"
_AROUND = 60  # characters shown before and after the place where two texts begin to differ
_PRIVATE = re.compile(
    r"cookie|auth|key|token|secret|session|credential|signature|organization|project", re.IGNORECASE
)
_PUBLIC = re.compile(r"(?:llm_provider-)?x-ratelimit-|x-litellm-(?!.*(?:auth|secret))", re.IGNORECASE)
_FRAMING = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "keep-alive"})
_OF_ONE_RUN = {"litellm_session_id", "litellm_trace_id", "litellm_call_id"}
_OF_ONE_RUN_IN_METADATA = {"session_id", "trace_id", "parent_observation_id", "existing_trace_id"}


class CassetteMismatch(LooopyError, AssertionError):
    """What is asked is not what was recorded, or not all of it was asked; the message says what differs."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request, as far as it is the same in each run.

    Attributes:
        method: in capital letters.
        path: of the URL, with its query.
        content: the body under the name of its form: {"json": …}, {"text": …} or {"base64": …}; nothing where there is none.
    """

    method: str
    path: str
    content: dict[str, JSON]

    @classmethod
    def of(cls, method: str, url: str, body: bytes) -> Sent:
        """The request without its host, its head, and what only groups it in logs and traces."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(method, path, _content(body))

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def hidden(self, secrets: Collection[str]) -> Sent:
        """The request without credentials."""
        content = cast("dict[str, JSON]", _walked(self.content, lambda text: redact(text, *secrets)))
        return replace(self, path=redact(self.path, *secrets), content=content)

    def compared(self, compare: Compare | None) -> JSON:
        """What must be the same for two requests to be the same."""
        if "json" not in self.content:
            return [self.method, self.path, self.content]
        body = compare(self.content["json"]) if compare else self.content["json"]
        return [self.method, self.path, _with_counted_ids(body)]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a body, and the seconds from its request to it."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """How an exchange ended.

    Attributes:
        how: the answer was "whole"; the client "left"; the connection was "broken", "refused" or not there in time ("connect-timeout").
        at: seconds from the request.
        reason: in words, where something failed.
    """

    how: Literal["whole", "left", "broken", "refused", "connect-timeout"]
    at: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Exchange:
    """A request and what came back.

    Attributes:
        sent: the request.
        status: the answer's; 0 where none began.
        headers: the answer's, without credentials once they are on the cassette.
        at: seconds from the request to the head of the answer.
        pieces: the body.
        end: how it ended.
    """

    sent: Sent
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    at: float = 0.0
    pieces: list[Piece] = field(default_factory=list[Piece])
    end: End = End("left")


def credentials(url: str, headers: Mapping[str, str]) -> set[str]:
    """What a request proves its sender with, to be hidden wherever it turns up."""
    found = {unquote(urlsplit(url).password or "")}
    for name, value in headers.items():
        if not _PRIVATE.search(name):
            continue
        scheme, _, rest = value.partition(" ")
        found.add(rest if scheme.lower() in ("bearer", "basic") else value)
        if scheme.lower() == "basic":
            found |= _login(rest)
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _login(encoded: str) -> set[str]:
    try:
        login = base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return set()
    return {login, login.partition(":")[2]}


def _content(body: bytes) -> dict[str, JSON]:
    if not body:
        return {}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
    try:
        return {"json": _without_bookkeeping(json.loads(text))}
    except (ValueError, RecursionError):
        return {"text": text}


def _without_bookkeeping(body: JSON) -> JSON:
    if not isinstance(body, dict):
        return body
    kept = {name: value for name, value in as_object(body).items() if name not in _OF_ONE_RUN}
    if isinstance(kept.get("metadata"), dict):
        metadata = as_object(kept.pop("metadata"))
        metadata = {name: value for name, value in metadata.items() if name not in _OF_ONE_RUN_IN_METADATA}
        kept |= {"metadata": metadata} if metadata else {}
    return kept


def _with_counted_ids(body: JSON) -> JSON:
    """The body with the ids of tool calls numbered: where a model sends none, looopy makes them up, anew in each run."""
    calls = [
        as_object(call)
        for message in as_list(as_object(body).get("messages"))
        for call in as_list(as_object(message).get("tool_calls"))
    ]
    given = dict.fromkeys(filter(None, (as_text(call.get("id")) for call in calls)))
    numbers = {call_id: f"call {number}" for number, call_id in enumerate(given, 1)}
    return _walked(body, lambda text: numbers.get(text, text)) if numbers else body


def _walked(value: JSON, change: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _walked(inner, change) for name, inner in as_object(value).items()}
    return [_walked(inner, change) for inner in as_list(value)] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------------------ the file
def dump(exchanges: Collection[Exchange], secrets: Collection[str]) -> bytes:
    """The cassette of these exchanges, without credentials."""
    written = ",\n".join(_written(exchange, secrets) for exchange in exchanges)
    return f'{{\n"cassette": {_VERSION},\n"exchanges": [\n{written}\n]\n}}\n'.encode()


def load(path: Path) -> list[Exchange]:
    """The exchanges on a cassette.

    Raises:
        CassetteMismatch: there is no such file, or it is no cassette.
    """
    try:
        content = json.loads(path.read_bytes())
        version, written = content["cassette"], content["exchanges"]
        if version != _VERSION:
            raise CassetteMismatch(
                f"{path}: this is a cassette of version {version}, and this looopy reads {_VERSION}: record it anew"
            )
        return [_read(exchange) for exchange in written]
    except FileNotFoundError:
        raise CassetteMismatch(
            f"{path}: there is no such cassette: record it with mode='auto' or mode='record', and a model to ask"
        ) from None
    except (LookupError, TypeError, ValueError) as error:
        raise CassetteMismatch(f"{path}: this is no cassette ({error!r}): record it anew") from None


def _written(exchange: Exchange, secrets: Collection[str]) -> str:
    sent, end = exchange.sent.hidden(secrets), exchange.end
    request = {"method": sent.method, "path": sent.path, **sent.content}
    kept = {
        name: redact(value, *secrets)
        for name, value in exchange.headers.items()
        if name not in _FRAMING and (_PUBLIC.match(name) or not _PRIVATE.search(name))
    }
    answer = {"status": exchange.status, "at": _ms(exchange.at), "headers": kept}
    pieces = ",\n".join(f"  {_line(_piece(piece))}" for piece in _hidden(exchange.pieces, secrets))
    how = {"how": end.how, "at": _ms(end.at), "reason": redact(end.reason, *secrets)}
    return (
        f'{{\n "request": {_block(request)},\n "answer": {_block(answer)},\n'
        f' "pieces": [\n{pieces}\n ],\n "end": {_line(how)}\n}}'
    )


def _hidden(pieces: Collection[Piece], secrets: Collection[str]) -> Collection[Piece]:
    def hide(data: bytes) -> bytes:
        return redact(data.decode("utf-8", "surrogateescape"), *secrets).encode("utf-8", "surrogateescape")

    shown = [Piece(piece.at, hide(piece.data)) for piece in pieces]
    whole = hide(b"".join(piece.data for piece in pieces))
    if whole == b"".join(piece.data for piece in shown):
        return shown
    return [Piece(max(piece.at for piece in pieces), whole)]  # a credential lies across pieces


def _piece(piece: Piece) -> dict[str, JSON]:
    try:
        return {"at": _ms(piece.at), "text": piece.data.decode()}
    except UnicodeDecodeError:
        return {"at": _ms(piece.at), "base64": base64.b64encode(piece.data).decode()}


def _read(written: JSON) -> Exchange:
    request, answer, end = dict(written["request"]), written["answer"], written["end"]
    return Exchange(
        Sent(request.pop("method"), request.pop("path"), request),
        answer["status"],
        answer["headers"],
        answer["at"],
        [Piece(piece["at"], _data(piece)) for piece in written["pieces"]],
        End(end["how"], end["at"], end["reason"]),
    )


def _data(piece: Mapping[str, str]) -> bytes:
    return piece["text"].encode() if "text" in piece else base64.b64decode(piece["base64"])


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _line(value: object, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of an emoji
        return json.dumps(value, indent=indent)
    return text


def _block(value: object) -> str:
    return _line(value, indent=1).replace("\n", "\n ")


# ------------------------------------------------------------------------------------------------------- what differs
def differences(recorded: JSON, asked: JSON, at: str = "") -> Iterator[str]:
    """Where two JSON values differ, a line for each place."""
    kind = cast("type[object] | None", type(recorded) if type(recorded) is type(asked) else None)
    if kind is dict:
        fields, others = as_object(recorded), as_object(asked)
        for name in dict.fromkeys((*fields, *others)):
            yield from differences(fields.get(name, ...), others.get(name, ...), f"{at}.{name}".lstrip("."))
    elif kind is list:
        for index, (one, other) in enumerate(zip_longest(as_list(recorded), as_list(asked), fillvalue=...)):
            yield from differences(one, other, f"{at}[{index}]")
    elif recorded != asked or kind is None:
        start = _first_difference(recorded, asked)
        yield f"{at}: recorded {_excerpt(recorded, start)}, now {_excerpt(asked, start)}"


def _first_difference(one: JSON, other: JSON) -> int:
    if not (isinstance(one, str) and isinstance(other, str)):
        return 0
    same = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(same, min(len(one), len(other)))


def _excerpt(value: object, start: int) -> str:
    if value is ...:
        return "nothing"
    if isinstance(value, str):
        begin, end = max(0, start - _AROUND), start + _AROUND
        return f"{'…' if begin else ''}{_line(value[begin:end])}{'…' if end < len(value) else ''}"
    text = _line(value)
    return text if len(text) <= 2 * _AROUND else f"{text[: 2 * _AROUND]}…"
