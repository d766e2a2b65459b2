"""What a proxy says instead of an answer becomes one typed error that names the URL, the model, the origin of both, and the mend."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from providers.replay import CHAT, DONE, HI, URL, Reply, Wire, chunk, heard, sse

from looopy.errors import (
    AuthenticationFailed,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    ProxyUnreachable,
    StreamBroken,
    UnknownModel,
    UnsupportedParameter,
)

KEY = "sk-0123456789abcdef"


def refused(
    status: int, body: object = b"", headers: dict[str, str] | None = None, **settings: Any
) -> ModelError:
    """The error of a call that is refused so; a look at the models is answered with three names."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    models = {"data": [{"id": "gpt-4o"}, {"id": "claude-s"}, {"id": 7}, None, {"id": "gpt-5"}]}
    wire = Wire(Reply([content], status, headers or {}), Reply([json.dumps(models).encode()]))
    with pytest.raises(ModelError) as caught:
        wire.ask(**settings)
    assert caught.value.status == status
    assert caught.value.call_id == "call-1"
    assert (caught.value.url, caught.value.model) == (CHAT, settings.get("model", "gpt-4o"))
    assert caught.value.__cause__ is None
    assert wire.bodies[0].closed
    return caught.value


def says(message: object, **fields: object) -> dict[str, Any]:
    """An error's body as LiteLLM writes it."""
    return {"error": {"message": message, "type": None, "param": None, "code": "400", **fields}}


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "litellm.BadRequestError: OpenAIException - bad", ModelRejected),
        (401, "litellm.AuthenticationError: no", AuthenticationFailed),
        (403, "litellm.NotFoundError: not yours", AuthenticationFailed),
        (404, "litellm.NotFoundError: no such model", UnknownModel),
        (408, "litellm.Timeout: late", ModelTimeout),
        (409, "conflict", ModelRejected),
        (413, "litellm.BadRequestError: large", ModelRejected),
        (422, "litellm.BadRequestError: odd", ModelRejected),
        (429, "litellm.RateLimitError: slow down", ModelOverloaded),
        (500, "litellm.InternalServerError: Connection error.", ModelFailed),
        (502, "litellm.BadGatewayError: gone", ModelFailed),
        (503, "litellm.ServiceUnavailableError: busy", ModelOverloaded),
        (504, "gateway", ModelFailed),
        (529, "litellm.APIError: overloaded", ModelOverloaded),
        (400, "litellm.ContextWindowExceededError: prompt is too long", ContextTooLong),
        (400, "litellm.ContentPolicyViolationError: no", ContentRefused),
        (400, "The response was filtered due to Azure's content management policy", ContentRefused),
        (400, "litellm.UnsupportedParamsError: openai does not", UnsupportedParameter),
        (400, "litellm.BadRequestError: There are no healthy deployments for this model", UnknownModel),
        (400, "chat_completions: Invalid model name passed in model=x", UnknownModel),
    ],
)
def test_the_status_decides_and_the_name_in_the_message_refines(
    status: int, message: str, kind: type[ModelError]
):
    error = refused(status, says(message))
    assert type(error) is kind
    assert message in str(error)
    assert "LiteLLM API error" in str(error)


def test_an_error_in_full():
    assert str(
        refused(413, says("litellm.BadRequestError: too large\n\nLiteLLM: model group 'x' failed with …"))
    ) == (
        f"LiteLLM API error: HTTP 413 from {CHAT} for model 'gpt-4o': litellm.BadRequestError: too large\n"
        "  The request itself is refused: sending it again does not help."
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"Internal Server Error", "Internal Server Error"),
        (
            b"<html><head><title>502 Bad Gateway</title></head><body><hr>nginx</body></html>",
            "502 Bad Gateway nginx",
        ),
        (b"", "no text"),
        (b"\xff\xfe", "��"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "Field required"}, "x"]},
            "Field required ['body', 'model']; x",
        ),
        ({"message": "plain"}, "plain"),
        ({"error": "text"}, "text"),
        ({"error": {"error": "inner"}}, "inner"),
        ({"error": {"odd": 1}}, '{"odd":1}'),
        ({"error": 7}, "7"),
        ([1], "[1]"),
    ],
)
def test_any_body_of_an_error_is_understood(body: object, text: str):
    error = refused(500, body)
    assert f"for model 'gpt-4o': {text}\n" in str(error)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert error.body == content.decode("utf-8", "replace")


