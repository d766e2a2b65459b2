"""The exceptions: what they say, what they carry, and that no credential is in them."""

from __future__ import annotations

import copy
import pickle
import re
from inspect import isclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from looopy import LiteLLMProvider, errors
from looopy.errors import (
    BudgetExceeded,
    BufferOverflow,
    ConfigurationError,
    ExtractionFailed,
    LangfuseFailed,
    LimitExceeded,
    LooopyError,
    MissingExtra,
    ModelError,
    ModelOverloaded,
    ModelTimeout,
    NotResumable,
    OutputInvalid,
    StateConflict,
    StoreFailed,
    StreamBroken,
    TaskCanceled,
    ToolFailed,
    ToolSchemaError,
    UnknownEvent,
    UnknownModel,
    UnsupportedParameter,
    WrongThread,
    redact,
)
from looopy.events import InputRequired
from looopy.ports import InputNeeded

EXAMPLES: list[LooopyError] = [
    ConfigurationError("m", argument="base_url"),
    ToolSchemaError("m", tool="add", parameter="a"),
    MissingExtra("looopy.serve", needs="starlette", extra="serve"),
    WrongThread("m", argument="loop"),
    ModelError("m", model="x", url="u", status=418, call_id="c", body="b", retry_after=1.5),
    *(
        getattr(errors, name)("m", model="x", url="u", status=500, call_id="c", body="b", retry_after=2.0)
        for name in (
            "ProxyUnreachable",
            "AuthenticationFailed",
            "ModelRejected",
            "ContextTooLong",
            "ContentRefused",
            "NoEmbeddings",
            "ModelOverloaded",
            "ModelFailed",
        )
    ),
    ModelTimeout("m", clock="call", seconds=3.0, model="x", url="u", status=408),
    UnknownModel("m", model="x", url="u", status=404, offered=["a", "b"], body="b"),
    UnsupportedParameter("m", parameters=["seed"], model="x", url="u", status=400, call_id="c", body="b"),
    StreamBroken("m", events_seen=3, model="x", url="u", status=200, call_id="c", body="b"),
    LimitExceeded("m", limit="tokens", allowed=10, spent=12),
    BudgetExceeded("m", limit="cost", allowed=0.5, spent=0.51, unit="USD"),
    OutputInvalid("m", problem="p", text="t", answers=3),
    ExtractionFailed("m", text="t", mend="look"),
    ToolFailed("m", tool="add", call_id="c"),
    TaskCanceled("m", reason="why"),
    BufferOverflow("m", size=8),
    StoreFailed("m", store="Disk"),
    StateConflict(task_id="t", expected=3, found=5),
    LangfuseFailed("m", status=401),
    NotResumable("m", task_id="t", state="failed"),
    UnknownEvent("m", kind="task"),
    InputNeeded(InputRequired(input_id="i", prompt="sure?")),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying_whole(error: LooopyError) -> None:
    """A TimeoutError is an OSError, whose message was lost on the way."""
    error.result = "partial"
    error.add_note("a note")

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.retryable == error.retryable


def test_the_drawn_tree_has_every_error_with_attributes_that_it_has() -> None:
    here = {name for name, value in vars(errors).items() if isclass(value) and issubclass(value, LooopyError)}
    drawn = dict(re.findall(r"^[│ ]*[├└]── (\w+) +(.*)$", errors.__doc__ or "", re.MULTILINE))

    assert drawn.keys() == here - {"LooopyError"}
    assert {type(error).__name__ for error in EXAMPLES} == drawn.keys() | {"InputNeeded"}
    for error in EXAMPLES:
        said = re.findall(r"\.(\w+)", drawn.get(type(error).__name__, ""))
        assert [name for name in said if not hasattr(error, name)] == []


def test_an_error_says_whether_the_same_call_may_succeed_later() -> None:
    retryable = {type(error).__name__ for error in EXAMPLES if error.retryable}

    assert retryable == {
        "ProxyUnreachable",
        "ModelTimeout",
        "ModelOverloaded",
        "ModelFailed",
        "StreamBroken",
        "StoreFailed",
    }


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigurationError("m"), ValueError),
        (MissingExtra("a", needs="b", extra="c"), ImportError),
        (WrongThread("m"), RuntimeError),
        (ModelTimeout("m", clock="call", seconds=1), TimeoutError),
        (UnknownEvent("m"), ValueError),
    ],
)
def test_an_error_is_also_the_builtin_that_one_would_catch(
    error: LooopyError, builtin: type[Exception]
) -> None:
    assert isinstance(error, builtin)


