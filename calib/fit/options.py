"""Options of the fit from the configuration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import FitOptions
from arraycal.calib.fit.model import NO_CURVE
from arraycal.calib.subarray import value_by_telescope
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

__all__ = ["fit_options"]


def fit_options(
    configuration: Configuration, subarray: Subarray, found: Mapping[int, float] | None = None
) -> FitOptions:
    """Options of the fit, with thresholds by telescope in ln(value).

    Parameters
    ----------
    configuration : Configuration
        All options.
    subarray : Subarray
        The telescopes.
    found : mapping of int to float, optional
        Ceilings by telescope id in ln(value), for ``ceiling: auto``.
    """
    fitter, selection = configuration.RelativeThroughputFitter, configuration.ShowerSelection
    threshold: Any = selection.threshold
    if threshold is not None and threshold != "auto":
        values = value_by_telescope(threshold, subarray)
        threshold = {i: math.log(v) if v > 0 else -math.inf for i, v in values.items()}
    ceiling: Any = selection.ceiling
    if ceiling == "auto":
        ceiling = found
    elif ceiling is not None:
        limits = value_by_telescope(ceiling, subarray)
        kinds = dict(zip(subarray.tel_ids, subarray.types, strict=True))
        # One that is given counts for all of the type, as a threshold does.
        lowest = {k: min(v for i, v in limits.items() if kinds[i] == k) for k in subarray.types}
        ceiling = {i: math.log(v) if (v := lowest[kinds[i]]) > 0 else -math.inf for i in kinds}
    return FitOptions(
        knots=_knots(configuration, subarray),
        ceiling=ceiling,
        estimator=fitter.estimator,
        min_events=fitter.min_events,
        min_common=fitter.min_common_events,
        robust=fitter.robust,
        threshold=threshold,
        margin=selection.margin,
        binned_resolution=selection.resolution == "binned",
        max_iterations=selection.max_iterations,
    )


def _knots(configuration: Configuration, subarray: Subarray) -> Knots:
    """Knots of the distance curves by type; none where they are not wanted or cannot be fitted."""
    options = configuration.DistanceCurve
    if options.knots is None or configuration.RelativeThroughputFitter.estimator == "pair":
        return NO_CURVE
    by_telescope = value_by_telescope(options.range, subarray)
    by_type: dict[str, set[tuple[float, float]]] = {}
    for tel_id, tel_type in zip(subarray.tel_ids, subarray.types, strict=True):
        by_type.setdefault(tel_type, set()).add(by_telescope[tel_id])
    uneven = sorted(tel_type for tel_type, ranges in by_type.items() if len(ranges) > 1)
    if uneven:
        raise ConfigurationError(
            f"DistanceCurve.range differs between telescopes of one type ({', '.join(uneven)}); "
            "a type has one curve"
        )
    return Knots.spaced([ranges.pop() for _, ranges in sorted(by_type.items())], options.knots)
