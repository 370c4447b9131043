"""Where telescopes begin to lose showers, and where they saturate: limits of the selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.resolutions import far_noisier
from arraycal.calib.fit.showers import IMPACT_CENTRES_M
from arraycal.calib.fit.sums.summary import OWN_EDGES, TURN_ON_EDGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.fit.model import Estimate
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]

__all__ = ["ceilings", "own_offsets", "thresholds", "turn_on_threshold"]


def thresholds(
    summary: Summary, subarray: Subarray, wanted: str | Mapping[int, float] | None
) -> Floats:
    """Thresholds in ln(value) by type and impact bin: none, found in the data, or those given."""
    shape = summary.turn_on.shape[:2]
    if wanted is None:
        return np.full(shape, -np.inf)
    if wanted == "auto":
        return np.stack([_type_thresholds(histogram) for histogram in summary.turn_on])
    assert not isinstance(wanted, str)  # noqa: S101  for the type checker
    values = np.asarray([wanted[tel_id] for tel_id in subarray.tel_ids])
    by_type = np.full(shape[0], -np.inf)
    # The strictest of a type: a pair must not be selected differently for its two telescopes.
    np.maximum.at(by_type, subarray.type_codes, values)
    return np.repeat(by_type[:, None], shape[1], axis=1)


def ceilings(subarray: Subarray, wanted: Mapping[int, float] | None) -> Floats:
    """Ceilings by telescope: a row is selected by the mean of its shower, which prefers no sign."""
    if wanted is None:
        return np.full(len(subarray), np.inf)
    return np.asarray([wanted[tel_id] for tel_id in subarray.tel_ids])


def _type_thresholds(histograms: Floats) -> Floats:
    """Thresholds of one type by impact bin; sparse bins follow from those that have enough rows."""
    found = np.array([turn_on_threshold(histogram) for histogram in histograms])
    known = np.flatnonzero(histograms.sum(axis=1) >= MIN_TURN_ON_ROWS)
    if len(known) < 2:  # noqa: PLR2004  no trend from a single bin
        return _of_neighbours(histograms)
    result = np.asarray(np.interp(IMPACT_CENTRES_M, IMPACT_CENTRES_M[known], found[known]))
    beyond = slice(known[-1] + 1, None)
    last = known[-LAST_BINS:]
    climb = max(0.0, float(np.polyfit(IMPACT_CENTRES_M[last], found[last], 1)[0]))
    result[beyond] += climb * (IMPACT_CENTRES_M[beyond] - IMPACT_CENTRES_M[known[-1]])
    return result


def _of_neighbours(histograms: Floats) -> Floats:
    """Thresholds of bins that borrow rows from their neighbours until they have enough."""
    result = np.empty(len(histograms))
    for index in range(len(histograms)):
        reach = 0
        histogram = histograms[index]
        while histogram.sum() < MIN_TURN_ON_ROWS and reach < len(histograms):
            reach += 1
            histogram = histograms[max(index - reach, 0) : index + reach + 1].sum(axis=0)
        result[index] = turn_on_threshold(histogram)
    return result


#: Rows from which the position of a turn-on can be told.
MIN_TURN_ON_ROWS = 500
#: Bins whose thresholds go on climbing in line beyond the last that is known: light falls with the
#: distance, and a threshold taken from nearer by would let in images that fluctuated upwards.
LAST_BINS = 3
#: Throughputs of telescopes that observe are within a factor of three of each other.
MAX_OFFSET = float(np.log(3.0))
SMOOTHING = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0


def turn_on_threshold(histogram: Floats) -> float:
    """Find where telescopes begin to lose showers: the half height of the rising edge.

    Parameters
    ----------
    histogram : array, shape (n_bins,)
        Counts in the bins of ``summary.TURN_ON_EDGES`` (under- and overflow at the ends).

    Returns
    -------
    float
        ln(value); ``-inf`` for an empty histogram.
    """
    return _half_height(histogram, TURN_ON_EDGES)


def own_offsets(summary: Summary, subarray: Subarray, now: Estimate) -> Floats:
    """How far the threshold of each telescope lies from that of its type, in ln(value).

    Parameters
    ----------
    summary : Summary
        Of a pass with thresholds: `turn_on_own` is about those of the types.
    subarray : Subarray
        The telescopes.
    now : Estimate
        Throughputs and resolutions, as far as known.

    Returns
    -------
    array, shape (n,)
        Zero where there are too few rows to tell, and where it cannot be a threshold.

    Notes
    -----
    A trigger is set in photo-electrons, telescope by telescope, and energies may have been
    corrected for throughput already: then thresholds of one type differ in energy. Rows are
    selected by the mean of their shower all the same, so this prefers no sign of the noise.
    """
    codes, own = subarray.type_codes, summary.turn_on_own
    of_type = np.array(
        [_half_height(own[codes == code].sum(axis=0), OWN_EDGES) for code in range(codes.max() + 1)]
    )
    enough = own.sum(axis=1) >= MIN_TURN_ON_ROWS
    offset = np.array(
        [
            _half_height(histogram, OWN_EDGES) - of_type[code] if known else 0.0
            for histogram, code, known in zip(own, codes, enough, strict=True)
        ]
    )
    # Values that have nothing to do with the showers have an edge, too, which is no threshold.
    strange = (np.abs(offset) > MAX_OFFSET) | far_noisier(now.variance, codes)
    return np.where(strange, 0.0, offset)


def _half_height(histogram: Floats, edges: Floats) -> float:
    """Where the rising edge of a histogram in equal bins reaches half of its peak."""
    if histogram.sum() == 0:
        return float("-inf")
    smooth = np.convolve(histogram, SMOOTHING, mode="same")
    peak = int(np.argmax(smooth))
    below = np.flatnonzero(smooth[:peak] < 0.5 * smooth[peak])
    if not len(below):
        return float(edges[0])
    edge = int(below[-1])
    # Between the centres of two bins; the edge lies half way.
    climbed = (0.5 * smooth[peak] - smooth[edge]) / (smooth[edge + 1] - smooth[edge])
    return float(edges[edge] + (climbed - 0.5) * (edges[1] - edges[0]))
