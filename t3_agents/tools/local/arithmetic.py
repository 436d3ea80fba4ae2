"""Arithmetic from text: an expression is read as a syntax tree and only what is listed here is computed."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from t3_agents.errors import InputError
from t3_agents.turns import parse_python


MAX_CHARS = 1000
MAX_BITS = 10_000
"""Size of a whole number, about 3,000 digits."""


def _limited(function: Callable, most: int) -> Callable:
    """A function that refuses a first number above a limit, where it would take long."""

    def checked(number: Any, *others: Any) -> int:
        if number > most:
            raise InputError(f"`{function.__name__}` takes whole numbers up to {most}.")
        return function(number, *others)

    return checked


def _power(base: Any, exponent: Any) -> Any:
    """Power whose size is known before it is computed."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        if base.bit_length() * exponent > MAX_BITS:
            raise InputError("The power is too large: use floats (2.0 ** 100) or smaller numbers.")
    result = base**exponent
    if isinstance(result, complex):
        raise InputError("The root of a negative number is no real number.")
    return result


_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

# Functions of `math` on one or two floats cannot take long.
_MATH = (
    "acos asin atan atan2 ceil copysign cos cosh degrees dist erf exp fabs floor fmod fsum gcd hypot isqrt lcm log "
    "log10 log1p log2 prod radians sin sinh sqrt tan tanh trunc"
).split()
FUNCTIONS: dict[str, Callable] = {
    **{name: getattr(math, name) for name in _MATH},
    **{"abs": abs, "round": round, "min": min, "max": max, "sum": sum, "int": int, "float": float, "len": len},
    **{"factorial": _limited(math.factorial, 1000), "comb": _limited(math.comb, 10_000)},
    **{"perm": _limited(math.perm, 1000), "pow": _power},
}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf}


def calculate(expression: str) -> Any:
    """Value of a Python expression of numbers, `+ - * / // % **`, comparisons, and functions of `math`.

    Args:
        expression (`str`): for example `round(sqrt(2) * 100, 2)`; `math.sqrt` works too. At most 1,000 characters.

    Raises:
        InputError: when it is no such expression, or its value cannot be computed; the message says why.
    """
    if not isinstance(expression, str) or not expression.strip() or len(expression) > MAX_CHARS:
        raise InputError(f"`expression` must be one Python expression of up to {MAX_CHARS} characters.")
    try:
        tree = parse_python(expression.strip(), "eval")
        return _value(tree.body)
    except (SyntaxError, RecursionError, MemoryError):
        raise InputError(
            f"`{expression[:100]}` is no Python expression; assignments and imports are not allowed."
        ) from None
    except InputError:
        raise
    except (ArithmeticError, ValueError, TypeError) as error:
        raise InputError(f"`{expression[:100]}` cannot be computed: {error}.") from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="math"), attr=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_number(operand))
        case ast.BinOp(left, op, right) | ast.Compare(left, [op], [right]) if type(op) in _OPERATORS:
            return _checked(_OPERATORS[type(op)](_number(left), _number(right)))
        case ast.Call(ast.Name(name) | ast.Attribute(ast.Name("math"), name), arguments, []) if name in FUNCTIONS:
            return _checked(FUNCTIONS[name](*map(_value, arguments)))
    raise InputError(
        f"`{ast.unparse(node)[:80]}` is not allowed: use numbers, + - * / // % **, and functions of math."
    )


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if isinstance(value, list):
        raise InputError("A list can only be handed to sum, min, max, prod, fsum, dist or len.")
    return value


def _checked(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InputError("The number is too large: use floats (2.0 ** 100) or smaller numbers.")
    return value
