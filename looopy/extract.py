"""JSON and code out of text that a model wrote for people: in a fence, with prose around it, or a little broken.

Text in, values out. What was *asked for* as JSON is `output.py`'s, which reads its answers with this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn, cast

from looopy.errors import ExtractionFailed
from looopy.messages import JSON, jsonable, whole


@dataclass(frozen=True, slots=True)
class Extracted:
    """JSON that was found in a text.

    Attributes:
        value: what it says.
        repaired: it was broken, and this is what its author most likely meant.
        text: the piece of the text that it was read from.
    """

    value: JSON
    repaired: bool
    text: str


def extract_json(text: str) -> Extracted:
    """The JSON in a text.

    A text that is JSON is read as it is. Otherwise the longest object or array in it counts, of equals the last one; what stands in a fence goes
    before what does not. Where all of it is broken (single quotes, trailing commas, comments, a missing end), the package json-repair mends it, if
    it is installed.

    Args:
        text: whatever a model said.

    Raises:
        ExtractionFailed: there is no JSON in it, or it is too broken; the message says what would mend it.
    """
    text = whole(text)
    blocks = [block.text for block in _blocks(text) if block.language in _OF_JSON]
    found = [piece for block in blocks for piece in _pieces(block)] or _pieces(text)
    if not found:
        raise ExtractionFailed("there is no JSON in the text", text=text)
    piece = max(reversed(found), key=lambda each: len(each.text))
    return piece if isinstance(piece, Extracted) else _repaired(piece, text)


def extract_code_block(text: str, language: str = "") -> str:
    """The first fenced block of code in a text, without its fence.

    A block that is not closed goes to the end of the text.

    Args:
        text: whatever a model said, in Markdown.
        language: what the fence must name, such as "python", in any case; empty for any.

    Raises:
        ExtractionFailed: there is none.
    """
    blocks = [*_blocks(text)]
    for block in blocks:
        if not language or block.language == language.lower():
            return block.text
    others = ", ".join(repr(block.language) for block in blocks)
    kind = f"block of {language!r}" if language else "fenced block"
    raise ExtractionFailed(
        f"there is no {kind} in the text{f', only of {others}' if others else ''}", text=text
    )


# ---------------------------------------------------------------------------------------------------------------------------- fences

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`{]*)[^\n`]*\n(?P<text>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_OF_JSON = ("", "json", "jsonc", "json5", "jsonl", "javascript", "js", "text")
"""What fences around JSON are called."""


@dataclass(frozen=True, slots=True)
class _Block:
    language: str
    text: str


def _blocks(text: str) -> Iterator[_Block]:
    for found in _FENCE.finditer(text):
        lines = found["text"].splitlines(keepends=True)
        inner = "".join(
            line.removeprefix(found["indent"]) for line in lines
        )  # a fence within a list is indented
        yield _Block(found["language"].lower(), inner.removesuffix("\n"))


# ---------------------------------------------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True, slots=True)
class _Broken:
    """What looks like an object or an array, and cannot be read."""

    text: str
    why: str


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_OPENS = re.compile(
    r"""
    \{ (?= \s* (?: ["'}] | [\w$]+\s*: | /[/*] ) )
    | \[ (?= \s* (?: [\]\[{"'] | -?\d | true\b | false\b | null\b | /[/*] ) )
    """,
    re.VERBOSE,
)
"""Where JSON may begin; `{name}` and `[a link](…)` are prose."""

_TOKEN = re.compile(
    r"""
    "(?: [^"\\\n] | \\. )*"
    | (?<= [\[{:,\s] ) '(?: [^'\\\n] | \\. )*' (?= \s* [\]}:,] )
    | (?P<opens> [{\[] ) | (?P<closes> [}\]] )
    """,
    re.VERBOSE,
)
_DEEPEST = 64
"""Levels of broken JSON that are mended; for each further one the package takes longer, in the end minutes."""

_LOOKS = 16
"""How many times its own length of a text is looked at in search of JSON, so that a text of nothing but brackets takes no time."""


def _pieces(text: str) -> list[Extracted | _Broken]:
    """What is JSON in a text, or was meant to be: all of it, or the objects and arrays that are not within others."""
    try:
        return [Extracted(jsonable(_DECODER.decode(text.strip())), repaired=False, text=text.strip())]
    except (ValueError, TypeError, RecursionError):
        return [*_containers(text)]


def _containers(text: str) -> Iterator[Extracted | _Broken]:
    left, place = _LOOKS * len(text), 0
    while left > 0 and (opens := _OPENS.search(text, place)):
        start = opens.start()
        try:
            value, place = _DECODER.raw_decode(text, start)
            yield Extracted(jsonable(value), repaired=False, text=text[start:place])
        except ValueError as error:
            place = _end(text, start)
            yield _Broken(text[start:place], str(error))
        except (TypeError, RecursionError):  # deeper than anybody reads
            place = start + 1
            left -= len(text) - start


def _end(text: str, start: int) -> int:
    """Where broken JSON ends: where as many brackets have closed as were opened, or at the end of the text."""
    return next((end for depth, end in _depths(text, start) if depth == 0), len(text))


def _depths(text: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """How deep it is after each bracket outside of strings, and where that is."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += bool(token["opens"]) - bool(token["closes"])
        yield depth, token.end()


def _repaired(broken: _Broken, text: str) -> Extracted:
    """What somebody meant who wrote this."""
    if any(depth > _DEEPEST for depth, _ in _depths(broken.text)):
        why = f"{broken.why}, and it is nested more than {_DEEPEST} levels deep"
        raise ExtractionFailed(f"the JSON in the text is too broken to mend ({why})", text=text)
    try:
        repair = cast("Callable[..., JSON]", import_module("json_repair").repair_json)
    except ImportError:
        raise ExtractionFailed(
            f"the JSON in the text is broken ({broken.why})",
            text=text,
            mend="pip install 'looopy[repair]' brings what mends such",
        ) from None
    try:
        value = jsonable(repair(broken.text, return_objects=True, skip_json_loads=True))
    except (ValueError, TypeError, RecursionError):
        value = None
    # It makes something of everything, which is a guess too many where nothing is left of the kind that began.
    if value and isinstance(value, dict if broken.text[0] == "{" else list):
        return Extracted(value, repaired=True, text=broken.text)
    raise ExtractionFailed(f"the JSON in the text is too broken to mend ({broken.why})", text=text)
