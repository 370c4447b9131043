"""Columns of a block that the comparison of clocks needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraycal.calib.criteria import compile_criteria
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from arraycal.calib.criteria import Criterion
    from arraycal.calib.dl2.block import Block
    from arraycal.config.models import Configuration

__all__ = ["StampColumns", "stamp_columns"]


@dataclass(frozen=True)
class StampColumns:
    """Columns of one block, by what they are for; size and uncertainties may be missing."""

    leading: str
    size: str | None
    alt: str
    az: str
    core_x: str
    core_y: str
    h_max: str
    valid: str
    uncertainty: str | None
    core_error: tuple[str, str] | None
    criteria: tuple[Criterion, ...]

    @property
    def names(self) -> list[str]:
        """All of them, the leading one first, each once."""
        used = [self.leading, self.size, self.alt, self.az, self.core_x, self.core_y, self.h_max]
        used += [self.valid, self.uncertainty, *(self.core_error or ())]
        used += sorted(name for criterion in self.criteria for name in criterion.columns)
        keys = {"obs_id", "event_id", "tel_id"}
        return list(dict.fromkeys(name for name in used if name is not None and name not in keys))


def stamp_columns(block: Block, configuration: Configuration) -> StampColumns:
    """Find the columns of a block.

    Raises
    ------
    CannotCompute
        If the geometry of the configured reconstructor is not in the file, or a telescope has no
        position.
    arraycal.calib.criteria.CriterionError
        If a quality criterion does not fit the columns of the file.
    """
    if block.subarray.unplaced:
        raise CannotCompute(
            f"{block.path}: telescopes {list(block.subarray.unplaced)} have no position in the "
            "layout, and time stamps mean nothing without it. Produce the file again."
        )
    section = configuration.CalculateTimingCalibration
    name = section.geometry_reconstructor
    wanted = {key: f"{name}_{key}" for key in ("alt", "az", "core_x", "core_y", "h_max")}
    units = dict.fromkeys(wanted, "m") | {"alt": "deg", "az": "deg"}
    for key, column in wanted.items():
        _require(block, column, units[key])
    _require(block, f"{name}_is_valid", "bool")
    size = section.image_size if section.image_size in block.columns else None
    uncertainty = f"{name}_ang_distance_uncert"
    core_error = (f"{name}_core_uncert_x", f"{name}_core_uncert_y")
    if from_file := section.core_resolution == "file":
        for column in core_error:
            _require(block, column, "m")
    leading = next(
        (
            column
            for column in (f"{name}_tel_impact_distance", size, *block.columns)
            if column in block.columns and block.columns[column].scope == "telescope"
        ),
        None,
    )
    if leading is None:
        raise CannotCompute(f"{block.path}: no table has a row per telescope and shower.")
    return StampColumns(
        leading=leading,
        size=size,
        valid=f"{name}_is_valid",
        uncertainty=uncertainty if uncertainty in block.columns else None,
        core_error=core_error if from_file else None,
        criteria=compile_criteria(configuration.QualityQuery.quality_criteria, block.catalog),
        **wanted,
    )


def _require(block: Block, column: str, unit: str) -> None:
    if column not in block.columns:
        ending = "_" + column.rpartition("_")[2]
        similar = sorted(
            n for n, s in block.columns.items() if n.endswith(ending) and s.scope == "subarray"
        )
        raise CannotCompute(
            f"{block.path}: no reconstructed geometry, column {column} does not exist. The file "
            f"has {', '.join(similar) if similar else 'none of that kind'}; check "
            "CalculateTimingCalibration.geometry_reconstructor."
        )
    kind = block.columns[column].kind
    if kind not in ("", unit):
        raise CannotCompute(f"{block.path}: column {column} is in {kind}, expected {unit}.")
