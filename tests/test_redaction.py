"""What no text may show is hidden, and ordinary words stay."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from looopy import LiteLLMLibraryProvider, LiteLLMProvider, redaction
from looopy.redaction import keep_secret, redact


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


def test_redact_hides_the_key_of_a_provider_and_the_whole_of_one_that_begins_like_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "litellm", ModuleType("litellm"))
    LiteLLMProvider("http://proxy:4000", "m", api_key="sk-0123456789ab")
    LiteLLMLibraryProvider("openai/m", api_key="house key 88")
    text = "own sk-0123456789ab and house key 88, other sk-0123456789abcdef0123, word sk-0123456789"
    assert redact(text) == "own *** and ***, other ***, word sk-0123456789"


def test_of_many_keys_the_newest_are_hidden() -> None:
    for number in range(100, 200):
        keep_secret(f"tenant-{number}")
    assert redact("tenant-100 tenant-135 tenant-136 tenant-199") == "tenant-100 tenant-135 *** ***"
    keep_secret("no-digits-in-it")
    assert redact("no-digits-in-it") == "no-digits-in-it"


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
    whole_pattern = redaction._SECRET
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
