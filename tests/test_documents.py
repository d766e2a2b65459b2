"""Every document is true: its Python runs, its output is what is printed, its links lead somewhere, its examples end.

In a page, ```python blocks run from top to bottom in one namespace, in a process of their own. Two comments steer it:
`<!-- no-run -->` before a block: it is only compiled. `<!-- output -->` before a ```text or ```console block: the
block before printed exactly this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "OBSERVABILITY.md", *ROOT.glob("docs/**/*.md")])
MARKDOWN = sorted(
    {*PAGES, *ROOT.glob("*.md"), *ROOT.glob("benchmarks/**/*.md"), *ROOT.glob("examples/**/*.md")}
)
EXAMPLES = sorted(ROOT.glob("examples/*.py"))

FENCE = re.compile(
    r"(?:^<!-- (?P<note>no-run|output) -->\n+)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
SEPARATOR = "\x1e"  # between the outputs of two blocks: a character that no document prints


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the comment before it (or ""), and the line where its text starts."""

    language: str
    text: str
    note: str
    line: int


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_python_of_a_page_runs_and_prints_what_the_page_says(page: Path) -> None:
    blocks = list(blocks_of(page))
    if not any(block.language == "python" for block in blocks):
        return

    printed = run("-c", program(page, blocks)).split(SEPARATOR)

    assert outputs_promised(blocks) == outputs_printed(blocks, printed)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_runs_offline_and_prints_something(example: Path) -> None:
    assert run(name(example)).strip() != ""


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_the_links_of_a_page_lead_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    broken = [
        link[0] for link in LINK.finditer(prose) if not leads_somewhere(page, link["path"], link["anchor"])
    ]

    assert broken == []


def test_the_readme_names_the_test_command() -> None:
    lines = [
        line
        for block in blocks_of(ROOT / "README.md")
        if block.language == "sh"
        for line in block.text.splitlines()
    ]

    assert "./run test" in [line.partition("#")[0].strip() for line in lines]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["language"], found["text"], found["note"] or "", line)


def program(page: Path, blocks: list[Block]) -> str:
    """A program that runs the page's Python in one namespace; a traceback names the page and its line."""
    python = [
        (block.line, block.text, block.note != "no-run") for block in blocks if block.language == "python"
    ]
    return f"""\
space = {{"__name__": "__main__"}}
for line, text, runs in {python!r}:
    code = compile("\\n" * (line - 1) + text, {name(page)!r}, "exec")
    if runs:
        exec(code, space)
    print({SEPARATOR!r}, end="", flush=True)
"""


def outputs_promised(blocks: list[Block]) -> list[str]:
    return [block.text.rstrip() for block in blocks if block.note == "output"]


def outputs_printed(blocks: list[Block], printed: list[str]) -> list[str]:
    """What was printed by the Python block before each block that promises an output."""
    ran = iter(printed)
    last = ""
    outputs: list[str] = []
    for block in blocks:
        if block.language == "python":
            last = next(ran)
        elif block.note == "output":
            outputs.append(last.rstrip())
    return outputs


def leads_somewhere(page: Path, path: str, anchor: str | None) -> bool:
    target = (page.parent / path) if path else page
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as code forges make them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(*arguments: str) -> str:
    """What a Python program prints, with no model configured; a failure shows what it wrote to stderr."""
    offline = {key: value for key, value in os.environ.items() if not key.startswith("LITELLM_")}
    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT, env=offline, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=28, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