def test_an_error_whose_body_breaks_off_is_still_an_error():
    with pytest.raises(ModelFailed, match="HTTP 500"):
        Wire(Reply([b"half", httpx.ReadError("reset")], 500)).ask()


# ------------------------------------------------------------------------------------------------------- the mend


def test_a_wrong_key_says_where_the_key_came_from():
    mend = "The key came from api_key; is it one for this proxy and this model?"
    # Without a database LiteLLM answers a wrong key with 400.
    for status, body in ((401, says("no")), (400, says("No connected db.", type="no_db_connection"))):
        error = refused(status, body)
        assert type(error) is AuthenticationFailed
        assert str(error).endswith(mend)


def test_a_missing_key_is_asked_for():
    ask = "No API key was sent: set LITELLM_API_KEY, or pass the argument api_key."
    assert str(refused(401, says("no"), api_key=None)).endswith(ask)
    # LiteLLM 1.106 answers a request without a key with a bare 500.
    assert str(refused(500, b"Internal Server Error", api_key=None)).endswith(ask)
    assert ask not in str(refused(500, b"Internal Server Error"))


def test_an_unknown_model_says_which_there_are():
    error = refused(400, says("litellm.BadRequestError: no healthy deployments"), model="gpt-4p")
    assert isinstance(error, UnknownModel)
    assert error.offered == ("gpt-4o", "claude-s", "gpt-5")
    assert str(error) == (
        "LiteLLM API error: the proxy at http://localhost:4000 has no model 'gpt-4p' (HTTP 400). "
        "It offers: gpt-4o, claude-s, gpt-5. Did you mean 'gpt-4o'?\n"
        "  It said: litellm.BadRequestError: no healthy deployments\n  The address came from base_url."
    )


@pytest.mark.parametrize(
    ("listed", "mend"),
    [
        ([Reply(status=500)], "To see what it offers: curl http://localhost:4000/v1/models\n"),
        ([Reply([b"no JSON"])], "To see what it offers: curl http://localhost:4000/v1/models\n"),
        ([Reply([b'{"data": []}'])], "To see what it offers: curl http://localhost:4000/v1/models\n"),
        ([3_600.0], "To see what it offers: curl http://localhost:4000/v1/models\n"),
        (
            [Reply([json.dumps({"data": [{"id": f"m{number}"} for number in range(13)]}).encode()])],
            "It offers: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 3 more.\n",
        ),
    ],
)
def test_the_look_at_the_models_is_bounded_and_may_fail(listed: list[Any], mend: str):
    with pytest.raises(UnknownModel) as caught:
        Wire(Reply([json.dumps(says("")).encode()], 404), *listed).ask()
    assert mend in str(caught.value)


def test_a_404_that_is_no_models_answer_is_about_the_address():
    error = refused(404, {"detail": "Not Found"})
    assert type(error) is ModelRejected
    assert str(error).endswith(
        "There are no chat completions at this address; is it that of a LiteLLM proxy? The address came from base_url."
    )


def test_a_redirect_is_not_followed():
    assert "is it that of a LiteLLM proxy?" in str(refused(307, b"", {"location": "https://elsewhere/"}))


@pytest.mark.parametrize(
    ("message", "fields", "names"),
    [
        ("litellm.UnsupportedParamsError: openai does not support parameters: ['top_p', 'n'], for model=x", {}, ("top_p", "n")),
        ("litellm.UnsupportedParamsError: gpt-5 does not support parameters: {'top_p': 0.5, 'n': 'x'}", {}, ("top_p", "n")),
        ("litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.7.", {}, ("temperature",)),
        ("Unsupported parameter: 'n'", {"param": "n", "code": "unsupported_parameter"}, ("n",)),
        ("litellm.UnsupportedParamsError: no", {}, ()),
    ],
)  # fmt: skip
def test_an_unsupported_parameter_is_named(message: str, fields: dict[str, str], names: tuple[str, ...]):
    error = refused(400, says(message, **fields))
    assert isinstance(error, UnsupportedParameter)
    assert error.parameters == names


