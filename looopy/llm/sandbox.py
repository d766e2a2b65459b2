"""Templates that are more than names, by Jinja2 in its sandbox. Only `templates.py` imports this, when it meets one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta
from jinja2 import Undefined as Nothing
from jinja2.sandbox import ImmutableSandboxedEnvironment

from looopy.errors import words
from looopy.llm.templates import Rendering, Undefined, shown
from looopy.messages import JSON

_VARIABLE = re.compile(r"'(\w+)' is undefined")
_GLOBALS = ("range", "namespace")  # the others are toys, and each has been a way out of the sandbox once


class Unreadable(Exception):
    """It is no template.

    Attributes:
        line: where, from 1.
    """

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Sandbox(ImmutableSandboxedEnvironment):
    """Where data comes before methods: `order.items` is the order's items, though a dict has a method of that name."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return cast("dict[str, JSON]", obj)[attribute]
        return super().getattr(obj, attribute)


def compiled(text: str) -> tuple[frozenset[str], Rendering]:
    """The names of the values that a template can take, and how it is rendered with them.

    Raises:
        Unreadable: it is no template.
    """
    try:
        tree = _sandbox.parse(text)
        template = _sandbox.from_string(tree)
    except TemplateSyntaxError as error:
        raise Unreadable(error.message or "it cannot be read", line=error.lineno) from None
    except (
        RecursionError,
        MemoryError,
        ValueError,
    ) as error:  # nested too deeply, or a number of 5,000 digits
        raise Unreadable(words(error), line=1) from None

    def rendering(values: Mapping[str, JSON]) -> str:
        try:
            return template.render(values)
        except UndefinedError as error:
            said = error.message or ""
            variable = _VARIABLE.fullmatch(said)
            raise Undefined(said, name=variable[1] if variable else "") from None

    return frozenset(meta.find_undeclared_variables(tree) - set(_GLOBALS)), rendering


def _put(value: Any) -> Any:
    """What stands in the text for a value; where there is none, Jinja says so."""
    return value if isinstance(value, Nothing) else shown(value)


_sandbox = _Sandbox(
    undefined=StrictUndefined,
    finalize=_put,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)
_sandbox.globals = {name: _sandbox.globals[name] for name in _GLOBALS}
