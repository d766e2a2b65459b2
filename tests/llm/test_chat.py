"""Conversations in OpenAI's chat format become looopy's messages, and nothing of them is lost on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy import ConfigurationError, FilePart, Message
from looopy.llm.chat import messages_of
from looopy.messages import DataPart, TextPart, ToolCall

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"role": "user", "content": "Hi"}, Message.user("Hi")),
        ({"role": "developer", "content": "Be brief."}, Message.system("Be brief.")),
        ({"role": "user", "content": "Hi", "name": "ann"}, Message("user", "Hi", extra={"name": "ann"})),
        ({"role": "tool", "content": "3", "tool_call_id": "1"}, Message.tool("3", tool_call_id="1")),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
            Message.assistant(tool_calls=(ToolCall("1", "add", {"a": 1}),)),
        ),
        (
            {"role": "assistant", "content": "3", "reasoning_content": "Hm.", "thinking_blocks": [{"signature": "x"}]},
            Message("assistant", "3", reasoning="Hm.", extra={"reasoning_content": "Hm.", "thinking_blocks": [{"signature": "x"}]}),
        ),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, Message.user((TextPart("Hi"),))),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "http://x/y.png"}]},
            Message.user((FilePart("http://x/y.png", mime_type="image/*"),)),
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}}]},
            Message.user((FilePart(data="AAAA", mime_type="image/png"),)),
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            Message.user((FilePart("file-1"),)),
        ),
        (Message.user("Hi"), Message.user("Hi")),
    ],
)  # fmt: skip
def test_a_message_is_read_as_what_it_says(given, message):
    assert messages_of([given]) == (message,)


names = st.text(st.characters(codec="ascii", categories=("L",)), min_size=1)
texts = st.text()
files = st.one_of(
    st.builds(FilePart, st.just("http://x/y"), mime_type=st.just("image/*")),
    st.builds(FilePart, data=st.just("AAAA"), mime_type=st.sampled_from(["image/png", "audio/wav", "audio/mpeg", "application/pdf"])),
    st.builds(FilePart, st.just("http://x/y.pdf"), name=names),
)  # fmt: skip
contents = st.one_of(
    texts,
    st.lists(
        st.one_of(st.builds(TextPart, texts), files, st.builds(DataPart, st.integers())), min_size=1
    ).map(tuple),
)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), contents),
    st.builds(Message, st.just("tool"), texts, tool_call_id=names),
    st.builds(
        Message,
        st.just("assistant"),
        texts,
        tool_calls=st.lists(st.builds(ToolCall, names, names, st.dictionaries(names, st.integers())), min_size=1).map(tuple),
    ),
)  # fmt: skip


@given(messages)
def test_what_looopy_writes_it_reads_and_writes_again_the_same(message):
    written = json.loads(message.wire)

    (read,) = messages_of([written])

    assert json.loads(read.wire) == written


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.just(object()), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "tool_calls", "id", "function"]) | st.text(), inner)))  # fmt: skip
def test_whatever_is_there_instead_is_a_message_or_an_error_that_says_where(given):
    try:
        where = "" if messages_of([{"role": "user", "content": "Hi"}, given]) else "nowhere"
    except ConfigurationError as error:
        where = error.argument
    assert where in ("", "prompt[1]")


def test_a_sound_is_a_file_of_its_kind():
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "flac"}}
    assert messages_of([{"role": "user", "content": [sound]}]) == (
        Message.user((FilePart(data="AAAA", mime_type="audio/flac"),)),
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Hi", "prompt[0] is a str: pass Messages, or dicts such as {'role': 'user', 'content': …}"),
        ({"role": "bot"}, "prompt[0] has the role 'bot': it must be one of system, developer, user, assistant, tool"),
        ({"role": "user", "contents": "Hi"}, "prompt[0] has the key 'contents': did you mean 'content'?"),
        ({"role": "assistant", "tool_call": []}, "prompt[0] has the key 'tool_call': did you mean 'tool_calls'?"),
        ({"role": "user", "content": 3}, "prompt[0] has a int for content: it must be text, or a list of parts"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "prompt[0] has a tool call that cannot be read"),
        ({"role": "assistant", "tool_calls": 3}, "prompt[0] has tool calls that are no list"),
        ({"role": "tool", "tool_call_id": 3}, "prompt[0] has a tool_call_id that is no text"),
        ({"role": "user", "content": "Hi", "name": object()}, "prompt[0] has no JSON form"),
        ({"role": "user", "content": [{"type": "video"}]}, "prompt[0] has a part that cannot be read, of type 'video'"),
        ({"role": "user", "content": ["Hi"]}, "prompt[0] has a part that cannot be read, of type 'None'"),
        ({"role": "user", "content": [{"type": "text"}]}, "of type 'text'"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "of type 'image_url'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "of type 'input_audio'"),
        ({"role": "user", "content": [{"type": "file"}]}, "of type 'file'"),
        (
            {"role": "system", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
            "pass params={'cache_control_injection_points': [{'location': 'message', 'role': 'system'}]}",
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]}, "has a part with detail"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(given, said):
    with pytest.raises(ConfigurationError) as caught:
        messages_of([given])
    assert said in str(caught.value)