def test_an_upstreams_timeout_is_a_timeout():
    error = refused(
        408, says("litellm.Timeout: late", type="invalid_request_error"), {"x-litellm-timeout": "30.0"}
    )
    assert isinstance(error, ModelTimeout)
    assert (error.clock, error.seconds, error.retryable) == ("call", 30.0, True)
    assert "timeout" in str(error)


# --------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "2"}, "", 2.0),
        ({"llm_provider-retry-after": "2.5"}, "", 2.5),
        ({"retry-after": "soon", "llm_provider-retry-after": "6m0s"}, "", 360.0),
        ({}, "No deployments available for selected model, Try again in 5 seconds. Passed", 5.0),
        ({}, "Please try again in 20ms.", 0.02),
        ({}, "retry after 2m", 120.0),
        ({"x-ratelimit-reset-requests": "1.5s", "x-ratelimit-remaining-requests": "0"}, "", 1.5),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "2m"}, "", 120.0),
        ({"x-ratelimit-reset-tokens": "2m", "x-ratelimit-remaining-tokens": "17"}, "", None),
        ({"retry-after": "-1"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", 0.0),
        ({}, "", None),
    ],
)
def test_how_long_to_wait_is_read_wherever_it_stands(
    headers: dict[str, str], message: str, seconds: float | None
):
    error = refused(429, says(message), headers)
    assert error.retry_after == seconds
    assert str(error).endswith(
        "Wait and try again." if seconds is None else f"Wait {seconds:g} s and try again."
    )


def test_a_date_to_wait_for_becomes_seconds():
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3_500 < (refused(503, b"", {"retry-after": date}).retry_after or 0) <= 3_600


def test_a_quota_that_is_spent_is_not_tried_again():
    assert refused(429, says("litellm.RateLimitError: slow down")).retryable
    assert not refused(429, says("litellm.RateLimitError: insufficient_quota")).retryable


# -------------------------------------------------------------------------------------------------- no connection


@pytest.mark.parametrize("broken", [httpx.ConnectError("connection refused"), httpx.ReadError("reset")])
def test_a_proxy_that_cannot_be_reached(broken: Exception):
    with pytest.raises(ProxyUnreachable) as caught:
        Wire(broken).ask()
    text = str(caught.value)
    assert text.startswith(f"LiteLLM API error: could not connect to {CHAT} (")
    assert text.endswith(
        f").\n  Is the proxy running? Try: curl {URL}/health/liveliness\n"
        "  To start one: looopy proxy --model gpt-4o\n  The address came from base_url."
    )
    assert caught.value.retryable


def test_the_variable_that_named_the_address_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LITELLM_URL", URL)
    with pytest.raises(ProxyUnreachable, match=r"The address came from LITELLM_URL\."):
        Wire(httpx.ConnectError("refused")).ask(base_url=None)


def test_a_connection_that_does_not_come_about_in_time():
    with pytest.raises(ModelTimeout) as caught:
        Wire(httpx.ConnectTimeout("late")).ask()
    assert str(caught.value) == (
        f"LiteLLM request timeout after 5 s (connect): no connection to {CHAT} was there.\n"
        f"  Is the proxy running? Try: curl {URL}/health/liveliness\n  The address came from base_url."
    )
    assert (caught.value.clock, caught.value.seconds, caught.value.call_id != "") == ("connect", 5.0, True)


