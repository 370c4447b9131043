"""Figures of an image-size calibration: distance curve, what it leaves, contrast with energies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.figures.style import (
    INK,
    QUIET,
    STYLE,
    Margins,
    label_telescopes,
    log_axis,
    looks,
    new_figure,
    plain,
)
from arraycal.calib.fit.curve import Knots
from arraycal.calib.schema import DISTANCE, EXPECTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CONTRAST_CAPTION",
    "CURVE_CAPTION",
    "RESIDUAL_CAPTIONS",
    "contrast_figure",
    "curve_figure",
    "residual_figures",
]

CURVE_CAPTION = (
    "Fitted distance curve of each type: ln of the light seen at an impact distance over that at "
    "the knot held at zero, which has no error. The line is the spline of the fit."
)
RESIDUAL_CAPTIONS = {
    DISTANCE: (
        "What is left by impact distance, with throughputs and distance curves held at the "
        "solution; zero on average. It shows where the curve does not follow the data."
    ),
    EXPECTED: (
        "The same by the size (or energy) expected of the telescope from its shower. Light lost in "
        "the image cleaning lowers the faint end, saturation the bright one."
    ),
}

CONTRAST_CAPTION = (
    "Log contrast of the coefficients of sizes with those of energies, each over the geometric "
    "mean of the telescopes of the type that both have. A ring marks those that disagree."
)

#: Points of a drawn curve.
STEPS = 200


def curve_figure(curve: pl.DataFrame) -> Figure | None:
    """Draw the distance curves.

    Parameters
    ----------
    curve : DataFrame
        Schema ``arraycal.calib.checks.curve_table.DISTANCE_CURVE``.

    Returns
    -------
    Figure or None
        None where the data tell no curve.
    """
    import matplotlib as mpl

    known = curve.filter(pl.col("log_value").is_finite() & pl.col("error").is_finite())
    known = known.filter((pl.col("error") > 0).any().over("tel_type"))
    if known.is_empty():
        return None
    with mpl.rc_context(STYLE):
        figure = new_figure(5.6, 3.3)
        axes = figure.add_subplot()
        axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
        axes.grid(axis="y")
        for tel_type, look in looks(known["tel_type"]).items():
            own = known.filter(pl.col("tel_type") == tel_type).sort("impact_m")
            knots, values = own["impact_m"].to_numpy(), own["log_value"].to_numpy()
            axes.errorbar(
                knots, values, own["error"].to_numpy(), fmt=look.marker, color=look.colour, ms=4,
                label=plain(tel_type),
            )  # fmt: skip
            # A spline through some of the knots is not the one that was fitted.
            if len(own) == len(curve.filter(pl.col("tel_type") == tel_type)):
                _draw_spline(axes, knots, values, look.colour)
        axes.set(xlabel="impact distance / m", ylabel="ln relative light")
        axes.legend()
    return figure


def _draw_spline(
    axes: Axes,
    knots: np.ndarray[tuple[int], np.dtype[np.float64]],
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    colour: str,
) -> None:
    curve = Knots((tuple(knots.tolist()),))
    x = np.linspace(knots[0], knots[-1], STEPS)
    # Relative to its own zero knot, whichever that is.
    zero = values[curve.zero]
    y = curve.at(x, np.zeros(STEPS, np.intp), np.delete(values, curve.zero) - zero) + zero
    axes.plot(x, y, color=colour, linewidth=1.0, alpha=0.7)


def residual_figures(bins: pl.DataFrame) -> dict[str, Figure]:
    """Draw residuals by distance and by size.

    Parameters
    ----------
    bins : DataFrame
        Schema ``arraycal.calib.checks.residual_bins.RESIDUAL_BINS``.

    Returns
    -------
    dict of str to Figure
        By the name of the covariate.
    """
    import matplotlib as mpl

    drawn = {}
    with mpl.rc_context(STYLE):
        for (name,), part in bins.group_by("covariate", maintain_order=True):
            figure = new_figure(5.1, 3.0, Margins(left=0.75))
            axes = figure.add_subplot()
            axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
            axes.grid(axis="y")
            unit = part["unit"][0]
            if name != DISTANCE:
                log_axis(axes)
            for tel_type, look in looks(part["tel_type"]).items():
                own = part.filter(pl.col("tel_type") == tel_type).sort("low")
                axes.errorbar(
                    own["mean"].to_numpy(), own["residual"].to_numpy(), own["error"].to_numpy(),
                    fmt=look.marker, color=look.colour, ms=4, label=plain(tel_type),
                )  # fmt: skip
            axes.set(xlabel=f"{name} / {unit}", ylabel="residual of ln value")
            axes.legend()
            drawn[str(name)] = figure
    return drawn


def contrast_figure(comparison: pl.DataFrame) -> Figure | None:
    """Draw the contrasts of sizes with energies by telescope.

    Parameters
    ----------
    comparison : DataFrame
        Schema ``arraycal.calib.checks.comparison.COMPARISON``.

    Returns
    -------
    Figure or None
        None without any contrast.
    """
    import matplotlib as mpl

    table = comparison.sort("tel_type", "tel_id").with_row_index("place")
    known = table.filter(pl.col("contrast").is_finite())
    if known.is_empty():
        return None
    with mpl.rc_context(STYLE):
        figure = new_figure(6.0, 3.2)
        axes = figure.add_subplot()
        axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
        axes.grid(axis="y")
        for tel_type, look in looks(known["tel_type"]).items():
            own = known.filter(pl.col("tel_type") == tel_type)
            place, contrast = own["place"].to_numpy(), own["contrast"].to_numpy()
            axes.errorbar(
                place, contrast, own["error"].to_numpy(), fmt=look.marker, color=look.colour, ms=4,
                label=plain(tel_type),
            )  # fmt: skip
            off = own["flag"].to_numpy() == "contrast"
            axes.plot(place[off], contrast[off], "o", ms=11, mfc="none", mec=INK, mew=1.0)
        label_telescopes(axes, table["tel_id"].to_list(), 5.2)
        axes.set(xlabel="telescope", ylabel="ln contrast, sizes over energies")
        axes.legend()
    return figure
