"""Where coefficients come from: the calibration of ours that made a table, and what it says of it.

Takes the companions below ``/dl2/service/arraycal/<calibration>``; gives quantity, columns and
response slope. A file of another program has none of that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from arraycal.calib import hdf5
from arraycal.calib.errors import CannotCompute, WrongUsage
from arraycal.calib.monitoring.published_tables import SERVICE
from arraycal.config import plain_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "TABLES",
    "CoefficientTable",
    "Quantity",
    "calibration_of",
    "configuration_of",
    "quantity_of",
    "refuse_column",
    "refuse_unusable",
    "slope_of",
    "source_columns",
]

Quantity = Literal["energy", "size", "time"]
CoefficientTable = Literal["cross", "inter", "timing"]

MONITORING = "/dl2/monitoring/subarray"
#: Where coefficients are, the preferred first.
TABLES: dict[CoefficientTable, str] = {
    "cross": f"{MONITORING}/cross_calibration/coefficients",
    "inter": f"{MONITORING}/inter_calibration",
    "timing": f"{MONITORING}/timing_calibration",
}
#: What a calibration of ours is about, by the first part of its name.
QUANTITIES: dict[str, Quantity] = {"energy": "energy", "image": "size", "timing": "time"}
#: Section and key of our configuration that name the calibrated column, and what they stand in.
COLUMN_KEYS: dict[str, tuple[str, str, str]] = {
    "energy-inter": ("CalculateAsymmetry", "energy_reconstructor", "{}_tel_energy"),
    "energy-cross": ("CalculateCrossCalibration", "energy_reconstructor", "{}_tel_energy"),
    "image-inter": ("CalculateImageAsymmetry", "image_reconstructor", "{}"),
}
#: What ctapipe calls it when nobody says anything else; what is first in a block is taken.
USUAL_COLUMNS: dict[Quantity, tuple[str, ...]] = {
    "energy": ("RandomForestRegressor_tel_energy",),
    "size": ("hillas_intensity", "camera_frame_hillas_intensity"),
    "time": ("time",),
}
#: Names of columns that grow with the light as their quantity does, and how they are described.
#: Of the image parameters that hold an intensity, skewness, kurtosis and leakage are ratios.
PATTERNS: dict[Quantity, re.Pattern[str]] = {
    "energy": re.compile(r".+_tel_energy"),
    "size": re.compile(r"(.+_)?(hillas_intensity|intensity(_(max|min|mean|std))?)"),
    "time": re.compile("time"),
}
EXAMPLES: dict[Quantity, str] = {
    "energy": "one whose name ends in _tel_energy",
    "size": "hillas_intensity, or one whose name ends in intensity, or in intensity_max, min, "
    "mean or std",
    "time": "time alone",
}


def calibration_of(file: hdf5.File, path: Path, chosen: CoefficientTable) -> str:
    """Name of our calibration that made a table; empty if none or more than one could have.

    A cross-calibration also writes the inter-calibration it goes with.
    """
    names = hdf5.child_names(file, SERVICE, path)
    if chosen == "timing":
        candidates = [name for name in names if name.startswith("timing")]
    else:
        names = [name for name in names if not name.startswith("timing")]
        candidates = [name for name in names if name.endswith(f"-{chosen}")]
        if chosen == "inter" and not candidates:
            candidates = [name for name in names if name.endswith("-cross")]
    return candidates[0] if len(candidates) == 1 else ""


def quantity_of(
    path: Path, chosen: CoefficientTable, calibration: str, wanted: Quantity | None
) -> Quantity:
    """What a table of coefficients was made from.

    Raises
    ------
    WrongUsage
        If nothing says it, or what was asked for contradicts the file.
    """
    known = QUANTITIES.get(calibration.partition("-")[0])
    if chosen == "timing":
        known = "time"
    if known is None and (wanted is None or wanted == "time"):
        raise WrongUsage(
            f"{path} does not say whether {TABLES[chosen]} was made from energies or from image "
            "sizes: it has no companion tables of the arraycal calibration that made it below "
            f"{SERVICE}. Say it: --quantity energy or --quantity size."
        )
    if known is not None and wanted not in {None, known}:
        source = calibration or TABLES[chosen]
        raise WrongUsage(
            f"{path}: the coefficients of {source} belong to {known}, not to {wanted}. "
            f"Give a file made from {wanted}."
        )
    return known or wanted or get_args(Quantity)[0]


def refuse_column(path: Path, quantity: Quantity, column: str | None, named: str) -> None:
    """Refuse a column that coefficients of this quantity do not belong to.

    Parameters
    ----------
    path : Path
        The file, for the message.
    quantity : {"energy", "size", "time"}
        What the coefficients belong to.
    column : str or None
        What was asked for.
    named : str
        The column the coefficients were made from, as far as the file says.

    Raises
    ------
    WrongUsage
        If its name is none of the quantity: widths and ratios do not grow with the light.
    """
    if column in {None, named} or PATTERNS[quantity].fullmatch(str(column)):
        return
    raise WrongUsage(
        f"{path}: the coefficients belong to {quantity}, column {column} does not; that is "
        f"{EXAMPLES[quantity]}. Leave out --column, or give a file made from what {column} holds."
    )


def configuration_of(file: hdf5.File, path: Path, calibration: str) -> Mapping[str, Any]:
    """Options that our calibration ran with."""
    table = hdf5.find_table(file, f"{SERVICE}/{calibration}/configuration", path)
    if table is None:
        return {}
    table.require("line")
    lines = table.column("line", table.read_few()).tolist()
    try:
        options = plain_yaml.parse_yaml("\n".join(lines))
    except yaml.YAMLError as error:
        raise CannotCompute(f"{path}: {table.name} is damaged ({error}).") from error
    return options if isinstance(options, dict) else {}


def _option(options: Mapping[str, Any], section: str, key: str) -> Any:  # noqa: ANN401  any YAML
    content = options.get(section)
    return content.get(key) if isinstance(content, dict) else None


def source_columns(
    calibration: str, quantity: Quantity, options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Columns that coefficients were made from: the first of them that a block has."""
    if calibration in COLUMN_KEYS:
        section, key, template = COLUMN_KEYS[calibration]
        name = _option(options, section, key)
        if name:
            column = template.format(name)
            usual = USUAL_COLUMNS[quantity]
            return usual if column == usual[0] else (column,)
    return USUAL_COLUMNS[quantity]


def slope_of(options: Mapping[str, Any], path: Path) -> float:
    """Response slope that coefficients were made with.

    Raises
    ------
    CannotCompute
        If it can be none.
    """
    slope = _option(options, "RelativeThroughputFitter", "response_slope")
    if slope is None:
        return 1.0
    if not isinstance(slope, int | float) or not slope > 0:
        raise CannotCompute(f"{path}: response_slope is {slope!r}, expected a positive number.")
    return float(slope)


def refuse_unusable(file: hdf5.File, path: Path, calibration: str) -> None:
    """Refuse a result of ours that calls itself unusable.

    Raises
    ------
    CannotCompute
        With its verdict.
    """
    table = hdf5.find_table(file, f"{SERVICE}/{calibration}/fit", path) if calibration else None
    if table is None or not {"key", "value"} <= set(table.columns):
        return
    rows = table.read_few()
    facts = dict(zip(table.column("key", rows), table.column("value", rows), strict=True))
    verdict = str(facts.get("verdict", ""))
    if verdict.startswith("unusable"):
        raise CannotCompute(
            f"{path}: the result of {calibration} is {verdict}. Nothing can be corrected with it: "
            "see its report, and calibrate again."
        )
