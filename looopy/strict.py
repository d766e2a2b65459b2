"""A JSON schema in the small language that models can be held to while they write.

OpenAI, Anthropic and Gemini each take another part of JSON Schema for native structured output. `strict` writes a schema in what all of them take:
closed objects, every property required, no defaults. A constraint that this language has no word for is told in the description instead; whether
it holds is the validator's to say (`output.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from looopy.messages import JSON, render

_KEPT = ("type", "description", "enum")
_SILENT = frozenset(
    ("$comment", "$id", "$schema", "default", "deprecated", "discriminator", "examples", "title")
)
_FORMATS = frozenset(("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"))
_READ = frozenset(
    (
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "format",
        "items",
        "oneOf",
        "properties",
        "required",
    )
)
_FREE = frozenset(("allOf", "else", "if", "not", "patternProperties", "prefixItems", "then"))


class _Inexpressible(Exception):
    """A schema cannot be said in the strict language."""


def strict(schema: dict[str, JSON]) -> dict[str, JSON] | None:
    """The schema for native structured output.

    Args:
        schema: of type object, as pydantic makes it.

    Returns:
        Another schema; None where the strict language cannot say it: objects with free keys, tuples, values of any type, types that contain themselves.
    """
    try:
        if _contains_itself(schema):
            return None
        return _strict(schema)
    except _Inexpressible:
        return None


def untitled(schema: JSON) -> JSON:
    """The schema without pydantic's titles, which only repeat the names; a property called "title" stays."""
    if isinstance(schema, list):
        return [untitled(each) for each in cast("list[JSON]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, JSON] = {}
    for key, value in cast("dict[str, JSON]", schema).items():
        if key in ("properties", "$defs"):
            kept[key] = {name: untitled(each) for name, each in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            kept[key] = value
        elif key != "title":
            kept[key] = untitled(value)
    return kept


def _strict(schema: JSON) -> dict[str, JSON]:
    if not isinstance(schema, dict) or _FREE & schema.keys():
        raise _Inexpressible
    said = cast("dict[str, JSON]", schema)
    if "$ref" in said:  # nothing may stand beside a reference
        reference = {"$ref": said["$ref"]}
        about = said.get("description")
        return ({"description": about, "anyOf": [reference]} if about else reference) | _definitions(said)
    kept = {key: said[key] for key in _KEPT if key in said} | _definitions(said)
    if "const" in said:
        kept["enum"] = [said["const"]]
    if told := _told(said):
        kept["description"] = "; ".join(filter(None, (said.get("description"), told)))
    if options := said.get("anyOf") or said.get("oneOf"):
        return kept | {"anyOf": [_strict(each) for each in options]}
    if said.get("type") == "array":
        return kept | {"items": _strict(said.get("items"))}
    if said.get("type") == "object":
        return kept | _object(said)
    if not kept.keys() & {"type", "enum"}:
        raise _Inexpressible
    if said.get("format") in _FORMATS:
        kept["format"] = said["format"]
    return kept


def _object(said: dict[str, JSON]) -> dict[str, JSON]:
    if "properties" not in said and said.get("additionalProperties") is not False:
        raise _Inexpressible
    properties = {name: _strict(each) for name, each in said.get("properties", {}).items()}
    return {"properties": properties, "required": [*properties], "additionalProperties": False}


def _definitions(said: dict[str, JSON]) -> dict[str, JSON]:
    return {"$defs": {name: _strict(each) for name, each in said["$defs"].items()}} if "$defs" in said else {}


def _told(said: dict[str, JSON]) -> str:
    """The constraints that have no word of their own."""
    known = {*_KEPT, *_READ, *_SILENT}
    told = {key: value for key, value in said.items() if key not in known}
    if said.get("format") not in (None, *_FORMATS):
        told["format"] = said["format"]
    return "; ".join(f"{key}: {render(value)}" for key, value in told.items())


def _contains_itself(schema: dict[str, JSON]) -> bool:
    """Whether a definition leads back to itself."""
    leads = {name: {*_references(each)} for name, each in schema.get("$defs", {}).items()}
    for _ in leads:
        leads = {name: to.union(*(leads.get(each, ()) for each in to)) for name, to in leads.items()}
    return any(name in to for name, to in leads.items())


def _references(schema: JSON) -> Iterator[str]:
    """The definitions that a schema refers to."""
    if isinstance(schema, dict):
        for key, value in cast("dict[str, JSON]", schema).items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/$defs/")
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for each in cast("list[JSON]", schema):
            yield from _references(each)
