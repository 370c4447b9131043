"""EVENTS to PAIRS: the one place where telescopes are paired.

Takes the EVENTS of complete showers and gives one row for every shower and allowed telescope
pair, with the statistic of the observable. Every row left out on the way is counted under the
first rule that refused it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.dl2.findings import REPEATED, TELESCOPE_LEVEL
from arraycal.calib.index import node_index, shower_index
from arraycal.calib.pairs.company import Company
from arraycal.calib.pairs.selection import (
    NO_PARTNER,
    PAIR_LEVEL,
    TOO_FEW_OF_A_TYPE,
    TWO,
    PairRules,
    PairTest,
    in_company,
    passing,
    rejected_frame,
    too_few_selected,
)
from arraycal.calib.schema import EVENT_KEYS, LEFT_OUT, PARTICIPATION, check_schema, pairs_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from arraycal.calib.observables.filters import Values

    Indices = npt.NDArray[np.intp]

    from arraycal.calib.subarray import Subarray

__all__ = [
    "REPEATED",
    "TELESCOPE_LEVEL",
    "Paired",
    "match_showers",
    "merge_participation",
    "merge_rejected",
    "pair_events",
]


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
    kept, rejected = passing(events, rules)
    needed = dict.fromkeys(
        [*rules.kept, *(column for test in rules.tests for column in test.columns)]
    )
    selected = events.select(*EVENT_KEYS, *needed).filter(kept)
    shower, node = shower_index(selected), node_index(selected["tel_id"], subarray)
    if rules.min_telescopes > TWO:
        enough = in_company(shower, subarray.type_codes[node], rules.min_telescopes)
        reason = too_few_selected(rules.min_telescopes)
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
    return Paired(pairs, rejected_frame(rejected), participation)


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
