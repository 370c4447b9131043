"""Quality criteria: from the text of a configuration file to a polars expression.

Takes text such as ``RandomForestRegressor_tel_energy > 50 * u.GeV`` and the kinds and units
of the columns there are; gives a Boolean expression that is true or false, never null.

The text is never executed. It is parsed, every node of its syntax tree is compared with the
short list of what a criterion may contain (`arraycal.calib.criteria.syntax`), and the tree is then
translated with units carried along (`arraycal.calib.criteria.translation`).

Values that are not known
    A comparison with a value that is NaN, infinite or missing is neither true nor false but
    *unknown*, and ``and``, ``or``, ``not`` follow three-valued logic: ``A > 1 or B > 1`` is
    true where B is 2 whatever A is, and ``not (E < 50 * u.GeV)`` is unknown where E is NaN.
    A row passes where the whole is true. So NaN never passes a cut, not even a negated one.
    (In polars alone NaN is greater than any number and would pass.) Only ``isfinite`` and
    ``isnan`` ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arraycal.calib.criteria.syntax import CriterionError, UnknownColumn, columns_in, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

__all__ = [
    "Criterion",
    "CriterionError",
    "UnknownColumn",
    "columns_of",
    "compile_criteria",
    "compile_criterion",
]


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
        ``""`` for plain numbers); ``"bool[]"`` for truth values of all telescopes of the array.

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
    # astropy's units cost a quarter of a second, and blocks from the cache need none.
    from arraycal.calib.criteria.translation import translate

    source, tree = parse(name, text)
    return Criterion(name, text, columns_in(tree), translate(source, tree, catalog))


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
