"""EVENTS to PAIRS: the one place where telescopes are paired.

Takes the EVENTS of complete showers and gives one row for every shower and allowed telescope
pair, with the statistic of the observable. Every row left out on the way is counted under the
first rule that refused it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.dl2.findings import REPEATED, TELESCOPE_LEVEL
from arraycal.calib.index import node_index, shower_index
from arraycal.calib.pairs.company import Company
from arraycal.calib.schema import (
    EVENT_KEYS,
    LEFT_OUT,
    PARTICIPATION,
    REJECTED,
    check_schema,
    pairs_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.observables.filters import Values

    Indices = npt.NDArray[np.intp]

    from arraycal.calib.criteria import Criterion
    from arraycal.calib.subarray import Subarray

    PairPredicate = Callable[[Values, Values, Values], npt.NDArray[np.bool_]]

__all__ = [
    "REPEATED",
    "TELESCOPE_LEVEL",
    "PairRules",
    "PairTest",
    "Paired",
    "match_showers",
    "merge_participation",
    "merge_rejected",
    "pair_events",
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
        Further columns of PAIRS that describe the shower, and their columns in EVENTS.
    brightest : str or None
        Column of the brightest pixel, to find out whether images saturate.
    measurable : Criterion or None
        Values that a telescope can measure at all, asked for last.
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
    measurable: Criterion | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that go into PAIRS."""
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


class Paired(NamedTuple):
    """PAIRS of some showers and the REJECTED rows on the way to them.

    Across types also the PARTICIPATION of the telescopes.
    """

    pairs: pl.DataFrame
    rejected: pl.DataFrame
    participation: pl.DataFrame = PARTICIPATION.to_frame()


def pair_events(
    events: pl.DataFrame, rules: PairRules, subarray: Subarray, allowed: Indices
) -> Paired:
    """Select telescope events and form the allowed pairs of each shower.

    Parameters
    ----------
    events : DataFrame
        EVENTS of complete showers, with `rules.columns`.
    rules : PairRules
        Selection and statistic.
    subarray : Subarray
        The telescopes.
    allowed : array of int, shape (n_pairs, 2)
        Allowed pairs as indices into `subarray`, see `arraycal.calib.subarray.allowed_pairs`.

    Returns
    -------
    Paired
        PAIRS (schema ``arraycal.calib.schema.PAIRS``, and the columns of `rules.shower`) and counts
        of what was left out.
    """
    selected, rejected = _select(events, rules)
    shower, node = shower_index(selected), node_index(selected["tel_id"], subarray)
    if rules.min_telescopes > TWO:
        enough = _in_company(shower, subarray.type_codes[node], rules.min_telescopes)
        reason = f"fewer than {rules.min_telescopes} selected telescopes of the type"
        rejected[TELESCOPE_LEVEL, reason] += int(len(selected) - enough.sum())
        selected, shower, node = selected.filter(pl.Series(enough)), shower[enough], node[enough]
    partnered = np.zeros(len(selected), np.bool_)
    judges = [_Judge.of(test, selected, subarray) for test in rules.tests]
    company = None
    if rules.min_per_type is not None:
        company = Company.of(shower, node, subarray, rules.min_per_type)
    matches = []
    # One pair at a time: a few thousand rows stay in the processor's cache.
    for pair, first, second in match_showers(shower, node, allowed):
        partnered[first] = partnered[second] = True
        match = (first, second)
        if company is not None:
            match = company.passing(pair, *match)
        for judge in judges:
            match = judge.passing(pair, *match)
        matches.append(match)
    rejected[TELESCOPE_LEVEL, NO_PARTNER] += int(len(selected) - np.count_nonzero(partnered))
    for judge in judges:
        rejected[PAIR_LEVEL, judge.test.name] += judge.refused
    participation = PARTICIPATION.to_frame()
    if company is not None:
        rejected[PAIR_LEVEL, TOO_FEW_OF_A_TYPE.format(company.least)] += company.refused
        participation = company.participation(subarray)
    pairs = _pair_rows(selected, rules, subarray, allowed, matches)
    check_schema(pairs, pairs_with(name for name, _ in rules.shower))
    return Paired(pairs, _rejected_frame(rejected), participation)


