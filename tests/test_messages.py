"""What is said in a conversation: its values, and their bytes in OpenAI's chat format."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.messages import (
    DataPart,
    FilePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    Usage,
    chat_format,
    plain,
    whole,
)

LONE = "\ud83d"  # half of an emoji
surrogates = st.text(st.characters(categories=["Cs", "L"]))


# ------------------------------------------------------------------------------------------------------------- messages

CALL = ToolCall("call_1", "add", {"a": 1})


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        (Message.system("Be brief."), {"role": "system", "content": "Be brief."}),
        (Message.user("Hi"), {"role": "user", "content": "Hi"}),
        (Message.user("Hi" + LONE), {"role": "user", "content": "Hi\ufffd"}),
        (Message.assistant("Hello"), {"role": "assistant", "content": "Hello"}),
        (Message.tool("4", tool_call_id="c"), {"role": "tool", "tool_call_id": "c", "content": "4"}),
        (
            Message.assistant(tool_calls=(CALL,)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a":1}'},
                    }
                ],
            },
        ),
        (
            Message("assistant", (), tool_calls=(CALL,)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a":1}'},
                    }
                ],
            },
        ),
        (
            Message.user((TextPart("Look:" + LONE), DataPart({"a": [1, "é"]}))),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:\ufffd"},
                    {"type": "text", "text": '{"a":[1,"é"]}'},
                ],
            },
        ),
    ],
)
def test_a_message_has_the_shape_of_openais_chat_format(message: Message, shape: dict[str, object]) -> None:
    assert chat_format(message) == shape
    assert json.loads(message.wire) == shape


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (
            FilePart("https://host/a.png", mime_type="image/png"),
            {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
        ),
        (
            FilePart.of(b"png", mime_type="image/png"),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        ),
        (
            FilePart.of(b"wav", mime_type="audio/wav"),
            {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
        ),
        (
            FilePart.of(b"mp3", mime_type="audio/mpeg"),
            {"type": "input_audio", "input_audio": {"data": "bXAz", "format": "mp3"}},
        ),
        (
            FilePart.of(b"wav", mime_type="audio/x-wav"),
            {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
        ),
        (
            FilePart("https://host/a.mp3", mime_type="audio/mpeg"),
            {"type": "file", "file": {"file_id": "https://host/a.mp3"}},
        ),
        (
            FilePart("https://host/a.pdf", mime_type="application/pdf", name="a.pdf"),
            {"type": "file", "file": {"file_id": "https://host/a.pdf", "filename": "a.pdf"}},
        ),
        (
            FilePart.of(b"pdf", mime_type="application/pdf", name="a.pdf"),
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "a.pdf"}},
        ),
        (
            FilePart.of(b"pdf", mime_type="application/pdf"),
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "file.pdf"},
            },
        ),
        (
            FilePart.of(b"?", mime_type="x/unheard-of"),
            {"type": "file", "file": {"file_data": "data:x/unheard-of;base64,Pw==", "filename": "file"}},
        ),
    ],
)
def test_a_file_is_shown_by_its_media_type(part: FilePart, shape: dict[str, object]) -> None:
    """An inline file without a name is refused by OpenAI (it then asks for a `file_id`), and sound is "mp3" there, not "mpeg"."""
    assert chat_format(Message.user((part,)))["content"] == [shape]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("add", "add"),
        ("functions.add", "functions_add"),
        ("", "_"),
        ("a b" * 40, ("a_b" * 40)[:64]),
        (LONE, "_"),
    ],
)
def test_a_tools_name_that_no_api_takes_back_is_mended_on_the_way(name: str, sent: str) -> None:
    """Else one invented name would make every further request of the conversation fail with 400."""
    message = Message.assistant(tool_calls=(replace(CALL, name=name),))

    assert chat_format(message)["tool_calls"][0]["function"]["name"] == sent


def test_a_message_is_turned_into_bytes_once() -> None:
    message = Message("assistant", "Hi", extra={"thinking_blocks": [{"signature": "s"}]})

    assert message.wire is message.wire
    assert message.wire_back is message.wire_back
    assert json.loads(message.wire) == {"role": "assistant", "content": "Hi"}
    assert json.loads(message.wire_back) == {
        "role": "assistant",
        "content": "Hi",
        "thinking_blocks": [{"signature": "s"}],
    }


def test_what_a_provider_wants_back_never_replaces_what_was_said() -> None:
    message = Message("assistant", "Hi", extra={"content": "other", "role": "user", "score": math.nan})

    assert json.loads(message.wire_back) == {"role": "assistant", "content": "Hi", "score": None}
    assert Message.assistant("Hi").wire_back is not None
    assert json.loads(Message.assistant("Hi").wire_back) == {"role": "assistant", "content": "Hi"}


def test_the_kept_bytes_are_no_part_of_a_messages_value() -> None:
    used, fresh = Message.user("Hi"), Message.user("Hi")
    assert used.wire

    assert used == fresh
    assert repr(used) == repr(fresh)
    assert pickle.loads(pickle.dumps(used)) == fresh
    assert json.loads(replace(used, content="Bye").wire) == {"role": "user", "content": "Bye"}


def test_the_text_of_a_message_is_its_text_parts_joined() -> None:
    assert Message.user("Hi").text == "Hi"
    parts = (TextPart("a"), FilePart("https://host/"), DataPart(1), TextPart("b"))
    assert Message.user(parts).text == "ab"


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (TextPart(LONE), TextPart("\ufffd")),
        (DataPart({"when": date(2026, 1, 2)}), DataPart({"when": "2026-01-02"})),
        (FilePart("https://host/"), FilePart("https://host/")),
    ],
)
def test_a_plain_part_has_nothing_in_it_but_what_json_knows(part: Part, made: Part) -> None:
    assert plain(part) == made


def test_a_part_that_has_no_json_form_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        plain(DataPart(object()))


def test_usage_adds_up() -> None:
    one = Usage(input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4)

    assert one + one == Usage(input_tokens=2, output_tokens=4, cached_tokens=6, reasoning_tokens=8)
    assert (one.total_tokens, Usage().total_tokens) == (3, 0)


@pytest.mark.parametrize("make", [Message.user, lambda text: Message.tool(text, tool_call_id="c")])
@given(text=st.text() | surrogates)
def test_every_text_has_bytes(make: Callable[[str], Message], text: str) -> None:
    assert json.loads(make(text).wire)["content"] == whole(text)
