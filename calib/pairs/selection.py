"""Which EVENTS are compared, whether as pairs or as rows, and by which rules others are not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.dl2.findings import TELESCOPE_LEVEL
from arraycal.calib.schema import REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from arraycal.calib.criteria import Criterion
    from arraycal.calib.observables.filters import Values

    Indices = npt.NDArray[np.intp]
    PairPredicate = Callable[[Values, Values, Values], npt.NDArray[np.bool_]]

__all__ = [
    "NO_PARTNER",
    "PAIR_LEVEL",
    "TOO_FEW_OF_A_TYPE",
    "TWO",
    "UNUSABLE_VALUE",
    "PairRules",
    "PairTest",
    "in_company",
    "passing",
    "rejected_frame",
    "too_few_selected",
]

PAIR_LEVEL = "pair"
UNUSABLE_VALUE = "value is not a positive finite number"
NO_PARTNER = "no other selected telescope saw the shower"
#: With the number of telescopes; the key is that of the section of the cross-calibration.
TOO_FEW_OF_A_TYPE = "fewer than {} telescopes of each type (min_triggered_telescopes_per_subsystem)"
#: The least number of telescopes that form a pair.
TWO = 2


@dataclass(frozen=True)
class PairTest:
    """A cut on both telescope events of a pair.

    Parameters
    ----------
    name : str
        Under this name rejected pairs are counted.
    columns : tuple of str
        Columns it looks at.
    limits : mapping of int to tuple of float
        Limits by telescope id, as many for each; the smaller ones of the two telescopes count.
    passes : callable
        From the values of the columns at either side and the limits, tuples of arrays of shape
        (n_pairs,), to a flag for each pair. What is missing (NaN) must fail.
    """

    name: str
    columns: tuple[str, ...]
    limits: Mapping[int, tuple[float, ...]]
    passes: PairPredicate


@dataclass(frozen=True)
class PairRules:
    """Everything that decides which rows become pairs.

    Parameters
    ----------
    value : str
        Column that is compared.
    uncertainty, impact : str or None
        Columns of its uncertainty and of the impact distance (m), where the file has them.
    criteria : tuple of Criterion
        Selection of telescope events, applied in order.
    statistic : tuple of polars.Expr
        Pair columns to compute.
    tests : tuple of PairTest
        Selection of pairs, applied in order.
    min_telescopes : int
        Telescopes of one type that a shower must have after the selection of telescope events.
    notes : tuple of (str, str)
        What a reader must know about the selection in this block: topic and text.
    min_per_type : int or None
        Selected telescopes of each of the two types that a shower needs for its pairs across
        types; None where there are no such pairs.
    shower : tuple of (str, str)
        Further columns of PAIRS and ROWS that describe the shower, and their columns in EVENTS.
    brightest : str or None
        Column of the brightest pixel, to find out whether images saturate.
    comparable : tuple of Criterion
        What a row needs to be compared at all, asked for last.
    remarks : tuple of str
        What speaks against a comparison of this block.
    """

    value: str
    uncertainty: str | None
    impact: str | None
    criteria: tuple[Criterion, ...]
    statistic: tuple[pl.Expr, ...]
    tests: tuple[PairTest, ...] = ()
    min_telescopes: int = 2
    notes: tuple[tuple[str, str], ...] = ()
    min_per_type: int | None = None
    shower: tuple[tuple[str, str], ...] = ()
    brightest: str | None = None
    comparable: tuple[Criterion, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that go into PAIRS and ROWS."""
        names = (self.value, self.uncertainty, self.impact, *(column for _, column in self.shower))
        return tuple(name for name in names if name is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read, the leading one first."""
        named = list(self.kept)
        named += [column for rule in self.criteria for column in sorted(rule.columns)]
        named += [column for test in self.tests for column in test.columns]
        named += [] if self.brightest is None else [self.brightest]
        return tuple(dict.fromkeys(named))


def passing(events: pl.DataFrame, rules: PairRules) -> tuple[pl.Series, Counter[tuple[str, str]]]:
    """Flag the EVENTS that pass every rule; count the others under the first rule they fail."""
    value = pl.col(rules.value)
    # NaN is the largest number to polars. Two comparisons are cheaper than is_finite().
    usable = ((value > 0) & (value < math.inf)).fill_null(value=False)
    asked = [*rules.criteria, *rules.comparable]
    tests = [(UNUSABLE_VALUE, usable), *((rule.name, rule.passes) for rule in asked)]
    # The first column is as long as the rows, so a criterion without columns is stretched to it.
    passed = events.lazy().select(
        passes.alias(str(position)) for position, (_, passes) in enumerate(tests)
    )
    rejected = Counter[tuple[str, str]]()
    kept = pl.repeat(True, len(events), eager=True)  # noqa: FBT003  the value to repeat
    before = len(events)
    frame = passed.collect(engine="in-memory")
    for (name, _), column in zip(tests, frame.iter_columns(), strict=True):
        kept &= column
        after = int(kept.sum())
        # Two criteria may bear one name.
        rejected[TELESCOPE_LEVEL, name] += before - after
        before = after
    return kept, rejected


def too_few_selected(least: int) -> str:
    """Name of the rule `in_company`."""
    return f"fewer than {least} selected telescopes of the type"


def in_company(shower: Indices, kind: Indices, least: int) -> npt.NDArray[np.bool_]:
    """Rows whose shower has at least so many telescopes of the same type."""
    n_kinds = int(kind.max(initial=0)) + 1
    group = shower * n_kinds + kind
    return np.asarray(np.bincount(group)[group] >= least)


def rejected_frame(counts: Mapping[tuple[str, str], int]) -> pl.DataFrame:
    """Counts by level and rule as REJECTED."""
    return pl.DataFrame(
        [(level, rule, rows) for (level, rule), rows in counts.items()],
        schema=REJECTED,
        orient="row",
    )
