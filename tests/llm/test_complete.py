"""`llm.complete`: one question, one answer, with an event loop and without."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from looopy import (
    ConfigurationError,
    FilePart,
    LimitExceeded,
    Limits,
    Message,
    Output,
    ToolDefinition,
    Usage,
    UsageReport,
    llm,
)
from looopy.messages import TextPart
from looopy.testing import ScriptedModel, ScriptedServer, calls, says
from looopy.tools.function import FunctionTools

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


class Invoice(BaseModel):
    total: float


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def greet() -> str:
    """Greet."""
    return "hello"


def hello():
    return ScriptedServer(
        otherwise=lambda _: says("Hel", "lo.", usage=Usage(input_tokens=3, output_tokens=2), cost=0.25)
    )


async def test_awaiting_it_gives_the_whole_result(at_proxy):
    server = at_proxy(hello())

    result = await llm.complete("Hi", model="gpt-4o-mini")

    assert (result.output, result.usage, result.cost, result.status) == (
        "Hello.",
        Usage(input_tokens=3, output_tokens=2),
        0.25,
        "completed",
    )
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "Hi"}]


def test_without_an_event_loop_its_result_is_the_same(at_proxy):
    at_proxy(hello())

    assert llm.complete("Hi", model="gpt-4o-mini").result(timeout=5).output == "Hello."


def test_nothing_is_asked_before_somebody_wants_it(at_proxy):
    server = at_proxy(hello())

    llm.complete("Hi", model="gpt-4o-mini")

    assert server.requests == []


def test_everything_that_is_said_of_a_call_reaches_the_proxy(at_proxy):
    server = at_proxy(hello())

    llm.complete(
        "Hi",
        system="Be brief.",
        model="anthropic/claude-opus-5-5",
        temperature=0.25,
        max_tokens=20,
        top_p=0.5,
        params={"seed": 7},
        session_id="chat-1",
        user_id="me",
        tags=["test"],
        agent_id="greeter",
    ).result(5)

    body = server.requests[0].body
    trace = body["metadata"].pop("trace_id")
    assert len(trace) == 32
    assert body == {
        "model": "anthropic/claude-opus-5-5",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "drop_params": True,
        "temperature": 0.25,
        "max_tokens": 20,
        "top_p": 0.5,
        "seed": 7,
        "litellm_session_id": "chat-1",
        "user": "me",
        "metadata": {
            "session_id": "chat-1",
            "trace_name": "greeter",
            "trace_user_id": "me",
            "tags": ["test"],
        },
    }


def test_an_answer_may_have_a_type():
    model = ScriptedModel(calls("final_answer", total="much"), calls("final_answer", total=12.5))

    assert llm.complete("Read: …", provider=model, output_type=Invoice).result(5).output == Invoice(
        total=12.5
    )
    assert llm.complete(
        "Read: …", provider=ScriptedModel(says('{"total": 1}')), output_type=Output(Invoice, mode="native")
    ).result(5).output == Invoice(total=1)


def test_functions_are_run_and_the_model_is_asked_again():
    model = ScriptedModel(calls("add", a=1, b=2), calls("add", a=3, b=4), says("7"))

    result = llm.complete("1 + 2 + 4?", provider=model, tools=[add, FunctionTools([greet])]).result(5)

    assert (result.output, result.iterations) == ("7", 3)
    assert [message.text for message in result.messages if message.role == "tool"] == ["3", "7"]
    assert [tool.name for tool in model.requests[0].tools] == ["add", "greet"]


@pytest.mark.parametrize(
    "tool",
    [
        WEATHER,
        ToolDefinition(
            name="get_weather",
            description="The weather of a place",
            parameters=WEATHER["function"]["parameters"],
        ),
    ],
    ids=["openai", "definition"],
)
def test_a_call_of_a_tool_that_the_caller_runs_comes_back_and_its_answer_is_the_next_prompt(tool):
    model = ScriptedModel(says("Let me see.") + calls("get_weather", place="Oslo"), says("4 °C."))

    asked = llm.complete("Oslo?", provider=model, tools=[tool]).result(5)
    (call,) = asked.messages[-1].tool_calls
    assert (asked.status, call.name, call.arguments) == ("input-required", "get_weather", {"place": "Oslo"})

    told = [*asked.messages, Message.tool("4", tool_call_id=call.id)]
    answered = llm.complete(told, provider=model, tools=[tool]).result(5)

    assert (answered.output, answered.status) == ("4 °C.", "completed")
    assert model.requests[1].messages == (*asked.messages, Message.tool("4", tool_call_id=call.id))
    assert model.requests[0].tools == (
        ToolDefinition(
            name="get_weather",
            description="The weather of a place",
            parameters=WEATHER["function"]["parameters"],
        ),
    )


def test_functions_that_are_called_beside_such_a_tool_have_run_and_their_answers_are_there():
    model = ScriptedModel(calls("get_weather", place="Oslo") + calls("add", a=1, b=2), says("4 °C, and 3."))

    asked = llm.complete("Oslo, and 1 + 2?", provider=model, tools=[add, WEATHER]).result(5)
    weather, sum_ = asked.messages[1].tool_calls
    assert asked.messages[2:] == (Message.tool("3", tool_call_id=sum_.id),)

    told = [*asked.messages, Message.tool("4", tool_call_id=weather.id)]
    assert llm.complete(told, provider=model, tools=[add, WEATHER]).result(5).output == "4 °C, and 3."
    assert model.requests[1].messages == tuple(told)


def test_a_tool_that_had_nothing_to_say_may_be_the_last_message():
    model = ScriptedModel(says("Done."))
    chat = [{"role": "user", "content": "Go on"}, {"role": "tool", "content": "", "tool_call_id": "1"}]

    assert llm.complete(chat, provider=model).result(5).output == "Done."


@pytest.mark.parametrize(
    "prompt",
    [
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Bye"},
        ],
        [Message.user("Hi"), Message.assistant("Yes?"), Message.user("Bye")],
        (Message.user("Hi"), {"role": "assistant", "content": "Yes?"}, Message.user("Bye")),
    ],
    ids=["dicts", "messages", "both"],
)
def test_a_conversation_is_a_prompt(prompt):
    model = ScriptedModel(says("Bye."))

    llm.complete(prompt, system="Be brief.", provider=model).result(5)

    assert model.requests[0].messages == (
        Message.system("Be brief."),
        Message.user("Hi"),
        Message.assistant("Yes?"),
        Message.user("Bye"),
    )


@pytest.mark.parametrize(
    "prompt", [Message.user((TextPart("Look: "), FilePart("http://x/y.png", mime_type="image/png"))),
               (TextPart("Look: "), FilePart("http://x/y.png", mime_type="image/png")),
               [TextPart("Look: "), FilePart("http://x/y.png", mime_type="image/png")]]
)  # fmt: skip
def test_parts_are_a_prompt(prompt):
    model = ScriptedModel(says("A cat."))

    llm.complete(prompt, provider=model).result(5)

    assert model.requests[0].messages == (
        Message.user((TextPart("Look: "), FilePart("http://x/y.png", mime_type="image/png"))),
    )


@pytest.mark.parametrize("prompt", ["", "  ", [], (), [{"role": "user", "content": ""}]])
def test_an_empty_prompt_is_refused_before_anything_is_asked(prompt):
    with pytest.raises(ConfigurationError, match="the prompt is empty"):
        llm.complete(prompt, model="stand-in")


def test_the_model_may_be_another_than_the_providers():
    model = ScriptedModel(otherwise=lambda _: says("Hi."))

    llm.complete("Hi", provider=model, model="gpt-4.1", temperature=0).result(5)
    llm.complete("Hi", provider=model, params={"seed": 7}).result(5)
    llm.complete("Hi", provider=model).result(5)

    assert [(request.model, request.params) for request in model.requests] == [
        ("gpt-4.1", {"temperature": 0}),
        ("", {"seed": 7}),
        ("", {}),
    ]


def test_limits_hold():
    model = ScriptedModel(otherwise=lambda _: calls("add", a=1, b=1))

    with pytest.raises(LimitExceeded) as caught:
        llm.complete("Hi", provider=model, tools=[add], max_iterations=2).result(5)
    assert caught.value.limit == "max_iterations"
    with pytest.raises(LimitExceeded) as caught:
        llm.complete(
            "Hi",
            provider=ScriptedModel(calls("add", a=1, b=1) + says(usage=Usage(input_tokens=1))),
            tools=[add],
            limits=Limits(tokens=1),
            deps=1,
        ).result(5)
    assert caught.value.limit == "tokens"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"LITELLM_URL": "URL", "LITELLM_API_KEY": "sk-1", "LOOOPY_MODEL": "one", "OPENAI_BASE_URL": "http://nowhere"}, ("one", "Bearer sk-1")),
        ({"OPENAI_BASE_URL": "URL/v1", "OPENAI_API_KEY": "sk-2", "LOOOPY_MODEL": "two"}, ("two", "Bearer sk-2")),
    ],
)  # fmt: skip
def test_what_is_left_out_is_as_the_environment_has_it(environment, asked, monkeypatch):
    server = hello()
    with server.running() as url:
        for name, value in environment.items():
            monkeypatch.setenv(name, value.replace("URL", url))
        llm.complete("Hi").result(5)

    (request,) = server.requests
    assert (request.body["model"], request.headers["authorization"]) == asked


def test_none_leaves_an_option_out_as_a_wrapping_function_hands_it_on(at_proxy, monkeypatch):
    monkeypatch.setenv("LOOOPY_MODEL", "gpt-4o-mini")
    server = at_proxy(hello())
    nothing = dict.fromkeys(llm.Options.__annotations__)

    llm.complete("Hi").result(5)
    llm.complete("Hi", **nothing).result(5)
    "".join(llm.stream("Hi", **nothing))

    first, *others = [
        {
            name: value
            for name, value in request.body.items()
            if name not in {"litellm_session_id", "metadata"}
        }
        for request in server.requests
    ]
    assert others == [first, first]


def test_calls_share_the_connections_and_follow_the_environment_where_it_changes(at_proxy):
    first = at_proxy(hello())
    for model in ("one", "one", "two"):
        llm.complete("Hi", model=model, temperature=0.5).result(5)
    second = at_proxy(hello())
    llm.complete("Hi", model="one").result(5)

    assert (first.connections, len(first.requests)) == (1, 3)
    assert len(second.requests) == 1


def test_more_models_than_are_kept_at_once_are_asked_all_the_same(at_proxy):
    server = at_proxy(hello())

    for number in range(70):
        llm.complete("Hi", model=f"model-{number}").result(5)

    assert server.requests[-1].body["model"] == "model-69"


def test_the_stand_in_answers_where_the_environment_wants_it(monkeypatch):
    monkeypatch.setenv("LOOOPY_STAND_IN", "1")

    result = llm.complete("Hi", model="gpt-4o-mini").result(5)

    assert result.messages[-1].model == "looopy-stand-in"


def test_without_a_proxy_or_a_model_it_says_what_to_set(monkeypatch):
    with pytest.raises(ConfigurationError, match="set LITELLM_URL"):
        llm.complete("Hi", model="gpt-4o-mini")
    monkeypatch.setenv("LITELLM_URL", "http://localhost:4000")
    with pytest.raises(ConfigurationError, match="set LOOOPY_MODEL"):
        llm.complete("Hi")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"provider": "gpt-4o"}, "provider='gpt-4o' is the name of a model: write model='gpt-4o'"),
        ({"temperature": 3}, "temperature=3 must be from 0 to 2"),
        ({"max_tokens": 0}, "max_tokens=0 must be at least 1, or None"),
        ({"top_p": 0}, "top_p=0 must be above 0 and at most 1"),
        ({"tools": add}, "it takes a list, so write tools=[…]"),
        ({"tools": [1]}, "tools: a int is none; pass functions, ToolProviders, ToolDefinitions, or dicts in OpenAI's form"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(options, said):
    with pytest.raises(ConfigurationError) as caught:
        llm.complete("Hi", **({"model": "stand-in"} | options))
    assert said in str(caught.value)


def test_an_option_that_there_is_not_is_an_error_that_knows_what_was_meant():
    with pytest.raises(TypeError) as caught:
        llm.complete("Hi", temprature=1)
    assert (
        str(caught.value)
        == "complete() got an unexpected keyword argument 'temprature'; did you mean 'temperature'?"
    )


@pytest.mark.parametrize(
    ("option", "mend"),
    [
        ("stop", "a field of the request's body goes into params={'stop': …}"),
        ("response_format", "a field of the request's body goes into params={'response_format': …}"),
        ("timeout", "pass provider=LiteLLMProvider(…), whose argument it is"),
        ("output_type", "complete() takes it, and an @llm_function has it as its return annotation"),
    ],
)
def test_what_is_no_option_is_told_where_it_belongs(option, mend):
    with pytest.raises(TypeError) as caught:
        llm.stream("Hi", **{option: 1})
    assert str(caught.value) == f"stream() got an unexpected keyword argument {option!r}; {mend}"


def test_calls_are_told_apart_in_reports_by_the_name_of_their_agent():
    report = UsageReport()
    for name in ("ann", "bob", "ann"):
        run = llm.complete("Hi", provider=ScriptedModel(says("Hi.")), agent_id=name)
        report.watch(run)
        run.result(5)

    assert [(row.name, row.calls) for row in report.rows("agent")] == [("ann", 2), ("bob", 1)]
