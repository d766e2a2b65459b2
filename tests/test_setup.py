"""What a task is worked on with: limits are checked when they are set, and named when they strike."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from looopy.errors import ConfigurationError, LimitExceeded
from looopy.setup import Limits, exceeded

NAMES = [field.name for field in fields(Limits)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_limit_must_be_above_0(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match="a limit must be above 0; leave it out for none") as caught:
        Limits(**{name: value})

    assert caught.value.argument == name
    assert f"Limits({name}={value!r})" in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_may_be_none_or_any_positive_number(name: str) -> None:
    assert getattr(Limits(**{name: None}), name) is None
    assert getattr(Limits(**{name: 1e-9}), name) == 1e-9


def test_nothing_is_limited_by_default_but_failures_in_a_row() -> None:
    assert {name: getattr(Limits(), name) for name in NAMES if getattr(Limits(), name) is not None} == {
        "tool_failures": 10
    }


@pytest.mark.parametrize(
    ("limit", "allowed", "spent", "text"),
    [
        (
            "tokens",
            100,
            120,
            "run stopped by Limits.tokens=100: much; raise the limit, or go on from the partial result in error.result",
        ),
        (
            "run_seconds",
            0.5,
            0.5,
            "run stopped by Limits.run_seconds=0.5: much; raise the limit, or go on from the partial result in error.result",
        ),
        (
            "max_iterations",
            20,
            20,
            "run stopped by max_iterations=20: much; raise the limit, or go on from the partial result in error.result",
        ),
    ],
)
def test_a_limit_that_strikes_is_named_as_users_write_it(
    limit: str, allowed: float, spent: float, text: str
) -> None:
    error = exceeded(limit, allowed=allowed, spent=spent, what="much")

    assert isinstance(error, LimitExceeded)
    assert str(error) == text
    assert (error.limit, error.allowed, error.spent) == (limit, allowed, spent)
