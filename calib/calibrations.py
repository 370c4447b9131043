"""Which stages a calibration goes through: pairs of values, or time stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calib import pipeline
from calib.observables import TIMING_CROSS
from calib.timing import pipeline as timing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from calib.observables import Observable
    from calib.pipeline import BlockPairs
    from calib.result import CalibrationResult
    from config.models import Configuration

__all__ = ["calibrate", "rows_of_block"]


def rows_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the rows of one block; see `calib.pipeline.pairs_of_block`."""
    stage = timing.stamps_of_block if _is_timing(observable) else pipeline.pairs_of_block
    return stage(path, observable, configuration, cache_root)


def calibrate(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the array from the rows of its blocks; see `calib.pipeline.calibrate`."""
    solve = timing.calibrate if _is_timing(observable) else pipeline.calibrate
    return solve(blocks, observable, configuration, provenance)


def _is_timing(observable: Observable) -> bool:
    return observable.name == TIMING_CROSS.name
