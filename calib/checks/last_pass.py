"""Threshold scan and histograms of pairs: what to sum for them, and what becomes of the sums."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.checks.pair_histograms import (
    histogram_table,
    histogram_window,
    informative_pairs,
)
from arraycal.calib.checks.scan import margins_to_scan, scan_window
from arraycal.calib.checks.scan_tables import GaugeGroup, compare_margins, scan_remarks
from arraycal.calib.result.verdict import with_remarks

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.sweep import Observer
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

    Floats = npt.NDArray[np.float64]
    Observed = dict[str, Observer]

__all__ = ["observers_of_pairs", "with_last_pass"]


def observers_of_pairs(learnt: Fit, subarray: Subarray, configuration: Configuration) -> Observed:
    """What a sweep shall sum for `with_last_pass`.

    Parameters
    ----------
    learnt : Fit
        Of the sample.
    subarray : Subarray
        The telescopes.
    configuration : Configuration
        All options.
    """
    options = configuration.RelativeThroughputFitter
    wanted = () if options.estimator == "pair" else configuration.ShowerSelection.scan
    margins = margins_to_scan(learnt.model, wanted)
    pairs = informative_pairs(
        learnt.summary.log_ratio.n, subarray.type_codes, options.histogram_pairs
    )
    found: Observed = {}
    if margins:
        found["scan"] = partial(scan_window, margins=margins)
    if len(pairs[0]):
        found["pair_histograms"] = partial(histogram_window, pairs=pairs)
    return found


def with_last_pass(
    result: CalibrationResult,
    fitted: Fit,
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
        Where they are from, with what `observers_of_pairs` has summed.
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
    extras, remarks = {}, []
    if "pair_histograms" in fitted.observed:
        extras["pair_histograms"] = histogram_table(
            fitted.observed["pair_histograms"], fitted, subarray
        )
    if "scan" in fitted.observed:
        value = result.telescopes["value"].to_numpy()
        extras["threshold_scan"], tests = compare_margins(
            dict(fitted.observed["scan"].margins),
            fitted.model.margin,
            subarray,
            value,
            _groups(value, subarray, reference),
            configuration.RelativeThroughputFitter,
        )
        extras["threshold_scan_types"] = tests
        remarks = scan_remarks(tests)
    return replace(
        result, extras=result.extras | extras, verdict=with_remarks(result.verdict, remarks)
    )


def _groups(value: Floats, subarray: Subarray, reference: str | None) -> list[GaugeGroup]:
    """Telescopes with a coefficient by gauge."""
    known, types = np.isfinite(value), np.asarray(subarray.types)
    if reference is not None:
        return [GaugeGroup(np.flatnonzero(known), np.flatnonzero(known & (types == reference)))]
    own = [np.flatnonzero(known & (types == name)) for name in sorted(set(subarray.types))]
    return [GaugeGroup(nodes, nodes) for nodes in own]
