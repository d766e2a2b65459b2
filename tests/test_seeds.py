"""The page on the five systems is true: every name, variable, command, file and test that it speaks of is there, and every row has a proof."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import Parameter, signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_args

from looopy.cli.app import app
from looopy.events import Event

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "seeds.md"

VARIABLE = re.compile(r"([A-Z][A-Z0-9]*_[A-Z0-9_]+)(=1)?")
CALL = re.compile(r"([A-Za-z_][\w.]*)\((?=([^()]*))")
LINK = re.compile(r"\[([\w.]+)\]\(\.\./(tests/[\w/]+\.py)\)")


KINDS = {kind.__dataclass_fields__["kind"].default for kind in get_args(Event)}
COMMANDS = {f"looopy {command.callback.__name__}" for command in app.registered_commands if command.callback}


class Row(NamedTuple):
    """A line of one of the tables."""

    asked: str
    here: str
    proof: str


def rows() -> list[Row]:
    cells = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    return [Row(*row) for row in cells if row[0] != "asked for"]


def names() -> Iterator[str]:
    """What the second column writes as code."""
    for row in rows():
        yield from re.findall(r"`([^`]+)`", row.here)


def test_there_is_a_row_for_each_of_many_features() -> None:
    assert len(rows()) > 120


def test_every_name_that_the_page_gives_is_there() -> None:
    assert [name for name in names() if not is_there(name)] == []


def test_every_test_that_proves_a_row_is_in_its_file() -> None:
    named = [(test, path) for row in rows() for test, path in LINK.findall(row.proof)]

    assert [(test, path) for test, path in named if not is_test(test, ROOT / path)] == []


def test_what_has_no_proof_is_not_there_yet_and_says_so() -> None:
    assert [row.asked for row in rows() if not LINK.search(row.proof) and "not yet" not in row.here] == []


def test_a_name_that_is_wrong_is_found_out() -> None:
    wrong = (
        "Retri",
        "LiteLLMProvider.modle",
        "LiteLLMProvider(tempature=)",
        "looopy.llm.complete(tempature=)",
        "Retry(Fallbck(…))",
        "looopy.events.Deltas",
        "LOOOPY_MODLE",
        "looopy fly",
        "11_nothing.py",
        "llm-retries",
    )

    assert [name for name in wrong if is_there(name)] == []


def is_there(name: str) -> bool:
    """Whether there is such an example, kind of event, command, variable of the environment, or thing in looopy."""
    if name.endswith(".py"):
        return (ROOT / "examples" / name).is_file()
    if variable := VARIABLE.fullmatch(name):
        return any(variable[1] in path.read_text() for path in ROOT.glob("looopy/**/*.py"))
    calls = CALL.findall(name)
    return name in KINDS | COMMANDS or (
        all(is_public(path, re.findall(r"(\w+)=", arguments)) for path, arguments in calls)
        if calls
        else is_public(name, [])
    )


def is_public(path: str, arguments: list[str]) -> bool:
    """Whether there is such a thing in looopy, and whether it takes these arguments."""
    whole = path if path.startswith("looopy.") else f"looopy.{path}"
    try:
        found: Any = resolve_name(whole)
    except (ImportError, AttributeError, ValueError):
        owner, _, attribute = whole.rpartition(".")
        return not arguments and is_attribute(owner, attribute)
    return not arguments or takes(found, arguments)


def is_attribute(owner: str, attribute: str) -> bool:
    """Whether instances of a class have it: an attribute that is documented, or that the constructor takes."""
    try:
        found: Any = resolve_name(owner)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and attribute in {
        name for each in found.__mro__ for name in getattr(each, "__annotations__", {})
    } | {*signature(found).parameters}


def takes(found: Any, arguments: list[str]) -> bool:
    """Whether it has parameters of these names; those of `**options` are the fields of their TypedDict."""
    parameters = signature(found).parameters
    options = (each.annotation for each in parameters.values() if each.kind is Parameter.VAR_KEYWORD)
    fields = [
        field
        for written in options
        for field in found.__globals__[written.removeprefix("Unpack[")[:-1]].__annotations__
    ]
    return {*arguments} <= {*parameters, *fields}


def is_test(name: str, path: Path) -> bool:
    if not name.startswith("test_"):
        return path.is_file()
    return (
        path.is_file() and re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE) is not None
    )