def test_a_missing_extra_holds_the_line_that_installs_it() -> None:
    error = MissingExtra("looopy.serve", needs="starlette", extra="serve")

    assert str(error) == "looopy.serve needs starlette: pip install 'looopy[serve]'"
    assert (error.extra, error.argument) == ("serve", "serve")


def test_a_schema_error_names_the_parameter_or_the_tool() -> None:
    assert ToolSchemaError("m", tool="add", parameter="a").argument == "a"
    assert ToolSchemaError("m", tool="add").argument == "add"


def test_a_server_may_say_how_long_to_wait() -> None:
    assert ModelOverloaded("m", retry_after=2.5).retry_after == 2.5
    assert ModelOverloaded("m").retry_after is None


@pytest.mark.parametrize(
    "error",
    [
        StoreFailed("no connection to postgresql://app:hunter22@db/tasks", store="Sql"),
        ToolFailed("401 for https://app:hunter22@host/", tool="fetch", call_id="c"),
    ],
)
def test_what_a_store_or_a_tool_says_is_passed_on_without_its_credentials(error: LooopyError) -> None:
    assert "hunter22" not in str(error) + repr(error)


# ---------------------------------------------------------------------------------------------------------------- redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sk-proj-abcdEFGH1234567890", "***"),
        ("key=sk-ant-api03-abcdefghijkl_mn.", "key=***."),
        ('{"a": "pk-lf-12345678-1234-1234-1234-123456789012"}', '{"a": "***"}'),
        ("sk_live_abcdefgh12345678", "***"),
        ("?key=AIzaSyA1234567890abcdefghijklmnopqrstu&alt=sse", "?key=***&alt=sse"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
        ("github_pat_11ABCDEFG0abcdefghij_kl", "***"),
        ("gsk_abcdefghijkl1234", "***"),
        ("xai-abcdefghijkl1234", "***"),
        ("xoxb-123456789012-abcdef", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization: bearer 0123456789==", "authorization: bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("x-api-key: a8s7d6f5", "x-api-key: ***"),
        ("OPENAI_API_KEY=a8s7d6f5", "OPENAI_API_KEY=***"),
        ("{'api_key': 'a8s7d6f5', 'b': 1}", "{'api_key': '***', 'b': 1}"),
        ("https://user:pa55@host/x", "https://***@host/x"),
        ("redis://:p@ss@host:6379/0", "redis://***@host:6379/0"),
        ("the job task-sk-1234567890abcdef", "the job task-***"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=***"),
        ("DB_PASSWORD='abc#12 3'", "DB_PASSWORD='*** 3'"),
        ("export LANGFUSE_SECRET_KEY=abc\nNEXT=1", "export LANGFUSE_SECRET_KEY=***\nNEXT=1"),
        ("Set-Cookie: session=abc123456; Path=/\nb", "Set-Cookie: ***\nb"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ", "***"),
    ],
)
def test_redact_hides_what_looks_like_a_credential(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "skip_existing_files_2024",
        "skateboarding-tournament-2024",
        "risk-management-consultancy",
        "task-skeleton-generation-12",
        "sk-learn-preprocessing-module",
        "pk_index_column_2024",
        "lf_monitoring_system_2",
        "the bearer of bad news",
        "Bearer token. Get one.",
        "no bearer token",
        "basic authentication is needed",
        "api_key: missing",
        "FOREIGN KEY (a) and TOKEN = 5, BYPASS_CACHE=1",
        "my favourite cookie: chocolate chip",
        "-----BEGIN CERTIFICATE-----\nMIIE",
        "mail me@host.org, see https://host/@me",
        "http://localhost:4000/v1?to=a@b",
        '{"url":"http://localhost:4000","mail":"me@host.org"}',
        "",
    ],
)
def test_redact_leaves_ordinary_words(text: str) -> None:
    assert redact(text) == text


def test_redact_hides_the_key_of_a_provider_and_the_whole_of_one_that_begins_like_it() -> None:
    LiteLLMProvider("http://proxy:4000", "m", api_key="sk-0123456789ab")
    text = "own sk-0123456789ab, other sk-0123456789abcdef0123, word sk-0123456789"
    assert redact(text) == "own ***, other ***, word sk-0123456789"


def test_redact_hides_the_longer_of_two_secrets_that_begin_alike() -> None:
    assert redact("abc abcdef", "abc", "", "abcdef") == "*** ***"


@given(before=st.text(), secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4))
def test_redact_never_leaves_a_given_secret(before: str, secret: str) -> None:
    assert secret not in redact(f"{before}{secret}{before}", secret)


