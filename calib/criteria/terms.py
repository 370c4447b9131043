"""Arithmetic of the parts of a criterion: a polars expression with its unit.

Every function takes `Term` and gives `Term`, or raises `TermError` with a message that the
caller completes with the position in the text. Units are converted by astropy, constants
rather than columns where there is a choice, so that columns are compared as they were read.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import astropy.units as u
import polars as pl

__all__ = [
    "Term",
    "TermError",
    "apply_function",
    "arithmetic",
    "bitwise",
    "column",
    "compare_terms",
    "constant",
    "describe_term",
    "power",
    "reduction",
    "sign",
    "unit_named",
]

Number = int | float
Operation = Callable[[Any, Any], Any]

#: What the kind of a column ends in that has a value for each telescope of the array.
ARRAY = "[]"
#: Enough for any formula; keeps written-out powers from growing without bound.
MAX_EXPONENT = 16
INT64_LIMIT = 2**63
PLAIN = u.dimensionless_unscaled

_ARITHMETIC: dict[type[ast.operator], Operation] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_BITWISE: dict[type[ast.operator], Operation] = {
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class TermError(ValueError):
    """An operation that has no meaning for its operands; the position is still unknown."""


class NoColumn(TermError):
    """A name that no column has."""


@dataclass(frozen=True)
class Term:
    """A part of a criterion.

    Attributes
    ----------
    expr : pl.Expr
        Its value: Boolean, Int64 or Float64.
    kind : {"bool", "int", "float"}
        Which of these.
    unit : astropy unit
        Unit of a number.
    floats : frozenset of str
        Columns of floating-point numbers it was computed from and that must be finite for
        a comparison with it to be known.
    constant : number, optional
        Its value, if it is written out in the text.
    is_column : bool
        Whether it is a column as such.
    """

    expr: pl.Expr
    kind: Literal["bool", "int", "float"]
    unit: Any = PLAIN
    floats: frozenset[str] = frozenset()
    constant: Number | None = None
    is_column: bool = False


def constant(value: Number, unit: Any = PLAIN) -> Term:  # noqa: ANN401  astropy is not typed
    """Make the term of a number, True or False in the text."""
    if isinstance(value, bool):
        return Term(pl.lit(value), "bool", constant=value)
    if isinstance(value, int) and abs(value) >= INT64_LIMIT:
        value = _computed(operator.truediv, value, 1)
    if isinstance(value, complex) or not math.isfinite(value):
        raise TermError("the value is not a finite real number")
    kind: Literal["int", "float"] = "int" if isinstance(value, int) else "float"
    return Term(pl.lit(value), kind, unit, constant=value)


def column(name: str, kind: str) -> Term:
    """Make the term of a column of a kind: "bool", "int" or the text of a unit."""
    expr = pl.col(name)
    if kind.endswith(ARRAY):
        raise TermError(
            f"{name} has a value for each telescope of the array: count them, for example by "
            f"np.count_nonzero({name}, axis=1)"
        )
    if kind == "bool":
        return Term(expr, "bool")
    if kind == "int":  # widths vary from table to table; Int64 keeps arithmetic from wrapping
        return Term(expr.cast(pl.Int64, strict=False), "int")
    unit = _parse_unit(name, kind)
    return Term(expr.cast(pl.Float64), "float", unit, frozenset({name}), is_column=True)


def reduction(function: str, name: str, kind: str) -> Term:
    """Apply one of `arraycal.calib.criteria.syntax.REDUCTIONS` to a column of truth values."""
    if kind != f"bool{ARRAY}":
        raise TermError(f"{function} needs a value for each telescope of the array; {name} has one")
    values = pl.col(name).arr
    if function in ("any", "all"):
        return Term(values.any() if function == "any" else values.all(), "bool")
    return Term(values.sum().cast(pl.Int64), "int")


def unit_named(name: str) -> Term:
    """Make the term of ``u.<name>``: one of that unit."""
    unit = vars(u).get(name)
    if isinstance(unit, u.UnitBase):
        return constant(1, unit)
    known = {key.lower(): key for key, value in vars(u).items() if isinstance(value, u.UnitBase)}
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean u.{known[near[0]]}?" if near else ""
    raise TermError(f"astropy has no unit {name!r}{hint}")


def describe_term(term: Term) -> str:
    """Say what a term is, for messages."""
    if term.kind == "bool":
        return "a Boolean"
    return "a plain number" if term.unit == PLAIN else f"a quantity in {term.unit}"


def arithmetic(symbol: ast.operator, left: Term, right: Term) -> Term:
    """Compute ``+ - * / %``."""
    _need_numbers("computed with", left, right)
    product = isinstance(symbol, ast.Mult | ast.Div)
    if not product:
        left, right = _aligned(left, right, "combined")
    operation = _ARITHMETIC[type(symbol)]
    unit = operation(left.unit, right.unit) if product else left.unit
    if left.constant is not None and right.constant is not None:
        return constant(_computed(operation, left.constant, right.constant), unit)
    # products of integers can leave Int64, sums of what the files hold cannot
    whole = left.kind == right.kind == "int" and not product
    expr = operation(left.expr, right.expr) if whole else operation(_float(left), _float(right))
    return Term(expr, "int" if whole else "float", unit, left.floats | right.floats)


def power(base: Term, exponent: Term) -> Term:
    """Compute ``**`` with an exponent that is written out."""
    _need_numbers("computed with", base, exponent)
    value = exponent.constant
    if value is None or exponent.unit != PLAIN or abs(value) > MAX_EXPONENT:
        raise TermError(f"an exponent must be a number between -{MAX_EXPONENT} and {MAX_EXPONENT}")
    unit = base.unit**value
    if base.constant is not None:
        return constant(_computed(operator.pow, base.constant, value), unit)
    return Term(_float(base) ** float(value), "float", unit, base.floats)


def sign(symbol: ast.unaryop, term: Term) -> Term:
    """Compute a unary ``+ - ~ not``."""
    if isinstance(symbol, ast.Not) and term.kind != "bool":
        raise TermError(f"'not' needs a Boolean, found {describe_term(term)}")
    if isinstance(symbol, ast.Not) or (isinstance(symbol, ast.Invert) and term.kind == "bool"):
        return Term(~term.expr, "bool")
    _need_numbers("computed with", term)
    if isinstance(symbol, ast.Invert):
        return bitwise(ast.BitXor(), term, constant(-1))
    if isinstance(symbol, ast.UAdd):
        return term
    if term.constant is not None:
        return constant(-term.constant, term.unit)
    return replace(term, expr=-term.expr)


def bitwise(symbol: ast.operator, left: Term, right: Term) -> Term:
    """Compute ``& | ^`` of two Booleans (three-valued) or two integers (bit by bit)."""
    operation = _BITWISE[type(symbol)]
    if left.kind == right.kind == "bool":
        return Term(operation(left.expr, right.expr), "bool")
    if left.kind == right.kind == "int" and left.unit == right.unit == PLAIN:
        return Term(operation(left.expr, right.expr), "int")
    raise TermError(
        f"cannot combine {describe_term(left)} and {describe_term(right)} by &, | or ^, which bind "
        "more tightly than comparisons: put each comparison in parentheses, or use and, or, not"
    )


def compare_terms(symbol: ast.cmpop, left: Term, right: Term) -> Term:
    """Compare two terms; the result is unknown (null) where a number is not finite."""
    operation = _COMPARISONS[type(symbol)]
    if "bool" in (left.kind, right.kind):
        left, right = _as_boolean(left), _as_boolean(right)
        if not isinstance(symbol, ast.Eq | ast.NotEq):
            raise TermError("Booleans can only be compared by == and !=")
        return Term(operation(left.expr, right.expr), "bool")
    left, right = _aligned(left, right, "compared")
    known = [_is_finite(pl.col(name)) for name in sorted(left.floats | right.floats)]
    known += [_is_finite(term.expr) for term in (left, right) if _may_be_infinite(term)]
    result = operation(left.expr, right.expr)
    return Term(pl.when(pl.all_horizontal(known)).then(result) if known else result, "bool")


def apply_function(name: str, *arguments: Term) -> Term:
    """Apply one of the functions of `arraycal.calib.criteria.syntax.FUNCTION_ARGUMENTS`."""
    _need_numbers("given to a function", *arguments)
    floats = frozenset().union(*(term.floats for term in arguments))
    if name in ("isfinite", "isnan"):  # the one way to ask for what is not known
        (term,) = arguments
        expr = _float(term)
        return Term(expr.is_finite() if name == "isfinite" else expr.is_nan(), "bool")
    if len(arguments) == 1:
        expr, unit = _unary(name, arguments[0])
    else:
        left, right = arguments
        expr, unit = _binary(name, *_aligned(left, right, "combined"))
    return Term(expr, "float", unit, floats)


def _unary(name: str, term: Term) -> tuple[pl.Expr, Any]:
    if name == "abs":
        return _float(term).abs(), term.unit
    if name == "sqrt":
        return _float(term).sqrt(), term.unit**0.5
    angle = name in ("sin", "cos", "tan") and term.unit.is_equivalent(u.rad)
    expr = _float(_converted(term, u.rad if angle else PLAIN, f"given to {name}"))
    if name == "log10":
        return expr.log(10.0), PLAIN
    return getattr(expr, name)(), PLAIN  # log, exp, sin, cos, tan bear the same name in polars


def _binary(name: str, left: Term, right: Term) -> tuple[pl.Expr, Any]:
    first, second = _float(left), _float(right)
    if name == "arctan2":  # of plain numbers it is one, as in numpy
        return pl.arctan2(first, second), PLAIN if left.unit == PLAIN else u.rad
    if name == "hypot":
        return (first**2 + second**2).sqrt(), left.unit
    smaller = first <= second if name == "minimum" else first >= second
    # not min_horizontal, which leaves out what is null or NaN
    either_nan = first.is_nan() | second.is_nan()
    picked = (
        pl.when(either_nan).then(math.nan).when(smaller).then(first).when(~smaller).then(second)
    )
    return picked, left.unit


def _computed(operation: Operation, left: Number, right: Number) -> Number:
    try:
        result: Number = operation(left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise TermError(f"the value is not a finite number: {error}") from None
    return result


def _may_be_infinite(term: Term) -> bool:
    """Tell whether a number may be infinite even where its columns are finite: 1 / tel_id."""
    return term.kind == "float" and term.constant is None and not term.is_column


def _is_finite(expr: pl.Expr) -> pl.Expr:
    """Tell finite numbers from others three times as fast as polars' own function.

    NaN is the largest number to polars.
    """
    return (expr > -math.inf) & (expr < math.inf)


def _float(term: Term) -> pl.Expr:
    return term.expr if term.kind == "float" else term.expr.cast(pl.Float64)


def _as_boolean(term: Term) -> Term:
    if term.kind == "bool":
        return term
    if term.unit == PLAIN and term.constant in (0, 1):
        return constant(bool(term.constant))
    raise TermError(f"cannot compare a Boolean with {describe_term(term)}")


def _need_numbers(purpose: str, *terms: Term) -> None:
    if any(term.kind == "bool" for term in terms):
        raise TermError(f"a Boolean cannot be {purpose}")


def _aligned(left: Term, right: Term, purpose: str) -> tuple[Term, Term]:
    """Bring two terms to one unit; zero has any, as in astropy."""
    if left.unit == right.unit:
        return left, right
    if _is_any_zero(left):
        return replace(left, unit=right.unit), right
    if _is_any_zero(right):
        return left, replace(right, unit=left.unit)
    about = f"{purpose} with {describe_term(left if left.constant is None else right)}"
    if left.constant is not None and right.constant is None:
        return _converted(left, right.unit, about), right
    return left, _converted(right, left.unit, about)


def _is_any_zero(term: Term) -> bool:
    return term.unit == PLAIN and term.constant == 0


def _converted(term: Term, unit: Any, purpose: str) -> Term:  # noqa: ANN401  astropy is not typed
    try:
        factor = float(term.unit.to(unit))
    except (u.UnitsError, TypeError):
        raise TermError(f"{describe_term(term)} cannot be {purpose}{_hint(term, unit)}") from None
    if factor == 1.0:
        return replace(term, unit=unit)
    if term.constant is not None:
        return constant(term.constant * factor, unit)
    return Term(_float(term) * factor, "float", unit, term.floats)


def _hint(term: Term, unit: Any) -> str:  # noqa: ANN401  astropy is not typed
    if term.unit == PLAIN and term.constant is not None:
        return f"; write the unit, for example {term.constant} * u.{unit}"
    return ""


def _parse_unit(name: str, text: str) -> Any:  # noqa: ANN401  astropy is not typed
    for options in ({}, {"format": "vounit"}):
        try:
            return u.Unit(text, **options)
        except ValueError:
            continue
    raise TermError(f"column {name!r} has the unit {text!r}, which astropy does not know")
