"""One text or one value as a trace may show it: no credential, not too long, and valid JSON.

`text` and `value` know nothing of messages or spans; `content.py` arranges what they write. Both take a limit in characters, and `allow`: what the
user's redaction hook makes of a text, which comes first. Then credentials are hidden, and only then a text is cut, since half a credential
looks like none. Whatever stands in square brackets is a remark of looopy's own.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, cast

from pydantic_core import from_json, to_json

from looopy.messages import JSON, whole
from looopy.redaction import redact

Allow: TypeAlias = Callable[[str], str]
"""What the user's redaction hook makes of a text."""


def text(said: str, limit: int, allow: Allow | None = None) -> str:
    """The text, cut after `limit` characters with a remark that says of how many."""
    if allow is not None:
        said = allow(said)
    said = without_files(said)
    if len(said) <= limit and '"' not in said and redact(said) is said:  # as most are
        return whole(said)
    seen = said[: limit + 2 * _MARGIN]
    if _has_credential_key(seen):
        said = _hidden_in_json(said)
        seen = said[: limit + 2 * _MARGIN]
    hidden = redact(seen)
    if len(seen) < len(said):
        hidden = hidden[:-_MARGIN]
    elif len(hidden) <= limit:
        return whole(hidden)
    hidden = hidden[:limit]
    return whole(f"{hidden}… [cut: {len(hidden):,} of {len(said):,} characters shown]")


_MARGIN = 2_048
"""Twice as many characters are looked at behind the limit, and the last of them never shown: there a credential may be cut, and not be known."""


def without_files(said: str) -> str:
    """A text in which files that stand there in base64, in a `data:` URL or as a `FilePart` in JSON, are named with their size."""
    if ";base64," not in said and '"mime_type"' not in said:
        return said
    return _FILE.sub(lambda file: f"{file['head']}{not_recorded(file['data'])}", said)


_FILE = re.compile(
    r"""(?P<head>;base64,|"data"\s*:\s*"(?=[\w+/=-]*"\s*,\s*"mime_type"))(?P<data>[\w+/=-]{32,})""", re.ASCII
)


_BASE64 = re.compile(r"[\w+/=-]{32,}", re.ASCII)


def not_recorded(data: str) -> str:
    """What stands in the place of base64."""
    return f"[{bytes_in(data):,} bytes, not recorded]"


def bytes_in(data: str) -> int:
    """How many bytes some base64 stands for."""
    return len(data) * 3 // 4 - data.count("=", -2)


def _has_credential_key(said: str) -> bool:
    """Whether something in a text may stand under the name of a credential, as JSON has it. Most texts are done with at the first look."""
    return '"' in said and any(names_credential(key) for key in _KEY.findall(said) if len(key) <= _LABEL)


_KEY = re.compile(r'"([^"\\]+)"\s*:')


def _hidden_in_json(said: str) -> str:
    """The text of a tool that answers in JSON, or one with JSON in it, without what stands under the names of credentials."""
    if said[:1] in ("{", "["):
        try:
            return value(from_json(said), sys.maxsize)
        except ValueError:
            pass
    return _PAIR.sub(
        lambda pair: f'{pair[1]}"***"' if names_credential(pair[2][:_LABEL]) else pair[0],
        said,
    )


_PAIR = re.compile(r'("([^"\\]+)"\s*:\s*)"(?:[^"\\]|\\.)*"?', re.DOTALL)


def quoted(shown: str) -> str:
    """A text that can be encoded, as a JSON string."""
    return to_json(shown).decode()


def short(name: str) -> str:
    """A name or an id. The hook does not see it, so that a call and its result stay a pair."""
    return _short(name) if len(name) <= _LABEL else text(name, _LABEL)


@lru_cache(maxsize=1_024)
def _short(name: str) -> str:
    return text(name, _LABEL)


def tool_name(name: str) -> str:
    """The name of a tool; `_unknown` for what can be none, since models make names up, of whatever they were told."""
    return _tool_name(name) if len(name) <= _LABEL else _UNKNOWN


@lru_cache(maxsize=1_024)
def _tool_name(name: str) -> str:
    return name if _TOOL.fullmatch(name) and redact(name) == name else _UNKNOWN


_UNKNOWN = "_unknown"
_TOOL = re.compile(r"[\w.:/-]+", re.ASCII)


def label(name: str) -> str:
    """As `short`, as a JSON string."""
    return _label(name) if len(name) <= _LABEL else quoted(short(name))


@lru_cache(maxsize=1_024)
def _label(name: str) -> str:
    return quoted(short(name))


_LABEL = 128


def address(url: str) -> str:
    """A URL that opens nothing: without user, password, query and fragment."""
    return _QUERY.sub("?***", _USER.sub("://***@", url))


