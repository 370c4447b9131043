"""Sums of every block, and of stretches of time in it, beside those of all showers.

Sums of a part hold what a solver reads: a few arrays of n by n telescopes, 150 kB for 55 of them.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.sums.summarise import learning_sums
from arraycal.calib.fit.sums.summary import empty_summary, merge_for_solver, merge_summaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sums.summary import Summary

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Chunks = Mapping[int, Mapping[int, Summary]]

__all__ = [
    "MIN_CHUNK_S",
    "UNTIMED",
    "chunk_edges",
    "chunk_of_shower",
    "sums_by_block",
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


def sums_of_pass(windows: Iterable[Showers], model: Model) -> Summary:
    """Sum over all showers, block by block; at least one window."""
    return merge_summaries(
        merge_summaries(learning_sums(showers, model) for showers in its)
        for _, its in groupby(windows, lambda showers: showers.block)
    )


def chunk_edges(times_s: Mapping[int, Sequence[Floats]], n_nodes: int) -> dict[int, Floats]:
    """Where the time chunks of each block begin and end.

    Parameters
    ----------
    times_s : mapping of int to sequence of array
        Trigger times of the showers, s, by number of the block.
    n_nodes : int
        Telescopes of the array.

    Returns
    -------
    dict of int to array, shape (n_chunks + 1,)
        Seconds, by number of the block: equally many showers in each chunk, also where the
        observations of a block have time between them. A single chunk where the block is too
        short or has too few showers for two, none where no shower has a time.
    """
    edges = {}
    for block, parts in times_s.items():
        time_s = np.concatenate(parts)
        edges[block] = _edges(time_s[np.isfinite(time_s)], SHOWERS_PER_TELESCOPE * n_nodes)
    return edges


def _edges(time_s: Floats, least: int) -> Floats:
    if not len(time_s):
        return time_s
    for n_chunks in N_CHUNKS:
        edges = np.quantile(time_s, np.linspace(0.0, 1.0, n_chunks + 1))
        if len(time_s) >= n_chunks * least and np.diff(edges).min() >= MIN_CHUNK_S:
            return np.asarray(edges)
    return np.array([time_s.min(), time_s.max()])


def chunk_of_shower(showers: Showers, edges: Floats) -> Indices:
    """Number of each shower's time chunk; `UNTIMED` if it is in none."""
    time_s = showers.time_s
    inside = np.searchsorted(edges[1:-1], time_s, side="right")
    return np.where(np.isfinite(time_s), inside, UNTIMED)


def sums_by_block(chunks: Chunks, model: Model) -> dict[int, Summary]:
    """Sums of each block from those of its chunks."""
    empty = empty_summary(model)
    return {block: merge_for_solver([empty, *sums.values()]) for block, sums in chunks.items()}


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
    first, second = (merge_for_solver([empty, *half]) for half in halves)
    return first, second
