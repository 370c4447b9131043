"""ROWS or PAIRS as arrays: telescope rows sorted by shower, and the pairs between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.index import node_index, shower_index
from arraycal.calib.schema import PAIRS, ROWS, TIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Integers = npt.NDArray[np.int64]

__all__ = [
    "FOR_PEOPLE",
    "IMPACT_CENTRES_M",
    "IMPACT_EDGES_M",
    "Showers",
    "prepare_pairs",
    "prepare_rows",
    "shower_order",
    "tally",
    "together",
]

#: Columns of ROWS that are for people to look at: `prepare_rows` needs none of them.
FOR_PEOPLE = ("tel_type", "asymmetry")

#: Edges of the impact-distance bins in which resolution and threshold may differ: as fine as the
#: core is known, because the threshold climbs steeply beyond the shoulder of the light pool at
#: 120 m and a bin that mixes thresholds is cut in the wrong place. A missing distance falls in
#: the last bin.
IMPACT_EDGES_M = np.concatenate(
    [np.arange(20.0, 260.0, 20.0), np.arange(260.0, 620.0, 40.0), [800.0]]
)
#: Middle of each bin; the last is open.
IMPACT_CENTRES_M = np.append(
    0.5 * (np.append(0.0, IMPACT_EDGES_M[:-1]) + IMPACT_EDGES_M), IMPACT_EDGES_M[-1] + 50.0
)


IDS = ("obs_id", "event_id")


@dataclass(frozen=True)
class Showers:
    """Complete showers as arrays: telescope rows sorted by shower, and pairs of rows.

    Parameters
    ----------
    node : array of int, shape (n_rows,)
        Index of the telescope in the subarray.
    kind : array of int, shape (n_rows,)
        Code of its type.
    y : array, shape (n_rows,)
        ln(value).
    impact_m, impact_bin : array, shape (n_rows,)
        Impact distance (m, NaN if unknown) and its bin.
    group : array of int, shape (n_rows,)
        Number of the group: telescopes of a shower that share a free shower term.
    group_start : array of int, shape (n_groups,)
        First row of each group.
    shower_start : array of int, shape (n_showers + 1,)
        First row of each shower, and the number of rows.
    rank : array of int, shape (n_nodes,)
        Place of each telescope of the subarray in the order of ids: of a pair, the one with the
        lower is the first.
    formed : tuple of two arrays of int, shape (n_pairs,), or None
        Rows of the two telescopes of each pair; None if all pairs within each group count.
    covariates : dict of str to array, shape (n_groups,)
        The further columns of the table, which describe the shower of each group.
    block : int
        Number of the block they are of.
    order : array of uint64, shape (n_showers,)
        Pseudo-random number of each shower, the same wherever it is met; empty if there are no
        ids.
    """

    node: Indices
    kind: Indices
    y: Floats
    impact_m: Floats
    impact_bin: Indices
    group: Indices
    group_start: Indices
    shower_start: Indices
    rank: Indices
    formed: tuple[Indices, Indices] | None = None
    covariates: dict[str, Floats] = field(default_factory=dict)
    block: int = 0
    order: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def n_nodes(self) -> int:
        """Number of telescopes of the subarray."""
        return len(self.rank)

    @property
    def complete(self) -> bool:
        """Whether all pairs within each group count, so that sums need no pairs."""
        return self.formed is None

    @property
    def first(self) -> Indices:
        """Row of the first telescope of each pair, shape (n_pairs,)."""
        return self._sides[0]

    @property
    def second(self) -> Indices:
        """Row of the second telescope of each pair, shape (n_pairs,)."""
        return self._sides[1]

    @cached_property
    def _sides(self) -> tuple[Indices, Indices]:
        return self._all_pairs() if self.formed is None else self.formed

    def _all_pairs(self) -> tuple[Indices, Indices]:
        """All pairs within each group, in the order of PAIRS: one pair of telescopes after another.

        In the same order sums come out the same to the last digit.
        """
        size = np.diff(self.group_start, append=len(self.node))
        after = (self.group_start + size)[self.group] - np.arange(len(self.node)) - 1
        one = np.repeat(np.arange(len(self.node)), after)
        begin = np.cumsum(after) - after
        two = one + 1 + np.arange(len(one)) - begin[one]
        rank = self.rank[self.node]
        turned = rank[one] > rank[two]
        first, second = np.where(turned, two, one), np.where(turned, one, two)
        # 16 bits are sorted by counting, 1e6 in 5 ms.
        link = rank[first] * self.n_nodes + rank[second]
        small = np.uint16 if self.n_nodes**2 <= np.iinfo(np.uint16).max else np.int64
        order = np.argsort(link.astype(small), kind="stable")
        return first[order], second[order]

    @property
    def time_s(self) -> Floats:
        """Trigger time of each shower, s; NaN where it is not known. Shape (n_showers,)."""
        starts = self.shower_start[:-1]
        if TIME not in self.covariates:
            return np.full(len(starts), np.nan)
        return self.covariates[TIME][self.group[starts]]

    def some(self, which: npt.NDArray[np.bool_]) -> Showers:
        """Some of the showers, by a flag for each."""
        if which.all():
            return self
        rows = np.repeat(which, np.diff(self.shower_start))
        place = np.cumsum(rows) - 1
        groups = rows[self.group_start]
        return replace(
            self,
            node=self.node[rows],
            kind=self.kind[rows],
            y=self.y[rows],
            impact_m=self.impact_m[rows],
            impact_bin=self.impact_bin[rows],
            group=(np.cumsum(groups) - 1)[self.group[rows]],
            group_start=place[self.group_start[groups]],
            shower_start=np.append(place[self.shower_start[:-1][which]], rows.sum()),
            formed=self._formed_of(rows, place),
            covariates={name: values[groups] for name, values in self.covariates.items()},
            order=self.order[which] if len(self.order) else self.order,
        )

    def _formed_of(
        self, rows: npt.NDArray[np.bool_], place: Indices
    ) -> tuple[Indices, Indices] | None:
        """Pairs of some of the rows, which are then in other places."""
        if self.formed is None:
            return None
        first, second = self.formed
        pairs = rows[first]
        return place[first[pairs]], place[second[pairs]]

    def total(self, values: Floats) -> Floats:
        """Sum over the rows of each group, shape (n_groups,)."""
        return np.add.reduceat(values, self.group_start) if len(values) else np.empty(0)


def together(parts: Sequence[Showers]) -> Showers:
    """Put windows of showers one after the other, as if of the first one's block."""
    if len(parts) == 1:
        return parts[0]
    rows = np.cumsum([0, *(len(part.node) for part in parts)])
    groups = np.cumsum([0, *(len(part.group_start) for part in parts)])

    def joined(name: str, shifts: Indices | None = None) -> npt.NDArray[Any]:
        arrays = [getattr(part, name) for part in parts]
        if shifts is not None:
            arrays = [array + shift for array, shift in zip(arrays, shifts, strict=False)]
        return np.concatenate(arrays)

    starts = [part.shower_start[:-1] + at for part, at in zip(parts, rows, strict=False)]
    return replace(
        parts[0],
        node=joined("node"),
        kind=joined("kind"),
        y=joined("y"),
        impact_m=joined("impact_m"),
        impact_bin=joined("impact_bin"),
        group=joined("group", groups),
        group_start=joined("group_start", rows),
        shower_start=np.concatenate([*starts, rows[-1:]]),
        formed=None
        if all(part.complete for part in parts)
        else (joined("first", rows), joined("second", rows)),
        covariates={
            name: np.concatenate([part.covariates[name] for part in parts])
            for name in parts[0].covariates
        },
        order=joined("order"),
    )


