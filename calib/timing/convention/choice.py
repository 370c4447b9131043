"""What the stamps are taken for: as configured, or as the files imply."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.config.models import Configuration

__all__ = ["Convention", "choose_convention"]

#: Process type of simulations, whose stamps are less the plane wave of the pointing.
SIMULATION = "Simulation"


class Convention(NamedTuple):
    """What the stamps were taken for, and why."""

    name: str
    reason: str


def choose_convention(blocks: Sequence[BlockPairs], configuration: Configuration) -> Convention:
    """Choose what the stamps are: as configured, or as the process type of the files implies.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        Those in use.
    configuration : Configuration
        All options.

    Raises
    ------
    CannotCompute
        If nothing is configured and the files are of different process types.
    """
    configured = configuration.CalculateTimingCalibration.time_convention
    if configured is not None:
        return Convention(configured, "configured")
    kinds = {block.entry.summary["process_type"] for block in blocks if block.entry}
    if SIMULATION in kinds and len(kinds) > 1:
        raise CannotCompute(
            f"the blocks are of different process types ({', '.join(sorted(kinds))}), whose stamps "
            "follow different conventions. Calibrate them apart, or set "
            "CalculateTimingCalibration.time_convention."
        )
    name = "pointing_compensated" if SIMULATION in kinds else "raw"
    return Convention(name, f"process type {', '.join(sorted(kinds)) or 'not stated'}")
