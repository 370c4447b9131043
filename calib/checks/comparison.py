"""Throughputs of image sizes beside those of energies: optics told from reconstruction.

A mirror that ages dims sizes and energies alike, so the contrast ``ln(c_size / c_energy)`` stays
zero. An energy that is off for another reason (its training, a camera the reconstruction takes for
another one) moves the contrast.

Both sets are brought to one gauge in every type, the geometric mean of the telescopes that both
have, with their covariances; these are added as if independent. They are not when both come from
the same showers, whose fluctuations they share: errors are then, if anything, too large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.disk.texts import read_json
from arraycal.calib.errors import WrongUsage
from arraycal.calib.gauge.outliers import is_outlier
from arraycal.calib.wording import percent

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from arraycal.calib.result.result import CalibrationResult

    Floats = npt.NDArray[np.float64]

__all__ = ["COMPARABLE", "COMPARISON", "Other", "read_other", "with_comparison"]

#: Calibrations whose coefficients are throughputs told by energies.
COMPARABLE = ("energy-inter", "energy-cross")

#: One row per telescope. `contrast` is ln of `value` over `other`, each over the geometric mean of
#: the telescopes of the type that both have; `error` belongs to it, `z` is their ratio. Flagged
#: like outliers of a type. NaN with a `reason` where one of the two says nothing.
COMPARISON = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "value": pl.Float64,
        "other": pl.Float64,
        "contrast": pl.Float64,
        "error": pl.Float64,
        "z": pl.Float64,
        "flag": pl.String,
        "reason": pl.String,
    }
)

#: Observations named in a sentence.
MAX_NAMED = 8


@dataclass(frozen=True)
class Other:
    """Coefficients of an earlier calibration.

    Parameters
    ----------
    path : Path
        Where they are from.
    calibration : str
        Which calibration it was.
    obs_ids : tuple of int
        Its observations.
    values : dict of (str, int) to float
        Coefficients by type and telescope id, those there are.
    tel_ids : tuple of int
        Telescopes of the rows of `covariance`.
    covariance : array, shape (m, m)
        Covariance of the coefficients.
    """

    path: Path
    calibration: str
    obs_ids: tuple[int, ...]
    values: dict[tuple[str, int], float]
    tel_ids: tuple[int, ...]
    covariance: Floats


def read_other(path: Path) -> Other:
    """Read the ``result.json`` of a calibration from energies.

    Parameters
    ----------
    path : Path
        The file, or the folder that holds it.

    Returns
    -------
    Other
        Its coefficients. They are throughputs: a response slope is in them already.

    Raises
    ------
    WrongUsage
        If the file cannot be read, or is something else.
    """
    try:
        path = path / "result.json" if path.is_dir() else path
        other = _parse(path, read_json(path))
    except OSError as error:
        raise WrongUsage(f"compare {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WrongUsage(
            f"compare {path}: expected the result.json of {' or '.join(COMPARABLE)}, found "
            "something else or a damaged file"
        ) from None
    if other.calibration not in COMPARABLE:
        raise WrongUsage(
            f"compare {path}: expected the result of {' or '.join(COMPARABLE)}, found one of "
            f"{other.calibration}"
        )
    return other


def _parse(path: Path, content: dict[str, Any]) -> Other:
    values = {
        (str(row["tel_type"]), int(row["tel_id"])): float(row["value"])
        for row in content["telescopes"]
        if row["value"] is not None
    }
    tel_ids = tuple(int(tel_id) for tel_id in content["covariance"]["tel_ids"])
    covariance = np.array(content["covariance"]["matrix"], np.float64).reshape(2 * (len(tel_ids),))
    if not all(value > 0 for value in values.values()) or not {i for _, i in values} <= {*tel_ids}:
        raise ValueError
    obs_ids = tuple(int(obs_id) for obs_id in content["obs_ids"])
    return Other(path, str(content["calibration"]), obs_ids, values, tel_ids, covariance)


def with_comparison(result: CalibrationResult, other: Other) -> CalibrationResult:
    """Add the comparison with another calibration to a result.

    Parameters
    ----------
    result : CalibrationResult
        Coefficients of sizes.
    other : Other
        Coefficients of energies.

    Returns
    -------
    CalibrationResult
        With the companion table ``comparison``, facts of it in ``fit``, and a remark on every
        telescope whose contrast is flagged.
    """
    table = _compare(result, other)
    facts = {
        "compared_with": str(other.path),
        "compared_calibration": other.calibration,
        "compared_observations": _observations(result.obs_ids, other.obs_ids),
    }
    remarks = tuple(
        f"{row['tel_type']} {row['tel_id']}: sizes and energies ({other.calibration}) disagree by "
        f"{percent(row['contrast'])}, {row['z']:+.1f} sigma"
        for row in table.filter(pl.col("flag") == "contrast").iter_rows(named=True)
    )
    verdict = result.verdict
    if remarks:
        status = "degraded" if verdict.status == "usable" else verdict.status
        verdict = replace(verdict, status=status, reasons=(*verdict.reasons, *remarks))
    return replace(
        result,
        fit=result.fit | facts,
        extras=result.extras | {"comparison": table},
        verdict=verdict,
    )


def _observations(here: tuple[int, ...], there: tuple[int, ...]) -> str:
    """Say how the observations of the two go together."""
    if set(here) == set(there):
        return "the same"
    shared = len(set(here) & set(there))
    return f"other ones: {_named(here)} here, {_named(there)} there, {shared} in common"


def _named(obs_ids: tuple[int, ...]) -> str:
    more = f" and {len(obs_ids) - MAX_NAMED} more" if len(obs_ids) > MAX_NAMED else ""
    return " ".join(map(str, obs_ids[:MAX_NAMED])) + more


def _compare(result: CalibrationResult, other: Other) -> pl.DataFrame:
    rows = []
    telescopes = result.telescopes.sort("tel_type", "tel_id")
    for (tel_type,), part in telescopes.group_by("tel_type", maintain_order=True):
        keys = [(str(tel_type), tel_id) for tel_id in part["tel_id"]]
        own = dict(zip(keys, part["value"], strict=True))
        common = [key for key in keys if np.isfinite(own[key]) and key in other.values]
        contrast, error = _contrast(common, own, result, other)
        place = {key: row for row, key in enumerate(common)}
        for key in keys:
            known = key in place and len(common) > 1
            delta = float(contrast[place[key]]) if known else np.nan
            sigma = float(error[place[key]]) if known else np.nan
            z = delta / sigma if sigma > 0 else np.nan
            stands_out = bool(is_outlier(np.asarray([delta]), np.asarray([z]))[0])
            rows.append(
                {
                    "tel_type": key[0],
                    "tel_id": key[1],
                    "value": own[key],
                    "other": other.values.get(key, np.nan),
                    "contrast": delta,
                    "error": sigma,
                    "z": z,
                    "flag": "missing" if not known else "contrast" if stands_out else "ok",
                    "reason": _reason(key, own, other, len(common)),
                }
            )
    return pl.DataFrame(rows, schema=COMPARISON)


def _reason(
    key: tuple[str, int], own: dict[tuple[str, int], float], other: Other, n_common: int
) -> str:
    if not np.isfinite(own[key]):
        return "no coefficient of sizes"
    if key not in other.values:
        return f"no coefficient in {other.calibration}"
    return "" if n_common > 1 else "no other telescope of the type has both"


def _contrast(
    common: list[tuple[str, int]],
    own: dict[tuple[str, int], float],
    result: CalibrationResult,
    other: Other,
) -> tuple[Floats, Floats]:
    """Contrasts of the telescopes of a type in the gauge of their geometric mean, with errors."""
    here, there = (
        np.array([values[key] for key in common], np.float64) for values in (own, other.values)
    )
    tel_ids = [tel_id for _, tel_id in common]
    covariance = _logarithmic(result.tel_ids, result.covariance, tel_ids, here)
    covariance = covariance + _logarithmic(other.tel_ids, other.covariance, tel_ids, there)
    n = len(common)
    centre = np.eye(n) - 1.0 / max(n, 1)
    variance = np.diag(centre @ covariance @ centre.T)
    return centre @ (np.log(here) - np.log(there)), np.sqrt(np.maximum(variance, 0.0))


def _logarithmic(
    order: tuple[int, ...], covariance: Floats, tel_ids: list[int], value: Floats
) -> Floats:
    """Covariance of ln c of some telescopes."""
    rows = [order.index(tel_id) for tel_id in tel_ids]
    return np.asarray(covariance[np.ix_(rows, rows)] / np.outer(value, value))
