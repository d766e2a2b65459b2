"""The demo's tool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.cli.calculator import calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("15 * 23 + 47", 392),
        (" -(2 + 3) * +4 ", -20),
        ("7 / 2", 3.5),
        ("7 // 2 + 7 % 4", 6),
        ("2 ** 10", 1024),
        ("2 ** -1", 0.5),
        ("1.5e3", 1500.0),
    ],
)
def test_arithmetic_is_worked_out(expression: str, result: float) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("1 / 0", "'1 / 0' divides by zero"),
        ("9 ** 9 ** 9", "the result of '9 ** 9 ** 9' is too large"),
        ("2 ** 4000 * 2 ** 4000", "is too large"),
        ("1e308 * 10 ** 400", "is too large"),
        ("(-8) ** 0.5", "the result is not a real number"),
        (
            "__import__('os')",
            "\"__import__('os')\" is not arithmetic: use numbers, parentheses and + - * / // % **",
        ),
        ("True + 1", "'True' is not arithmetic"),
        ("2 +", "'2 +' is not an arithmetic expression such as '15 * 23 + 47'"),
        ("", "'' is not an arithmetic expression"),
        ("1+" * 300 + "1", "the expression has 601 characters, and at most 500 are read"),
    ],
)
def test_what_is_no_arithmetic_or_too_large_is_refused_with_the_reason(expression: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is looked at below
        calculate(expression)

    assert text in str(caught.value)


@given(st.text(alphabet="0123456789.+-*/%() eE_", max_size=40) | st.text(max_size=40))
def test_any_text_gives_a_number_or_a_reason(text: str) -> None:
    try:
        assert isinstance(calculate(text), int | float)
    except ValueError as error:
        assert str(error)  # noqa: PT017  either is fine
