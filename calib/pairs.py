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

from calib.schema import EVENT_KEYS, PAIRS, REJECTED, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from calib.criteria import Criterion
    from calib.subarray import Subarray

    Values = tuple[npt.NDArray[np.float64], ...]
    PairPredicate = Callable[[Values, Values, Values], npt.NDArray[np.bool_]]

__all__ = [
    "PairRules",
    "PairTest",
    "Paired",
    "distance_asymmetry",
    "match_showers",
    "merge_rejected",
    "node_index",
    "pair_events",
    "shower_index",
]

TELESCOPE_LEVEL, PAIR_LEVEL = "telescope event", "pair"
UNUSABLE_VALUE = "value is not a positive finite number"
NO_PARTNER = "no other selected telescope saw the shower"
REPEATED = "repeated row"
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
    """

    value: str
    uncertainty: str | None
    impact: str | None
    criteria: tuple[Criterion, ...]
    statistic: tuple[pl.Expr, ...]
    tests: tuple[PairTest, ...] = ()
    min_telescopes: int = 2
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read, the leading one first."""
        named = [name for name in (self.value, self.uncertainty, self.impact) if name is not None]
        named += [column for rule in self.criteria for column in sorted(rule.columns)]
        named += [column for test in self.tests for column in test.columns]
        return tuple(dict.fromkeys(named))


class Paired(NamedTuple):
    """PAIRS of some showers and the REJECTED rows on the way to them."""

    pairs: pl.DataFrame
    rejected: pl.DataFrame


