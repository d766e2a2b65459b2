"""Prompts with places for values: `Template("Say hello to {{ name }}.")`.

Names alone are filled in here. What is more (conditions, loops, filters) is Jinja's, in `sandbox.py`, and needs the extra. Both read the same way.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from looopy.errors import ConfigurationError, MissingExtra, words
from looopy.messages import JSON, jsonable, render

Rendering: TypeAlias = Callable[[Mapping[str, JSON]], str]

_PLACE = re.compile(r"(?<!\{)\{\{\s*([^\W\d]\w*)\s*\}\}")
_MORE = re.compile(r"\{[{%#]")
_WORDS = frozenset(
    [
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "import",
        "from",
        "as",
        "recursive",
        "ignore",
        "missing",
        "without",
        "with",
        "context",
    ]
)
"""What means something to Jinja where a name could stand."""
_SHOWN = 40  # characters of a text by which a template without a name is called


class Undefined(Exception):
    """A template needs what nobody gave.

    Attributes:
        name: what it is called; empty where that is no variable.
    """

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places for values, `{{ name }}`.

    A value is put in as it is where it is text, and as JSON where it is anything else. Nothing is escaped, and what looks like a place in a value is none.
    Values become plain data first (a model's or a dataclass's fields, a date's text), so a template reaches data, never a method of yours.

    Conditions, loops, filters and the fields of values, `{{ invoice.total }}`, are Jinja's and need `pip install 'looopy[templates]'`. They run in its sandbox:
    a template can neither leave it nor change a value. It can take long and make a long text, so who writes a template should be somebody you know.

    Attributes:
        text: the template.
        name: by which errors call it; left out: how its text begins.

    Raises:
        ConfigurationError: it cannot be read.
        MissingExtra: it needs Jinja, which is not installed.

    Example:
        >>> Template("Say hello to {{ name }}.").render(name="Ann")
        'Say hello to Ann.'
    """

    text: str
    name: str = ""
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """The names of the values that it can take."""
    _rendering: Rendering = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = cast("object", self.text)
        if not isinstance(given, str):
            raise ConfigurationError(f"Template: a {type(given).__name__} is no text", argument="text")
        text = re.sub(r"\r\n?", "\n", given)
        names = frozenset(_PLACE.findall(text))
        if _MORE.search(_PLACE.sub("", text)) or names & _WORDS:
            names, rendering = self._jinja(text)
        else:
            rendering = _filling(text)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_rendering", rendering)

    def render(self, /, **values: object) -> str:
        """The text with values in their places.

        Args:
            values: by name; those that have no place are left out.

        Raises:
            ConfigurationError: a value is missing or has no JSON form, or the template does what it may not.
        """
        plain = {name: self._plain(name, value) for name, value in values.items()}
        try:
            return self._rendering(plain)
        except Undefined as error:
            raise self._undefined(error, values) from None
        except Exception as error:
            raise ConfigurationError(
                f"{self._called} cannot be rendered: {words(error)}", argument=self.name
            ) from error

    def _jinja(self, text: str) -> tuple[frozenset[str], Rendering]:
        try:
            from looopy.llm import sandbox  # noqa: PLC0415  an optional package
        except ImportError:
            raise MissingExtra(
                f"{self._called}, which holds more than names,", needs="jinja2", extra="templates"
            ) from None
        try:
            return sandbox.compiled(text)
        except sandbox.Unreadable as error:
            raise ConfigurationError(
                f"{self._called}, line {error.line}: {error}", argument=self.name
            ) from None

    def _plain(self, name: str, value: object) -> JSON:
        try:
            return jsonable(value)
        except TypeError as error:
            raise ConfigurationError(
                f"{self._called}: the value of {name!r} has no JSON form ({error}); pass text, numbers, lists, dicts or models",
                argument=name,
            ) from None

    def _undefined(self, error: Undefined, values: Iterable[str]) -> ConfigurationError:
        if not error.name:
            return ConfigurationError(f"{self._called}: {error}", argument=self.name)
        close = difflib.get_close_matches(error.name, values, n=1)
        given = f"{close[0]!r} was given: is that it?" if close else f"pass render({error.name}=…)"
        return ConfigurationError(
            f"{self._called}: there is no value for {error.name!r}; {given}", argument=error.name
        )

    @property
    def _called(self) -> str:
        short = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return f"the template {self.name or short!r}"


def shown(value: Any) -> str:
    """A plain value as it stands in a text."""
    return render(value)


def _filling(text: str) -> Rendering:
    pieces = _PLACE.split(text)  # texts at even places, names between them

    def rendering(values: Mapping[str, JSON]) -> str:
        missing = next((name for name in pieces[1::2] if name not in values), None)
        if missing is not None:
            raise Undefined("", name=missing)
        return "".join(shown(values[piece]) if place % 2 else piece for place, piece in enumerate(pieces))

    return rendering