def match_showers(
    shower: Indices, node: Indices, allowed: Indices
) -> Iterator[tuple[tuple[int, int], Indices, Indices]]:
    """Row numbers of the two sides, one allowed pair after the other.

    A table of who saw which shower tells each of two telescopes which of its own rows the other
    shares. Both lists come out in the order of the showers, side by side: no join, and linear in
    the rows of the pair, whatever the number of showers.

    Parameters
    ----------
    shower : array of int, shape (n_rows,)
        Number of the shower, counted from 0; a telescope has at most one row in a shower.
    node : array of int, shape (n_rows,)
        Index of the telescope.
    allowed : array of int, shape (n_pairs, 2)
        Allowed pairs of indices.

    Yields
    ------
    pair : (int, int)
        The row of `allowed`.
    first, second : array of int, shape (n_matches,)
        Rows of its two telescopes.

    Examples
    --------
    Shower 0 was seen by telescopes 0 and 1, shower 1 by telescope 1 only.

    >>> matches = match_showers(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([[0, 1]]))
    >>> [(pair, first.tolist(), second.tolist()) for pair, first, second in matches]
    [((0, 1), [0], [1])]
    """
    starts = np.flatnonzero(np.append(True, node[1:] != node[:-1])[: len(node)])
    if not _is_grouped(shower, node, starts):
        order = np.lexsort((shower, node))
        for pair, first, second in match_showers(shower[order], node[order], allowed):
            yield pair, order[first], order[second]
        return
    n_nodes = int(max(node.max(initial=-1), allowed.max(initial=-1))) + 1
    begin = np.zeros(n_nodes, np.intp)
    begin[node[starts]] = starts
    present = np.zeros((n_nodes, int(shower.max(initial=-1)) + 1), np.bool_)
    seen = [shower[:0]] * n_nodes
    for index, start, end in zip(
        node[starts].tolist(), starts, np.append(starts, len(node))[1:], strict=True
    ):
        seen[index] = shower[start:end]
        present[index, seen[index]] = True
    for i, j in allowed.tolist():
        first, second = np.flatnonzero(present[j][seen[i]]), np.flatnonzero(present[i][seen[j]])
        yield (i, j), first + begin[i], second + begin[j]


def _is_grouped(shower: Indices, node: Indices, starts: Indices) -> bool:
    """Tell whether each telescope has its rows in one place, showers ascending: as when read."""
    ascending = shower[1:] >= shower[:-1]
    ascending[starts[1:] - 1] = True
    return bool(ascending.all()) and len(np.unique(node[starts])) == len(starts)


