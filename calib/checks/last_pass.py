"""One more pass over the showers with everything held: threshold scan and histograms of pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.checks.pair_histograms import (
    PairHistograms,
    empty_histograms,
    histogram_table,
    histogram_window,
    informative_pairs,
)
from arraycal.calib.checks.scan import ScanSums, margins_to_scan, scan_window
from arraycal.calib.checks.scan_tables import GaugeGroup, compare_margins, scan_remarks
from arraycal.calib.fit.weighing import weigh
from arraycal.calib.result.verdict import with_remarks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

    Floats = npt.NDArray[np.float64]
    Windows = Callable[[], Iterable[Showers]]

__all__ = ["with_last_pass"]


def with_last_pass(
    result: CalibrationResult,
    fitted: Fit,
    windows: Windows,
    subarray: Subarray,
    configuration: Configuration,
    reference: str | None = None,
) -> CalibrationResult:
    """Add the threshold scan and the histograms of pairs to a result.

    Parameters
    ----------
    result : CalibrationResult
        With coefficients, telescopes in the order of `subarray`.
    fitted : Fit
        Where they are from.
    windows : callable
        Returns the showers window by window; called once.
    subarray : Subarray
        The telescopes.
    configuration : Configuration
        All options.
    reference : str, optional
        Type whose geometric mean the scan holds, where all types share a gauge; by default each
        type has its own.

    Returns
    -------
    CalibrationResult
        With the table ``pair_histograms`` of `arraycal.calib.checks.pair_histograms` and, where
        there is a threshold, ``threshold_scan`` and ``threshold_scan_types`` of
        `arraycal.calib.checks.scan_tables`. A type that is not on the plateau of the scan degrades
        the result.
    """
    options = configuration.RelativeThroughputFitter
    wanted = () if options.estimator == "pair" else configuration.ShowerSelection.scan
    margins = margins_to_scan(fitted.model, wanted)
    pairs = informative_pairs(
        fitted.summary.log_ratio.n, subarray.type_codes, options.histogram_pairs
    )
    if not margins and not len(pairs[0]):
        return result
    sums, histograms = _sums(windows, fitted, margins, empty_histograms(pairs))
    extras, remarks = {}, []
    if len(pairs[0]):
        extras["pair_histograms"] = histogram_table(histograms, fitted, subarray)
    if sums:
        value = result.telescopes["value"].to_numpy()
        extras["threshold_scan"], tests = compare_margins(
            sums, fitted.model.margin, subarray, value, _groups(value, subarray, reference), options
        )
        extras["threshold_scan_types"] = tests
        remarks = scan_remarks(tests)
    return replace(
        result, extras=result.extras | extras, verdict=with_remarks(result.verdict, remarks)
    )


def _sums(
    windows: Windows, fitted: Fit, margins: Sequence[float], histograms: PairHistograms
) -> tuple[dict[float, ScanSums], PairHistograms]:
    sums: dict[float, ScanSums] = {}
    pairs = (histograms.first, histograms.second)
    for showers in windows():
        rows = weigh(showers, fitted.model, None)
        histograms = histograms + histogram_window(showers, fitted.model, rows, pairs)
        for margin, part in scan_window(showers, fitted.model, rows, margins).items():
            sums[margin] = sums[margin] + part if margin in sums else part
    return sums, histograms


def _groups(value: Floats, subarray: Subarray, reference: str | None) -> list[GaugeGroup]:
    """Telescopes with a coefficient by gauge."""
    known, types = np.isfinite(value), np.asarray(subarray.types)
    if reference is not None:
        return [GaugeGroup(np.flatnonzero(known), np.flatnonzero(known & (types == reference)))]
    own = [np.flatnonzero(known & (types == name)) for name in sorted(set(subarray.types))]
    return [GaugeGroup(nodes, nodes) for nodes in own]
