"""What distinguishes one calibration from another, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

if TYPE_CHECKING:
    from arraycal.calib.observables.filters import ColumnTemplate, EventFilter, PairFilter

__all__ = ["LOG_RATIO_STATISTIC", "Observable"]

_V1, _V2 = pl.col("value_1"), pl.col("value_2")
_U1, _U2 = pl.col("uncertainty_1"), pl.col("uncertainty_2")

#: Statistics of two positive values of one shower; signs and units in `arraycal.calib.schema`.
LOG_RATIO_STATISTIC: tuple[pl.Expr, ...] = (
    ((_V1 - _V2) / (_V1 + _V2)).alias("asymmetry"),
    (2.0 / (_V1 + _V2) ** 2 * ((_V1 * _U2) ** 2 + (_V2 * _U1) ** 2).sqrt()).alias(
        "asymmetry_uncertainty"
    ),
    # Not the logarithm of the ratio, which can over- and underflow.
    (_V1.log() - _V2.log()).alias("log_ratio"),
)


@dataclass(frozen=True)
class Observable:
    """One calibration.

    Parameters
    ----------
    name : str
        Name on the command line and in output paths.
    section : str
        Section of the configuration that holds its options.
    value : str
        Column of a telescope event, as a template over the reconstructor names of the section:
        its key ``energy_reconstructor`` is ``{energy}``, and so on.
    uncertainty, impact : str or None
        Columns of its uncertainty and of the impact distance likewise; None if there is none.
    unit : str
        Unit of the value.
    scope : {"same_type", "cross_type", "any"}
        Which telescopes may form a pair.
    statistic : tuple of polars.Expr
        Pair columns computed from ``value_1``, ``value_2`` and their uncertainties.
    shower : tuple of (str, Quantity)
        Columns of PAIRS that describe the shower, and what they are (where the block has it).
    filters : tuple of EventFilter or PairFilter
        What the keys of the section's ``event_filters`` mean, in the order of the cuts.
    label : str
        Name of the event-wise statistic in the exchange file of ctao-calibpipe.
    brightest : Quantity or None
        Brightest pixel of an image, where the value is the size of one.
    monitoring_path : str
        Where the coefficients go in the monitoring file.
    measurable : (float, float)
        Smallest and largest value a telescope can measure, in `unit`; others are no measurement.
    """

    name: str
    section: str
    value: str
    uncertainty: str | None
    impact: str | None
    unit: str
    scope: Literal["same_type", "cross_type", "any"]
    statistic: tuple[pl.Expr, ...]
    filters: tuple[EventFilter | PairFilter, ...]
    label: str
    monitoring_path: str
    shower: tuple[tuple[str, ColumnTemplate], ...] = ()
    brightest: ColumnTemplate | None = None
    measurable: tuple[float, float] = (0.0, math.inf)
