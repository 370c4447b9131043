"""COEFFICIENTS: the result of a calibration as flat tables, with everything that explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from arraycal.calib.fit.sums.kept import Sums

__all__ = [
    "CLOCK_OFFSET",
    "PAIR_RESULTS",
    "RESIDUALS",
    "TELESCOPES",
    "THROUGHPUT",
    "CalibrationResult",
    "Quantity",
    "Status",
    "Verdict",
]

Status = Literal["usable", "degraded", "unusable"]

#: One row per telescope of the array. `value`, `error` and `systematic` are throughput
#: coefficients (no unit), NaN where the data do not constrain the telescope; `reason` then says
#: why. `n_events` are showers in use, `n_candidates` showers before the threshold margin.
#: `deviation` is ln c minus the median of the others of its group, `z` the same in units of its
#: expected size.
TELESCOPES = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "value": pl.Float64,
        "error": pl.Float64,
        "systematic": pl.Float64,
        "n_events": pl.Int64,
        "n_candidates": pl.Int64,
        "n_partners": pl.Int64,
        "component": pl.Int64,
        "deviation": pl.Float64,
        "z": pl.Float64,
        "flag": pl.String,
        "reason": pl.String,
    }
)

#: One row per telescope pair with common showers. Errors are standard errors of the means; log
#: ratios are those of values with fitted distance curves taken off;
#: `pull` compares the mean log ratio with the fitted coefficients; `variance` is that of the
#: fitted difference (the effective resistance of the edge).
PAIR_RESULTS = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id_1": pl.Int64,
        "tel_id_2": pl.Int64,
        "n_events": pl.Int64,
        "mean_asymmetry": pl.Float64,
        "mean_asymmetry_error": pl.Float64,
        "std_asymmetry": pl.Float64,
        "mean_log_ratio": pl.Float64,
        "mean_log_ratio_error": pl.Float64,
        "fitted_log_ratio": pl.Float64,
        "pull": pl.Float64,
        "variance": pl.Float64,
        "flag": pl.String,
    }
)

#: Histogram by telescope type: measured minus fitted ln(v1/v2) of single showers over its expected
#: size, which is a unit Gaussian when the resolutions are right.
RESIDUALS = pl.Schema(
    {"tel_type": pl.String, "low": pl.Float64, "high": pl.Float64, "rows": pl.Int64}
)


@dataclass(frozen=True)
class Quantity:
    """What the numbers of a result are.

    Parameters
    ----------
    name : str
        In a sentence, singular.
    unit : str
        Unit of value, error and systematic; empty for none.
    neutral : float
        The value that corrects nothing.
    digits : int
        Digits behind the point.
    least_reach : float
        Distance from the neutral value that figures show at least.
    rows : str
        What the rows are that blocks contribute.
    """

    name: str
    unit: str
    neutral: float
    digits: int
    least_reach: float
    rows: str = "pair rows"

    @property
    def label(self) -> str:
        """Name with the unit, for an axis."""
        return f"{self.name} / {self.unit}" if self.unit else self.name


THROUGHPUT = Quantity("throughput coefficient", "", 1.0, 4, 0.02)
#: Above 0 the telescope stamps late: corrected = stamp - offset.
CLOCK_OFFSET = Quantity("clock offset", "ns", 0.0, 3, 0.5, "stamps in use")


@dataclass(frozen=True)
class Verdict:
    """Whether a result may be used, what is wrong with it, and what nobody could know.

    Parameters
    ----------
    status : {"usable", "degraded", "unusable"}
        ``usable``: the data could have contradicted the result, and did not.
    reasons : tuple of str
        Why it is not ``usable``.
    untested : tuple of str
        What the data could not test, each with the reason. It degrades nothing by itself.
    """

    status: Status
    reasons: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``degraded: 2 telescopes ...; 1 block ...``."""
        return f"{self.status}: {'; '.join(self.reasons)}" if self.reasons else self.status


@dataclass(frozen=True)
class CalibrationResult:
    """Everything a calibration has to say.

    Parameters
    ----------
    calibration : str
        Name of the observable.
    telescopes, pairs, blocks, rejected : DataFrame
        Tables of this module and ``arraycal.calib.schema.REJECTED``.
    tel_ids : tuple of int
        Telescopes of the rows of `covariance`: those with a coefficient.
    covariance : array, shape (m, m)
        Covariance of the coefficients.
    obs_ids : tuple of int
        Observations that went in, sorted.
    positions_m : dict of int to (float, float, float)
        Telescope positions in the GroundFrame.
    fit : dict
        Estimator, gauge, chi2, ndf, passes, number of showers and the like.
    residuals : DataFrame
        Schema `RESIDUALS`.
    verdict : Verdict
        Whether the result may be used.
    configuration : str
        The configuration as YAML.
    provenance : dict
        Versions, command, time, input digests.
    extras : dict of str to DataFrame
        Tables of this calibration alone, by name: companions of the coefficients in the monitoring
        file, and part of ``result.json``.
    published : dict of str to DataFrame
        More tables for other programs, by their absolute path in the monitoring file. One at the
        observable's own path stands in place of the coefficients.
    quantity : Quantity
        What the values are.
    sums : Sums or None
        What windows of several nights are solved from; no part of the published files.
    """

    calibration: str
    telescopes: pl.DataFrame
    pairs: pl.DataFrame
    blocks: pl.DataFrame
    rejected: pl.DataFrame
    tel_ids: tuple[int, ...]
    covariance: npt.NDArray[np.float64]
    obs_ids: tuple[int, ...]
    positions_m: dict[int, tuple[float, float, float]]
    fit: dict[str, Any]
    residuals: pl.DataFrame
    verdict: Verdict
    configuration: str
    provenance: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, pl.DataFrame] = field(default_factory=dict)
    published: dict[str, pl.DataFrame] = field(default_factory=dict)
    quantity: Quantity = THROUGHPUT
    sums: Sums | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; what is not a finite number becomes null."""
        tables = {
            name: _rows(getattr(self, name))
            for name in ("telescopes", "pairs", "blocks", "rejected")
        }
        more = {
            name: {key: _rows(table) for key, table in getattr(self, name).items()}
            for name in ("extras", "published")
        }
        return {
            "calibration": self.calibration,
            "verdict": {
                "status": self.verdict.status,
                "reasons": list(self.verdict.reasons),
                "untested": list(self.verdict.untested),
            },
            "obs_ids": list(self.obs_ids),
            "fit": _finite(self.fit),
            **tables,
            **{name: content for name, content in more.items() if content},
            "covariance": {
                "tel_ids": list(self.tel_ids),
                "matrix": _finite(self.covariance.tolist()),
            },
            "configuration": self.configuration,
            "provenance": self.provenance,
        }


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [_finite(row) for row in frame.iter_rows(named=True)]


def _finite(value: Any) -> Any:  # noqa: ANN401  JSON values have no common type
    """Replace NaN and infinities, which JSON has no word for, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
