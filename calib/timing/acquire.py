"""First offsets, by medians: from clocks that are milliseconds off, and through their jumps.

Chunk by chunk in order of time the offsets of the chunk before are carried on. Where they do not
fit any more, the chunk is searched: first for coincidences (the most frequent difference of two
telescopes, in bins of 100 ns), then by alternating medians of showers and telescopes. Medians
and modes do not care for a minority of wrong stamps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.timing.showers import Plan, StampedShowers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Acquirer", "group_median"]

#: Width of the bins in which coincidences are counted, ns.
COINCIDENCE_NS = 100.0
#: Stamps further from the middle of their shower than this need a search for coincidences, ns:
#: medians spread through the array only from neighbour to neighbour.
FAR_NS = 20.0
#: A telescope of which a larger part of the stamps does not fit is searched for again.
MISFIT_SHARE = 0.3
#: A coincidence counts with at least this many stamps, and this part of all.
MIN_COINCIDENCES, COINCIDENCE_SHARE = 5, 0.3
#: Showers of a chunk that are enough to follow the offsets.
SEARCHED = 4000
MEDIAN_ROUNDS = 5
#: Groups that 16 bits can number.
NARROW = 1 << 16
#: MAD to standard deviation of a Gaussian.
MAD_SIGMA = 1.4826
#: Before anything is known of the telescopes, ns.
START_SIGMA_NS = 2.0
#: Deviations in units of sigma that do not fit, and the least such deviation, ns.
MISFIT_SIGMA, MISFIT_NS = 5.0, 5.0


def group_median(values: Floats, group: Indices, n_groups: int) -> Floats:
    """Lower median of `values` by group, shape (n_groups,); NaN for an empty group.

    Examples
    --------
    >>> group_median(np.array([3.0, 1.0, 2.0, 7.0]), np.array([0, 0, 0, 2]), 3).tolist()
    [2.0, nan, 7.0]
    """
    # Twice as fast as a lexical sort; the order of equal values does not matter.
    order = np.argsort(values)
    narrow = group.astype(np.uint16) if n_groups <= NARROW else group  # sorted by radix
    order = order.take(np.argsort(narrow.take(order), kind="stable"))
    count = np.bincount(group, minlength=n_groups)
    start = np.cumsum(count) - count
    median = np.full(n_groups, np.nan)
    some = count > 0
    median[some] = values[order][(start + (count - 1) // 2)[some]]
    return median


@dataclass
class Acquirer:
    """Follows the offsets through time.

    Parameters
    ----------
    n_telescopes : int
        Telescopes of the array.
    plan : Plan
        The chunks.
    log_scale : float
        ln of the scale of the front's radius to begin with.

    Attributes
    ----------
    offset_ns : array, shape (n_chunks, n_telescopes)
        Offset of every telescope in every chunk; NaN before it was seen.
    sigma_ns : array, shape (n_telescopes,)
        Robust estimate of the telescope's noise.
    """

    n_telescopes: int
    plan: Plan
    log_scale: float

    def __post_init__(self) -> None:
        """Begin with nothing known."""
        self.offset_ns = np.full((len(self.plan), self.n_telescopes), np.nan)
        self.sigma_ns = np.full(self.n_telescopes, START_SIGMA_NS)
        self._carried = np.full(self.n_telescopes, np.nan)

    def follow(self, showers: StampedShowers, first_shower: int) -> None:
        """Learn from a window of showers; windows come in order."""
        if not len(showers):
            return
        delay = showers.delay_ns - showers.predict(self.log_scale)[0]
        chunk = self.plan.chunks(first_shower, len(showers))
        cuts = np.flatnonzero(np.diff(chunk, prepend=chunk[0] - 1))
        for low, high in zip(cuts, np.append(cuts[1:], len(showers)), strict=True):
            rows = slice(int(showers.start[low]), int(showers.start[high]))
            group = showers.shower[rows] - low
            self._follow(delay[rows], showers.telescope[rows], group, int(chunk[low]))

    def _follow(self, delay: Floats, telescope: Indices, group: Indices, chunk: int) -> None:
        stride = -(-(int(group[-1]) + 1) // SEARCHED)
        if stride > 1:  # every second shower, or third, tells as much
            part = group % stride == 0
            delay, telescope, group = delay[part], telescope[part], group[part] // stride
        n_showers = int(group[-1]) + 1
        deviation = self._deviation(delay, telescope, group, n_showers)
        if self._misfits(deviation, telescope).any():
            self._search(delay, telescope, group)
            deviation = self._deviation(delay, telescope, group, n_showers)
        self._learn_noise(deviation, telescope)
        known = ~np.isnan(self._carried)
        self.offset_ns[chunk, known] = self._carried[known]

    def _deviation(
        self, delay: Floats, telescope: Indices, group: Indices, n_showers: int
    ) -> Floats:
        """Deviation of each stamp from the median of its shower; NaN for new telescopes."""
        corrected = delay - self._carried[telescope]
        known = np.flatnonzero(~np.isnan(corrected))
        centre = group_median(corrected[known], group[known], n_showers)
        return np.asarray(corrected - centre[group])

    def _misfits(self, deviation: Floats, telescope: Indices) -> npt.NDArray[np.bool_]:
        """Telescopes that do not fit any more, or are new."""
        limit = np.maximum(MISFIT_SIGMA * self.sigma_ns, MISFIT_NS)[telescope]
        bad = ~(np.abs(deviation) <= limit)
        count = np.bincount(telescope, minlength=self.n_telescopes)
        bad_count = np.bincount(telescope[bad], minlength=self.n_telescopes)
        return np.asarray(bad_count > MISFIT_SHARE * np.maximum(count, 1))

    def _learn_noise(self, deviation: Floats, telescope: Indices) -> None:
        known = ~np.isnan(deviation)
        size = group_median(np.abs(deviation[known]), telescope[known], self.n_telescopes)
        enough = np.bincount(telescope[known], minlength=self.n_telescopes) >= 2 * MIN_COINCIDENCES
        self.sigma_ns[enough] = np.maximum(MAD_SIGMA * size[enough], LEAST_SIGMA_NS)

    def _search(self, delay: Floats, telescope: Indices, group: Indices) -> None:
        """Find offsets anew, starting from the carried ones."""
        start = np.where(np.isnan(self._carried), 0.0, self._carried)
        rest = delay - start[telescope]
        n_showers = int(group[-1]) + 1
        centre = group_median(rest, group, n_showers)
        coarse = np.zeros(self.n_telescopes)
        if np.mean(np.abs(rest - centre[group]) > FAR_NS) > FEW_FAR:
            coarse = coincidences(rest, telescope, group, self.n_telescopes)
        fine = coarse
        for _ in range(MEDIAN_ROUNDS):
            corrected = rest - fine[telescope]
            centre = group_median(corrected, group, n_showers)
            move = group_median(corrected - centre[group], telescope, self.n_telescopes)
            fine = fine + np.nan_to_num(move)
        seen = np.bincount(telescope, minlength=self.n_telescopes) > 0
        # The common shift means nothing; keeping it where it was lets the others stay put.
        old = seen & ~np.isnan(self._carried)
        shift = np.median(fine[old]) if old.any() else 0.0
        self._carried[seen] = (start + fine - shift)[seen]


#: Part of far stamps that accidental coincidences may be; more are clocks that are off.
FEW_FAR = 0.05
#: No trigger is better than the quantum of the stamps allows.
LEAST_SIGMA_NS = 0.1


def coincidences(delay: Floats, telescope: Indices, group: Indices, n_telescopes: int) -> Floats:
    """Offsets of telescopes from the most frequent differences of their stamps.

    Parameters
    ----------
    delay : array, shape (n_rows,)
        Stamps less what is known, ns.
    telescope, group : array of int, shape (n_rows,)
        Telescope and shower of each row, showers ascending.
    n_telescopes : int
        Telescopes of the array.

    Returns
    -------
    array, shape (n_telescopes,)
        Offsets relative to the telescope with most stamps, by way of the pairs with most
        coincidences; 0 for telescopes without coincidences.
    """
    row_of = np.full((int(group[-1]) + 1, n_telescopes), -1, np.int64)
    row_of[group, telescope] = np.arange(len(delay))
    count = np.bincount(telescope, minlength=n_telescopes)
    offset, done = np.zeros(n_telescopes), [int(np.argmax(count))]
    waiting = [tel for tel in np.flatnonzero(count).tolist() if tel != done[0]]
    best = dict.fromkeys(waiting, (0, 0.0))
    newest = done[0]
    while waiting:
        for tel in waiting:
            both = (row_of[:, tel] >= 0) & (row_of[:, newest] >= 0)
            difference = delay[row_of[both, tel]] - delay[row_of[both, newest]]
            n, peak = _peak(difference)
            best[tel] = max(best[tel], (n, peak + offset[newest]))
        newest = max(waiting, key=lambda tel: best[tel][0])
        if best[newest][0] < MIN_COINCIDENCES:
            break
        offset[newest] = best[newest][1]
        waiting.remove(newest)
    return offset


def _peak(difference: Floats) -> tuple[int, float]:
    """Number of coincidences and their median difference; 0 if nothing stands out."""
    if len(difference) < MIN_COINCIDENCES:
        return 0, 0.0
    # Two grids, half a bin apart: a peak on an edge of one is in the middle of the other.
    found = (0, 0.0)
    for shift in (0.0, 0.5):
        bins, counts = np.unique(np.floor(difference / COINCIDENCE_NS + shift), return_counts=True)
        most = int(np.argmax(counts))
        centre = (bins[most] - shift + 0.5) * COINCIDENCE_NS
        found = max(found, (int(counts[most]), float(centre)))
    n, centre = found
    if n < max(MIN_COINCIDENCES, COINCIDENCE_SHARE * len(difference)):
        return 0, 0.0
    near = np.abs(difference - centre) <= COINCIDENCE_NS
    return n, float(np.median(difference[near]))