BODY = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=20, max_size=60
).map(lambda text: f"{text}7")
SHAPES = [
    "sk-{}",
    "sk-ant-api03-{}",
    "pk-lf-{}",
    "sk-lf-{}",
    "sk-or-v1-{}",
    "sk_test_{}",
    "gsk_{}",
    "xai-{}",
    "hf_{}",
    "ghp_{}",
    "gho_{}",
    "glpat-{}",
    "xoxb-{}",
    "AIza{}",
    "Bearer {}",
    "Basic {}=",
    "api_key={}",
    "https://{}@host",
    "https://user:{}@host",
]


@given(shape=st.sampled_from(SHAPES), body=BODY, around=st.sampled_from(["", " ", '"', "'", "=", "\n", ";"]))
@example(shape="sk-{}", body="a" * 39 + "7", around=" ")
def test_redact_never_leaves_a_key_of_a_known_shape(shape: str, body: str, around: str) -> None:
    body = body[:20] + "7" + body[20:]  # real keys have a digit early
    shown = redact(f"{around}{shape.format(body)}{around}")

    assert body not in shown
    assert "***" in shown


PIECES = st.sampled_from((
    "SECRET", "TOKEN", "PASSWD", "PASSWORD", "PWD", "KEY", "CREDENTIAL", "S", "_", "Cookie:", "coo\u212aie: ", "-----BEGIN ", "PRIVATE KEY-----", "-----END ",
    "sk-", "sk_", "pk_live_", "rk_test_", "xai-", "gsk_", "hf_", "gho_", "github_pat_", "glpat-",
    "xoxb-", "AIza", "AKIA", "eyJ", "Bearer", "BASIC", "api_key", "apiKey", "api-", "ap\u0130key",
    "api\u212aey", "access_to", "acce\u017fs_token", "ken", "client_se", "cret", "://", ":", "=", "@",
    "/", "?", "a", "A1", "0123456789ABCDEF", "aaaaaaaaaaaaa", "Zz9", ".", "-", "_", "é", " ", "\n", "'",
    '"', "\ud83d"
))  # fmt: skip


@given(text=st.lists(PIECES, max_size=14).map("".join))
@example(text="api_key://ACCESS-TOKENeyJaaaa@ghp_api_key")
@example(text="api\u212aey=a1")
def test_redact_passes_over_no_place_where_its_pattern_fits(text: str) -> None:
    """It tries the pattern near certain signs only; each credential has one."""
    whole_pattern = errors._SECRET
    everywhere = whole_pattern.sub(
        lambda found: f"{found[found.lastgroup] if found.lastgroup else ''}***", text
    )

    assert redact(text) == everywhere


@given(text=st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "piece",
    [
        "sk-",
        "://",
        "bearer ",
        "eyJ",
        "eyJaaaaaaaa.",
        "api_key=",
        "sk_",
        "a",
        "AKIA",
        " ",
        "KEY",
        "KEY_=",
        "cookie:",
        "-----BEGIN ",
    ],
)
def test_redact_takes_time_in_proportion_to_the_text(piece: str) -> None:
    """It is given what strangers wrote; the test's own timeout is the bound: a quadratic pattern would take hours."""
    text = "bearer" + piece * (1_000_000 // len(piece))

    assert len(redact(text)) <= len(text) + 3
