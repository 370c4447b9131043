"""What the weights and the selection of a pass depend on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.showers import IMPACT_EDGES_M
from arraycal.calib.fit.slope import NO_SLOPE

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.robust import Robust
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.slope import EnergySlope
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "VALUE_CENTRES",
    "VALUE_EDGES",
    "Estimate",
    "Model",
    "Seen",
    "Split",
    "resolution",
    "split_values",
]

Split = Literal["value", "impact", "multiplicity"]

#: Edges of the bins in the logarithm of the value expected of a telescope: quarter e-folds from
#: 1e-3 to 1e7 units. Counting noise changes by a quarter from one to the next.
VALUE_STEP = 0.25
VALUE_EDGES = np.arange(np.log(1e-3), np.log(1e7), VALUE_STEP)
#: Logarithm of the value of each bin, under- and overflow included.
VALUE_CENTRES = np.append(VALUE_EDGES, VALUE_EDGES[-1] + VALUE_STEP) - 0.5 * VALUE_STEP

NO_CURVE = Knots()


@dataclass(frozen=True)
class Estimate:
    """Throughputs and resolutions, as one pass has found them.

    Parameters
    ----------
    log_throughput : array, shape (n,)
        ln c of every telescope.
    variance : array, shape (n,)
        Variance of ln(value), averaged over the telescope's showers.
    shape : array, shape (n_types, n_impact_bins, n_value_bins)
        Variance relative to that average, by type, impact distance and value expected of the
        telescope (not of the shower: a telescope of low throughput has noisier images).
    curve : array, shape (n_columns,)
        Parameters of the global columns: distance curves (`arraycal.calib.fit.curve`), then energy
        slopes (`arraycal.calib.fit.slope`).
    knots : Knots
        Where the curves are supported.
    slope : EnergySlope
        Which types have a slope.
    """

    log_throughput: Floats
    variance: Floats
    shape: Floats
    curve: Floats = field(default_factory=lambda: np.empty(0))
    knots: Knots = NO_CURVE
    slope: EnergySlope = NO_SLOPE

    @staticmethod
    def initial(
        subarray: Subarray,
        *,
        variance: float | Floats,
        knots: Knots = NO_CURVE,
        slope: EnergySlope = NO_SLOPE,
    ) -> Estimate:
        """Return equal telescopes, flat curves and no slope."""
        bins = (len(set(subarray.types)), len(IMPACT_EDGES_M) + 1, len(VALUE_EDGES) + 1)
        return Estimate(
            log_throughput=np.zeros(len(subarray)),
            variance=np.full(len(subarray), variance),
            shape=np.ones(bins),
            curve=np.zeros(knots.n_columns + slope.n_columns),
            knots=knots,
            slope=slope,
        )

    def offset(self, showers: Showers) -> Floats:
        """ln(value) of the telescope over that of its shower, every row.

        That is ``s_i + f_T(d) + k_T (ln E_e - ln E0)``.
        """
        offset = self.log_throughput[showers.node]
        n_curve = self.knots.n_columns
        if n_curve:
            offset = offset + self.knots.at(showers.impact_m, showers.kind, self.curve[:n_curve])
        if self.slope.n_columns:
            offset = offset + self._slope_columns(showers) @ self.curve[n_curve:]
        return offset

    def columns(self, showers: Showers) -> Floats:
        """Derivatives of `offset` by the parameters at given E_e, shape (n_rows, n_columns)."""
        curves = self.knots.columns(showers.impact_m, showers.kind)
        if not self.slope.n_columns:
            return curves
        return np.hstack([curves, self._slope_columns(showers)])

    def _slope_columns(self, showers: Showers) -> Floats:
        n_curve = self.knots.n_columns
        flat = replace(self, slope=NO_SLOPE, curve=self.curve[:n_curve])
        seen = resolution(showers, flat)
        distance = self.slope.distance(showers, seen.mean, 1.0 / seen.sigma2, self.curve[n_curve:])
        return self.slope.columns(showers, distance)


@dataclass(frozen=True)
class Model:
    """What the weights and the selection of one pass depend on.

    Parameters
    ----------
    now : Estimate
        Gives the weights and the point around which residuals are taken.
    selector : Estimate
        Decides which rows clear the threshold. It follows `now` at first and is then held, so
        that the iteration ends on a fixed set of rows.
    threshold : array, shape (n_types, n_impact_bins)
        ln(value) below which a telescope loses showers, at the middle of each bin, see
        `type_threshold_at`; ``-inf`` switches the selection off.
    margin : float
        Distance of a row's expected value from the threshold in units of its sigma.
    robust : {"none", "huber", "tukey"}
        Weighting of outlying telescope events.
    split_at : dict of str to array, shape (n_types,)
        Where `summarise` cuts the showers in two halves, by type.
    ceiling : array, shape (n,)
        ln(value) above which each telescope saturates; ``inf`` where they do not.
    threshold_offset : array, shape (n,)
        How far the threshold of each telescope lies above that of its type, in ln(value).
    """

    now: Estimate
    selector: Estimate
    threshold: Floats
    margin: float
    robust: Robust
    split_at: dict[Split, Floats]
    ceiling: Floats
    threshold_offset: Floats

    @staticmethod
    def initial(
        subarray: Subarray,
        *,
        variance: float | Floats,
        margin: float,
        knots: Knots = NO_CURVE,
        slope: EnergySlope = NO_SLOPE,
    ) -> Model:
        """Return the model of a first pass: equal telescopes, no selection, no robust weights."""
        start = Estimate.initial(subarray, variance=variance, knots=knots, slope=slope)
        threshold = np.full(start.shape.shape[:2], -np.inf)
        ceiling, offset = np.full(len(subarray), np.inf), np.zeros(len(subarray))
        return Model(start, start, threshold, margin, "none", {}, ceiling, offset)


class Seen(NamedTuple):
    """What an estimate makes of showers.

    Variance, value bin and offset of every row, inverse-variance mean of every group.
    """

    sigma2: Floats
    mean: Floats
    value_bin: Indices
    offset: Floats


def resolution(showers: Showers, estimate: Estimate) -> Seen:
    """Variances of rows, and the means of their showers that these go by."""
    offset = estimate.offset(showers)
    z = showers.y - offset
    weight = plain = 1.0 / estimate.variance[showers.node]
    mean = showers.total(plain * z) / showers.total(plain)
    for _ in range(ROUNDS):
        value_bin = _value_bin(mean[showers.group] + offset)
        sigma2 = estimate.shape[showers.kind, showers.impact_bin, value_bin] / plain
        weight = 1.0 / sigma2
        mean = showers.total(weight * z) / showers.total(weight)
    return Seen(sigma2, mean, value_bin, offset)


def _value_bin(log_value: Floats) -> Indices:
    """Bins of `VALUE_EDGES`; equal steps need no search, which took a fifth of a pass."""
    place = np.floor((log_value - VALUE_EDGES[0]) / VALUE_STEP).astype(np.intp) + 1
    return np.asarray(np.clip(place, 0, len(VALUE_EDGES)))


#: Rounds in which the noise of telescopes follows the mean of their shower and the reverse.
ROUNDS = 3


def split_values(showers: Showers, mean: Floats) -> dict[Split, Floats]:
    """Quantity of each split by group; `mean` is that of the values, from `resolution`."""
    multiplicity = np.bincount(showers.group, minlength=len(showers.group_start)).astype(float)
    return {
        "value": mean,
        "impact": showers.total(showers.impact_m) / multiplicity,
        "multiplicity": multiplicity,
    }
