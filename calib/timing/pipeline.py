"""Clocks from the cached STAMPS of all blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arraycal.calib.blocks.stage import select_blocks, usable_blocks
from arraycal.calib.errors import CannotCompute
from arraycal.calib.gauge.references import check_clock_reference
from arraycal.calib.stamps.stamps import STAMPS
from arraycal.calib.timing.convention.choice import choose_convention
from arraycal.calib.timing.convention.contradiction import foreign_reason
from arraycal.calib.timing.showers import Setup, prepare_stamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.timing.convention.choice import Convention
    from arraycal.calib.timing.showers import StampedShowers
    from arraycal.config.models import Configuration

__all__ = ["calibrate_clocks"]

#: Stamps kept in memory between passes, about 100 bytes each; beyond it every pass reads the cache.
IN_MEMORY_STAMPS = 2_000_000


def calibrate_clocks(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the clocks from the cached STAMPS of all blocks.

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
        Offsets and everything that explains them.

    Raises
    ------
    CannotCompute
        If no block is left, or the stamps contradict the convention; the message says why.
    """
    # Stamps from the cache need no fit, and no scipy.
    from arraycal.calib.timing.answer import answer
    from arraycal.calib.timing.assemble import assemble_clocks

    good, subarray, tables = usable_blocks(blocks)
    if not any(block.n_rows for block in good):
        reasons = "\n".join(f"  {block.path}: {' '.join(block.remarks)}" for block in good)
        raise CannotCompute(f"there is no stamp to compare:\n{reasons}")
    check_clock_reference(subarray, configuration)
    options = configuration.CalculateTimingCalibration
    convention = choose_convention(good, configuration)
    found = answer(
        _showers(good, configuration, convention),
        subarray,
        options,
        compensated=convention.name == "pointing_compensated",
    )
    rest = [_without_foreign(block, found.foreign) for block in select_blocks(blocks)]
    if found.foreign and any(block.status == "ok" for block in rest):
        # Such blocks cost themselves, not the night.
        return calibrate_clocks(rest, observable, configuration, provenance)
    return assemble_clocks(
        found,
        subarray,
        observable,
        configuration,
        convention=convention,
        **tables,
        provenance=provenance or {},
        remarks=_remarks(good),
    )


def _without_foreign(block: BlockPairs, found: Mapping[int, float]) -> BlockPairs:
    """Exclude a block whose stamps are those of other showers."""
    lost = [found[obs_id] for obs_id in block.obs_ids if obs_id in found]
    if block.status != "ok" or not lost:
        return block
    reason = f"{block.path}: {foreign_reason(f'{max(lost):.0%}')}"
    return replace(block, status="excluded", reason=reason)


def _summary(block: BlockPairs) -> dict[str, Any]:
    assert block.entry is not None  # noqa: S101  a block that is ok has one
    return block.entry.summary


def _showers(
    blocks: Sequence[BlockPairs], configuration: Configuration, convention: Convention
) -> Callable[[], Iterable[StampedShowers]]:
    """Showers of all blocks, held in memory when they fit."""
    options = configuration.CalculateTimingCalibration

    def read() -> Iterator[StampedShowers]:
        for block in blocks:
            assert block.entry is not None  # noqa: S101
            assert block.subarray is not None  # noqa: S101
            setup = Setup(
                block.subarray,
                convention.name == "pointing_compensated",
                block.entry.summary["altitude_m"],
                (options.min_h_max, options.max_h_max),
                options.usual_maximum,
                None if options.core_resolution == "file" else options.core_resolution,
            )
            for stamps in block.windows(STAMPS):
                if setup.compensated and stamps["pointing_alt_deg"].is_nan().any():
                    raise CannotCompute(
                        f"{block.path}: the pointing is not in the file, and without it the stamps "
                        "cannot be freed of the plane wave that was subtracted "
                        "(time_convention pointing_compensated)."
                    )
                yield prepare_stamps(stamps, setup)

    if sum(block.n_pairs for block in blocks) > IN_MEMORY_STAMPS:
        return read
    kept = list(read())
    return lambda: kept


def _remarks(blocks: Sequence[BlockPairs]) -> tuple[str, ...]:
    remarks = []
    for block in blocks:
        summary = _summary(block)
        if summary["backwards"]:
            remarks.append(
                f"the stamps of {block.path.name} run backwards {summary['backwards']} times, by "
                f"up to {summary['largest_backwards_s']:.6g} s; dates of its chunks may overlap"
            )
    if not all(_summary(block)["has_sizes"] for block in blocks):
        remarks.append("image sizes are missing, so that the trigger walk is not fitted for all")
    return tuple(remarks)
