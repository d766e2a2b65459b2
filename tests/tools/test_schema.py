"""What a model is told of a function, and how its arguments are read."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from looopy.ports import ToolContext
from looopy.tools.function import tool

if TYPE_CHECKING:
    from decimal import Decimal


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclass
class Point:
    x: float
    y: float = 0.0


class Person(BaseModel):
    """Somebody."""

    name: str
    title: str = "Dr"


class Range(TypedDict, total=False):
    low: int
    high: int


class Odd:
    pass


SEARCH = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": 'what to look for,\nfor example "cats"'},
        "limit": {"type": "integer", "default": 5, "description": "how many at most"},
    },
    "required": ["query"],
    "additionalProperties": False,
}
SAID = "Search the web.\n\nSlow; asks\nthree engines.\n\nReturns: addresses, best first"


def google(query: str, limit: int = 5) -> list[str]:
    """Search the web.

    Slow; asks
    three engines.

    Args:
        query: what to look for,
            for example "cats"
        limit (int, optional): how many at most

    Returns:
        list[str]: addresses, best first

    Raises:
        OSError: there is no web.
    """
    raise NotImplementedError


def numpy(query: str, limit: int = 5) -> list[str]:
    """Search the web.

    Slow; asks
    three engines.

    Parameters
    ----------
    query : str
        what to look for,
        for example "cats"
    limit : int, optional
        how many at most

    Returns
    -------
    list of str
        addresses, best first
    """
    raise NotImplementedError


def rest(query: str, limit: int = 5) -> list[str]:
    """Search the web.

    Slow; asks
    three engines.

    :param query: what to look for,
        for example "cats"
    :param int limit: how many at most
    :returns: addresses, best first
    """
    raise NotImplementedError


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_each_docstring_style_gives_the_same_definition(function: Callable[..., Any]) -> None:
    made = tool(function).definition

    assert (made.name, made.description, made.parameters) == (function.__name__, SAID, SEARCH)


def test_a_tool_needs_no_docstring() -> None:
    def ping() -> str:
        raise NotImplementedError

    made = tool(ping).definition

    assert (made.name, made.description, made.parameters) == (
        "ping",
        "",
        {"type": "object", "properties": {}, "additionalProperties": False},
    )


def test_a_description_that_goes_on_without_an_empty_line_stays_one_paragraph() -> None:
    def read() -> str:
        """Read a file
        from the disk.
        """
        raise NotImplementedError

    assert tool(read).definition.description == "Read a file\nfrom the disk."


def test_what_a_generator_yields_is_told() -> None:
    def count() -> Any:
        """Count.

        Yields:
            one number after the other
        """
        raise NotImplementedError

    assert tool(count).definition.description == "Count.\n\nYields: one number after the other"


def test_a_docstring_that_the_parser_cannot_read_is_the_description_as_it_stands() -> None:
    def odd() -> None:
        raise NotImplementedError

    odd.__doc__ = ": ::"

    assert tool(odd).definition.description == ": ::"


def test_one_numpy_entry_may_describe_several_parameters() -> None:
    def move(x: float, y: float, *, steps: int) -> None:
        """Move.

        Parameters
        ----------
        x, y : float
            metres
        steps : int
        """
        raise NotImplementedError

    assert tool(move).definition.parameters["properties"] == {
        "x": {"type": "number", "description": "metres"},
        "y": {"type": "number", "description": "metres"},
        "steps": {"type": "integer"},
    }


def test_a_parameter_s_own_description_wins_over_the_docstring_s() -> None:
    def f(
        a: Annotated[int, Field(description="own", ge=1)], b: int = Field(3, description="own too")
    ) -> None:
        """F.

        Args:
            a: the docstring's
            b: the docstring's
        """
        raise NotImplementedError

    assert tool(f).definition.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "own", "minimum": 1},
            "b": {"type": "integer", "description": "own too", "default": 3},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def rich(  # noqa: PLR0917  one parameter of each sort
    when: dt.date,
    unit: Unit,
    mode: Literal["fast", "good"],
    point: Point,
    who: Person,
    span: Range | None = None,
    title: dict[str, int] | None = None,
) -> None:
    raise NotImplementedError


def test_types_of_all_sorts_become_a_schema_without_titles_and_with_definitions_in_place() -> None:
    assert tool(rich).definition.parameters == {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date"},
            "unit": {"$ref": "#/$defs/Unit"},
            "mode": {"type": "string", "enum": ["fast", "good"]},
            "point": {"$ref": "#/$defs/Point"},
            "who": {"$ref": "#/$defs/Person"},
            "span": {"anyOf": [{"$ref": "#/$defs/Range"}, {"type": "null"}], "default": None},
            "title": {
                "anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}],
                "default": None,
            },
        },
        "required": ["when", "unit", "mode", "point", "who"],
        "additionalProperties": False,
        "$defs": {
            "Unit": {"type": "string", "enum": ["C", "F"]},
            "Point": {
                "type": "object",
                "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
                "required": ["x"],
            },
            "Person": {
                "type": "object",
                "description": "Somebody.",
                "properties": {"name": {"type": "string"}, "title": {"type": "string", "default": "Dr"}},
                "required": ["name"],
            },
            "Range": {
                "type": "object",
                "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
            },
        },
    }


def test_further_keywords_are_allowed_where_the_function_takes_them() -> None:
    def anything(first: str, **rest) -> None:
        raise NotImplementedError

    def numbers(**rest: int) -> None:
        raise NotImplementedError

    assert tool(anything).definition.parameters == {
        "type": "object",
        "properties": {"first": {"type": "string"}},
        "required": ["first"],
        "additionalProperties": True,
    }
    assert tool(numbers).definition.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": {"type": "integer"},
    }


def test_a_default_that_json_does_not_know_is_left_out_of_the_schema() -> None:
    def f(a: int | None = operator.itemgetter(0)) -> None:  # type: ignore[assignment]
        raise NotImplementedError

    assert tool(f).definition.parameters["properties"] == {
        "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    }


def context_in_every_spelling(  # noqa: PLR0917  one parameter for each spelling
    a: ToolContext,
    b: ToolContext[int],
    c: ToolContext[Odd] | None,
    d: Annotated[ToolContext[Any], "the context"],
    e: ToolContext[Decimal],
    query: str,
) -> None:
    raise NotImplementedError


def test_a_context_is_not_shown_to_the_model_however_it_is_written() -> None:
    assert list(tool(context_in_every_spelling).definition.parameters["properties"]) == ["query"]


def test_a_partial_hides_what_it_fixes() -> None:
    made = tool(functools.partial(google, limit=3), name="three").definition

    assert made.description == SAID
    assert made.parameters["properties"].keys() == {"query"}


def test_an_object_with_call_is_described_by_its_method_or_else_by_its_class() -> None:
    class Described:
        """The class."""

        def __call__(self, word: str) -> str:
            """The method."""
            raise NotImplementedError

    class Plain:
        """The class."""

        def __call__(self, word: str) -> str:
            raise NotImplementedError

    described, plain = tool(Described()).definition, tool(Plain()).definition

    assert (described.name, described.description) == ("Described", "The method.")
    assert (plain.name, plain.description) == ("Plain", "The class.")
    assert plain.parameters["properties"] == {"word": {"type": "string"}}


def test_a_decorated_function_and_a_cached_one_keep_their_schema() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        return wrapper

    class Box:
        @logged
        def search(self, query: str) -> str:
            """Search the box."""
            raise NotImplementedError

    assert tool(logged(google)).definition.parameters == SEARCH
    assert tool(functools.cache(google)).definition.parameters == SEARCH
    assert tool(Box().search).definition.parameters["properties"] == {"query": {"type": "string"}}


def test_a_schema_of_one_s_own_is_shown_as_it_is() -> None:
    own = {"type": "object", "properties": {"since": {"type": "string"}}}

    def f(since: Odd, later: Nowhere, untyped) -> None:  # noqa: F821
        raise NotImplementedError

    made = tool(f, schema=own, description="Own words.").definition

    assert (made.description, made.parameters) == ("Own words.", own)


def test_what_a_function_returns_needs_no_type_that_can_be_found() -> None:
    def price() -> Decimal:
        raise NotImplementedError

    assert tool(price).name == "price"
