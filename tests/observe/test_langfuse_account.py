"""Which Langfuse this process reports to: read from the environment, checked at once, and silent about its keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from looopy import ConfigurationError
from looopy.observe.langfuse import Account
from observe.langfuse_server import login

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1234", "LANGFUSE_SECRET_KEY": "sk-lf-5678"}
ACCOUNT = Account(public_key="pk-lf-1234", secret_key="sk-lf-5678")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PUBLIC_KEY",
        "SECRET_KEY",
        "BASE_URL",
        "HOST",
        "TRACING_ENVIRONMENT",
        "RELEASE",
        "SAMPLE_RATE",
        "TRACING_ENABLED",
    ):
        monkeypatch.delenv(f"LANGFUSE_{name}", raising=False)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_all(**variables: str) -> Account | None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Account.from_environment()

    return set_all


def test_two_keys_are_enough(environment: Any) -> None:
    account = environment(**KEYS)

    assert account == ACCOUNT
    assert account.endpoint == "https://cloud.langfuse.com/api/public/otel/v1/traces"
    assert login(account) == "pk-lf-1234:sk-lf-5678"
    assert account.headers["x-langfuse-ingestion-version"] == "4"


def test_every_variable_is_read(environment: Any) -> None:
    assert environment(
        **KEYS,
        LANGFUSE_BASE_URL=" https://langfuse.example.com/base/ ",
        LANGFUSE_TRACING_ENVIRONMENT="production",
        LANGFUSE_RELEASE="v1.2",
        LANGFUSE_SAMPLE_RATE="0.25",
    ) == replace(
        ACCOUNT,
        base_url="https://langfuse.example.com/base",
        environment="production",
        release="v1.2",
        sample_rate=0.25,
    )


def test_the_older_name_of_the_address_works_and_the_newer_wins(environment: Any) -> None:
    assert environment(**KEYS, LANGFUSE_HOST="http://old:3000").base_url == "http://old:3000"
    assert environment(LANGFUSE_BASE_URL="http://new:3000").base_url == "http://new:3000"


def test_without_keys_or_when_switched_off_there_is_no_account(environment: Any) -> None:
    assert environment(LANGFUSE_BASE_URL="http://localhost:3000") is None
    assert environment(**KEYS, LANGFUSE_TRACING_ENABLED="False") is None


@pytest.mark.parametrize(
    ("variables", "argument", "text"),
    [
        (
            {"LANGFUSE_SECRET_KEY": ""},
            "LANGFUSE_SECRET_KEY",
            "LANGFUSE_PUBLIC_KEY is set and LANGFUSE_SECRET_KEY is not: Langfuse needs both keys",
        ),
        (
            {"LANGFUSE_PUBLIC_KEY": ""},
            "LANGFUSE_PUBLIC_KEY",
            "LANGFUSE_SECRET_KEY is set and LANGFUSE_PUBLIC_KEY is not: Langfuse needs both keys",
        ),
        (
            {"LANGFUSE_PUBLIC_KEY": "sk-lf-5678", "LANGFUSE_SECRET_KEY": "pk-lf-1234"},
            "LANGFUSE_PUBLIC_KEY",
            "begins with 'sk-lf-': the one that begins with 'pk-lf-' belongs there, so swap the two",
        ),
        ({"LANGFUSE_SECRET_KEY": "pk-lf-1234"}, "LANGFUSE_SECRET_KEY", "begins with 'pk-lf-'"),
        ({"LANGFUSE_PUBLIC_KEY": "pk-lf-1:2"}, "LANGFUSE_PUBLIC_KEY", "a colon"),
        ({"LANGFUSE_SECRET_KEY": "sk-lf-1 2"}, "LANGFUSE_SECRET_KEY", "was it copied whole?"),
        (
            {"LANGFUSE_TRACING_ENVIRONMENT": "Prod!"},
            "LANGFUSE_TRACING_ENVIRONMENT",
            "is 'Prod!', and Langfuse would file it under 'default'",
        ),
        (
            {"LANGFUSE_TRACING_ENVIRONMENT": "langfuse-x"},
            "LANGFUSE_TRACING_ENVIRONMENT",
            "not beginning with 'langfuse'",
        ),
        ({"LANGFUSE_SAMPLE_RATE": "1.5"}, "LANGFUSE_SAMPLE_RATE", "is 1.5: it is a number from 0"),
        ({"LANGFUSE_SAMPLE_RATE": "half"}, "LANGFUSE_SAMPLE_RATE", "is 'half': it is a number from 0"),
        ({"LANGFUSE_SAMPLE_RATE": "nan"}, "LANGFUSE_SAMPLE_RATE", "is nan: it is a number from 0"),
        (
            {"LANGFUSE_BASE_URL": "https://cloud.langfuse.com/project/abc/traces?page=1"},
            "LANGFUSE_BASE_URL",
            "is 'https://cloud.langfuse.com/project/abc/traces?…': that is one of its pages; the server's address is 'https://cloud.langfuse.com'",
        ),
        (
            {"LANGFUSE_BASE_URL": "http://localhost:3000/base/api/public/otel/v1/traces"},
            "LANGFUSE_BASE_URL",
            "the server's address is 'http://localhost:3000/base'",
        ),
        (
            {"LANGFUSE_BASE_URL": "https://us.cloud.langfuse.com?x"},
            "LANGFUSE_BASE_URL",
            "'https://us.cloud.langfuse.com'",
        ),
        (
            {"LANGFUSE_BASE_URL": "cloud.langfuse.com"},
            "LANGFUSE_BASE_URL",
            "it needs http:// or https:// before it",
        ),
        (
            {"LANGFUSE_BASE_URL": "localhost:3000"},
            "LANGFUSE_BASE_URL",
            "it needs http:// or https:// before it",
        ),
        ({"LANGFUSE_BASE_URL": "http://"}, "LANGFUSE_BASE_URL", "that is no URL"),
        ({"LANGFUSE_BASE_URL": "http://host:port"}, "LANGFUSE_BASE_URL", "that is no URL"),
        ({"LANGFUSE_BASE_URL": "http://a b"}, "LANGFUSE_BASE_URL", "that is no URL"),
        (
            {"LANGFUSE_BASE_URL": "http://pk:sk-lf-99@host"},
            "LANGFUSE_BASE_URL",
            "'http://***@host': leave out what is before the '@'",
        ),
    ],
)
def test_what_cannot_work_is_said_with_the_mend(
    environment: Any, variables: dict[str, str], argument: str, text: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        environment(**{**KEYS, **variables})

    assert text in str(caught.value)
    assert caught.value.argument == argument
    assert not any(secret in str(caught.value) for secret in ("1234", "5678", "sk-lf-99"))


def test_an_account_without_any_key_cannot_be_made() -> None:
    with pytest.raises(ConfigurationError, match="LANGFUSE_PUBLIC_KEY is empty"):
        Account(public_key="", secret_key="")


def test_no_key_is_in_its_repr_or_in_a_text_that_it_hides() -> None:
    assert repr(ACCOUNT) == (
        "Account(base_url='https://cloud.langfuse.com', environment='', release='', sample_rate=1.0)"
    )
    assert ACCOUNT.hide("keys pk-lf-1234 and sk-lf-5678") == "keys *** and ***"


@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 1])
def test_a_trace_is_sampled_as_opentelemetry_would_so_that_both_together_lose_none_twice(rate: float) -> None:
    sampler, account = TraceIdRatioBased(rate), replace(ACCOUNT, sample_rate=rate)
    for trace_id in (1, 2**62, 2**63, 2**63 - 1, 2**64 - 1, 2**127 + 2**60, 2**128 - 1):
        decision = sampler.should_sample(None, trace_id, "x").decision
        assert account.samples(trace_id) == (decision is Decision.RECORD_AND_SAMPLE)


def test_environment_and_release_are_added_where_a_span_does_not_say_its_own() -> None:
    account = replace(ACCOUNT, environment="production", release="v1")

    assert account.rewrite({"a": 1}) == {
        "a": 1,
        "langfuse.environment": "production",
        "langfuse.release": "v1",
    }
    own = {"langfuse.environment": "sdk-experiment", "langfuse.release": "v2"}
    assert account.rewrite(own) is own
    assert ACCOUNT.rewrite(own) is own


def test_what_cost_nothing_is_not_priced_by_langfuse() -> None:
    free = ACCOUNT.rewrite({"gen_ai.usage.cost": 0.0})
    assert free == {"gen_ai.usage.cost": 0.0, "langfuse.observation.cost_details": '{"total":0}'}
    assert ACCOUNT.rewrite(priced := {"gen_ai.usage.cost": 0.25}) is priced
