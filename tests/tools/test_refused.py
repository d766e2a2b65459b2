"""Functions that cannot be tools, and how they are told so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import TypedDict, Unpack

from looopy.errors import ConfigurationError, ToolSchemaError
from looopy.tools.function import tool

if TYPE_CHECKING:
    from decimal import Decimal


class Range(TypedDict, total=False):
    low: int
    high: int


class Odd:
    pass


class Mistaken:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise TypeError("it is out of order")


def search(query: str) -> list[str]:
    raise NotImplementedError


def untyped(query) -> None:
    raise NotImplementedError


def listing(*values: int) -> None:
    raise NotImplementedError


def without_schema(query: str, since: Odd) -> None:
    raise NotImplementedError


def not_json(key: Callable[[int], int]) -> None:
    raise NotImplementedError


def unknown(price: Decimal) -> None:
    raise NotImplementedError


def overlapping(low: int, **rest: Unpack[Range]) -> None:
    raise NotImplementedError


def mistaken(query: Mistaken) -> None:
    raise NotImplementedError


def untyped_self(self, query: str) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "parameter", "said"),
    [
        (
            untyped,
            "query",
            (
                "parameter 'query' has no type, so no schema can be made; annotate it, for example `query: str`, "
                "or pass schema= to @tool"
            ),
        ),
        (
            untyped_self,
            "self",
            (
                "parameter 'self' has no type, so no schema can be made; "
                "make a tool of the bound method: tool(its_object.method)"
            ),
        ),
        (
            listing,
            "values",
            "parameter '*values' cannot be filled from a JSON object; take a list instead: `values: list[…]`",
        ),
        (
            without_schema,
            "since",
            (
                f"parameter 'since' has type '{__name__}.Odd', which has no JSON schema; "
                "annotate it with a type that pydantic knows, or pass schema= to @tool"
            ),
        ),
        (
            not_json,
            "key",
            (
                "parameter 'key' has type 'collections.abc.Callable[[int], int]', which has no JSON schema; "
                "annotate it with a type that pydantic knows, or pass schema= to @tool"
            ),
        ),
        (
            mistaken,
            "query",
            (
                f"parameter 'query' has type '{__name__}.Mistaken', which has no JSON schema (it is out of order); "
                "annotate it with a type that pydantic knows, or pass schema= to @tool"
            ),
        ),
        (
            unknown,
            "price",
            (
                "parameter 'price' has type 'Decimal', which cannot be found (name 'Decimal' is not defined); import or "
                "define what it names at the module's level, not under `if TYPE_CHECKING:` and not inside a function, "
                "or pass schema= to @tool"
            ),
        ),
    ],
)
def test_a_function_that_cannot_be_described_is_refused_with_its_place_and_the_mend(
    function: Callable[..., Any], parameter: str, said: str
) -> None:
    with pytest.raises(ToolSchemaError) as raised:
        tool(function)

    place = f"{__file__}:{function.__code__.co_firstlineno}"
    assert str(raised.value) == f"tool {function.__name__!r} at {place}: {said}"
    assert (raised.value.tool, raised.value.parameter) == (function.__name__, parameter)


def test_a_builtin_without_types_is_refused_by_its_module() -> None:
    with pytest.raises(ToolSchemaError, match="tool 'sqrt' at math: parameter 'x' has no type"):
        tool(math.sqrt)
    with pytest.raises(ToolSchemaError, match="tool 'max' at builtins: cannot be read: no signature found"):
        tool(max)


def test_a_schema_that_is_no_object_s_is_refused() -> None:
    with pytest.raises(ToolSchemaError, match=r"schema=.* must be a JSON schema of type object"):
        tool(search, schema={"type": "string"})


def test_parameters_that_only_together_have_no_schema_are_refused_with_the_reason() -> None:
    with pytest.raises(
        ToolSchemaError,
        match=r"its parameters have no JSON schema together .*overlap.*; pass schema= to @tool",
    ):
        tool(overlapping)


@pytest.mark.parametrize("name", ["", "two words", "größe", "a" * 65, "<lambda>"])
def test_a_name_that_models_do_not_take_is_refused(name: str) -> None:
    def f() -> None:
        raise NotImplementedError

    f.__name__ = name
    with pytest.raises(
        ConfigurationError, match="1 to 64 of letters, digits, '_' and '-'; say @tool"
    ) as raised:
        tool(f)

    assert raised.value.argument == "name"
