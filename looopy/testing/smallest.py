"""A small value that fits a JSON schema: what a model says that can say nothing."""

from __future__ import annotations

import math
from typing import cast

from looopy.messages import JSON

TEXT = "stand-in"
"""The text wherever any text will do."""

_DEEPEST = 16  # levels; what holds itself without an end has no value
_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "stand-in@example.com",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "binary": "",
    "base64url": "",
}


class _TooDeep(Exception):
    """There is no value with so few levels, at least not by this way."""


def smallest(schema: dict[str, JSON]) -> JSON:
    """A value that fits: nothing where that may be, the first of several, the least number, lists as short as they may be.

    A `pattern` is not looked at, nor what pydantic checks beyond the schema.
    """
    for left in range(1, _DEEPEST):  # so that of several the shallowest is found
        try:
            return _value(schema, schema, left)
        except _TooDeep:
            continue
    return None


def _value(schema: dict[str, JSON], root: dict[str, JSON], left: int) -> JSON:
    if not left:
        raise _TooDeep
    if "$ref" in schema:
        found: JSON = root
        for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            found = found[step] if step else found
        return _value(found, root, left - 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    several = cast("list[dict[str, JSON]]", schema.get("anyOf") or schema.get("oneOf") or ())
    for alternative in sorted(several, key=lambda each: each.get("type") != "null"):
        try:
            return _value(alternative, root, left - 1)
        except _TooDeep:
            continue
    if several:
        raise _TooDeep
    return _of_type(schema, root, left)


def _of_type(schema: dict[str, JSON], root: dict[str, JSON], left: int) -> JSON:
    match schema.get("type"):
        case "object":
            properties: dict[str, JSON] = schema.get("properties") or {}
            required: list[str] = schema.get("required") or []
            return {name: _value(properties.get(name, {}), root, left - 1) for name in required}
        case "array":
            first: list[JSON] = schema.get("prefixItems") or []
            more = [schema.get("items") or {}] * (schema.get("minItems", 0) - len(first))
            return [_value(each, root, left - 1) for each in (*first, *more)]
        case "integer":
            return int(_number(schema, 1))
        case "number":
            return _number(schema, 0.125)
        case "boolean":
            return False
        case "string":
            text = _FORMATS.get(str(schema.get("format")), TEXT)
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        case _:
            return None


def _number(schema: dict[str, JSON], step: float) -> float:
    """Zero, or what is near to it within the bounds."""
    over, under = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    step = schema.get("multipleOf", step)
    lowest, highest = max(least, over), min(most, under)
    candidates = (
        0,
        *(bound + way * step for bound in (lowest, highest) for way in (0, 1, -1)),
        (lowest + highest) / 2,
    )
    return next(
        (each for each in candidates if least <= each <= most and over < each < under and not each % step), 0
    )
