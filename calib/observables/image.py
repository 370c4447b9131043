"""Inter-calibration of optical throughput from the sizes of images.

Method: Mitchell 2016, PhD thesis Heidelberg, section 4.2 (doi:10.11588/heidok.00021768), for the
equidistant selection; the distance curve in its place is `arraycal.calib.fit.curve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.dl2.cameras import camera_radii
from arraycal.calib.dl2.pointing import ALTITUDE
from arraycal.calib.observables.definition import LOG_RATIO_STATISTIC, Observable
from arraycal.calib.observables.filters import (
    ColumnTemplate,
    EventFilter,
    PairFilter,
    distance_asymmetry,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block
    from arraycal.calib.observables.filters import Values

__all__ = ["IMAGE_INTER"]


def _containment(
    fractions: Mapping[int, float], block: Block, unit: str
) -> Mapping[int, float] | str:
    """Largest distance of an image from the camera centre, by telescope."""
    radii = camera_radii(block, unit)
    if isinstance(radii, str):
        return radii
    return {tel_id: fraction * radii[tel_id] for tel_id, fraction in fractions.items()}


def _equidistant(one: Values, two: Values, limits: Values) -> npt.NDArray[np.bool_]:
    """``|d1 - d2| / (d1 + d2) < A + B cos(altitude)``, the larger altitude of the two.

    Mitchell 2016, equation 4.2.2, writes cos(90 deg - zenith), and the larger altitude is the
    stricter of the two: both as in ctao-calibpipe.
    """
    altitude = np.maximum(one[1], two[1])
    # Written so that NaN, a missing distance or altitude, is refused.
    return np.asarray(distance_asymmetry(one[0], two[0]) < limits[0] + limits[1] * np.cos(altitude))


_DISTANCE = ColumnTemplate("{geometry}_tel_impact_distance", "m")

IMAGE_INTER = Observable(
    name="image-inter",
    section="CalculateImageAsymmetry",
    value="{image}",
    uncertainty=None,
    impact="{geometry}_tel_impact_distance",
    unit="",
    brightest=ColumnTemplate("intensity_max", ""),
    scope="same_type",
    statistic=LOG_RATIO_STATISTIC,
    filters=(
        EventFilter("minimum_individual_intensity", (ColumnTemplate("{image}", ""),), ">="),
        EventFilter("min_pixels", (ColumnTemplate("morphology_n_pixels", "int"),), ">="),
        EventFilter("max_leakage", (ColumnTemplate("leakage_intensity_width_2", ""),), "<"),
        EventFilter(
            "max_radius_fraction",
            (ColumnTemplate("hillas_r", "deg"), ColumnTemplate("camera_frame_hillas_r", "m")),
            "<",
            _containment,
        ),
        PairFilter(
            "equidistant_event_selection",
            (_DISTANCE, ColumnTemplate(ALTITUDE, "rad")),
            _equidistant,
        ),
    ),
    label="image_asymmetry",
    # A thousand pixels at the end of their range have 1e7 p.e.
    measurable=(0.0, 1e9),
    monitoring_path="/dl2/monitoring/subarray/inter_calibration",
)
