"""No credential on a span, whatever stands around it; and the user's own redaction hook, good and bad."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.errors import ConfigurationError
from looopy.messages import DataPart, FilePart, Message, TextPart, ToolCall
from looopy.observe.content import Content, Where
from looopy.ports import ToolDefinition

KEY = "sk-proj-abcdEFGH1234567890"
NAMES = [
    "password", "db_passwd", "token", "refreshToken", "secret", "authorization", "Proxy-Authorization", "Set-Cookie",
    "aws_secret_access_key", "private_key", "privateKey", "credentials", "x-api-key", "api_keys", "cookies",
]  # fmt: skip
LONE = "\ud83d"  # half of an emoji


def everything(content: Content, secret: str) -> str:
    """All attributes of a run in which a text turns up everywhere."""
    transcript = content.transcript()
    call = ToolCall(id="c1", name="look", arguments={"at": secret, "in": [{"deep": secret}]})
    messages = (
        Message.system(secret),
        Message.user(
            (TextPart(secret), DataPart({"a": [secret]}), FilePart(url=f"s3://b/{secret}", name=secret))
        ),
        Message("assistant", secret, reasoning=secret, tool_calls=(call,)),
        Message.tool(secret, tool_call_id="c1"),
    )
    return "\n".join(
        (
            transcript.system_instructions(messages),
            transcript.input_messages(messages),
            transcript.output_messages(messages[2], "tool_calls"),
            transcript.arguments(call.arguments),
            transcript.result({"it": secret}),
            transcript.result(secret),
        )
    )


# ----------------------------------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize("hook", [None, lambda text, where: text])
@pytest.mark.parametrize("around", ["{}", "line\n{}\nline", '{{"key": "{}"}}', "{}" + "x y " * 10_000])
def test_a_credential_is_hidden_wherever_it_stands(hook: Any, around: str) -> None:
    shown = everything(Content(redact=hook), around.format(KEY))

    assert "abcdEFGH" not in shown
    assert "***" in shown


def test_a_credential_among_names_and_tools_is_hidden_too() -> None:
    transcript = Content().transcript()
    call = ToolCall(id=KEY, name=KEY, arguments={KEY: 1})
    tool = ToolDefinition(name="look", description=f"Uses {KEY}.")
    shown = transcript.output_messages(Message.assistant(tool_calls=(call,))) + transcript.tool_definitions(
        (tool,)
    )

    assert "abcdEFGH" not in shown


@pytest.mark.parametrize("before", range(40))
def test_a_text_is_cut_only_after_its_credentials_are_hidden(before: int) -> None:
    """Cut first, its begin would be too short to be taken for one."""
    text = "." * before + KEY + "." * 10_000
    shown = Content(max_chars=30).transcript().result(text)

    assert shown.startswith(("." * before + "***")[:30])
    assert "sk-" not in shown


@given(
    before=st.integers(0, 60),
    between=st.text(". \n", max_size=3),
    times=st.integers(1, 800),
    limit=st.integers(1, 9_000),
    after=st.integers(0, 9_000),
)
def test_no_part_of_a_credential_is_shown_wherever_the_cut_falls(
    before: int, between: str, times: int, limit: int, after: int
) -> None:
    text = "." * before + f"{KEY}.{between}" * times + " " * after
    shown = Content(max_chars=limit).transcript().result(text)

    assert "sk-" not in shown


@pytest.mark.parametrize("hook", [None, lambda text, where: text])
def test_what_stands_under_the_name_of_a_credential_is_hidden(hook: Any) -> None:
    given = {
        "api_key": "swordfish9",
        "openai_api_key": 1234,
        "Client-Secret": "swordfish9",
        "access_token": None,
        "api-key": "",
        "key": "swordfish9",
        "\n": 1,
    }
    assert json.loads(Content(redact=hook).transcript().arguments(given)) == {
        "api_key": "***",
        "openai_api_key": "***",
        "Client-Secret": "***",
        "access_token": None,
        "api-key": "",
        "key": "swordfish9",
        "\n": 1,
    }


@pytest.mark.parametrize("hook", [None, lambda text, where: text])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inner", ["swordfish9", 1234, ["swordfish9"], {"it": {"is": "swordfish9"}}])
def test_all_that_stands_under_a_name_that_json_gives_a_credential_is_hidden(
    hook: Any, name: str, inner: Any
) -> None:
    transcript = Content(redact=hook).transcript()
    given = {"of": [{name: inner, "user": "ada", "max_tokens": 5, "empty": {name: {}}}]}
    hidden = {"of": [{name: "***", "user": "ada", "max_tokens": 5, "empty": {name: {}}}]}

    assert json.loads(transcript.arguments(given)) == hidden
    assert json.loads(transcript.result(given)) == hidden
    assert json.loads(transcript.result(json.dumps(given))) == hidden


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            'It said {"password": "sword\\"fish9", "user": "ada"}.',
            'It said {"password": "***", "user": "ada"}.',
        ),
        ('{"user":"ada","token":"sword', '{"user":"ada","token":"***"'),
        ('{"password": ""} and "token": 5', '{"password": "***"} and "token": 5'),
        ('a "token" is no "word": "it"', 'a "token" is no "word": "it"'),
    ],
)
def test_a_text_with_json_in_it_shows_no_text_under_the_name_of_a_credential(said: str, shown: str) -> None:
    assert Content().transcript().result(said) == shown


def test_a_tool_may_have_a_parameter_of_such_a_name() -> None:
    properties = {"password": {"type": "string", "description": "It."}}
    tool = ToolDefinition(name="log_in", description="", parameters={"properties": properties})
    (shown,) = json.loads(Content().transcript().tool_definitions((tool,)))
    assert shown["parameters"] == {"properties": properties}


def test_a_long_text_in_json_is_cut_all_the_same() -> None:
    said = json.dumps({"token": "swordfish9", "text": "x" * 100})
    assert Content(max_chars=40).transcript().result(said) == (
        '{"token":"***","text":"xxxxxxxxxxxxxxxxx… [cut: 40 of 125 characters shown]'
    )


# -------------------------------------------------------------------------------------------------------------- the hook


def test_a_hook_is_given_each_text_and_whose_it_is() -> None:
    seen: list[tuple[str, Where]] = []

    def note(text: str, where: Where) -> str:
        seen.append((text, where))
        return "[hidden]"

    shown = everything(Content(redact=note), "Ann")

    assert "Ann" not in shown
    assert set(seen) == {
        ("Ann", "system"),
        ("Ann", "user"),
        ("s3://b/Ann", "user"),
        ("Ann", "assistant"),
        ("Ann", "reasoning"),
        ("Ann", "tool-arguments"),
        ("Ann", "tool-result"),
    }
    assert json.loads(shown.split("\n")[3]) == {"at": "[hidden]", "in": [{"deep": "[hidden]"}]}


def test_a_hook_sees_the_whole_text_and_what_it_returns_is_cut() -> None:
    content = Content(redact=lambda text, where: f"{len(text)} " * 10, max_chars=8)

    assert content.transcript().result("x" * 50_000) == "50000 50… [cut: 8 of 60 characters shown]"


def raises(text: str, where: Where) -> str:
    raise ValueError(f"cannot read {text!r}")


async def coroutine() -> str:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (raises, "raised ValueError"),
        (lambda text, where: None, "returned a NoneType, not a text"),
        (lambda text, where: coroutine(), "returned a coroutine, not a text"),
    ],
)
def test_a_hook_that_fails_drops_the_content_and_is_reported_once(
    hook: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        shown = everything(Content(redact=hook), "Ann")

    assert "Ann" not in shown
    assert json.loads(shown.split("\n")[0]) == [
        {"type": "text", "content": f"[content dropped: the redaction hook {why}]"}
    ]
    [record] = caplog.records
    assert record.name == "looopy.observe"
    assert why in record.getMessage()
    assert "Ann" not in caplog.text


def test_a_hook_that_fails_on_one_text_drops_that_one() -> None:
    def picky(text: str, where: Where) -> str:
        return text if where == "user" else raises(text, where)

    shown = Content(redact=picky).transcript().input_messages((Message.user("Hi"), Message.assistant("Ann")))

    assert [message["parts"][0]["content"] for message in json.loads(shown)] == [
        "Hi",
        "[content dropped: the redaction hook raised ValueError]",
    ]


def test_a_hook_that_is_an_object_is_named_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    class Anonymizer:
        def __call__(self, text: str, where: Where) -> str:
            raise KeyError(text)

    Content(redact=Anonymizer()).transcript().result("Ann")

    assert "the redaction hook Anonymizer raised KeyError" in caplog.text


def test_a_hook_must_not_be_a_coroutine_function() -> None:
    async def later(text: str, where: Where) -> str:
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match="redact must be a plain function") as caught:
        Content(redact=later)  # pyright: ignore[reportArgumentType]
    assert caught.value.argument == "redact"


# -------------------------------------------------------------------------------------------- what is not JSON, or hostile


class Odd:
    def __str__(self) -> str:
        return "an odd thing"


@pytest.mark.parametrize("hook", [None, lambda text, where: text])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), '"NaN"'),
        ([float("-inf"), 1.5], '["-Infinity",1.5]'),
        ((1, "a\n"), '[1,"a\\n"]'),
        ({1: Odd()}, '{"1":"an odd thing"}'),
        ({"a": LONE}, '{"a":"\N{REPLACEMENT CHARACTER}"}'),
        ({LONE: 1}, '{"\N{REPLACEMENT CHARACTER}":1}'),
        (b"hi\xff", '"aGn_"'),
    ],
)
def test_a_value_that_is_not_json_is_shown_as_text(hook: Any, value: object, shown: str) -> None:
    assert Content(redact=hook).transcript().result(value) == shown


def test_a_value_that_has_no_text_either_is_shown_by_its_type() -> None:
    loop: set[object] = set()
    value = {frozenset({LONE}): 1}

    assert json.loads(Content().transcript().result([value, loop])) == [
        {"[frozenset without a JSON form]": 1},
        [],
    ]


def test_half_an_emoji_becomes_a_sign_that_can_be_sent() -> None:
    shown = everything(Content(), f"a{LONE}b")

    assert "a\N{REPLACEMENT CHARACTER}b" in shown
    shown.encode()


def test_a_value_without_an_end_is_cut() -> None:
    loop: list[object] = []
    loop.extend([loop] * 10)
    shown = Content(redact=lambda text, where: text).transcript().result(loop)

    assert (
        Content().transcript().result(loop) == '["...","...","...","...","...","...","...","...","...","..."]'
    )
    assert "[cut: nested deeper than 180 levels]" in shown
    assert len(shown) < 40_000
    json.loads(shown)
