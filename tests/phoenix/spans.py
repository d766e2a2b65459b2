"""The spans of an agent that asks two tools side by side, of which one fails, and then answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

PROJECT = "assistants"
"""Where Phoenix files the run; without the resource attribute that says so it would be `default`."""

COMMON: dict[str, Any] = {
    "gen_ai.agent.name": "weather",
    "gen_ai.conversation.id": "talk-1",
    "user.id": "ada",
    "langfuse.trace.tags": ["docs"],
}
SYSTEM = [{"type": "text", "content": "Be brief."}]
PROMPT = {"role": "user", "parts": [{"type": "text", "content": "The weather in Oslo and Rome?"}]}
CALLS = [
    {"type": "tool_call", "id": "call-1", "name": "get_weather", "arguments": {"city": "Oslo"}},
    {"type": "tool_call", "id": "call-2", "name": "get_weather", "arguments": {"city": "Rome"}},
]
RESULTS = [
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "4 degrees"}]},
    {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "call-2", "response": "LookupError: Rome"}],
    },
]
ASKED = {
    "role": "assistant",
    "parts": [
        {"type": "reasoning", "content": "I need two lookups."},
        {"type": "text", "content": "Let me look."},
        *CALLS,
    ],
    "finish_reason": "tool_call",
    "tool_calls": [
        {"id": "call-1", "type": "function", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
        {"id": "call-2", "type": "function", "name": "get_weather", "arguments": '{"city":"Rome"}'},
    ],
}
ANSWER = {
    "role": "assistant",
    "parts": [{"type": "text", "content": "Oslo has 4 degrees; of Rome I know nothing."}],
    "finish_reason": "stop",
}
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Say how warm it is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

SPENT = [
    {
        "input_tokens": 120,
        "cache_read.input_tokens": 100,
        "output_tokens": 30,
        "reasoning.output_tokens": 20,
        "cost": 0.0002,
    },
    {"input_tokens": 160, "output_tokens": 12, "cost": 0.0003},
]


def emit(endpoint: str) -> str:
    """Send the spans of one run with two model calls over OTLP, and give back its trace id."""
    provider = TracerProvider(resource=Resource({"openinference.project.name": PROJECT}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    tracer = provider.get_tracer("looopy", "0.1.0")

    def start(name: str, parent: Span | None, attributes: Mapping[str, Any], **options: Any) -> Span:
        context = set_span_in_context(parent) if parent else None
        return tracer.start_span(name, context, attributes={**COMMON, **attributes}, **options)

    root = start(
        "invoke_agent weather",
        None,
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.input.messages": json.dumps([PROMPT]),
            "input.value": PROMPT["parts"][0]["content"],
        },
    )
    turns = [
        ("resp-1", [PROMPT], ASKED, SPENT[0]),
        ("resp-2", [PROMPT, {name: ASKED[name] for name in ("role", "parts")}, *RESULTS], ANSWER, SPENT[1]),
    ]
    for number, (response, asked, said, spent) in enumerate(turns, 1):
        iteration = start(
            "agent.iteration", root, {"openinference.span.kind": "CHAIN", "looopy.iteration": number}
        )
        chat = start(
            "chat gpt-4o-mini",
            iteration,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.request.stream": True,
                "gen_ai.request.temperature": 0.2,
                "gen_ai.system_instructions": json.dumps(SYSTEM),
                "gen_ai.input.messages": json.dumps(asked),
                "gen_ai.tool.definitions": json.dumps([TOOL]),
            },
            kind=SpanKind.CLIENT,
        )
        chat.set_attributes(
            {
                "gen_ai.response.id": response,
                "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "gen_ai.response.finish_reasons": [said["finish_reason"]],
                "gen_ai.response.time_to_first_chunk": 0.4,
                "langfuse.observation.completion_start_time": "2026-11-27T12:00:00.400Z",
                "gen_ai.output.messages": json.dumps([said]),
                **{f"gen_ai.usage.{name}": value for name, value in spent.items()},
            }
        )
        chat.end()
        for call in CALLS if number == 1 else []:
            tool = start(
                "execute_tool get_weather",
                iteration,
                {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": "get_weather",
                    "gen_ai.tool.type": "function",
                    "gen_ai.tool.call.id": call["id"],
                    "gen_ai.tool.description": "Say how warm it is.",
                    "gen_ai.tool.call.arguments": json.dumps(call["arguments"]),
                },
            )
            if call["id"] == "call-1":
                tool.set_attribute("gen_ai.tool.call.result", "4 degrees")
            else:
                tool.set_attribute("error.type", "LookupError")
                tool.set_status(Status(StatusCode.ERROR, "LookupError: Rome"))
            tool.end()
        iteration.end()
    root.set_attributes(
        {
            "gen_ai.output.messages": json.dumps([ANSWER]),
            "output.value": ANSWER["parts"][0]["content"],
            "gen_ai.aggregated_usage.input_tokens": 280,
            "gen_ai.aggregated_usage.output_tokens": 42,
        }
    )
    root.end()
    provider.shutdown()
    return f"{root.get_span_context().trace_id:032x}"
