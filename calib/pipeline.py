"""The stages in order: what a Prefect task wraps and what ``--direct`` calls.

`pairs_of_block` is per block and may run anywhere; `calibrate` needs all blocks but only their
cached PAIRS.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib import cross
from calib.block_constancy import with_constancy
from calib.block_errors import with_block_errors
from calib.blocks import BlockPairs, select_blocks, usable_blocks
from calib.coefficients import assemble
from calib.comparison import read_other, with_comparison
from calib.cross_inter import from_result, read_inter, three_step_result
from calib.curve import Knots
from calib.curve_table import with_curves, with_notes, with_residuals
from calib.fit import FitOptions, fit
from calib.last_pass import with_last_pass
from calib.model import NO_CURVE
from calib.observables import ENERGY_INTER, IMAGE_INTER
from calib.pair_stage import inter_first, pairs_of_block, window_rows
from calib.pairs import merge_participation, merge_rejected
from calib.references import check_references
from calib.rules import value_by_telescope
from calib.saturation import (
    ceilings_found,
    lost_pairs,
    unsaturated,
    with_saturation,
    without_number,
)
from calib.showers import Showers, prepare
from calib.sums import Sums
from config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from calib.cross_three_step import Inter
    from calib.fit import Fit
    from calib.gauges import Scaled
    from calib.observables import Observable
    from calib.result import CalibrationResult
    from calib.subarray import Subarray
    from config.models import Configuration

    Windows = Callable[[], Iterable[Showers]]

__all__ = [
    "BlockPairs",
    "calibrate",
    "fit_options",
    "pairs_of_block",
    "select_blocks",
    "window_rows",
]

#: Flag and reason of a telescope that forms no pairs.
NO_POSITION = ("no_position", "the layout of the array has no position of it")
#: Pair rows kept in memory between passes; beyond it every pass reads the cache again.
IN_MEMORY_PAIRS = 4_000_000


def calibrate(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the array from the cached PAIRS of its blocks.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        All blocks, failed ones included.
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    provenance : dict, optional
        Passed on into the result.

    Returns
    -------
    CalibrationResult
        Coefficients and everything that explains them.

    Raises
    ------
    CannotCompute
        If no block is left; the message lists why.
    WrongUsage
        If the configuration names telescopes or a type that the array does not have.
    """
    good, subarray, tables = usable_blocks(blocks)
    check_references(subarray, configuration)
    tables |= {"provenance": provenance or {}}
    if observable.scope != "same_type":
        cross.check_types(subarray, configuration.CalculateCrossCalibration.reference_subsystem)
    windows = _windows(good, subarray)
    lost = (lost_pairs(block.entry.scan(), block.saturation) for block in good if block.entry)
    tables["rejected"] = merge_rejected([tables["rejected"], *lost])
    saturation = [block.saturation for block in good]
    unplaced = dict.fromkeys(subarray.unplaced, NO_POSITION)
    tables["left_out"] = without_number(saturation) | unplaced
    if inter_first(observable, configuration):
        inter = _inter(good, subarray, configuration, tables)
        counts = merge_participation(block.participation for block in good)
        return three_step_result(
            windows, inter, counts, subarray, observable, configuration, tables
        )
    solve = _within_types if observable.scope == "same_type" else _across_types
    options = fit_options(configuration, subarray, ceilings_found(saturation, subarray))
    result = solve(windows, subarray, observable, configuration, options, tables)
    return with_notes(
        with_saturation(result, [(str(block.path), block.saturation) for block in good]),
        [(str(block.path), *note) for block in good for note in block.notes],
    )


def _within_types(
    windows: Windows,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    options: FitOptions,
    tables: Mapping[str, Any],
) -> CalibrationResult:
    """Every type in a gauge of its own."""
    fitted = with_block_errors(fit(windows, subarray, options))
    result = _assembled(fitted, subarray, observable, configuration, options, tables)
    result = with_residuals(
        with_curves(result, fitted, subarray),
        fitted,
        windows,
        subarray,
        least=configuration.RelativeThroughputFitter.min_events,
        unit=observable.unit,
    )
    result = with_last_pass(result, fitted, windows, subarray, configuration)
    compare = configuration.CalculateInterCalibration.compare
    if compare is None or observable is not IMAGE_INTER:
        return result
    return with_comparison(result, read_other(Path(compare)))


def _across_types(
    windows: Windows,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    options: FitOptions,
    tables: Mapping[str, Any],
) -> CalibrationResult:
    """All types in one gauge."""
    slope = cross.energy_slopes(subarray, configuration)
    options = replace(options, slope=slope)
    fitted = with_block_errors(fit(windows, subarray, options))
    joint = cross.joint_scale(fitted, subarray, configuration)
    result = _assembled(
        fitted, subarray, observable, configuration, options, tables, scaled=joint.scaled
    )
    result = cross.describe_types(result, joint, fitted, windows, subarray, configuration)
    reference = configuration.CalculateCrossCalibration.reference_subsystem
    return with_last_pass(result, fitted, windows, subarray, configuration, reference)


