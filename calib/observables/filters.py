"""Event filters as data: which keys of ``event_filters`` cut on what.

A filter here names columns as templates over the reconstructor names of its section
(``{geometry}_tel_impact_distance``); `arraycal.calib.pairs.rules` turns it into a test on the
columns of a block, with the value of every telescope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block

    Values = tuple[npt.NDArray[np.float64], ...]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "DISTANCE_ASYMMETRY",
    "ColumnTemplate",
    "EventFilter",
    "PairFilter",
    "distance_asymmetry",
]


class ColumnTemplate(NamedTuple):
    """A column, as a template, and its unit."""

    column: str
    unit: str


@dataclass(frozen=True)
class EventFilter:
    """A telescope event passes when its value and that of its telescope compare as they should.

    Parameters
    ----------
    key : str
        Key of ``event_filters`` that holds the limits; without a value there is no cut.
    quantities : tuple of Quantity
        What is compared: the first one that the block has.
    sense : {">=", "<=", "<"}
        ``value sense limit``. Without a finite value a telescope event fails.
    limits : callable, optional
        Makes limits by telescope id, in the unit of the quantity, from the configured values by
        telescope id, the block and that unit; or says as text why the block does not allow this
        cut, which is then left out with that note. By default the configured values are the limits.
    """

    key: str
    quantities: tuple[ColumnTemplate, ...]
    sense: Literal[">=", "<=", "<"]
    limits: Callable[[Mapping[int, float], Block, str], Mapping[int, float] | str] | None = None


@dataclass(frozen=True)
class PairFilter:
    """A pair passes by values of its two telescope events and the limits of its telescopes.

    Parameters
    ----------
    key : str
        Key of ``event_filters`` that holds the limits; without a value there is no cut.
    quantities : tuple of Quantity
        What it looks at.
    passes : callable
        See `arraycal.calib.pairs.matching.PairTest`.
    """

    key: str
    quantities: tuple[ColumnTemplate, ...]
    passes: Callable[[Values, Values, Values], Bools]


def distance_asymmetry(
    impact_1: npt.NDArray[np.float64], impact_2: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``|d1 - d2| / (d1 + d2)``; NaN where a distance is missing or both are zero.

    Examples
    --------
    >>> distance_asymmetry(np.array([30.0]), np.array([10.0])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(impact_1 - impact_2) / (impact_1 + impact_2))


def _within_asymmetry(one: Values, two: Values, limits: Values) -> Bools:
    # Written so that NaN, a missing distance, is refused.
    return np.asarray(distance_asymmetry(one[0], two[0]) < limits[0])


DISTANCE_ASYMMETRY = PairFilter(
    key="max_distance_asymmetry",
    quantities=(ColumnTemplate("{geometry}_tel_impact_distance", "m"),),
    passes=_within_asymmetry,
)
