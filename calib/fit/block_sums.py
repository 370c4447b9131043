"""A pass over the showers that keeps the sums of every block apart, at no price but their memory.

Sums of a block hold what a solver reads: a few arrays of n by n telescopes, 150 kB for 55 of them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.summary import Summary, empty_summary, merge_summaries, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers

__all__ = ["sums_by_block"]

#: Fields that a solver by events reads, beside the numbers of pair rows.
FOR_SOLVER = (
    "weight", "weighted", "curvature", "meat", "n_showers", "n_groups", "n_rows", "n_events",
    "chi2", "columns",
)  # fmt: skip


def sums_by_block(windows: Iterable[Showers], model: Model) -> tuple[Summary, dict[int, Summary]]:
    """Sum over all showers.

    Parameters
    ----------
    windows : iterable of Showers
        At least one; those of a block follow each other.
    model : Model
        Current solution, weights and selection.

    Returns
    -------
    (Summary, dict of int to Summary)
        Sums of all showers, and those of each block by its number, as far as a solver reads them.
    """
    blocks: dict[int, Summary] = {}
    empty = empty_summary(model)

    def by_block() -> Iterator[Summary]:
        for block, its in groupby(windows, lambda showers: showers.block):
            summary = merge_summaries(summarise(showers, model) for showers in its)
            blocks[block] = _for_solver(summary, empty)
            yield summary

    return merge_summaries(by_block()), blocks


def _for_solver(summary: Summary, empty: Summary) -> Summary:
    """Keep what a solver reads; the rest is that of `empty`, which all blocks share."""
    kept = {name: getattr(summary, name) for name in FOR_SOLVER}
    if np.array_equal(summary.curvature, summary.weight):
        kept["curvature"] = summary.weight
    return replace(empty, log_ratio=replace(empty.log_ratio, n=summary.log_ratio.n), **kept)
