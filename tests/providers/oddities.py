"""Reads docs/oddities.md: what real servers were seen to send, and what comes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "oddities.md"
LONG = "long " * 15_000  # what «long» stands for

_ENTRY = re.compile(
    r"^### (?P<name>.+?)\n\n(?P<source>.+?)\n\n```sse(?P<flags>[^\n]*)\n(?P<sent>.*?)^```\n\n```text\n(?P<heard>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Oddity:
    """One entry of the page.

    Attributes:
        name: its heading.
        sent: the bytes of the body.
        heard: what comes of it, a line each.
    """

    name: str
    sent: bytes
    heard: list[str]


def oddities() -> list[Oddity]:
    """The entries of the page, in its order."""
    return [
        Oddity(each["name"], _bytes(each["sent"], each["flags"].split()), each["heard"].splitlines())
        for each in _ENTRY.finditer(PAGE.read_text(encoding="utf-8"))
    ]


def _bytes(shown: str, flags: list[str]) -> bytes:
    text = shown.replace("«long»", LONG)
    if "open" in flags:  # the page's block ends with a line feed, the body with nothing
        text = text.rstrip("\n")
    if "crlf" in flags:
        text = text.replace("\n", "\r\n")
    body = text.encode("latin-1" if "latin-1" in flags else "utf-8")
    return b"\xef\xbb\xbf" + body if "bom" in flags else body