# ------------------------------------------------------------------------------------------------- inside a stream


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (
            {"message": "litellm.RateLimitError: slow", "type": "throttling_error", "code": "429"},
            ModelOverloaded,
            429,
        ),
        ({"message": "no", "type": "rate_limit_error", "code": None}, ModelOverloaded, 429),
        ({"message": "no", "type": "overloaded_error"}, ModelOverloaded, 529),
        ({"message": "no", "type": "authentication_error"}, AuthenticationFailed, 401),
        ({"message": "no", "type": "None", "code": "timeout"}, ModelTimeout, 408),
        ({"message": "litellm.ContextWindowExceededError: no", "code": 400}, ContextTooLong, 400),
        ({"message": "no", "code": 999}, ModelFailed, 500),
        ({"message": "no"}, ModelFailed, 500),
        ("no", ModelFailed, 500),
        (["no"], ModelFailed, 500),
    ],
)
def test_an_error_before_anything_else_is_typed_by_its_code(
    error: object, kind: type[ModelError], status: int
):
    stream = sse(chunk(role="assistant", content=""), {"error": error, "choices": []}, chunk("stop")) + DONE
    with pytest.raises(ModelError) as caught:
        heard(stream)
    assert (type(caught.value), caught.value.status) == (kind, status)
    assert f"error {status} in the stream from {CHAT}" in str(caught.value)


@pytest.mark.parametrize(
    "event",
    [
        sse({"error": {"message": "the upstream broke", "code": "500"}}) + DONE,
        sse({"error": "the upstream broke"}),
        sse({"error": "the upstream broke", "choices": [{"delta": {"content": "x"}}]}),
        sse({"error": {"message": "the upstream broke\n\nLiteLLM: model group x failed"}} | chunk("error"))
        + DONE,
        b"event: error\n" + sse({"message": "the upstream broke"}),
        b"event: error\n" + sse({"error": {"message": "the upstream broke"}}),
        sse({"object": "error", "message": "the upstream broke"}),
        sse({"type": "error", "error": {"message": "the upstream broke"}}),
        sse({"detail": "the upstream broke"}),
    ],
)
def test_an_error_in_mid_stream_breaks_the_answer(event: bytes):
    with pytest.raises(StreamBroken) as caught:
        heard(sse(chunk(content="a")) + event)
    assert caught.value.events_seen == 1
    assert str(caught.value).endswith("broke off after 1 event: the upstream broke.")
    assert caught.value.body == "the upstream broke"


def test_an_event_that_is_named_error_and_says_nothing_is_one_too():
    with pytest.raises(ModelFailed, match="did not say what is wrong"):
        heard(b"event: error\ndata: null\n\n")


def test_a_chunk_that_is_no_json_breaks_the_answer():
    with pytest.raises(StreamBroken, match=r"a chunk is not JSON: \{oops"):
        heard(sse(chunk(content="a")) + b"data: {oops\n\n")
    with pytest.raises(ModelFailed, match=r"a chunk is not JSON: \{oops"):
        heard(b"data: {oops\n\n")
    with pytest.raises(ModelFailed, match="a chunk is not JSON"):
        heard(b"data: " + b"[" * 100_000 + b"\n\n")


def test_an_error_where_a_completion_was_due_is_typed():
    with pytest.raises(ModelFailed, match=r"error 500 in the stream from .*: odd"):
        heard(b'{"error": {"message": "odd"}}')


# -------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_no_error_shows_the_key(status: int):
    error = refused(status, says(f"Incorrect API key provided: {KEY}. litellm Bearer {KEY}", echo=KEY))
    assert KEY not in f"{error} {error!r} {error.body} {vars(error)}"


def test_no_error_in_a_stream_or_instead_of_one_shows_the_key():
    for stream in (
        sse({"error": f"key {KEY}"}),
        sse(chunk(content="a"), {"error": f"key {KEY}"}),
        f"what is {KEY}?".encode(),
    ):
        with pytest.raises(ModelError) as caught:
            heard(stream)
        assert KEY not in f"{caught.value} {vars(caught.value)}"
    with pytest.raises(ModelError) as caught:
        Wire(httpx.ConnectError(f"with {KEY}")).ask()
    assert KEY not in str(caught.value)


@settings(max_examples=150)
@given(
    st.integers(201, 599),
    st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "detail", "param", "loc", "msg"]), inner, max_size=4)),
    st.dictionaries(
        st.sampled_from(["retry-after", "llm_provider-retry-after", "x-ratelimit-reset-tokens", "x-litellm-timeout"]),
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12), max_size=2),
)  # fmt: skip
def test_any_refusal_is_a_typed_error(status: int, body: object, headers: dict[str, str]):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ModelError) as caught:
        Wire(Reply([content], status, headers), Reply([b"{}"])).ask(HI)
    assert caught.value.status == status
