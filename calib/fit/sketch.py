"""The showers that teach the model: all of a few, and of many a sample that is always the same.

Any fixed weights and any fixed selection by expected value give an unbiased solution. What they are
learnt on decides how well they are known, and a sample knows them well enough; the solution is
made of all showers (`arraycal.calib.fit.sweep`).

Showers have a pseudo-random number (`arraycal.calib.fit.showers.shower_order`). Of every telescope
those with the smallest numbers are taken, so that the sample does not depend on the order of files,
and samples of parts of the data give that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.showers import together
from arraycal.calib.fit.sums.block_sums import chunk_edges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["PER_TELESCOPE", "PER_TYPE", "Sketch", "merge_sketches", "quotas", "sketch"]

#: Showers of each telescope in the sample, and of all telescopes of a type together. Resolutions
#: are then known to 1 %. With less than half, coefficients move by 0.3 of the errors of 9,000
#: showers (`tests/closure/test_sample.py`). Of telescopes with fewer, all showers are in it.
PER_TELESCOPE, PER_TYPE = 6_000, 100_000
#: Parts are thinned out when they hold this many times the quota.
SLACK = 2.0
LAST = np.uint64(np.iinfo(np.uint64).max)


def quotas(subarray: Subarray) -> Indices:
    """Showers of each telescope in a sample, shape (n,)."""
    codes = subarray.type_codes
    alike = np.bincount(codes)[codes]
    return np.maximum(PER_TELESCOPE, PER_TYPE // alike)


@dataclass(frozen=True)
class Sketch:
    """What is known of showers before a model is.

    Parameters
    ----------
    showers : list of Showers
        The sample that teaches the model: the windows themselves if no telescope has many more
        than its quota, else one window.
    is_all : bool
        Whether the sample is everything.
    edges_s : dict of int to array
        Time chunks by block, see `arraycal.calib.fit.sums.block_sums.chunk_edges`.
    """

    showers: list[Showers]
    is_all: bool
    edges_s: dict[int, Floats]


def sketch(windows: Iterable[Showers], quota: Indices) -> Sketch:
    """Look at all showers once.

    Parameters
    ----------
    windows : iterable of Showers
        All of them.
    quota : array of int, shape (n,)
        Showers of each telescope in the sample, see `quotas`.
    """
    times_s: dict[int, list[Floats]] = {}

    def seen() -> Iterator[Showers]:
        for showers in windows:
            times_s.setdefault(showers.block, []).append(showers.time_s)
            yield showers

    chosen, is_all = _sample(seen(), quota)
    return Sketch(chosen, is_all, chunk_edges(times_s, len(quota)))


def merge_sketches(parts: Iterable[Sketch], quota: Indices) -> Sketch:
    """Return what is known of the showers of all parts, disjoint blocks.

    Parameters
    ----------
    parts : iterable of Sketch
        Made with the same quota.
    quota : array of int, shape (n,)
        Showers of each telescope in the sample.
    """
    whole: list[bool] = []
    edges_s: dict[int, Floats] = {}

    def seen() -> Iterator[Showers]:
        for part in parts:
            whole.append(part.is_all)
            edges_s.update(part.edges_s)
            yield from part.showers

    chosen, is_all = _sample(seen(), quota)
    if is_all and not all(whole):
        return Sketch([_thinned(chosen, quota)], is_all=False, edges_s=edges_s)
    return Sketch(chosen, is_all, edges_s)


def _sample(windows: Iterable[Showers], quota: Indices) -> tuple[list[Showers], bool]:
    """Choose the showers that teach the model, and tell whether they are all."""
    most, parts, rows, is_all = SLACK * quota.sum(), [], 0, True
    for showers in windows:
        parts.append(showers)
        rows += len(showers.node)
        if rows > most:
            parts, is_all = [_thinned(parts, quota)], False
            # Showers have many telescopes, so that a sample may hold more rows than the quotas.
            rows = len(parts[0].node)
            most = max(most, SLACK * rows)
    if is_all and not (np.bincount(_nodes(parts), minlength=len(quota)) > SLACK * quota).any():
        return parts, is_all
    return [_thinned(parts, quota)], False


def _nodes(parts: Iterable[Showers]) -> Indices:
    return np.concatenate([np.empty(0, np.intp), *(part.node for part in parts)])


def _thinned(parts: list[Showers], quota: Indices) -> Showers:
    """Showers with the smallest numbers of any of their telescopes."""
    showers = together(parts)
    if not len(showers.order):
        return showers
    order = np.repeat(showers.order, np.diff(showers.shower_start))
    last = np.full(len(quota), LAST)
    for node, most in enumerate(quota.tolist()):
        own = order[showers.node == node]
        if len(own) > most:
            last[node] = np.partition(own, most - 1)[most - 1]
    return showers.some(
        np.logical_or.reduceat(order <= last[showers.node], showers.shower_start[:-1])
    )
