"""Toy PAIRS with known truth, straight from the model of `arraycal.calib.fit.sums.summary`.

No files, no detector: showers with a power-law spectrum, telescopes with Gaussian noise in
ln(value), optionally a hard trigger and a tail. The closure tests and benchmarks rest on it; for
whole nights of genuine files see `arraycal.calib.simulation`.
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

__all__ = ["Toy", "toy_pairs", "toy_subarray"]

#: Slope of the integral energy spectrum; showers fall as exp(-gamma ln E).
GAMMA = 1.7


@dataclass(frozen=True)
class Toy:
    """What to draw.

    Parameters
    ----------
    log_throughput : sequence of float
        ln c of every telescope.
    sigma : sequence of float
        Noise of ln(value) of every telescope.
    n_showers : int
        Showers before the trigger.
    multiplicity : int
        Telescopes that look at a shower, drawn at random.
    trigger : float
        ln(value) a telescope must exceed to be read out; ``-inf`` for no trigger.
    tail : float
        Fraction of telescope events whose noise is multiplied by 5.
    """

    log_throughput: Sequence[float]
    sigma: Sequence[float]
    n_showers: int
    multiplicity: int
    trigger: float = float("-inf")
    tail: float = 0.0


def toy_subarray(n: int) -> Subarray:
    """Return `n` telescopes of one type in a row, 100 m apart."""
    return Subarray(
        name="toy",
        tel_ids=tuple(range(1, n + 1)),
        types=("MST",) * n,
        descriptions=("MST_MST_NectarCam",) * n,
        positions_m=tuple((100.0 * i, 0.0, 0.0) for i in range(n)),
    )


def toy_pairs(toy: Toy, rng: np.random.Generator | int, first_event: int = 0) -> pl.DataFrame:
    """Draw PAIRS.

    Parameters
    ----------
    toy : Toy
        What to draw.
    rng : Generator or int
        Random numbers or their seed.
    first_event : int
        ``event_id`` of the first shower.

    Returns
    -------
    DataFrame
        PAIRS of all pairs of every shower that at least two telescopes triggered on.
    """
    rng = np.random.default_rng(rng)
    n, m = len(toy.log_throughput), toy.multiplicity
    seen = np.sort(np.argsort(rng.random((toy.n_showers, n)), axis=1)[:, :m], axis=1)
    noise = rng.standard_normal(seen.shape)
    noise *= np.where(rng.random(seen.shape) < toy.tail, 5.0, 1.0)
    y = rng.exponential(1 / GAMMA, toy.n_showers)[:, None] + np.asarray(toy.log_throughput)[seen]
    # The spectrum must begin well below the trigger, or its edge would act as a second one.
    if np.isfinite(toy.trigger):
        y += toy.trigger - SPECTRUM_BELOW_TRIGGER
    y += np.asarray(toy.sigma)[seen] * noise
    first, second = np.triu_indices(m, 1)
    read = (y > toy.trigger)[:, first] & (y > toy.trigger)[:, second]
    shower, pair = np.nonzero(read)
    one, two = first[pair], second[pair]
    events = pl.DataFrame(
        {
            "obs_id": np.ones(len(shower), np.int64),
            "event_id": shower.astype(np.int64) + first_event,
            "tel_id_1": (seen[shower, one] + 1).astype(np.uint16),
            "tel_id_2": (seen[shower, two] + 1).astype(np.uint16),
            "value_1": np.exp(y[shower, one]),
            "value_2": np.exp(y[shower, two]),
        }
    )
    missing = pl.lit(float("nan"))
    return (
        events.with_columns(
            tel_type=pl.lit("MST"),
            uncertainty_1=missing,
            uncertainty_2=missing,
            impact_1_m=missing,
            impact_2_m=missing,
        )
        .with_columns(*LOG_RATIO_STATISTIC)
        .select(PAIRS.names())
    )


#: Distance of the lower end of the spectrum from the trigger, in ln(value): over 4 sigma of 0.3.
SPECTRUM_BELOW_TRIGGER = 1.5
