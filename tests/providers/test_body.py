"""What is sent to the proxy: the conversation, what the user set, what the model takes, and whose call it is."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from providers.replay import HI, Reply, Wire, call, deltas, events

from looopy.errors import ConfigurationError
from looopy.events import LLMResponse, dumps, loads
from looopy.messages import Message, ToolCall
from looopy.ports import LLMRequest, ToolDefinition
from looopy.testing.clock import run_virtual

ANSWER = Reply([deltas({"content": "a"})])
SEARCH = ToolDefinition(name="search", description="Search.")
SEARCHED = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search.",
        "parameters": {"type": "object", "properties": {}},
    },
}


def body(request: LLMRequest = HI, **settings: Any) -> dict[str, Any]:
    """The body of the request for a call."""
    wire = Wire(ANSWER)
    wire.ask(request, **settings)
    return wire.sent[0]


def test_a_plain_call_in_full():
    wire = Wire(ANSWER)
    wire.ask()
    (request,) = wire.requests
    assert wire.sent == [
        {
            "model": "gpt-4o",
            "stream": True,
            "stream_options": {"include_usage": True},
            "drop_params": True,
            "max_tokens": 4096,
            "temperature": 0.7,
            "messages": [{"role": "user", "content": "Hi"}],
        }
    ]
    assert {name: value for name, value in request.headers.items() if name != "x-litellm-call-id"} == {
        "host": "localhost:4000",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "authorization": "Bearer sk-0123456789abcdef",
        "content-length": str(len(request.content)),
    }


def test_every_attempt_has_an_id_of_its_own():
    wire = Wire(ANSWER, ANSWER)
    provider = wire.provider()
    run_virtual(events(provider))
    run_virtual(events(provider))
    first, second = (request.headers["x-litellm-call-id"] for request in wire.requests)
    assert first != second


# -------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    "model",
    ["gpt-4", "gpt-4o-mini", "azure/gpt-4.1", "gpt-3.5-turbo", "claude-3-opus-20240229", "claude-haiku-4-5", "ollama_chat/llama3.1",
     "bedrock/anthropic.claude-3-haiku-20240307-v1:0", "gemini/gemini-2.5-pro", "mistral/mistral-small-latest"],
)  # fmt: skip
def test_a_model_that_is_known_to_take_a_temperature_is_sent_the_default(model: str):
    assert body(model=model)["temperature"] == 0.7


@pytest.mark.parametrize(
    "model", ["gpt-5-mini", "gpt-6.1-sol", "o3", "claude-sonnet-5-5", "claude-opus-4-7", "gemini/gemini-3.8-flash", "my-alias"]
)  # fmt: skip
def test_other_models_are_sent_sampling_parameters_only_when_the_user_sets_them(model: str):
    plain = body(model=model)
    assert (plain.get("temperature"), plain.get("top_p")) == (None, None)
    chosen = body(model=model, temperature=0.7, top_p=1.0)
    assert (chosen["temperature"], chosen["top_p"]) == (0.7, 1.0)


def test_another_model_for_one_call_is_sent_what_that_model_takes():
    assert "temperature" not in body(replace(HI, model="gpt-5-mini"))
    assert body(replace(HI, model="gpt-4o"), model="gpt-5-mini")["temperature"] == 0.7
    assert body(replace(HI, model="gpt-5-mini"))["model"] == "gpt-5-mini"


def test_the_length_of_an_answer_is_limited_once():
    assert "max_tokens" not in body(max_tokens=None)
    longer = body(extra_params={"max_completion_tokens": 9})
    assert (longer.get("max_tokens"), longer["max_completion_tokens"]) == (None, 9)


# ---------------------------------------------------------------------------------------------------------- params


def test_the_requests_own_fields_win_over_the_providers_and_those_over_the_arguments():
    settings: dict[str, Any] = {"temperature": 0.1, "extra_params": {"temperature": 0.2, "seed": 1, "n": 1}}
    sent = body(replace(HI, params={"seed": 7, "drop_params": False}), **settings)
    assert (sent["temperature"], sent["seed"], sent["n"], sent["drop_params"]) == (0.2, 7, 1, False)


def test_metadata_and_tools_are_joined_rather_than_replaced():
    mcp = {"type": "mcp", "server_label": "x"}
    request = replace(
        HI, session_id="s", tools=(SEARCH,), params={"metadata": {"b": 2}, "user": "u"}, user_id="v"
    )
    sent = body(request, extra_params={"metadata": {"a": 1}, "tools": [mcp]})
    assert sent["tools"] == [SEARCHED, mcp]
    assert sent["metadata"] == {"session_id": "s", "trace_user_id": "v", "b": 2}
    assert sent["user"] == "u"
    kept = body(
        replace(HI, session_id="s"),
        extra_params={"metadata": {"a": 1, "session_id": "t"}, "litellm_session_id": "t"},
    )
    assert (kept["metadata"], kept["litellm_session_id"]) == ({"a": 1, "session_id": "t"}, "t")
    assert body(extra_params={"tools": [mcp]})["tools"] == [mcp]


@pytest.mark.parametrize("params", [{"messages": []}, {"stop": object()}, {"metadata": 1}])
def test_params_that_cannot_be_sent_fail_the_call_before_anything_is_sent(params: dict[str, Any]):
    wire = Wire(ANSWER)
    with pytest.raises(ConfigurationError, match=r"^params"):
        wire.ask(replace(HI, params=params))
    assert wire.requests == []


# ----------------------------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", None), ("required", "required"), ("none", "none"), ("search", {"type": "function", "function": {"name": "search"}})],
)  # fmt: skip
def test_a_tool_choice_is_sent_when_it_says_something(choice: str, sent: object):
    request = replace(HI, tools=(SEARCH,), tool_choice=choice)
    assert body(request).get("tool_choice") == sent
    assert body(request)["tools"] == [SEARCHED]
    assert "tool_choice" not in body(replace(HI, tool_choice=choice))
    assert body(replace(request, params={"tool_choice": "none"}))["tool_choice"] == "none"


def test_other_tools_in_the_next_call_are_sent():
    wire = Wire(ANSWER, ANSWER)
    provider = wire.provider()
    run_virtual(events(provider, replace(HI, tools=(SEARCH,))))
    run_virtual(events(provider, replace(HI, tools=(replace(SEARCH, name="find"), SEARCH))))
    assert [[tool["function"]["name"] for tool in sent["tools"]] for sent in wire.sent] == [
        ["search"],
        ["find", "search"],
    ]


# -------------------------------------------------------------------------------------------------------- messages


def test_what_was_sent_last_is_sent_again_only_where_it_was_just_so():
    wire = Wire(*[ANSWER] * 8)
    provider = wire.provider()
    changing = {"seed": 1}  # while nobody looks
    for params in (changing, changing, {"seed": True}, {"seed": 1}, {}, MappingProxyType({"seed": 3})):
        run_virtual(events(provider, replace(HI, params=params)))
        changing["seed"] = 2
    for params in ({"seed": 3}, {}):
        run_virtual(events(provider, replace(HI, params=params, model="gpt-4o-mini")))

    assert [(sent["model"], sent.get("seed")) for sent in wire.sent] == [
        *(("gpt-4o", seed) for seed in (1, 2, True, 1, None, 3)),
        *(("gpt-4o-mini", seed) for seed in (3, None)),
    ]
    assert wire.sent[2]["seed"] is True


def test_a_conversation_goes_as_it_was():
    turns = (
        Message.system("Be short."),
        Message.user('é "quoted" \u2028'),
        Message.assistant("", tool_calls=(ToolCall("a", "search", {"q": "x"}),)),
        Message.tool("", tool_call_id="a"),
    )
    assert body(LLMRequest(messages=turns))["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": 'é "quoted" \u2028'},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "search", "arguments": '{"q":"x"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": ""},
    ]


@pytest.mark.parametrize(("written_by", "back"), [("gpt-4o", True), ("", True), ("claude-s", False)])
def test_what_a_model_wants_back_goes_back_to_that_model_alone(written_by: str, back: bool):
    """Anthropic refuses tool results after thoughts without their signature (litellm#15601); others refuse the field."""
    extra = {"thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "S"}], "role": "x"}
    message = Message("assistant", "a", extra=extra, model=written_by)
    plain = {"role": "assistant", "content": "a"}
    blocks = {"thinking_blocks": extra["thinking_blocks"]} if back else {}
    for _ in range(2):
        assert body(LLMRequest(messages=(message,)))["messages"] == [plain | blocks]


def test_an_answer_goes_back_with_what_its_model_wants_back():
    block = {"type": "thinking", "thinking": "Hm", "signature": "S"}
    wire = Wire(Reply([deltas({"thinking_blocks": [block]}, {"content": "a"})]), ANSWER, ANSWER)
    provider = wire.provider()
    answer = run_virtual(events(provider))[-1].message
    run_virtual(events(provider, LLMRequest(messages=(answer,))))
    run_virtual(events(provider, LLMRequest(messages=(answer,), model="gpt-5-mini")))
    plain = {"role": "assistant", "content": "a"}
    assert [sent["messages"] for sent in wire.sent[1:]] == [[plain | {"thinking_blocks": [block]}], [plain]]


def test_a_call_goes_back_with_the_signature_that_its_model_put_beside_it():
    """Gemini's own endpoint refuses the tools' results otherwise (open-webui/computer#224)."""

    def signed(text: str) -> dict[str, Any]:
        return {"extra_content": {"google": {"thought_signature": text}}}

    pieces = [
        call(None, "a", "f", "{}") | signed("A"),
        call(None, "b", "g", '{"x":'),
        call(None, None, None, "1}"),
    ]
    stream = deltas(
        *({"tool_calls": [piece]} for piece in pieces), {"tool_calls": [signed("B")]}, signed("C")
    )
    wire = Wire(Reply([stream]), ANSWER, ANSWER)
    provider = wire.provider()
    answer = run_virtual(events(provider))[-1].message
    assert loads(dumps(LLMResponse(message=answer))).message == answer
    for model in ("", "another"):
        run_virtual(events(provider, LLMRequest(messages=(answer,), model=model)))

    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
    ]
    plain = {"role": "assistant", "content": None, "tool_calls": calls}
    with_signatures = [calls[0] | signed("A"), calls[1] | signed("B")]
    assert [sent["messages"] for sent in wire.sent[1:]] == [
        [plain | signed("C") | {"tool_calls": with_signatures}],
        [plain],
    ]


def test_a_signature_for_no_call_is_let_be():
    wire = Wire(Reply([deltas({"tool_calls": [{"extra_content": {"google": {}}}]}, {"content": "a"})]))

    assert run_virtual(events(wire.provider()))[-1].message.extra == {}
    stored = Message("assistant", "", tool_calls=(ToolCall("a", "f"),), extra={"tool_calls": {"a": "spoilt"}})
    assert json.loads(stored.wire_back) == json.loads(stored.wire)


# ------------------------------------------------------------------------------------------------------ bookkeeping

TRACE, SPAN = "0123456789abcdef" * 2, "fedcba9876543210"


def test_a_call_says_whose_it_is():
    """As LiteLLM's logs and its Langfuse callback take it; a session header would discard the trace id."""
    wire = Wire(ANSWER)
    wire.ask(
        replace(
            HI,
            session_id="s",
            trace_id=TRACE,
            parent_span_id=SPAN,
            trace_name="math",
            user_id="u",
            tags=("a", "b"),
        )
    )
    (sent,) = wire.sent
    assert {name: sent[name] for name in ("litellm_session_id", "user", "metadata")} == {
        "litellm_session_id": "s",
        "user": "u",
        "metadata": {
            "session_id": "s",
            "trace_id": TRACE,
            "parent_observation_id": SPAN,
            "trace_name": "math",
            "trace_user_id": "u",
            "tags": ["a", "b"],
        },
    }
    headers = wire.requests[0].headers
    assert headers["traceparent"] == f"00-{TRACE}-{SPAN}-01"
    assert "x-litellm-session-id" not in headers


@pytest.mark.parametrize(
    ("trace", "span"), [(TRACE, ""), ("", SPAN), ("x\r\ny: z", SPAN), (TRACE, SPAN.upper())]
)
def test_half_a_trace_or_a_malformed_one_is_no_traceparent(trace: str, span: str):
    wire = Wire(ANSWER)
    wire.ask(replace(HI, trace_id=trace, parent_span_id=span))
    assert "traceparent" not in wire.requests[0].headers


def test_a_conversation_is_not_serialised_anew_for_each_call():
    """The bytes of a message are made once; a call joins them."""
    message = Message.user("Hi")
    first = message.wire
    wire = Wire(ANSWER)
    wire.ask(LLMRequest(messages=(message,)))
    assert message.wire is first
    assert first in wire.requests[0].content
    assert json.loads(first) == {"role": "user", "content": "Hi"}