def prepare_pairs(pairs: pl.DataFrame, subarray: Subarray, block: int = 0) -> Showers:
    """Turn PAIRS of complete showers into arrays.

    Parameters
    ----------
    pairs : DataFrame
        PAIRS; the rows of a shower may be in any order but must all be present.
    subarray : Subarray
        The telescopes.
    block : int
        Number of their block, to tell the sums of blocks apart.

    Returns
    -------
    Showers
        Rows sorted by shower and telescope.
    """
    n_nodes = len(subarray)
    shower = shower_index(pairs)
    n_showers = int(shower.max(initial=-1)) + 1
    keys = [shower * n_nodes + node_index(pairs[f"tel_id_{side}"], subarray) for side in (1, 2)]
    present = np.zeros(n_showers * n_nodes, np.bool_)
    present[keys[0]] = present[keys[1]] = True
    slots = np.flatnonzero(present)
    row_of = np.cumsum(present, dtype=np.int32) - 1
    first, second = (row_of[key].astype(np.intp) for key in keys)
    y, impact = np.empty(len(slots)), np.empty(len(slots))
    for side, rows in ((1, first), (2, second)):
        y[rows] = np.log(pairs[f"value_{side}"].to_numpy())
        impact[rows] = pairs[f"impact_{side}_m"].to_numpy()
    node, row_shower = slots % n_nodes, slots // n_nodes
    kind = subarray.type_codes[node]
    new_shower = np.diff(row_shower, prepend=-1) > 0
    new_group = _new_groups(pairs, new_shower, kind)
    group_start = np.flatnonzero(new_group)
    shower_of_group = row_shower[new_group]
    multiplicity = np.diff(np.append(group_start, len(slots)))
    complete = len(first) == int((multiplicity * (multiplicity - 1)).sum()) // 2
    return Showers(
        node=node,
        kind=kind,
        y=y,
        impact_m=impact,
        impact_bin=np.digitize(impact, IMPACT_EDGES_M),
        group=np.cumsum(new_group) - 1,
        group_start=group_start,
        shower_start=np.append(np.flatnonzero(new_shower), len(slots)),
        rank=_rank(subarray),
        formed=None if complete else (first, second),
        covariates={
            name: _of_shower(pairs[name], shower, n_showers)[shower_of_group]
            for name in pairs.columns[len(PAIRS) :]
        },
        block=block,
        order=shower_order(*(_of_shower(pairs[name], shower, n_showers) for name in IDS)),
    )