def merge_rejected(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up REJECTED or LEFT_OUT counts, keeping the order in which the rules were first met.

    Parameters
    ----------
    frames : iterable of DataFrame
        Schemas ``REJECTED`` or ``LEFT_OUT``.

    Returns
    -------
    DataFrame
        Schema ``arraycal.calib.schema.LEFT_OUT``, with the first example of each rule.
    """
    example = pl.col("example").fill_null("")
    return (
        pl.concat([LEFT_OUT.to_frame(), *frames], how="diagonal")
        .group_by("level", "rule", maintain_order=True)
        .agg(pl.col("rows").sum(), example.filter(example != "").first().fill_null(""))
    )


def merge_participation(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up PARTICIPATION counts."""
    return (
        pl.concat([PARTICIPATION.to_frame(), *frames])
        .group_by("tel_type", "tel_id", maintain_order=True)
        .agg(pl.col("rows").sum())
    )


def _select(
    events: pl.DataFrame, rules: PairRules
) -> tuple[pl.DataFrame, dict[tuple[str, str], int]]:
    """Keep rows that pass every rule; count the others under the first rule they fail."""
    value = pl.col(rules.value)
    # NaN is the largest number to polars. Two comparisons are cheaper than is_finite().
    usable = ((value > 0) & (value < math.inf)).fill_null(value=False)
    asked = [*rules.criteria, *filter(None, [rules.measurable])]
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
    needed = dict.fromkeys(
        [*rules.kept, *(column for test in rules.tests for column in test.columns)]
    )
    return events.select(*EVENT_KEYS, *needed).filter(kept), rejected


def _in_company(shower: Indices, kind: Indices, least: int) -> npt.NDArray[np.bool_]:
    """Rows whose shower has at least so many telescopes of the same type."""
    n_kinds = int(kind.max(initial=0)) + 1
    group = shower * n_kinds + kind
    return np.asarray(np.bincount(group)[group] >= least)


@dataclass
class _Judge:
    """A test of pairs with the values it looks at; counts what it refuses."""

    test: PairTest
    columns: Values
    limits: npt.NDArray[np.float64]
    refused: int = 0

    @classmethod
    def of(cls, test: PairTest, events: pl.DataFrame, subarray: Subarray) -> _Judge:
        """Prepare a test for some events; its limits by index of the telescope."""
        limits = np.asarray([test.limits[tel_id] for tel_id in subarray.tel_ids], float)
        return cls(test, tuple(events[column].to_numpy() for column in test.columns), limits)

    def passing(
        self, pair: tuple[int, int], first: Indices, second: Indices
    ) -> tuple[Indices, Indices]:
        """Return the matches of a pair that pass."""
        one, two = (tuple(values[rows] for values in self.columns) for rows in (first, second))
        smaller = self.limits[list(pair)].min(axis=0)
        limits = tuple(np.broadcast_to(limit, first.shape) for limit in smaller)
        kept = np.flatnonzero(self.test.passes(one, two, limits))
        self.refused += len(first) - len(kept)
        return first[kept], second[kept]


def _pair_rows(
    events: pl.DataFrame,
    rules: PairRules,
    subarray: Subarray,
    allowed: Indices,
    matches: Sequence[tuple[Indices, Indices]],
) -> pl.DataFrame:
    nothing = np.empty(0, np.intp)
    first = np.concatenate([nothing, *(rows for rows, _ in matches)])
    second = np.concatenate([nothing, *(rows for _, rows in matches)])
    link = np.repeat(np.arange(len(allowed)), [len(rows) for rows, _ in matches])
    types = subarray.types
    # Across types the pair is named after both, in alphabetic order: the column stays a key.
    names = ["-".join(sorted({types[i], types[j]})) for i, j in allowed.tolist()]
    labels = pl.Series(names, dtype=pl.String)
    both = pl.concat(
        [
            _side(events[first], rules, 1),
            _side(events[second], rules, 2).drop("obs_id", "event_id"),
            pl.DataFrame({"tel_type": labels.gather(link)}),
            *(
                events[column][first].cast(pl.Float64).to_frame(name)
                for name, column in rules.shower
            ),
        ],
        how="horizontal",
    )
    names_out = pairs_with(name for name, _ in rules.shower).names()
    return both.lazy().with_columns(*rules.statistic).select(names_out).collect(engine="in-memory")


def _side(events: pl.DataFrame, rules: PairRules, side: int) -> pl.DataFrame:
    """Columns of one side of a pair; what the file does not have is NaN."""
    sources: Sequence[tuple[str, str | None]] = (
        (f"value_{side}", rules.value),
        (f"uncertainty_{side}", rules.uncertainty),
        (f"impact_{side}_m", rules.impact),
    )
    return events.select(
        "obs_id",
        "event_id",
        pl.col("tel_id").alias(f"tel_id_{side}"),
        *(
            (pl.lit(float("nan")) if column is None else pl.col(column))
            .cast(pl.Float64)
            .alias(name)
            for name, column in sources
        ),
    )


def _rejected_frame(counts: Mapping[tuple[str, str], int]) -> pl.DataFrame:
    return pl.DataFrame(
        [(level, rule, rows) for (level, rule), rows in counts.items()],
        schema=REJECTED,
        orient="row",
    )
