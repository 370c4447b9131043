"""Which stages a calibration goes through: pairs of values, or time stamps.

Imported when needed: blocks from the cache need no fit, and no scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calib.observables import TIMING_CROSS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from calib.blocks import BlockPairs
    from calib.observables import Observable
    from calib.result import CalibrationResult
    from config.models import Configuration

__all__ = ["calibrate", "rows_of_block"]


def rows_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the rows of one block; see `calib.pair_stage.pairs_of_block`."""
    if _is_timing(observable):
        from calib.timing.pipeline import stamps_of_block as stage
    else:
        from calib.pair_stage import pairs_of_block as stage
    return stage(path, observable, configuration, cache_root)


def calibrate(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the array from the rows of its blocks; see `calib.pipeline.calibrate`."""
    if _is_timing(observable):
        from calib.timing.pipeline import calibrate as solve
    else:
        from calib.pipeline import calibrate as solve
    return solve(blocks, observable, configuration, provenance)


def _is_timing(observable: Observable) -> bool:
    return observable.name == TIMING_CROSS.name
