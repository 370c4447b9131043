"""Contrasts that a simulation expects, subtracted bin by bin of energy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.disk.texts import read_json
from arraycal.calib.errors import WrongUsage
from arraycal.calib.types.bins import CONTRAST_BINS, ENERGY

if TYPE_CHECKING:
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["NOT_SIMULATED", "read_reference", "reference_corrected"]

#: Reason of a type that a simulation says nothing about.
NOT_SIMULATED = "no bin in common with the simulation"

KEYS = ["covariate", "tel_type", "tel_ref", "low"]


def read_reference(path: str, reference: str) -> pl.DataFrame:
    """Read the contrast bins of a ``result.json``.

    Parameters
    ----------
    path : str
        Result of a joint cross-calibration of simulated blocks.
    reference : str
        The reference type it must have.

    Returns
    -------
    DataFrame
        Schema ``arraycal.calib.types.bins.CONTRAST_BINS``.

    Raises
    ------
    WrongUsage
        If the file cannot be read, is something else, or has another reference type.
    """
    try:
        content = read_json(Path(path))
        bins = pl.DataFrame(content["extras"]["contrast_bins"], schema=CONTRAST_BINS)
    except OSError as error:
        raise WrongUsage(f"simulation_reference {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        raise WrongUsage(
            f"simulation_reference {path}: expected the result.json of a joint energy-cross of "
            "simulated blocks"
        ) from None
    if content["extras"].get("energy_slopes"):
        raise WrongUsage(
            f"simulation_reference {path}: it was made with energy_slope, and its bins lack the "
            "slope. Calibrate the simulations without it."
        )
    found = bins["tel_ref"].unique().sort().to_list()
    if found != [reference]:
        raise WrongUsage(
            f"simulation_reference {path}: its contrasts are with {', '.join(found) or 'nothing'}, "
            f"here reference_subsystem is {reference}. Calibrate the simulations likewise."
        )
    return bins


def reference_corrected(
    result: CalibrationResult, types: pl.DataFrame, bins: pl.DataFrame, expected: pl.DataFrame
) -> tuple[CalibrationResult, pl.DataFrame, pl.DataFrame]:
    """Subtract expected contrasts.

    A bin gets the expectation of the same bin; without one it is left out of the table. A type
    gets the mean expectation of its energy bins, weighted like its data
    (with ``1 / error^2`` of the contrasts), and its telescopes with it. A type none of whose bins
    are in the simulation stays as it is, with a reason.

    Parameters
    ----------
    result : CalibrationResult
        The coefficients.
    types : DataFrame
        Schema ``arraycal.calib.types.joint.TYPES``.
    bins, expected : DataFrame
        Schema ``arraycal.calib.types.bins.CONTRAST_BINS``: data and simulation.

    Returns
    -------
    tuple of CalibrationResult, DataFrame, DataFrame
        The three with the expectation taken out.
    """
    simulated = expected.select(*KEYS, e="contrast", s="error")
    matched = bins.join(simulated, on=KEYS, how="inner", maintain_order="left")
    matched = matched.with_columns(expected=pl.col("e"), expected_error=pl.col("s")).drop("e", "s")
    shifts: dict[str, tuple[float, float]] = {}
    energy = matched.filter(pl.col("covariate") == ENERGY.name)
    for (tel_type,), part in energy.group_by("tel_type"):
        weight = 1.0 / part["error"].to_numpy() ** 2
        share = weight / weight.sum()
        shift = float(share @ part["expected"].to_numpy())
        error = math.sqrt(float(share**2 @ part["expected_error"].to_numpy() ** 2))
        shifts[str(tel_type)] = shift, error
    return _shifted_result(result, shifts), _shifted_types(types, shifts), matched


def _shifted_types(types: pl.DataFrame, shifts: dict[str, tuple[float, float]]) -> pl.DataFrame:
    rows = []
    for row in types.iter_rows(named=True):
        shift, error = shifts.get(row["tel_type"], (0.0, 0.0))
        ratio = math.exp(-shift)
        missing = row["tel_type"] not in shifts and row["tel_type"] != row["tel_ref"]
        rows.append(
            row
            | {
                "scaling_factor": row["scaling_factor"] * ratio,
                "error": ratio * math.hypot(row["error"], row["scaling_factor"] * error),
                "systematic": ratio * row["systematic"],
                "contrast": row["contrast"] - shift,
                "contrast_error": math.hypot(row["contrast_error"], error),
                "expected": shift,
                "expected_error": error,
                "reason": row["reason"] or (NOT_SIMULATED * missing),
            }
        )
    return pl.DataFrame(rows, schema=types.schema)


def _shifted_result(
    result: CalibrationResult, shifts: dict[str, tuple[float, float]]
) -> CalibrationResult:
    """Divide the coefficients of each type; telescopes of a type share the error of its shift."""
    moved = {tel_type: shift for tel_type, (shift, _) in shifts.items()}
    error = {tel_type: size for tel_type, (_, size) in shifts.items()}
    table = result.telescopes.with_columns(
        ratio=pl.col("tel_type").replace_strict(moved, default=0.0, return_dtype=pl.Float64),
        extra=pl.col("tel_type").replace_strict(error, default=0.0, return_dtype=pl.Float64),
    ).with_columns(ratio=(-pl.col("ratio")).exp())
    value = pl.col("value") * pl.col("ratio")
    telescopes = table.with_columns(
        value=value,
        error=((pl.col("error") * pl.col("ratio")) ** 2 + (value * pl.col("extra")) ** 2).sqrt(),
        systematic=pl.col("systematic") * pl.col("ratio"),
    ).drop("ratio", "extra")
    return replace(
        result, telescopes=telescopes, covariance=_shifted_covariance(result, table, telescopes)
    )


def _shifted_covariance(
    result: CalibrationResult, table: pl.DataFrame, telescopes: pl.DataFrame
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    place = {tel_id: row for row, tel_id in enumerate(table["tel_id"])}
    rows = [place[tel_id] for tel_id in result.tel_ids]
    ratio, extra = (table[name].to_numpy()[rows] for name in ("ratio", "extra"))
    types = table["tel_type"].to_numpy()[rows]
    common = telescopes["value"].to_numpy()[rows] * extra
    shared = np.outer(common, common) * (types[:, None] == types[None, :])
    return np.asarray(result.covariance * np.outer(ratio, ratio) + shared)
