"""What each provider must be told, in its own format, by the proxy's model names: the other half of wire.py."""

from __future__ import annotations

ONE_TOOL = {
    "gpt-4o-mini": [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "4 degrees"},
    ],
    "claude-haiku-4-5": [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4 degrees"}],
        },
    ],
    "gemini-2.5-flash": [
        {
            "role": "model",
            "parts": [
                {"text": "Let me look."},
                {"function_call": {"name": "get_weather", "args": {"city": "Oslo"}}},
            ],
        },
        {
            "role": "user",
            "parts": [{"function_response": {"name": "get_weather", "response": {"content": "4 degrees"}}}],
        },
    ],
}
"""The call and its answer as each provider must be told them."""

TWO_RESULTS = {
    "gpt-4o-mini": [
        {"role": "tool", "tool_call_id": "call_0", "content": "4 degrees"},
        {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
    ],
    "claude-haiku-4-5": [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_0", "content": "4 degrees"},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 degrees"},
            ],
        }
    ],
    "gemini-2.5-flash": [
        {
            "role": "user",
            "parts": [
                {"function_response": {"name": "get_weather", "response": {"content": "4 degrees"}}},
                {"function_response": {"name": "get_weather", "response": {"content": "21 degrees"}}},
            ],
        }
    ],
}
"""What the provider must be told of two results, given in call order though the second came first."""

SIGNED = {
    "claude-haiku-4-5": [
        {"type": "thinking", "thinking": "First the weather.", "signature": "c2lnbmF0dXJlLW9uZQ=="},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
    ],
    "gemini-2.5-flash": [
        {"text": "First the weather.", "thought": True},
        {
            "function_call": {"name": "get_weather", "args": {"city": "Oslo"}},
            "thoughtSignature": "c2lnbmF0dXJlLW9uZQ==",
        },
    ],
}
"""The assistant's own message as it must come back: what was signed, unchanged."""

FIELDS = {
    "gpt-4o-mini": {"model", "messages", "tools", "stream", "stream_options"},
    "claude-haiku-4-5": {"model", "messages", "tools", "stream"},
    "gemini-2.5-flash": {"contents", "tools"},
}
"""The fields of a request's body, without `SAMPLING`."""

SAMPLING = {"max_tokens", "temperature", "top_p", "generationConfig"}
"""Fields that may be there, since the model takes them."""
