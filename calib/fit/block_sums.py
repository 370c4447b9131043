"""Sums of every block, and of stretches of time in it, beside those of all showers.

Sums of a part hold what a solver reads: a few arrays of n by n telescopes, 150 kB for 55 of them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.summary import Summary, empty_summary, merge_summaries, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Chunks = Mapping[int, Mapping[int, Summary]]

__all__ = [
    "MIN_CHUNK_S",
    "UNTIMED",
    "chunk_edges",
    "sums_by_block",
    "sums_by_chunk",
    "sums_of_pass",
    "time_halves",
]

#: Numbers of time chunks of a block that are tried; even, so that they make halves.
N_CHUNKS = (6, 4, 2)
#: Least length of a chunk: whatever changes faster than that is noise of the instrument.
MIN_CHUNK_S = 60.0
#: Least number of showers of a chunk, for each telescope of the array: with four telescopes in a
#: shower that is 80 of each, and the errors of a chunk are known to a tenth.
SHOWERS_PER_TELESCOPE = 20
#: Number of the showers that are in no chunk, because their time, or that of all, is not known.
UNTIMED = -1
#: Fields that a solver by events reads, beside the numbers of pair rows.
FOR_SOLVER = (
    "weight", "weighted", "curvature", "meat", "n_showers", "n_groups", "n_rows", "n_events",
    "chi2", "columns",
)  # fmt: skip


def sums_of_pass(windows: Iterable[Showers], model: Model) -> Summary:
    """Sum over all showers, block by block; at least one window."""
    return merge_summaries(
        merge_summaries(summarise(showers, model) for showers in its)
        for _, its in groupby(windows, lambda showers: showers.block)
    )


def chunk_edges(windows: Iterable[Showers]) -> dict[int, Floats]:
    """Where the time chunks of each block begin and end.

    Parameters
    ----------
    windows : iterable of Showers
        Those of a block follow each other.

    Returns
    -------
    dict of int to array, shape (n_chunks + 1,)
        Seconds, by number of the block: equally many showers in each chunk, also where the
        observations of a block have time between them. A single chunk where the block is too
        short or has too few showers for two, none where no shower has a time.
    """
    edges = {}
    for block, its in groupby(windows, lambda showers: showers.block):
        parts = [(showers.time_s, showers.n_nodes) for showers in its]
        time_s = np.concatenate([times for times, _ in parts])
        edges[block] = _edges(time_s[np.isfinite(time_s)], SHOWERS_PER_TELESCOPE * parts[0][1])
    return edges


def _edges(time_s: Floats, least: int) -> Floats:
    if not len(time_s):
        return time_s
    for n_chunks in N_CHUNKS:
        edges = np.quantile(time_s, np.linspace(0.0, 1.0, n_chunks + 1))
        if len(time_s) >= n_chunks * least and np.diff(edges).min() >= MIN_CHUNK_S:
            return np.asarray(edges)
    return np.array([time_s.min(), time_s.max()])


def sums_by_chunk(
    windows: Iterable[Showers], model: Model, edges: Mapping[int, Floats]
) -> dict[int, dict[int, Summary]]:
    """Sum over the showers of each chunk.

    Parameters
    ----------
    windows : iterable of Showers
        All showers.
    model : Model
        Solution, weights and selection of the last pass.
    edges : mapping of int to array
        From `chunk_edges`.

    Returns
    -------
    dict of int to dict of int to Summary
        As far as a solver reads them, by number of the block and of the chunk (`UNTIMED`: showers
        in none).
    """
    blocks: dict[int, dict[int, Summary]] = {}
    empty = empty_summary(model)
    for showers in windows:
        sums = blocks.setdefault(showers.block, {})
        time_s = showers.time_s
        inner = edges[showers.block][1:-1]
        chunk = np.where(np.isfinite(time_s), np.searchsorted(inner, time_s, side="right"), UNTIMED)
        for number in np.unique(chunk).tolist():
            own = [summarise(showers.some(chunk == number), model)]
            own += [sums[number]] if number in sums else []
            sums[number] = _for_solver(merge_summaries(own), empty)
    return {block: dict(sorted(sums.items())) for block, sums in blocks.items()}


def sums_by_block(chunks: Chunks, model: Model) -> dict[int, Summary]:
    """Sums of each block from those of its chunks."""
    empty = empty_summary(model)
    return {
        block: _for_solver(merge_summaries(sums.values()), empty) for block, sums in chunks.items()
    }


def time_halves(
    chunks: Chunks, edges: Mapping[int, Floats], model: Model
) -> tuple[Summary, Summary]:
    """Sums of the first and of the second half of every block that has chunks."""
    halves: tuple[list[Summary], list[Summary]] = ([], [])
    for block, sums in chunks.items():
        n_chunks = len(edges[block]) - 1
        for number, summary in sums.items():
            if number != UNTIMED and n_chunks > 1:
                halves[2 * number >= n_chunks].append(summary)
    empty = empty_summary(model)
    first, second = (merge_summaries([empty, *half]) for half in halves)
    return first, second


def _for_solver(summary: Summary, empty: Summary) -> Summary:
    """Keep what a solver reads; the rest is that of `empty`, which all parts share."""
    kept = {name: getattr(summary, name) for name in FOR_SOLVER}
    if np.array_equal(summary.curvature, summary.weight):
        kept["curvature"] = summary.weight
    return replace(empty, log_ratio=replace(empty.log_ratio, n=summary.log_ratio.n), **kept)
