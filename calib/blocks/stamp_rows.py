"""The stage of one block for clocks: a file to cached STAMPS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from arraycal.calib import dl2
from arraycal.calib.blocks.stage import cached_block
from arraycal.calib.stamps.stamps import STAMPS_ID, Facts, altitude_of, stamp_windows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.dl2.door import Door
    from arraycal.calib.observables import Observable
    from arraycal.config.models import Configuration

__all__ = ["stamps_of_block"]

#: Options that decide STAMPS; the others only matter to the fit.
READING = (
    "geometry_reconstructor",
    "image_size",
    "min_telescopes",
    "max_angular_uncertainty",
    "max_pointing_offset",
    "max_core_distance",
    "size_threshold",
    "observatory_altitude",
)


def stamps_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the STAMPS of one block; see `pairs_of_block`."""
    windows = partial(_windows, configuration=configuration)
    return cached_block(path, cache_root, _reading_options(observable, configuration), windows)


def _reading_options(observable: Observable, configuration: Configuration) -> dict[str, Any]:
    """Return the part of the configuration that decides STAMPS."""
    dumped = configuration.model_dump(mode="json", include={observable.section, "QualityQuery"})
    section = {key: dumped[observable.section][key] for key in READING}
    section["core_from_file"] = dumped[observable.section]["core_resolution"] == "file"
    return {
        "stamps": STAMPS_ID,
        "QualityQuery": dumped["QualityQuery"],
        observable.section: section,
    }


def _windows(
    block: dl2.Block,
    summary: dict[str, Any],
    door: Door,
    *,
    configuration: Configuration,
    stream: bool,
) -> Iterator[pl.DataFrame]:
    """Yield STAMPS window by window and leave what was found in `summary`."""
    facts = Facts()
    yield from stamp_windows(block, configuration, facts, door, rows=dl2.WINDOW_ROWS, stream=stream)
    summary.update(
        n_events=facts.n_stamps,
        n_pairs=facts.n_rows,
        rejected=facts.rows(),
        process_type=block.process_type,
        altitude_m=altitude_of(block, configuration),
        has_sizes=facts.has_sizes,
        backwards=facts.backwards,
        largest_backwards_s=facts.largest_backwards_s,
    )