def _assembled(
    fitted: Fit,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    options: FitOptions,
    tables: Mapping[str, Any],
    scaled: Scaled | None = None,
) -> CalibrationResult:
    """Put the result together, with the sums for windows of nights, and compare its blocks."""
    result = assemble(fitted, subarray, observable, configuration, **tables, scaled=scaled)
    kept = {name: tables[name] for name in ("blocks", "rejected")}
    sums = Sums(
        subarray=subarray,
        summary=fitted.summary,
        halves=fitted.halves,
        model=fitted.model,
        settled=fitted.settled,
        tables=kept,
        judged=result.verdict.reasons,
    )
    return with_constancy(
        replace(result, sums=sums),
        fitted,
        subarray,
        options,
        response_slope=configuration.RelativeThroughputFitter.response_slope,
        joint=scaled is not None,
    )


def _inter(
    blocks: Sequence[BlockPairs],
    subarray: Subarray,
    configuration: Configuration,
    tables: Mapping[str, Any],
) -> Inter:
    """Read the inter-calibration, or make it of the same blocks."""
    options = configuration.CalculateCrossCalibration
    if options.inter_calibration is not None:
        allowed = options.allow_other_observations
        path = Path(options.inter_calibration)
        return read_inter(path, subarray, tables["obs_ids"], allow_other=allowed)
    parts = [block.companion for block in blocks if block.companion]
    result = calibrate(parts, ENERGY_INTER, configuration, tables["provenance"])
    return from_result(result, subarray)


def _windows(blocks: Sequence[BlockPairs], subarray: Subarray) -> Windows:
    """Showers of all blocks, held in memory when they fit."""

    def read() -> Iterator[Showers]:
        for number, block in enumerate(blocks):
            for pairs in block.entry.windows() if block.entry else ():
                kept = unsaturated(pairs, block.saturation)
                if len(kept):
                    yield prepare(kept, subarray, number)

    if sum(block.n_pairs for block in blocks) > IN_MEMORY_PAIRS:
        return read
    kept = list(read())
    return lambda: kept


def fit_options(
    configuration: Configuration, subarray: Subarray, found: Mapping[int, float] | None = None
) -> FitOptions:
    """Options of the fit, with thresholds by telescope in ln(value).

    Parameters
    ----------
    configuration : Configuration
        All options.
    subarray : Subarray
        The telescopes.
    found : mapping of int to float, optional
        Ceilings by telescope id in ln(value), for ``ceiling: auto``.
    """
    fitter, selection = configuration.RelativeThroughputFitter, configuration.ShowerSelection
    threshold: Any = selection.threshold
    if threshold is not None and threshold != "auto":
        values = value_by_telescope(threshold, subarray)
        threshold = {i: math.log(v) if v > 0 else -math.inf for i, v in values.items()}
    ceiling: Any = selection.ceiling
    if ceiling == "auto":
        ceiling = found
    elif ceiling is not None:
        limits = value_by_telescope(ceiling, subarray)
        ceiling = {i: math.log(v) if v > 0 else -math.inf for i, v in limits.items()}
    return FitOptions(
        knots=_knots(configuration, subarray),
        ceiling=ceiling,
        estimator=fitter.estimator,
        min_events=fitter.min_events,
        min_common=fitter.min_common_events,
        robust=fitter.robust,
        threshold=threshold,
        margin=selection.margin,
        binned_resolution=selection.resolution == "binned",
        max_iterations=selection.max_iterations,
    )


def _knots(configuration: Configuration, subarray: Subarray) -> Knots:
    """Knots of the distance curves by type; none where they are not wanted or cannot be fitted."""
    options = configuration.DistanceCurve
    if options.knots is None or configuration.RelativeThroughputFitter.estimator == "pair":
        return NO_CURVE
    by_telescope = value_by_telescope(options.range, subarray)
    by_type: dict[str, set[tuple[float, float]]] = {}
    for tel_id, tel_type in zip(subarray.tel_ids, subarray.types, strict=True):
        by_type.setdefault(tel_type, set()).add(by_telescope[tel_id])
    uneven = sorted(tel_type for tel_type, ranges in by_type.items() if len(ranges) > 1)
    if uneven:
        raise ConfigurationError(
            f"DistanceCurve.range differs between telescopes of one type ({', '.join(uneven)}); "
            "a type has one curve"
        )
    return Knots.spaced([ranges.pop() for _, ranges in sorted(by_type.items())], options.knots)
