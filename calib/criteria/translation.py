"""From the checked syntax tree of a criterion to a polars expression, with units carried along."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from arraycal.calib.criteria.syntax import (
    REDUCTIONS,
    CriterionText,
    UnknownColumn,
    function_name,
)
from arraycal.calib.criteria.terms import (
    NoColumn,
    Term,
    TermError,
    apply_function,
    arithmetic,
    bitwise,
    column,
    compare_terms,
    constant,
    describe_term,
    power,
    reduction,
    sign,
    unit_named,
)
from arraycal.calib.wording import nearest_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

__all__ = ["translate"]

#: A longer list of columns hides the answer.
MAX_LISTED = 30


def translate(source: CriterionText, tree: ast.expr, catalog: Mapping[str, str]) -> pl.Expr:
    """Translate a criterion.

    Parameters
    ----------
    source : CriterionText
        Its text, for messages.
    tree : ast.expr
        Its syntax tree, checked by `arraycal.calib.criteria.syntax.parse`.
    catalog : mapping of str to str
        See `arraycal.calib.criteria.compile_criterion`.

    Returns
    -------
    pl.Expr
        Boolean, never null.

    Raises
    ------
    CriterionError
        If it names an unknown column or unit, mixes units that do not convert, or is no
        statement that can be true or false.
    """
    term = _Translation(source, catalog).term(tree)
    if term.kind != "bool":
        raise source.error(f"the criterion is {describe_term(term)}; compare it with something")
    return term.expr.fill_null(value=False)


@dataclass(frozen=True)
class _Translation:
    """From a checked syntax tree to terms; mistakes get their position in the text."""

    source: CriterionText
    catalog: Mapping[str, str]

    def term(self, node: ast.expr) -> Term:
        try:
            return self._term(node)
        except NoColumn as error:
            raise UnknownColumn(str(self.source.error(str(error), node))) from None
        except TermError as error:
            raise self.source.error(str(error), node) from None

    def _term(self, node: ast.expr) -> Term:  # noqa: PLR0911  one return per kind of node
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return constant(value)
            case ast.Name(id=name):
                return column(name, self._kind(name))
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
                return self._call(str(function_name(node)), arguments)
        raise TermError(f"{type(node).__name__} is not allowed in a criterion")

    def _call(self, function: str, arguments: Sequence[ast.expr]) -> Term:
        match arguments:
            case [ast.Name(id=name)] if function in REDUCTIONS:
                return reduction(function, name, self._kind(name))
        return apply_function(function, *map(self.term, arguments))

    def _kind(self, name: str) -> str:
        if name in self.catalog:
            return self.catalog[name]
        known = sorted(self.catalog)
        near = nearest_column(name, known)
        hint = f"; did you mean {near!r}?" if near else "."
        listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "")
        raise NoColumn(f"there is no column {name!r}{hint} There are: {listed}")

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
                    f"'and' and 'or' need Booleans, found {describe_term(term)}", node
                )
        joint = ast.BitAnd() if isinstance(symbol, ast.And) else ast.BitOr()
        return reduce(lambda left, right: bitwise(joint, left, right), terms)

    def _compare(self, nodes: Sequence[ast.expr], symbols: Sequence[ast.cmpop]) -> Term:
        terms = [self.term(node) for node in nodes]
        links = [
            compare_terms(symbol, left, right)
            for symbol, left, right in zip(symbols, terms, terms[1:], strict=False)
        ]
        return reduce(lambda left, right: bitwise(ast.BitAnd(), left, right), links)
