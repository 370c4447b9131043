"""Histograms of the log ratios of telescope pairs, as selected for the fit.

An array of a hundred telescopes has thousands of pairs. Kept are, for every type or combination
of types, the pairs that say most: first the best partner of every telescope, then the second best,
by number of showers. How many are not kept is said in the result.

The log ratio is that of the values with the fitted distance curve taken off both, so that its mean
is ``s_i - s_j`` for sizes, too. The weighted mean of the fit sees the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.weighing import log_ratios, pairs_in_use

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "EDGES",
    "PAIR_HISTOGRAMS",
    "PairHistograms",
    "histogram_table",
    "histogram_window",
    "informative_pairs",
]

#: Edges of the histograms in ln(v1 / v2): fine enough for a resolution of 5 %, and two telescopes
#: of 30 % and a factor of two apart are still inside. What lies beyond is counted beside them.
EDGES = np.linspace(-2.0, 2.0, 161)

#: One row per pair that is kept. `low` and `high` are the ends of the range, in which `counts` has
#: bins of equal width; `n_below` and `n_above` lie outside. `mean` is the plain mean of all rows
#: with its standard error, `fitted` the difference s_1 - s_2 of the fit (NaN where there is none).
PAIR_HISTOGRAMS = pl.Schema(
    {
        "tel_type": pl.String(),
        "tel_id_1": pl.Int64(),
        "tel_id_2": pl.Int64(),
        "n_events": pl.Int64(),
        "mean": pl.Float64(),
        "mean_error": pl.Float64(),
        "fitted": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n_below": pl.Int64(),
        "n_above": pl.Int64(),
        "counts": pl.Array(pl.Int64(), len(EDGES) - 1),
    }
)


@dataclass(frozen=True)
class PairHistograms:
    """Sums over the rows of k pairs.

    Parameters
    ----------
    first, second : array of int, shape (k,)
        The telescopes.
    counts : array, shape (k, n_bins + 2)
        Rows by bin of `EDGES`, under- and overflow at the ends.
    total, square : array, shape (k,)
        Summed log ratios and their squares.
    """

    first: Indices
    second: Indices
    counts: Floats
    total: Floats
    square: Floats

    def __add__(self, other: PairHistograms) -> PairHistograms:
        """Merge sums of disjoint showers."""
        return PairHistograms(
            self.first,
            self.second,
            self.counts + other.counts,
            self.total + other.total,
            self.square + other.square,
        )


def informative_pairs(n_common: Floats, kinds: Indices, most: int) -> tuple[Indices, Indices]:
    """Choose the pairs to keep.

    Parameters
    ----------
    n_common : array, shape (n, n)
        Showers in use by pair, first telescope in the rows.
    kinds : array of int, shape (n,)
        Type of each telescope.
    most : int
        Pairs to keep of each type and combination of types.

    Returns
    -------
    tuple of two arrays of int, shape (k,)
        First and second telescope, the most informative pairs of each combination first.
    """
    first, second = np.nonzero(n_common)
    if not len(first) or not most:
        return first[:0], second[:0]
    kind = np.sort(kinds[np.stack([first, second])], axis=0)
    pairs = pl.DataFrame(
        {
            "pair": np.arange(len(first)),
            "kind": kind[0] * (int(kinds.max()) + 1) + kind[1],
            "n": n_common[first, second],
            "first": first,
            "second": second,
        }
    )
    sides = pl.concat(
        [pairs.select("pair", "kind", "n", node=side) for side in ("first", "second")]
    )
    place = pl.col("n").rank("ordinal", descending=True).over("node", "kind")
    best = sides.with_columns(place=place).group_by("pair").agg(pl.col("place").min())
    ranked = pairs.join(best, on="pair").sort(
        "kind", "place", "n", "pair", descending=[False, False, True, False]
    )
    kept = ranked.group_by("kind", maintain_order=True).head(most)["pair"].to_numpy()
    return first[kept], second[kept]


def histogram_window(
    showers: Showers, model: Model, rows: WeighedRows, pairs: tuple[Indices, Indices]
) -> PairHistograms:
    """Histograms of some showers.

    Parameters
    ----------
    showers : Showers
        Rows and pairs.
    model : Model
        Of the last pass.
    rows : WeighedRows
        The rows in use, from `arraycal.calib.fit.weighing.weigh`.
    pairs : tuple of two arrays of int, shape (k,)
        From `informative_pairs`.

    Returns
    -------
    PairHistograms
        The sums.
    """
    n, k = showers.n_nodes, len(pairs[0])
    slot = np.full(n * n, -1)
    slot[pairs[0] * n + pairs[1]] = np.arange(k)
    in_use = pairs_in_use(showers, rows)
    place = slot[showers.node[in_use.first] * n + showers.node[in_use.second]]
    kept = place >= 0
    place, ratio = place[kept], log_ratios(showers, model, rows, in_use)[kept]
    n_bins = len(EDGES) + 1
    counts = np.bincount(place * n_bins + np.digitize(ratio, EDGES), minlength=k * n_bins)
    return PairHistograms(
        *pairs,
        counts.reshape(k, n_bins).astype(float),
        tally(place, ratio, k),
        tally(place, ratio**2, k),
    )


def histogram_table(histograms: PairHistograms, fitted: Fit, subarray: Subarray) -> pl.DataFrame:
    """Table of the result, schema `PAIR_HISTOGRAMS`."""
    first, second = histograms.first, histograms.second
    s, component = fitted.solution.log_throughput, fitted.solution.component
    same = (component[first] >= 0) & (component[first] == component[second])
    counts = histograms.counts.astype(np.int64)
    n = counts.sum(axis=1)
    types, tel_ids = np.asarray(subarray.types), np.asarray(subarray.tel_ids)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = histograms.total / n
        variance = np.maximum(histograms.square / n - mean**2, 0.0) / (n - 1)
    table = pl.DataFrame(
        {
            "tel_type": [
                "-".join(dict.fromkeys(pair))
                for pair in zip(types[first], types[second], strict=True)
            ],
            "tel_id_1": tel_ids[first],
            "tel_id_2": tel_ids[second],
            "n_events": n,
            "mean": mean,
            "mean_error": np.where(n > 1, np.sqrt(variance), np.nan),
            "fitted": np.where(same, s[first] - s[second], np.nan),
            "low": np.full(len(n), EDGES[0]),
            "high": np.full(len(n), EDGES[-1]),
            "n_below": counts[:, 0],
            "n_above": counts[:, -1],
            "counts": counts[:, 1:-1],
        },
        schema=PAIR_HISTOGRAMS,
    )
    return table.sort("tel_type", "tel_id_1", "tel_id_2")
