"""JSON schemas in the small language of native structured output."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from looopy.strict import strict, untitled


class Cat(BaseModel):
    kind: Literal["cat"]
    title: str = Field("Tom", description="what it is called", min_length=1)


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]
    age: int | None = None
    friend: Cat = Field(description="whom it likes")


class Nothing(BaseModel):
    pass


class Box(BaseModel):
    inner: Box | None = None


def schema_of(type_: Any) -> dict[str, Any]:
    return TypeAdapter(type_).json_schema()


def strict_of(type_: Any) -> Any:
    return strict(schema_of(type_))


def test_objects_are_closed_their_properties_required_and_what_has_no_word_is_told() -> None:
    assert strict_of(Cat) == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["cat"]},
            "title": {"type": "string", "description": "what it is called; minLength: 1"},
        },
        "required": ["kind", "title"],
        "additionalProperties": False,
    }


def test_unions_are_any_of_and_nothing_stands_beside_a_reference() -> None:
    class Home(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]

    made = strict_of(Home)

    assert made["properties"] == {"pet": {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}}
    assert made["$defs"]["Dog"]["properties"] == {
        "kind": {"type": "string", "enum": ["dog"]},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "friend": {"description": "whom it likes", "anyOf": [{"$ref": "#/$defs/Cat"}]},
    }
    assert made["$defs"]["Cat"] == strict_of(Cat)


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "uri", "pattern": "^a"}, {"type": "string", "description": "pattern: ^a; format: uri"}),
        ({"type": "integer", "minimum": 0, "default": 3, "title": "N"}, {"type": "integer", "description": "minimum: 0"}),
        ({"enum": [1, "a"]}, {"enum": [1, "a"]}),
        ({"const": 1}, {"enum": [1]}),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 3}, {"type": "array", "items": {"type": "null"}, "description": "maxItems: 3"}),
    ],
)  # fmt: skip
def test_a_word_is_kept_told_or_left_out(schema: dict[str, Any], made: dict[str, Any]) -> None:
    around = {"type": "object", "properties": {"x": schema}}

    assert strict(around) == {
        "type": "object",
        "properties": {"x": made},
        "required": ["x"],
        "additionalProperties": False,
    }


def test_a_number_in_text_is_told_its_pattern_which_grammars_refuse() -> None:
    class Price(BaseModel):
        amount: Decimal

    assert "lookahead" not in str(strict_of(Price))
    assert [each["type"] for each in strict_of(Price)["properties"]["amount"]["anyOf"]] == [
        "number",
        "string",
    ]


def test_an_object_without_properties_is_one() -> None:
    assert strict_of(Nothing) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    assert strict({"type": "object", "additionalProperties": False}) == strict_of(Nothing)


@pytest.mark.parametrize(
    "type_", [dict[str, int], dict, list, list[Any], tuple[int, str], Any, Box, list[Box]], ids=str
)
def test_what_the_language_cannot_say_is_said_to_be_so(type_: Any) -> None:
    assert (
        strict(
            {"type": "object", "properties": {"x": inner(type_)}, "$defs": schema_of(type_).get("$defs", {})}
        )
        is None
    )


def inner(type_: Any) -> dict[str, Any]:
    return {key: value for key, value in schema_of(type_).items() if key != "$defs"}


def test_titles_go_and_properties_of_that_name_stay() -> None:
    assert untitled(
        {
            "title": "Cat",
            "properties": {"title": {"title": "Title", "enum": [{"title": 1}]}},
            "anyOf": [{"title": "A"}],
        }
    ) == {
        "properties": {"title": {"enum": [{"title": 1}]}},
        "anyOf": [{}],
    }
