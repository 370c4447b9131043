"""The stage of one block, whatever the calibration: rows of values, or time stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.blocks.stamp_rows import stamps_of_block
from arraycal.calib.observables import TIMING_CROSS

if TYPE_CHECKING:
    from pathlib import Path

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.observables import Observable
    from arraycal.config.models import Configuration

__all__ = ["rows_of_block"]


def rows_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the rows of one block; see `pairs_of_block`."""
    stage = stamps_of_block if observable.name == TIMING_CROSS.name else pairs_of_block
    return stage(path, observable, configuration, cache_root)
