"""Throughputs from the cached rows of all blocks: fit, gauge, checks, verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraycal.calib.blocks.stage import select_blocks, usable_blocks, without_repeats
from arraycal.calib.checks.comparison import read_other, with_comparison
from arraycal.calib.checks.curve_table import residual_observers, with_curves, with_residuals
from arraycal.calib.checks.deviation_table import with_deviations
from arraycal.calib.checks.last_pass import observers_of_pairs, with_last_pass
from arraycal.calib.checks.night_parts import with_constancy
from arraycal.calib.checks.saturation_table import with_saturation
from arraycal.calib.fit.block_errors import with_block_errors
from arraycal.calib.fit.options import fit_options
from arraycal.calib.fit.outlying import fit_robustly
from arraycal.calib.fit.showers import FOR_PEOPLE, Showers, prepare_pairs, prepare_rows
from arraycal.calib.fit.sums.kept import Sums
from arraycal.calib.gauge.references import check_references
from arraycal.calib.monitoring.inter import inter_of_result, read_inter
from arraycal.calib.observables import ENERGY_INTER, IMAGE_INTER
from arraycal.calib.pairs.matching import merge_participation, merge_rejected
from arraycal.calib.pairs.rules import inter_first
from arraycal.calib.pairs.saturation import ceilings_found, lost_rows, unsaturated, without_number
from arraycal.calib.result.assemble import assemble
from arraycal.calib.spread import BlockWindows, in_turn
from arraycal.calib.types import joint as cross
from arraycal.calib.types.doubts import with_resolution_doubt
from arraycal.calib.types.three_step_result import three_step_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.fit.loop import Fit, FitOptions
    from arraycal.calib.fit.sweep import Observer
    from arraycal.calib.gauge.within_types import Scaled
    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.spread import Spread
    from arraycal.calib.subarray import Subarray
    from arraycal.calib.types.three_step import Inter
    from arraycal.config.models import Configuration

    Windows = Callable[[], Iterable[Showers]]

__all__ = ["calibrate_throughput"]

#: Flag and reason of a telescope that forms no pairs.
NO_POSITION = ("no_position", "the layout of the array has no position of it")
#: Rows that are swept (0.4 s of CPU) before asking others for help is worth while.
MIN_SPREAD_ROWS = 100_000


def calibrate_throughput(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
    spread: Spread = in_turn,
) -> CalibrationResult:
    """Solve the array from the cached rows; see `arraycal.calib.calibrate.calibrate`."""
    good, subarray, tables = usable_blocks(blocks)
    check_references(subarray, configuration)
    tables |= {"provenance": provenance or {}}
    if observable.scope != "same_type":
        cross.check_types(subarray, configuration.CalculateCrossCalibration.reference_subsystem)
    windows = _windows(good, subarray, observable, spread)
    lost = (lost_rows(block.entry.scan(), block.saturation) for block in good if block.entry)
    tables["rejected"] = merge_rejected([tables["rejected"], *lost])
    saturation = [block.saturation for block in good]
    unplaced = dict.fromkeys(subarray.unplaced, NO_POSITION)
    tables["left_out"] = without_number(saturation) | unplaced
    if inter_first(observable, configuration):
        inter = _inter(good, subarray, configuration, tables, spread)
        counts = merge_participation(block.participation for block in good)
        return three_step_result(
            windows, inter, counts, subarray, observable, configuration, tables
        )
    solve = _within_types if observable.scope == "same_type" else _across_types
    options = fit_options(configuration, subarray, ceilings_found(saturation, subarray))
    result = solve(windows, subarray, observable, configuration, options, tables)
    return with_saturation(result, [(str(block.path), block.saturation) for block in good])


def _within_types(
    windows: Windows,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    options: FitOptions,
    tables: Mapping[str, Any],
) -> CalibrationResult:
    """Every type in a gauge of its own."""

    def observers(learnt: Fit, _: Sequence[Showers]) -> dict[str, Observer]:
        pairs = observers_of_pairs(learnt, subarray, configuration)
        return pairs | residual_observers(learnt)

    fitted = with_block_errors(fit_robustly(windows, subarray, options, observers))
    result = _assembled(fitted, subarray, observable, configuration, options, tables)
    result = with_residuals(
        with_curves(result, fitted, subarray),
        fitted,
        subarray,
        least=configuration.RelativeThroughputFitter.min_events,
        unit=observable.unit,
    )
    result = with_last_pass(result, fitted, subarray, configuration)
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

    def observers(learnt: Fit, chosen: Sequence[Showers]) -> dict[str, Observer]:
        pairs = observers_of_pairs(learnt, subarray, configuration)
        return pairs | cross.contrast_observers(learnt, chosen, subarray, configuration)

    fitted = with_block_errors(fit_robustly(windows, subarray, options, observers))
    joint = cross.joint_scale(fitted, subarray, configuration)
    result = _assembled(
        fitted, subarray, observable, configuration, options, tables, scaled=joint.scaled
    )
    result = cross.describe_types(result, joint, fitted, subarray, configuration)
    reference = configuration.CalculateCrossCalibration.reference_subsystem
    result = with_resolution_doubt(result, fitted, windows, subarray, options, reference)
    return with_last_pass(result, fitted, subarray, configuration, reference)


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
    joint = scaled is not None
    compared = with_constancy(
        replace(result, sums=sums),
        fitted,
        subarray,
        options,
        response_slope=configuration.RelativeThroughputFitter.response_slope,
        joint=joint,
    )
    return with_deviations(compared, fitted, subarray, joint=joint)


def _inter(
    blocks: Sequence[BlockPairs],
    subarray: Subarray,
    configuration: Configuration,
    tables: Mapping[str, Any],
    spread: Spread,
) -> Inter:
    """Read the inter-calibration, or make it of the same blocks."""
    options = configuration.CalculateCrossCalibration
    if options.inter_calibration is not None:
        allowed = options.allow_other_observations
        path = Path(options.inter_calibration)
        return read_inter(path, subarray, tables["obs_ids"], allow_other=allowed)
    parts = [block.companion for block in blocks if block.companion]
    judged = without_repeats(select_blocks(parts))
    result = calibrate_throughput(judged, ENERGY_INTER, configuration, tables["provenance"], spread)
    return inter_of_result(result, subarray)


@dataclass(frozen=True)
class _Showers:
    """Showers of a block, window by window, of what its cache entry holds."""

    block: BlockPairs
    number: int
    subarray: Subarray
    across_types: bool

    @property
    def name(self) -> str:
        """The block's name, for people."""
        return self.block.path.name

    def __call__(self) -> Iterator[Showers]:
        return (showers for showers in self._prepared() if len(showers.y))

    def _prepared(self) -> Iterator[Showers]:
        block = self.block
        if block.entry is None or not block.entry.holds_rows:
            for pairs in block.windows():
                kept = unsaturated(pairs, block.saturation)
                yield prepare_pairs(kept, self.subarray, self.number)
            return
        # Without the columns that are there for people, of which one is text: reading takes half.
        columns = [name for name in block.entry.schema if name not in FOR_PEOPLE]
        for rows in block.windows(columns=columns):
            kept = unsaturated(rows, block.saturation)
            yield prepare_rows(kept, self.subarray, self.number, across_types=self.across_types)


def _windows(
    blocks: Sequence[BlockPairs], subarray: Subarray, observable: Observable, spread: Spread
) -> Windows:
    """Showers of all blocks. Reading 1e6 rows takes 0.09 s: nothing is held in memory."""
    across = observable.scope != "same_type"
    parts = tuple(_Showers(block, n, subarray, across) for n, block in enumerate(blocks))
    is_little = sum(block.n_rows for block in blocks) < MIN_SPREAD_ROWS
    return BlockWindows(parts, in_turn if is_little else spread)
