"""The one entry: the rows of all blocks in, a result out.

`rows_of_block` has made the rows, block by block and anywhere; `calibrate` needs all blocks, but
only what is cached of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arraycal.calib.blocks.stage import select_blocks, without_repeats
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.spread import in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.spread import Spread
    from arraycal.config.models import Configuration

__all__ = ["calibrate"]


def calibrate(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
    spread: Spread = in_turn,
) -> CalibrationResult:
    """Solve the array from the cached rows of its blocks.

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
    spread : Spread
        Who sums up the rows of the blocks of a large night; by default this thread.

    Returns
    -------
    CalibrationResult
        Coefficients and everything that explains them.

    Raises
    ------
    CannotCompute
        If no block is left, or stamps contradict their convention; the message says why.
    NothingToDo
        If no block has a shower.
    WrongUsage
        If the configuration names telescopes or a type that the array does not have.
    """
    # Imported late: a night without anything to fit needs no scipy.
    from arraycal.calib.checks.block_findings import with_block_findings

    judged = without_repeats(select_blocks(blocks))
    if observable.name == TIMING_CROSS.name:
        from arraycal.calib.timing.pipeline import calibrate_clocks

        result = calibrate_clocks(judged, observable, configuration, provenance)
    else:
        from arraycal.calib.throughput import calibrate_throughput

        result = calibrate_throughput(judged, observable, configuration, provenance, spread)
    return with_block_findings(result, [block for block in judged if block.status == "ok"])
