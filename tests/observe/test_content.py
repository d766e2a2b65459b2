"""What of a conversation goes on spans, and in which form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from looopy.errors import ConfigurationError
from looopy.messages import DataPart, FilePart, FinishReason, Message, TextPart, ToolCall
from looopy.observe.content import Content
from looopy.ports import ToolDefinition

ASK = Message.user("The weather in Oslo?")
CALL = ToolCall(id="c1", name="weather", arguments={"city": "Oslo"})
CALLS = Message.assistant(tool_calls=(CALL,))
RAIN = Message.tool("rain", tool_call_id="c1")
SAYS = Message.assistant("It rains.")


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "content": text}


def written(*messages: Message, **limits: int) -> list[dict[str, Any]]:
    return json.loads(Content(**limits).transcript().input_messages(messages))


# ----------------------------------------------------------------------------------------------------------------- forms


def test_a_conversation_is_roles_and_parts_without_the_instructions_that_it_begins_with() -> None:
    transcript = Content().transcript()
    conversation = (Message.system("Be brief."), ASK, CALLS, RAIN, SAYS)

    assert json.loads(transcript.system_instructions(conversation)) == [said("Be brief.")]
    assert json.loads(transcript.input_messages(conversation)) == [
        user(said("The weather in Oslo?")),
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
        {"role": "assistant", "parts": [said("It rains.")]},
    ]


def test_instructions_in_mid_conversation_stay_where_they_were_given() -> None:
    later = Message.system("Now in French.")

    assert written(ASK, later) == [
        user(said("The weather in Oslo?")),
        {"role": "system", "parts": [said("Now in French.")]},
    ]
    assert Content().transcript().system_instructions((ASK, later)) == ""


def test_instructions_may_be_several_and_have_parts() -> None:
    begin = (Message.system("Be brief."), Message("system", (TextPart("Be kind."), DataPart({"a": 1}))))

    assert json.loads(Content().transcript().system_instructions(begin)) == [
        said("Be brief."),
        said("Be kind."),
        said('{"a":1}'),
    ]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("stop", "stop"),
        ("tool_calls", "tool_call"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("interrupted", "error"),
    ],
)
def test_an_answer_says_why_it_ended_in_the_words_of_the_conventions(
    reason: FinishReason, shown: str
) -> None:
    assert json.loads(Content().transcript().output_messages(SAYS, reason)) == [
        {"role": "assistant", "parts": [said("It rains.")], "finish_reason": shown}
    ]


def test_an_answer_has_its_calls_also_flat_where_langfuse_looks_for_them() -> None:
    answer = replace(CALLS, content="I'll look.", reasoning="Where is Oslo?")

    assert json.loads(Content().transcript().output_messages(answer, "tool_calls")) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Where is Oslo?"},
                said("I'll look."),
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}},
            ],
            "finish_reason": "tool_call",
            "tool_calls": [
                {"id": "c1", "type": "function", "name": "weather", "arguments": '{"city":"Oslo"}'}
            ],
        }
    ]


def test_what_a_provider_wants_back_is_not_shown() -> None:
    signed = replace(SAYS, reasoning="Hm.", extra={"thinking_blocks": [{"signature": "S3CR3T"}]}, model="m")

    assert written(signed) == [
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hm."}, said("It rains.")]}
    ]


def test_tools_are_shown_flat() -> None:
    tool = ToolDefinition(name="weather", description="The weather.")

    assert json.loads(Content().transcript().tool_definitions((tool,))) == [
        {
            "type": "function",
            "name": "weather",
            "description": "The weather.",
            "parameters": {"type": "object", "properties": {}},
        }
    ]
    assert Content().transcript().tool_definitions(()) == ""


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ("rain", "rain"),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
        (None, "null"),
        (0, "0"),
        ({"a": [1, 2.5, True, "\n"]}, '{"a":[1,2.5,true,"\\n"]}'),
    ],
)
def test_a_result_is_what_the_model_reads(result: object, shown: str) -> None:
    assert Content().transcript().result(result) == shown


def test_arguments_are_an_object() -> None:
    assert Content().transcript().arguments({"city": "Oslo", "days": 3}) == '{"city":"Oslo","days":3}'


# ----------------------------------------------------------------------------------------------------------------- files


PICTURE = FilePart.of(b"\x89PNG" * 100, mime_type="image/png", name="rain.png")


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        (
            PICTURE,
            {
                "type": "text",
                "content": "[rain.png: image/png, 400 bytes, not recorded]",
                "mime_type": "image/png",
                "size": 400,
            },
        ),
        (
            FilePart(url="data:text/csv;base64,YSxi", mime_type="image/png"),
            {
                "type": "text",
                "content": "[a file: text/csv, 3 bytes, not recorded]",
                "mime_type": "text/csv",
                "size": 3,
            },
        ),
        (
            FilePart(url="DATA:,YQ==", mime_type="text/plain"),
            {
                "type": "text",
                "content": "[a file: text/plain, 1 bytes, not recorded]",
                "mime_type": "text/plain",
                "size": 1,
            },
        ),
        (
            FilePart(url="https://host/rain.png", mime_type="image/png", name="rain.png"),
            {
                "type": "uri",
                "modality": "image",
                "mime_type": "image/png",
                "uri": "https://host/rain.png",
                "name": "rain.png",
            },
        ),
        (
            FilePart(url="https://ann:pa55@host/a.pdf?signature=f00#page=2", mime_type="application/pdf"),
            {
                "type": "uri",
                "modality": "document",
                "mime_type": "application/pdf",
                "uri": "https://***@host/a.pdf?***",
            },
        ),
    ],
)
def test_a_file_is_named_and_not_dumped(file: FilePart, shown: dict[str, Any]) -> None:
    assert written(Message.user((TextPart("Look:"), file))) == [user(said("Look:"), shown)]


def test_a_tool_may_answer_in_parts() -> None:
    answer = Message("tool", (TextPart("Here:"), PICTURE), tool_call_id="c1")
    [message] = written(answer)
    [part] = message["parts"]

    assert part["id"] == "c1"
    assert [inner["content"] for inner in part["response"]] == [
        "Here:",
        "[rain.png: image/png, 400 bytes, not recorded]",
    ]
    assert written(replace(answer, content=()))[0]["parts"][0]["response"] == []


# ---------------------------------------------------------------------------------------------------------------- limits


def test_a_long_text_is_cut_with_a_remark_that_says_of_how_many() -> None:
    assert written(Message.user("x" * 1_000_000), max_chars=5) == [
        user(said("xxxxx… [cut: 5 of 1,000,000 characters shown]"))
    ]
    assert written(Message.user("x" * 5), max_chars=5) == [user(said("xxxxx"))]


def test_of_long_arguments_the_begin_is_shown_and_they_stay_an_object() -> None:
    transcript = Content(max_chars=60).transcript()
    arguments = {"path": "a.txt", "lines": ["one " * 10, "two", "three"], "mode": "w", "force": True}

    assert json.loads(transcript.arguments(arguments)) == {
        "path": "a.txt",
        "lines": [
            "one one one one one one one one o… [cut: 33 of 40 characters shown]",
            "[cut: 1 of 3 items shown]",
        ],
        "…": "[cut: 2 of 4 entries shown]",
    }


def test_a_number_that_would_fill_a_page_is_cut() -> None:
    assert Content(max_chars=200).transcript().result([10**5_000, 1]) == (
        '["[cut: a number of 5,001 digits]",1]'
    )


def test_a_text_that_json_makes_longer_than_an_attribute_is_cut_further() -> None:
    transcript = Content(max_chars=10**6, max_total=16_384).transcript()
    quotes = '"' * 10_000

    shown = transcript.input_messages((Message.user(quotes),))

    assert json.loads(shown)[0]["parts"][0]["content"].endswith("… [cut: 819 of 10,000 characters shown]")
    assert transcript.result(quotes) == quotes  # as it is, and so no longer


def test_of_many_parts_the_first_are_shown() -> None:
    parts = tuple(TextPart(f"{n:04}" * 250) for n in range(20))
    [message] = written(Message.user(parts), max_total=16_384)

    assert message["parts"] == [
        *(said(f"{n:04}" * 250) for n in range(7)),
        said("0007" * 183 + "0… [cut: 733 of 1,000 characters shown]"),
        said("[cut: 12 of 20 parts left out]"),
    ]


def test_of_many_tools_the_first_are_shown() -> None:
    tools = [ToolDefinition(name=f"tool{n}", description="x" * 1_940) for n in range(20)]
    shown = json.loads(Content(max_total=16_384).transcript().tool_definitions(tools))

    assert [tool["name"] for tool in shown] == [
        *(f"tool{n}" for n in range(4)),
        "[cut: 16 of 20 tools left out]",
    ]


def test_the_parameters_of_a_tool_are_shown_whole_or_not_at_all() -> None:
    tool = ToolDefinition(name="weather", description="The weather.")

    assert json.loads(Content(max_chars=11).transcript().tool_definitions((tool,))) == [
        {
            "type": "function",
            "name": "weather",
            "description": "The weather… [cut: 11 of 12 characters shown]",
        }
    ]


def test_of_a_long_conversation_the_middle_is_left_out() -> None:
    messages = [Message.user(f"{n:04}" * 250) for n in range(50)]
    shown = written(Message.system("Be brief."), *messages, max_total=16_384)

    assert [message["parts"][0]["content"][:4] for message in shown] == [
        "0000",
        "[cut",
        *(f"{n:04}" for n in range(36, 50)),
    ]
    assert shown[1] == {"role": "system", "parts": [said("[cut: 35 of 50 messages left out here]")]}


def test_the_last_message_stays_however_long_it_is() -> None:
    first, last = Message.user("a" * 8_130), Message.user("b" * 8_130)
    shown = written(first, *[SAYS] * 9, last, max_total=16_384)

    assert [message["parts"][0]["content"][:5] for message in shown] == ["aaaaa", "[cut:", "bbbbb"]

    longest = Message.user("c" * 8_160)
    assert written(longest, longest, max_total=16_384) == [user(said("c" * 8_160))] * 2


@pytest.mark.parametrize(("limit", "least"), [("max_chars", "1"), ("max_total", "16,384")])
def test_a_limit_that_leaves_nothing_is_refused(limit: str, least: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{limit} must be at least {least}, not 0") as caught:
        Content(**{limit: 0})
    assert caught.value.argument == limit


# ------------------------------------------------------------------------------------------------------------------ once


def test_each_message_is_written_once_however_often_the_conversation_is_sent() -> None:
    seen: list[str] = []

    def note(text: str, where: str) -> str:
        seen.append(f"{where}: {text}")
        return text

    transcript = Content(redact=note).transcript()
    system = Message.system("Be brief.")
    transcript.system_instructions((system, ASK))
    transcript.input_messages((system, ASK))
    transcript.output_messages(SAYS)
    again = Message.system("Be brief.")  # the loop makes it anew for each call
    transcript.system_instructions((again, ASK, SAYS, RAIN))
    transcript.input_messages((again, ASK, SAYS, RAIN))

    assert seen == [
        "system: Be brief.",
        "user: The weather in Oslo?",
        "assistant: It rains.",
        "tool-result: rain",
    ]


def test_tools_and_instructions_are_remembered_from_run_to_run_and_not_for_ever() -> None:
    content = Content()
    tool = ToolDefinition(name="weather")
    first = content.transcript().tool_definitions((tool,))

    assert content.transcript().tool_definitions([tool]) is first
    for n in range(100):
        content.transcript().system_instructions((Message.system(f"Be {n}."),))
    again = content.transcript().tool_definitions((tool,))
    assert again == first
    assert again is not first


def test_contents_are_compared_by_what_was_asked_for() -> None:
    used = Content(max_chars=10)
    used.transcript().system_instructions((Message.system("Be brief."),))

    assert used == Content(max_chars=10)
    assert repr(used) == "Content(redact=None, max_chars=10, max_total=262144)"


@pytest.mark.parametrize("given", ["text", ["a"], None, 5])
def test_arguments_that_are_no_object_are_shown_as_they_are(given: Any) -> None:
    message = Message("assistant", "", tool_calls=(ToolCall("1", "look", given),))
    (answer,) = json.loads(Content().transcript().output_messages(message))
    assert answer["parts"] == [{"type": "tool_call", "id": "1", "name": "look", "arguments": given}]
    assert json.loads(answer["tool_calls"][0]["arguments"]) == given