def prepare_rows(
    rows: pl.DataFrame, subarray: Subarray, block: int = 0, *, across_types: bool
) -> Showers:
    """Turn ROWS of complete showers into arrays.

    Parameters
    ----------
    rows : DataFrame
        ROWS in their order, with or without the columns of `FOR_PEOPLE`. Rows that others have
        been taken away from, so that they are alone now, are left out.
    subarray : Subarray
        The telescopes.
    block : int
        Number of their block, to tell the sums of blocks apart.
    across_types : bool
        Whether telescopes of different types share the term of their shower.

    Returns
    -------
    Showers
        Rows as they are, and all pairs of them.
    """
    node = node_index(rows["tel_id"], subarray)
    kind = subarray.type_codes[node]
    new_shower = _changes(rows["event_id"].to_numpy()) | _changes(rows["obs_id"].to_numpy())
    new_group = new_shower if across_types else new_shower | _changes(kind)
    alone = new_group & np.append(new_group[1:], True)
    if alone.any():
        rest = rows.filter(~pl.Series(alone))
        return prepare_rows(rest, subarray, block, across_types=across_types)
    start = np.flatnonzero(new_group)
    impact = rows["impact_m"].to_numpy()
    return Showers(
        node=node,
        kind=kind,
        y=np.log(rows["value"].to_numpy()),
        impact_m=impact,
        impact_bin=np.digitize(impact, IMPACT_EDGES_M),
        group=np.cumsum(new_group) - 1,
        group_start=start,
        shower_start=np.append(np.flatnonzero(new_shower), len(rows)),
        rank=_rank(subarray),
        covariates={
            name: rows[name].to_numpy()[start] for name in rows.columns if name not in ROWS
        },
        block=block,
        order=shower_order(*(rows[name].to_numpy()[new_shower] for name in IDS)),
    )


def _changes(values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before it; the first does."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _rank(subarray: Subarray) -> Indices:
    """Place of each telescope in the order of ids."""
    return np.argsort(np.argsort(subarray.tel_ids))


def shower_order(obs_id: Integers, event_id: Integers) -> npt.NDArray[np.uint64]:
    """Pseudo-random number of showers: the same in every file, run and release.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014), over one id after the other.
    """
    mixed = np.zeros(len(obs_id), np.uint64)
    for ids in (obs_id, event_id):
        mixed += ids.astype(np.uint64) + GOLDEN
        for shift, factor in zip((30, 27), FACTORS, strict=True):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
        mixed ^= mixed >> np.uint64(31)
    return mixed


#: Constants of SplitMix64.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _of_shower(column: pl.Series, shower: Indices, n_showers: int) -> npt.NDArray[Any]:
    """Take a column that is the same in all rows of a shower, shape (n_showers,)."""
    given = column.to_numpy()
    values = np.empty(n_showers, given.dtype)
    values[shower] = given
    return values


def _new_groups(
    pairs: pl.DataFrame, new_shower: npt.NDArray[np.bool_], kind: Indices
) -> npt.NDArray[np.bool_]:
    """Where a shower term begins: with each shower, and with each type if no pair mixes types."""
    mixed = pairs["tel_type"].str.contains("-", literal=True).any()
    return new_shower if mixed else new_shower | (np.diff(kind, prepend=-1) != 0)


def tally(index: Indices, values: Floats, size: int) -> Floats:
    """Sum `values` by `index`, shape (size,)."""
    # For the type checker: stubs promise integers, weights make it floats.
    return np.bincount(index, values, size).astype(np.float64, copy=False)
