"""The tool of the demo and the doctor: arithmetic, worked out without `eval`.

It stands alone, so that it is also an example of a tool: a function with types, a docstring, and errors that a model can act upon.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

_LENGTH = 500  # characters
_BITS = 4096  # of a result, about 1,200 digits

_Number = int | float


def _power(base: _Number, exponent: _Number) -> _Number:
    """Guarded before it is worked out: 9**9**9 would keep the machine busy for years."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise OverflowError
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[_Number, _Number], _Number]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[_Number], _Number]] = {
    ast.UAdd: lambda operand: +operand,
    ast.USub: lambda operand: -operand,
}


def calculate(expression: str) -> int | float:
    """Work out an arithmetic expression.

    Args:
        expression: numbers, parentheses and + - * / // % **, for example "15 * 23 + 47".
    """
    if len(expression) > _LENGTH:
        raise ValueError(f"the expression has {len(expression)} characters, and at most {_LENGTH} are read")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{expression!r} is not an arithmetic expression such as '15 * 23 + 47'") from None
    except OverflowError:
        raise ValueError(f"the result of {expression!r} is too large") from None
    except ZeroDivisionError:
        raise ValueError(f"{expression!r} divides by zero") from None


def _value(node: ast.expr) -> _Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _real(_BINARY[type(sign)](_value(left), _value(right)))
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is not arithmetic: use numbers, parentheses and + - * / // % **"
            )


def _real(value: object) -> _Number:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise OverflowError
    if not isinstance(value, int | float):
        raise ValueError("the result is not a real number")  # noqa: TRY004  the model's mistake, not a type's
    return value
