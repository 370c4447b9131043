"""Quality criteria: from the text of a configuration file to a polars expression.

Takes text such as ``RandomForestRegressor_tel_energy > 50 * u.GeV`` and the kinds and units
of the columns there are; gives a Boolean expression that is true or false, never null.

The text is never executed. It is parsed, every node of its syntax tree is compared with the
short list of what a criterion may contain (`calib.criteria.syntax`), and the tree is then
translated with units carried along (`calib.criteria.terms`).

Values that are not known
    A comparison with a value that is NaN, infinite or missing is neither true nor false but
    *unknown*, and ``and``, ``or``, ``not`` follow three-valued logic: ``A > 1 or B > 1`` is
    true where B is 2 whatever A is, and ``not (E < 50 * u.GeV)`` is unknown where E is NaN.
    A row passes where the whole is true. So NaN never passes a cut, not even a negated one.
    (In polars alone NaN is greater than any number and would pass.) Only ``isfinite`` and
    ``isnan`` ask for it.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from typing import TYPE_CHECKING

from calib.criteria.syntax import CriterionError, Source, columns_in, function_name, parse
from calib.criteria.terms import (
    Term,
    TermError,
    apply_function,
    arithmetic,
    bitwise,
    column,
    compare,
    constant,
    describe,
    power,
    sign,
    unit_named,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

__all__ = ["Criterion", "CriterionError", "columns_of", "compile_criteria", "compile_criterion"]

#: A longer list of columns hides the answer.
MAX_LISTED = 30


@dataclass(frozen=True)
class Criterion:
    """A compiled quality criterion.

    Attributes
    ----------
    name : str
        What the configuration calls it; under this name rejected rows are counted.
    text : str
        As the configuration gives it.
    columns : frozenset of str
        Columns it reads.
    passes : pl.Expr
        Boolean, never null; one value for all rows if the text names no column.
    """

    name: str
    text: str
    columns: frozenset[str]
    passes: pl.Expr = field(compare=False)  # == of two expressions is an expression


def compile_criterion(name: str, text: str, catalog: Mapping[str, str]) -> Criterion:
    """Compile one quality criterion.

    Parameters
    ----------
    name : str
        What the configuration calls it.
    text : str
        The criterion.
    catalog : mapping of str to str
        Column name → ``"bool"``, ``"int"`` or the unit of its numbers (``"TeV"``, ``"m"``,
        ``""`` for plain numbers).

    Returns
    -------
    Criterion
        With the expression to filter by.

    Raises
    ------
    CriterionError
        If the text is not allowed, names an unknown column or unit, mixes units that do not
        convert, or is no statement that can be true or false.

    Examples
    --------
    >>> import polars as pl
    >>> cut = compile_criterion("threshold", "energy > 50 * u.GeV", {"energy": "TeV"})
    >>> frame = pl.DataFrame({"energy": [0.04, 0.06, float("nan"), None]})
    >>> frame.select(cut.passes).to_series().to_list()
    [False, True, False, False]
    """
    source, tree = parse(name, text)
    term = _Translation(source, catalog).term(tree)
    if term.kind != "bool":
        raise source.error(f"the criterion is {describe(term)}; compare it with something")
    return Criterion(name, text, columns_in(tree), term.expr.fill_null(value=False))


def compile_criteria(
    criteria: Sequence[tuple[str, str]], catalog: Mapping[str, str]
) -> tuple[Criterion, ...]:
    """Compile ``(name, text)`` pairs; see `compile_criterion`."""
    return tuple(compile_criterion(name, text, catalog) for name, text in criteria)


def columns_of(text: str) -> frozenset[str]:
    """Name the columns a criterion reads, before it is known which there are.

    Parameters
    ----------
    text : str
        The criterion.

    Raises
    ------
    CriterionError
        If the text is not allowed.

    Examples
    --------
    >>> sorted(columns_of("np.hypot(core_x, core_y) < 200 * u.m and is_valid"))
    ['core_x', 'core_y', 'is_valid']
    """
    return columns_in(parse(text, text)[1])


@dataclass(frozen=True)
class _Translation:
    """From a checked syntax tree to terms; mistakes get their position in the text."""

    source: Source
    catalog: Mapping[str, str]

    def term(self, node: ast.expr) -> Term:
        try:
            return self._term(node)
        except TermError as error:
            raise self.source.error(str(error), node) from None

    def _term(self, node: ast.expr) -> Term:  # noqa: PLR0911  one return per kind of node
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return constant(value)
            case ast.Name(id=name):
                return self._column(name)
            case ast.Attribute(value=ast.Name(id="u"), attr=name):
                return unit_named(name)
            case ast.Attribute():  # np.pi is the only other one that was let through
                return constant(math.pi)
            case ast.UnaryOp(op=symbol, operand=operand):
                return sign(symbol, self.term(operand))
            case ast.BinOp(op=symbol, left=left, right=right):
                return self._binary(symbol, self.term(left), self.term(right))
            case ast.BoolOp(op=symbol, values=values):
                return self._logical(symbol, values)
            case ast.Compare(left=left, ops=symbols, comparators=others):
                return self._compare([left, *others], symbols)
            case ast.Call(args=arguments):
                return apply_function(str(function_name(node)), *map(self.term, arguments))
        raise TermError(f"{type(node).__name__} is not allowed in a criterion")

    def _column(self, name: str) -> Term:
        if name in self.catalog:
            return column(name, self.catalog[name])
        known = sorted(self.catalog)
        folded = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower(), folded, n=1)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
        listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "")
        raise TermError(f"there is no column {name!r}{hint} There are: {listed}")

    @staticmethod
    def _binary(symbol: ast.operator, left: Term, right: Term) -> Term:
        if isinstance(symbol, ast.BitAnd | ast.BitOr | ast.BitXor):
            return bitwise(symbol, left, right)
        if isinstance(symbol, ast.Pow):
            return power(left, right)
        return arithmetic(symbol, left, right)

    def _logical(self, symbol: ast.boolop, nodes: Sequence[ast.expr]) -> Term:
        terms = [self.term(node) for node in nodes]
        for node, term in zip(nodes, terms, strict=True):
            if term.kind != "bool":
                raise self.source.error(
                    f"'and' and 'or' need Booleans, found {describe(term)}", node
                )
        joint = ast.BitAnd() if isinstance(symbol, ast.And) else ast.BitOr()
        return reduce(lambda left, right: bitwise(joint, left, right), terms)

    def _compare(self, nodes: Sequence[ast.expr], symbols: Sequence[ast.cmpop]) -> Term:
        terms = [self.term(node) for node in nodes]
        links = [
            compare(symbol, left, right)
            for symbol, left, right in zip(symbols, terms, terms[1:], strict=False)
        ]
        return reduce(lambda left, right: bitwise(ast.BitAnd(), left, right), links)
