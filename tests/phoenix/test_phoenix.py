"""A run, sent to a real Arize Phoenix over OTLP/HTTP and read back by its API.

Phoenix turns the attributes of OpenTelemetry's GenAI conventions into OpenInference's, which its pages show. What is
compared here are those: the whole of them, for each span.
"""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Trace

# The first test also waits for Phoenix to start.
pytestmark = [pytest.mark.phoenix, pytest.mark.timeout(110)]

SHOWN = ("input", "output", "llm", "tool")
"""The namespaces of OpenInference that the page of a span is made of."""


def tree(spans: list[dict[str, Any]], parent: str | None = None) -> list[tuple[Any, ...]]:
    """The spans below a parent: name, kind, outcome, and what is below each."""
    return [
        (
            span["name"],
            span["span_kind"],
            span["status_message"] or span["status_code"],
            tree(spans, span["context"]["span_id"]),
        )
        for span in spans
        if span["parent_id"] == parent
    ]


def shown(attributes: dict[str, Any]) -> dict[str, Any]:
    """What Phoenix shows of a span beside its messages."""
    return {
        name: value
        for name, value in attributes.items()
        if name.split(".")[0] in SHOWN
        and not name.startswith(("llm.input_messages.", "llm.output_messages."))
    }


def messages(attributes: dict[str, Any], direction: str) -> list[dict[str, Any]]:
    """The messages of a model call, each as its attributes without what they have in common."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(f"llm.{direction}_messages."):
            index, rest = name.removeprefix(f"llm.{direction}_messages.").split(".message.", 1)
            found.setdefault(int(index), {})[rest] = value
    return [found[index] for index in sorted(found)]


def call(index: int, id: str, arguments: str) -> dict[str, Any]:
    """A tool call within a message."""
    at = f"tool_calls.{index}.tool_call"
    return {f"{at}.id": id, f"{at}.function.name": "get_weather", f"{at}.function.arguments": arguments}


THOUGHT = {
    "role": "assistant",
    "contents.0.message_content.type": "reasoning",
    "contents.0.message_content.text": "I need two lookups.",
    "contents.1.message_content.type": "text",
    "contents.1.message_content.text": "Let me look.",
    **call(0, "call_1", '{"city": "Oslo"}'),
    **call(1, "call_2", '{"city": "Rome"}'),
}
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The weather in Oslo and Rome?"},
]
ANSWER = {
    "role": "assistant",
    "content": "Oslo has 4 degrees; of Rome I know nothing.",
    "finish_reason": "stop",
}


def test_a_run_comes_back_as_the_tree_of_its_iterations_model_calls_and_tool_calls(trace: Trace) -> None:
    tool = "execute_tool get_weather"
    assert tree(trace.spans) == [
        (
            "invoke_agent weather",
            "AGENT",
            "UNSET",
            [
                (
                    "agent.iteration",
                    "CHAIN",
                    "UNSET",
                    [
                        ("chat gpt-4o-mini", "LLM", "UNSET", []),
                        (tool, "TOOL", "UNSET", []),
                        (tool, "TOOL", "LookupError: Rome has moved", []),
                    ],
                ),
                ("agent.iteration", "CHAIN", "UNSET", [("chat gpt-4o-mini", "LLM", "UNSET", [])]),
            ],
        )
    ]


def test_the_run_comes_back_with_the_question_and_the_answer(trace: Trace) -> None:
    (root,) = trace.attributes("invoke_agent weather")

    assert messages(root, "input") == [ASKED[1]]
    assert messages(root, "output") == [ANSWER]
    assert shown(root) == {
        "input.value": "The weather in Oslo and Rome?",
        "output.value": "Oslo has 4 degrees; of Rome I know nothing.",
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "openai",
        "llm.system": "openai",
    }


def test_the_model_calls_come_back_with_their_messages(trace: Trace) -> None:
    first, second = trace.attributes("chat gpt-4o-mini")

    assert messages(first, "input") == ASKED
    assert messages(first, "output") == [{**THOUGHT, "finish_reason": "tool_call"}]
    assert messages(second, "input") == [
        *ASKED,
        THOUGHT,
        {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Error: Rome has moved"},
    ]
    assert messages(second, "output") == [ANSWER]


def test_the_model_calls_come_back_with_their_model_parameters_tools_and_tokens(trace: Trace) -> None:
    first, second = trace.attributes("chat gpt-4o-mini")

    both = {
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.invocation_parameters": '{"temperature": 0.2, "max_tokens": 4096, "stream": true}',
        "llm.tools.0.tool.json_schema": (
            '{"type": "function", "function": {"name": "get_weather", "description": "Say how warm it is.", '
            '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], '
            '"additionalProperties": false}}}'
        ),
        "output.mime_type": "application/json",
    }
    assert shown(first) == both | {
        "llm.finish_reason": "tool_calls",
        "llm.token_count.prompt": 120,
        "llm.token_count.prompt_details.cache_read": 100,
        "llm.token_count.completion": 30,
        "llm.token_count.total": 150,
        "output.value": '{"id": "chatcmpl-1", "model": "gpt-4o-mini"}',
    }
    assert shown(second) == both | {
        "llm.finish_reason": "stop",
        "llm.token_count.prompt": 160,
        "llm.token_count.completion": 12,
        "llm.token_count.total": 172,
        "output.value": '{"id": "chatcmpl-2", "model": "gpt-4o-mini"}',
    }


def test_the_tool_calls_come_back_with_their_arguments_and_results(trace: Trace) -> None:
    both = {"tool.name": "get_weather", "tool.description": "Say how warm it is."}
    assert [shown(attributes) for attributes in trace.attributes("execute_tool get_weather")] == [
        both | {"tool.id": "call_1", "tool.parameters.city": "Oslo", "output.value": "4 degrees"},
        both | {"tool.id": "call_2", "tool.parameters.city": "Rome"},  # its error is its status
    ]


def test_phoenix_sums_tokens_cost_and_errors_for_the_session_and_the_user(trace: Trace) -> None:
    assert trace.sums == {
        "userId": "ada",
        "errorCount": 1,
        "costSummary": {  # by the price list that Phoenix brings
            "prompt": {"tokens": 280, "cost": pytest.approx(180 * 0.15e-6 + 100 * 0.075e-6)},
            "completion": {"tokens": 42, "cost": pytest.approx(42 * 0.6e-6)},
            "total": {"tokens": 322, "cost": pytest.approx(5.97e-05)},
        },
        "session": {
            "sessionId": "talk-1",
            "userId": "ada",
            "numTraces": 1,
            "firstInput": {"value": "The weather in Oslo and Rome?"},
            "lastOutput": {"value": "Oslo has 4 degrees; of Rome I know nothing."},
        },
    }
