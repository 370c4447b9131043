"""Toy image sizes with known truth: showers that hit an array, telescopes in and out of the pool.

Like `toy_pairs` no files and no detector, but with what makes sizes harder than energies: light
that falls with the distance, a core that is reconstructed with an error shared by all telescopes
of the shower, and a threshold on what each telescope measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.observables.definition import LOG_RATIO_STATISTIC
from arraycal.calib.schema import PAIRS
from arraycal.calib.subarray import Subarray

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["SizeToy", "light_pool", "size_pairs", "square_array"]

#: Slope of the integral energy spectrum; showers fall as exp(-gamma ln E).
GAMMA = 1.7


@dataclass(frozen=True)
class SizeToy:
    """What to draw.

    Parameters
    ----------
    log_throughput : sequence of float
        ln c of every telescope of the array, whose number is a square.
    n_showers : int
        Showers that hit the array.
    sigma : float
        Noise of ln(size) of one telescope.
    core_error_m : float
        Error of the reconstructed core in x and in y, m.
    threshold : float
        Size a telescope must measure to be read out, p.e.
    faintest : float
        Size in the flat part of the light pool of the faintest shower, p.e.
    spacing_m : float
        Distance of neighbours in the square array, m.
    fall_m : float
        Distance over which the light falls to 1/e outside its pool, m.
    """

    log_throughput: Sequence[float]
    n_showers: int = 6000
    sigma: float = 0.15
    core_error_m: float = 10.0
    threshold: float = 80.0
    faintest: float = 40.0
    spacing_m: float = 120.0
    fall_m: float = 55.0


def square_array(n: int, spacing_m: float = 120.0) -> Subarray:
    """Return `n` telescopes of one type on a square grid."""
    side = round(n**0.5)
    grid = (np.arange(side) - (side - 1) / 2) * spacing_m
    return Subarray(
        name="toy",
        tel_ids=tuple(range(1, n + 1)),
        types=("MST",) * n,
        descriptions=("MST_MST_NectarCam",) * n,
        positions_m=tuple((float(x), float(y), 0.0) for x in grid for y in grid),
    )


def light_pool(distance_m: Floats, fall_m: float = 55.0) -> Floats:
    """Ln of the light at a distance over that in the flat part, which ends at 120 m.

    Inside it rises gently toward the edge (as Cherenkov light from high altitude does), outside
    it falls exponentially.
    """
    inside = 0.15 * np.minimum(distance_m, 120.0) / 120.0
    return np.asarray(inside - np.maximum(distance_m - 120.0, 0.0) / fall_m)


def size_pairs(
    toy: SizeToy,
    rng: np.random.Generator | int,
    *,
    max_asymmetry: float = np.inf,
    reach_m: float = np.inf,
) -> pl.DataFrame:
    """Draw PAIRS.

    Parameters
    ----------
    toy : SizeToy
        What to draw.
    rng : Generator or int
        Random numbers or their seed.
    max_asymmetry : float
        Pairs are kept below this ``|d1 - d2| / (d1 + d2)`` of the reconstructed distances.
    reach_m : float
        Telescope events are kept from 20 m to here.

    Returns
    -------
    DataFrame
        PAIRS with the reconstructed impact distances.
    """
    rng = np.random.default_rng(rng)
    n = len(toy.log_throughput)
    places = np.asarray(square_array(n, toy.spacing_m).positions_m)[:, :2]
    half = places.max() + 60.0
    core = rng.uniform(-half, half, (toy.n_showers, 1, 2))
    found = core + rng.normal(0.0, toy.core_error_m, core.shape)
    distance = np.linalg.norm(places - core, axis=2)
    impact = np.linalg.norm(places - found, axis=2)
    y = np.log(toy.faintest) + rng.exponential(1 / GAMMA, toy.n_showers)[:, None]
    y = y + light_pool(distance, toy.fall_m) + np.asarray(toy.log_throughput)
    y += toy.sigma * rng.standard_normal(y.shape)
    seen = (y > np.log(toy.threshold)) & (impact >= NEAREST_M) & (impact <= reach_m)
    first, second = np.triu_indices(n, 1)
    asymmetry = np.abs(impact[:, first] - impact[:, second]) / (
        impact[:, first] + impact[:, second]
    )
    shower, pair = np.nonzero(seen[:, first] & seen[:, second] & (asymmetry < max_asymmetry))
    columns = {"event_id": shower.astype(np.int64), "obs_id": np.ones(len(shower), np.int64)}
    for side, of_pair in ((1, first), (2, second)):
        telescope = of_pair[pair]
        columns |= {
            f"tel_id_{side}": (telescope + 1).astype(np.uint16),
            f"value_{side}": np.exp(y[shower, telescope]),
            f"uncertainty_{side}": np.full(len(shower), np.nan),
            f"impact_{side}_m": impact[shower, telescope],
        }
    frame = pl.DataFrame(columns).with_columns(tel_type=pl.lit("MST"))
    return frame.with_columns(*LOG_RATIO_STATISTIC).select(PAIRS.names())


NEAREST_M = 20.0
