"""What OpenTelemetry's GenAI conventions ask of the attributes that carry messages, in the words of JSON Schema.

Stated anew after reading `docs/gen-ai/gen-ai-{system-instructions,input-messages,output-messages,tool-definitions}.json` of
open-telemetry/semantic-conventions v1.41.1, the last release that has them. Their successors in open-telemetry/semantic-conventions-genai
(`model/gen-ai/`, August 2026) accept all that these accept.

The conventions let a part be of any type, and then take a known type whose fields are missing for such a one. `CONVENTIONS` says what they say;
`STRICT` knows only the types that the conventions name, each with its fields, and only their roles and finish reasons.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
FILE: Schema = {"modality": TEXT, "mime_type": TEXT_OR_NULL}
DRAFT_7: Schema = {"$ref": "http://json-schema.org/draft-07/schema#"}

PARTS: dict[str, tuple[Schema, str]] = {
    "text": ({"content": TEXT}, "content"),
    "reasoning": ({"content": TEXT}, "content"),
    "tool_call": ({"id": TEXT_OR_NULL, "name": TEXT, "arguments": {}}, "name"),
    "tool_call_response": ({"id": TEXT_OR_NULL, "response": {}}, "response"),
    "uri": ({**FILE, "uri": TEXT}, "modality uri"),
    "file": ({**FILE, "file_id": TEXT}, "modality file_id"),
    "blob": ({**FILE, "content": TEXT}, "modality content"),
}
"""The fields of each type of part, and which of them must be there."""


def thing(fields: Schema, required: str) -> Schema:
    return {"type": "object", "properties": fields, "required": required.split()}


def typed(kind: str, fields: Schema, required: str) -> Schema:
    return thing({"type": {"const": kind}, **fields}, f"type {required}")


def several(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def attributes(part: Schema, role: Schema, reason: Schema, tool: Schema) -> dict[str, Draft202012Validator]:
    message: Schema = {"role": role, "parts": several(part), "name": TEXT_OR_NULL}
    schemas = {
        "gen_ai.system_instructions": several(part),
        "gen_ai.input.messages": several(thing(message, "role parts")),
        "gen_ai.output.messages": several(
            thing({**message, "finish_reason": reason}, "role parts finish_reason")
        ),
        "gen_ai.tool.definitions": several(tool),
    }
    return {name: Draft202012Validator(schema) for name, schema in schemas.items()}


CONVENTIONS = attributes(
    part=thing({"type": TEXT}, "type"),
    role=TEXT,
    reason=TEXT,
    tool=thing({"type": TEXT, "name": TEXT}, "type name"),
)
STRICT = attributes(
    part={"anyOf": [typed(kind, fields, required) for kind, (fields, required) in PARTS.items()]},
    role=one_of("system", "user", "assistant", "tool"),
    reason=one_of("stop", "length", "content_filter", "tool_call", "error"),
    tool=typed(
        "function",
        {
            "name": TEXT,
            "description": TEXT_OR_NULL,
            "parameters": {"anyOf": [DRAFT_7, {"type": "null"}]},
        },
        "name",
    ),
)

PART = {"type": "text", "content": "Hi"}
SAMPLES: list[tuple[str, object, bool, bool]] = [
    # what, value, whether the conventions accept it, and whether `STRICT` does
    ("gen_ai.system_instructions", [], True, True),
    ("gen_ai.system_instructions", [PART], True, True),
    ("gen_ai.system_instructions", [{"type": "text"}], True, False),
    ("gen_ai.system_instructions", [{"content": "Hi"}], False, False),
    ("gen_ai.system_instructions", [{"type": 1, "content": "Hi"}], False, False),
    ("gen_ai.system_instructions", ["Hi"], False, False),
    ("gen_ai.system_instructions", PART, False, False),
    ("gen_ai.system_instructions", "Hi", False, False),
    *(
        ("gen_ai.input.messages", [{"role": "user", "parts": [part]}], True, strict)
        for part, strict in [
            (PART, True),
            ({**PART, "more": [1]}, True),
            ({"type": "text", "content": None}, False),
            ({"type": "reasoning", "content": "hm"}, True),
            ({"type": "reasoning"}, False),
            ({"type": "tool_call", "name": "f", "id": None, "arguments": {"a": 1}}, True),
            ({"type": "tool_call", "name": "f"}, True),
            ({"type": "tool_call", "id": "c"}, False),
            ({"type": "tool_call_response", "id": "c", "response": [1]}, True),
            ({"type": "tool_call_response", "id": "c", "response": None}, True),
            ({"type": "tool_call_response", "id": "c"}, False),
            ({"type": "tool_call_response", "id": "c", "result": 1}, False),
            ({"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "https://h/x"}, True),
            ({"type": "uri", "modality": "document", "uri": "https://h/x"}, True),
            ({"type": "uri", "uri": "https://h/x"}, False),
            ({"type": "file", "modality": "image", "file_id": "f"}, True),
            ({"type": "file", "modality": "image"}, False),
            ({"type": "blob", "modality": "image", "content": "aGk="}, True),
            ({"type": "blob", "modality": "image"}, False),
            ({"type": "novel"}, False),
        ]
    ),
    ("gen_ai.input.messages", [], True, True),
    ("gen_ai.input.messages", [{"role": "user", "parts": []}], True, True),
    ("gen_ai.input.messages", [{"role": "user", "parts": [], "name": "Ann"}], True, True),
    ("gen_ai.input.messages", [{"role": "user", "parts": [], "name": 1}], False, False),
    ("gen_ai.input.messages", [{"role": "critic", "parts": []}], True, False),
    ("gen_ai.input.messages", [{"role": 1, "parts": []}], False, False),
    ("gen_ai.input.messages", [{"role": "user"}], False, False),
    ("gen_ai.input.messages", [{"parts": []}], False, False),
    ("gen_ai.input.messages", [{"role": "user", "content": "Hi"}], False, False),
    ("gen_ai.input.messages", [{"role": "user", "parts": "Hi"}], False, False),
    ("gen_ai.input.messages", [{"role": "user", "parts": ["Hi"]}], False, False),
    ("gen_ai.input.messages", [{"role": "user", "parts": [{}]}], False, False),
    ("gen_ai.input.messages", {"role": "user", "parts": []}, False, False),
    ("gen_ai.output.messages", [], True, True),
    ("gen_ai.output.messages", [{"role": "assistant", "parts": [PART], "finish_reason": "stop"}], True, True),
    (
        "gen_ai.output.messages",
        [{"role": "assistant", "parts": [], "finish_reason": "tool_call"}],
        True,
        True,
    ),
    (
        "gen_ai.output.messages",
        [{"role": "assistant", "parts": [], "finish_reason": "tool_calls"}],
        True,
        False,
    ),
    (
        "gen_ai.output.messages",
        [{"role": "assistant", "parts": [], "finish_reason": "error", "tool_calls": [{"id": "c"}]}],
        True,
        True,
    ),
    ("gen_ai.output.messages", [{"role": "assistant", "parts": [], "finish_reason": 1}], False, False),
    ("gen_ai.output.messages", [{"role": "assistant", "finish_reason": "stop"}], False, False),
    ("gen_ai.output.messages", [{"role": "assistant", "parts": []}], False, False),
    ("gen_ai.tool.definitions", [], True, True),
    ("gen_ai.tool.definitions", [{"type": "function", "name": "f"}], True, True),
    (
        "gen_ai.tool.definitions",
        [{"type": "function", "name": "f", "description": None, "parameters": None}],
        True,
        True,
    ),
    (
        "gen_ai.tool.definitions",
        [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}],
        True,
        True,
    ),
    (
        "gen_ai.tool.definitions",
        [{"type": "function", "name": "f", "parameters": {"type": "thing"}}],
        True,
        False,
    ),
    ("gen_ai.tool.definitions", [{"type": "search", "name": "s"}], True, False),
    ("gen_ai.tool.definitions", [{"type": "function", "function": {"name": "f"}}], False, False),
    ("gen_ai.tool.definitions", [{"type": "function"}], False, False),
    ("gen_ai.tool.definitions", [{"name": "f"}], False, False),
]