def pair_events(
    events: pl.DataFrame, rules: PairRules, subarray: Subarray, allowed: npt.NDArray[np.intp]
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
        Allowed pairs as indices into `subarray`, see `calib.subarray.allowed_pairs`.

    Returns
    -------
    Paired
        PAIRS (schema ``calib.schema.PAIRS``) and counts of what was left out.
    """
    selected, rejected = _select(events, rules)
    shower, node = shower_index(selected), node_index(selected["tel_id"], subarray)
    if rules.min_telescopes > TWO:
        enough = _in_company(shower, subarray.type_codes[node], rules.min_telescopes)
        reason = f"fewer than {rules.min_telescopes} selected telescopes of the type"
        rejected[TELESCOPE_LEVEL, reason] += int(len(selected) - enough.sum())
        selected, shower, node = selected.filter(pl.Series(enough)), shower[enough], node[enough]
    first, second, link = match_showers(shower, node, allowed)
    partnered = np.zeros(len(selected), np.bool_)
    partnered[first] = partnered[second] = True
    rejected[TELESCOPE_LEVEL, NO_PARTNER] += int(len(selected) - np.count_nonzero(partnered))
    for test in rules.tests:
        kept = _passing(selected, test, subarray, allowed, (first, second, link))
        rejected[PAIR_LEVEL, test.name] += len(first) - len(kept)
        first, second, link = first[kept], second[kept], link[kept]
    pairs = _pair_rows(selected, rules, subarray, allowed, (first, second, link))
    check(pairs, PAIRS)
    return Paired(pairs, _rejected_frame(rejected))


def match_showers(
    shower: npt.NDArray[np.intp], node: npt.NDArray[np.intp], allowed: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers of the two sides of every pair.

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

    Returns
    -------
    first, second, link : array of int, shape (n_matches,)
        Rows of the two telescopes, and the row of `allowed` they belong to.

    Examples
    --------
    Shower 0 was seen by telescopes 0 and 1, shower 1 by telescope 1 only.

    >>> first, second, link = match_showers(
    ...     np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([[0, 1]])
    ... )
    >>> first.tolist(), second.tolist(), link.tolist()
    ([0], [1], [0])
    """
    order = _grouping(shower, node)
    if order is not None:
        first, second, link = match_showers(shower[order], node[order], allowed)
        return order[first], order[second], link
    n_nodes = int(max(node.max(initial=-1), allowed.max(initial=-1))) + 1
    present = np.zeros((n_nodes, int(shower.max(initial=-1)) + 1), np.bool_)
    present[node, shower] = True
    begin, end = np.zeros((2, n_nodes), np.intp)
    starts = _starts(node)
    begin[node[starts]], end[node[starts]] = starts, np.append(starts, len(node))[1:]
    seen = [shower[rows] for rows in map(slice, begin, end)]
    common = [
        (
            np.flatnonzero(present[j][seen[i]]) + begin[i],
            np.flatnonzero(present[i][seen[j]]) + begin[j],
        )
        for i, j in allowed.tolist()
    ]
    nothing = np.empty(0, np.intp)
    first = np.concatenate([nothing, *(rows for rows, _ in common)])
    second = np.concatenate([nothing, *(rows for _, rows in common)])
    return first, second, np.repeat(np.arange(len(allowed)), [len(rows) for rows, _ in common])


def _grouping(
    shower: npt.NDArray[np.intp], node: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp] | None:
    """Order that groups rows by telescope, showers ascending; None if they are, as when read."""
    starts = _starts(node)
    ascending = np.diff(shower) >= 0
    ascending[starts[1:] - 1] = True
    if len(np.unique(node[starts])) == len(starts) and ascending.all():
        return None
    return np.lexsort((shower, node))


def _starts(node: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Where runs of rows of one telescope begin."""
    return np.flatnonzero(np.diff(node, prepend=-1))


def distance_asymmetry(
    impact_1: npt.NDArray[np.float64], impact_2: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``|d1 - d2| / (d1 + d2)``; NaN where a distance is missing or both are zero.

    Examples
    --------
    >>> distance_asymmetry(np.array([30.0]), np.array([10.0])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(impact_1 - impact_2) / (impact_1 + impact_2))


def merge_rejected(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up REJECTED counts, keeping the order in which the rules were first met."""
    return (
        pl.concat([REJECTED.to_frame(), *frames])
        .group_by("level", "rule", maintain_order=True)
        .agg(pl.col("rows").sum())
    )


def _select(
    events: pl.DataFrame, rules: PairRules
) -> tuple[pl.DataFrame, dict[tuple[str, str], int]]:
    """Keep rows that pass every rule; count the others under the first rule they fail."""
    value = pl.col(rules.value)
    # NaN is the largest number to polars. Two comparisons are cheaper than is_finite().
    usable = ((value > 0) & (value < math.inf)).fill_null(value=False)
    tests = [(UNUSABLE_VALUE, usable), *((rule.name, rule.passes) for rule in rules.criteria)]
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
    needed = [name for name in (rules.value, rules.uncertainty, rules.impact) if name is not None]
    return events.select(*EVENT_KEYS, *dict.fromkeys(needed)).filter(kept), rejected


def shower_index(events: pl.DataFrame) -> npt.NDArray[np.intp]:
    """Number the showers of a window from 0."""
    event_id = events["event_id"].to_numpy()
    if events["obs_id"].n_unique() <= 1:
        return _dense(event_id)
    keys = np.stack([_dense(events["obs_id"].to_numpy()), _dense(event_id)], axis=1)
    return _dense(keys[:, 0] * (int(keys[:, 1].max()) + 1) + keys[:, 1])


def _dense(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Replace keys by their rank, without sorting when they span few enough numbers."""
    if not len(keys):
        return np.empty(0, np.intp)
    low, span = keys.min(), int(keys.max() - keys.min()) + 1
    if span > DENSE_FACTOR * len(keys):
        return np.unique(keys, return_inverse=True)[1]
    present = np.zeros(span, np.bool_)
    present[keys - low] = True
    ranks: npt.NDArray[np.intp] = (np.cumsum(present) - 1)[keys - low]
    return ranks


#: A table of flags is cheaper than a sort up to this many flags per key.
DENSE_FACTOR = 64


def node_index(tel_ids: pl.Series, subarray: Subarray) -> npt.NDArray[np.intp]:
    """Index of each telescope id in the subarray."""
    table = np.full(max(subarray.tel_ids) + 1, -1, np.intp)
    table[list(subarray.tel_ids)] = np.arange(len(subarray))
    index: npt.NDArray[np.intp] = table[tel_ids.to_numpy()]
    return index


_Match = tuple["npt.NDArray[np.intp]", "npt.NDArray[np.intp]", "npt.NDArray[np.intp]"]


def _in_company(
    shower: npt.NDArray[np.intp], kind: npt.NDArray[np.intp], least: int
) -> npt.NDArray[np.bool_]:
    """Rows whose shower has at least so many telescopes of the same type."""
    n_kinds = int(kind.max(initial=0)) + 1
    group = shower * n_kinds + kind
    return np.asarray(np.bincount(group)[group] >= least)


def _passing(
    events: pl.DataFrame,
    test: PairTest,
    subarray: Subarray,
    allowed: npt.NDArray[np.intp],
    match: _Match,
) -> npt.NDArray[np.intp]:
    """Positions of the matches that pass."""
    first, second, link = match
    values = [events[column].to_numpy() for column in test.columns]
    limits = np.asarray([test.limits[tel_id] for tel_id in subarray.tel_ids], float)
    # By allowed pair first, which are few.
    smaller = limits[allowed].min(axis=1)
    one, two = (tuple(column[rows] for column in values) for rows in (first, second))
    return np.flatnonzero(test.passes(one, two, tuple(limit[link] for limit in smaller.T)))


def _pair_rows(
    events: pl.DataFrame,
    rules: PairRules,
    subarray: Subarray,
    allowed: npt.NDArray[np.intp],
    match: _Match,
) -> pl.DataFrame:
    first, second, link = match
    types = subarray.types
    # Across types the pair is named after both, in alphabetic order: the column stays a key.
    names = ["-".join(sorted({types[i], types[j]})) for i, j in allowed.tolist()]
    labels = pl.Series(names, dtype=pl.String)
    both = pl.concat(
        [
            _side(events, rules, 1)[first],
            _side(events, rules, 2)[second].drop("obs_id", "event_id"),
            pl.DataFrame({"tel_type": labels.gather(link)}),
        ],
        how="horizontal",
    )
    return (
        both.lazy().with_columns(*rules.statistic).select(PAIRS.names()).collect(engine="in-memory")
    )


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
