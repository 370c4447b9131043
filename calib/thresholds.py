"""Where telescopes begin to lose showers, and where they saturate: limits of the selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calib.summary import TURN_ON_EDGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from calib.subarray import Subarray
    from calib.summary import Summary

    Floats = npt.NDArray[np.float64]

__all__ = ["ceilings", "thresholds", "turn_on_threshold"]


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
    """Ceilings by type; the lowest of a type, as for thresholds the highest."""
    result = np.full(int(subarray.type_codes.max()) + 1, np.inf)
    if wanted is not None:
        values = np.asarray([wanted[tel_id] for tel_id in subarray.tel_ids])
        np.minimum.at(result, subarray.type_codes, values)
    return result


def _type_thresholds(histograms: Floats) -> Floats:
    """Thresholds of one type by impact bin; sparse bins borrow from their neighbours."""
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
    if histogram.sum() == 0:
        return float("-inf")
    smooth = np.convolve(histogram, SMOOTHING, mode="same")
    peak = int(np.argmax(smooth))
    below = np.flatnonzero(smooth[:peak] < 0.5 * smooth[peak])
    edge = int(below[-1]) if len(below) else 0
    return float(TURN_ON_EDGES[min(edge, len(TURN_ON_EDGES) - 1)])