_USER = re.compile(r"://[^/?#]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)


def value(given: JSON, limit: int, allow: Allow | None = None, *, nested: bool = True) -> str:
    """The value as JSON. Of one that is longer than `limit`, entries, items and texts are left out at its end; a dict stays a dict.

    What has no JSON form is shown as text, a credential by its key (`api_key`) or by its looks as `***`.

    Args:
        given: the value.
        limit: characters.
        allow: what the user's hook makes of a text.
        nested: whether also a dict or a list under such a key is hidden; in a schema it says what the credential looks like.
    """
    if allow is None:
        try:
            written = to_json(
                given, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=True
            ).decode()
            written = without_files(written)
        except ValueError:  # cyclic, too deep, half an emoji
            return _Walk(limit, allow, nested=nested).value(given)
        # In JSON without escapes each text stands as it is, so that whoever finds no credential in the whole finds none in a part.
        if (
            len(written) <= limit
            and "\\" not in written
            and redact(written) == written
            and not _has_credential_key(written)
        ):
            return written
    return _Walk(limit, allow, nested=nested).value(given)


class _Walk:
    """Writes a value until its room is used up."""

    __slots__ = ("_allow", "_hidden", "_room")

    def __init__(self, room: int, allow: Allow | None, *, nested: bool) -> None:
        self._room = room
        self._allow = allow
        self._hidden = (str, float, int, dict, list, tuple) if nested else (str, float, int)

    def value(self, given: object, level: int = 0) -> str:
        match given:
            case str():
                return self._spend(quoted(text(given, max(self._room, 0), self._allow)))
            case dict() | list() | tuple() if level >= _LEVELS:
                return self._spend(quoted(f"[cut: nested deeper than {_LEVELS} levels]"))
            case dict():
                return self._entries(cast("dict[object, object]", given), level)
            case list() | tuple():
                return self._items(cast("Sequence[object]", given), level)
            case None | bool() | int():
                return self._spend(self._number(given))
            case float() if math.isfinite(given):
                return self._spend(self._number(given))
            case _:
                return self.value(_plain(given), level)

    def _spend(self, written: str) -> str:
        self._room -= len(written) + 1
        return written

    def _number(self, given: float | None) -> str:
        written = to_json(given).decode()
        fits = len(written) <= max(self._room, _LABEL)
        return written if fits else quoted(f"[cut: a number of {len(written):,} digits]")

    def _entries(self, given: Mapping[object, object], level: int) -> str:
        self._room -= 2
        written: list[str] = []
        for key, inner in tuple(given.items()):
            if self._room <= 0:
                written.append(f'"…":"[cut: {len(written):,} of {len(given):,} entries shown]"')
                break
            name = key if isinstance(key, str) else str(_plain(key))
            if (
                name == "data"
                and isinstance(inner, str)
                and "mime_type" in given
                and _BASE64.fullmatch(inner)
            ):
                inner = not_recorded(inner)  # noqa: PLW2901
            entry = self._spend(label(name))
            written.append(
                f"{entry}:{self._spend(_HIDDEN) if self._hides(name, inner) else self.value(inner, level + 1)}"
            )
        return f"{{{','.join(written)}}}"

    def _hides(self, name: str, inner: object) -> bool:
        return isinstance(inner, self._hidden) and inner not in _EMPTY and names_credential(name[:_LABEL])

    def _items(self, given: Sequence[object], level: int) -> str:
        self._room -= 2
        written: list[str] = []
        for inner in tuple(given):
            if self._room <= 0:
                written.append(f'"[cut: {len(written):,} of {len(given):,} items shown]"')
                break
            written.append(self.value(inner, level + 1))
        return f"[{','.join(written)}]"


_LEVELS = 180
"""As deep as a value in an event may be."""

_HIDDEN = '"***"'
_EMPTY: tuple[object, ...] = ("", {}, [], ())


def _plain(given: object) -> JSON:
    """What pydantic makes of a value that is none of JSON's; at worst its type's name."""
    try:
        return from_json(to_json(given, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=True))
    except ValueError:
        return f"[{type(given).__name__} without a JSON form]"


@lru_cache(maxsize=1_024)
def names_credential(key: str) -> bool:
    """Whether what stands under a key is a credential, by the rule that texts are judged by, or by the names that only JSON gives it."""
    return redact(f"{key}=x0").endswith("=***") or _CREDENTIAL.search(key) is not None


_CREDENTIAL = re.compile(
    r"(?:passw(?:or)?ds?|passphrase|secrets?|token|authorization|(?:^|[-_])(?:auth|pwd)|[-_]pass|cookies?|^sessionid|credentials?"
    r"|(?:api|access|private|secret|signing|master|encryption)[-_. ]?keys?|\bpwd)$",
    re.IGNORECASE,
)
