"""The inter-calibration that a cross-calibration starts from: of a file, or just made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.errors import WrongUsage
from arraycal.calib.monitoring.correction import for_array
from arraycal.calib.monitoring.read_coefficients import read_coefficients
from arraycal.calib.types.three_step import Inter

if TYPE_CHECKING:
    from pathlib import Path

    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

__all__ = ["inter_of_result", "read_inter"]


def inter_of_result(result: CalibrationResult, subarray: Subarray) -> Inter:
    """Take the coefficients of an inter-calibration of the same array."""
    n = len(subarray)
    value, error = np.full(n, np.nan), np.full(n, np.nan)
    covariance = np.full((n, n), np.nan)
    for row in result.telescopes.iter_rows(named=True):
        node = subarray.index[row["tel_id"]]
        value[node], error[node] = row["value"], row["error"]
    nodes = [subarray.index[tel_id] for tel_id in result.tel_ids]
    covariance[np.ix_(nodes, nodes)] = result.covariance
    return Inter(value, error, covariance)


def read_inter(
    path: Path, subarray: Subarray, obs_ids: tuple[int, ...], *, allow_other: bool
) -> Inter:
    """Read the inter-calibration of a monitoring file, ours or that of ctao-calibpipe.

    Parameters
    ----------
    path : Path
        The file.
    subarray : Subarray
        Telescopes of the blocks; others in the file are not used.
    obs_ids : tuple of int
        Observations of the blocks.
    allow_other : bool
        Accept a file of other observations.

    Returns
    -------
    Inter
        Coefficients; telescopes taken as independent.

    Raises
    ------
    CannotCompute
        If the file cannot be read, lacks the table or its columns, holds no positive number for a
        telescope, or is of another array.
    WrongUsage
        If it is of other observations and that is not allowed, or not of energies.
    """
    read = read_coefficients(path, table="inter", quantity="energy")
    found = read.obs_ids
    if found != obs_ids and not allow_other:
        raise WrongUsage(
            f"{path}: the inter-calibration is of the observations {list(found)}, the blocks are "
            f"{list(obs_ids)}. Use the same blocks for both, or accept it with "
            "--set CalculateCrossCalibration.allow_other_observations=true"
        )
    rows, _ = for_array(read, subarray)
    nodes = [subarray.index[tel_id] for tel_id in rows["tel_id"]]
    value, error = np.empty(len(subarray)), np.empty(len(subarray))
    value[nodes], error[nodes] = rows["value"], rows["error"]
    # A number without an error is none: nobody could tell what the product is worth.
    value = np.where(np.isfinite(error), value, np.nan)
    known = np.isfinite(value)
    covariance = np.where(known[:, None] & known[None, :], np.diag(error**2), np.nan)
    return Inter(value, error, covariance)
