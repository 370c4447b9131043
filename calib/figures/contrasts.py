"""Contrasts between telescope types in bins, with the straight line through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.figures.style import (
    QUIET,
    STYLE,
    Margins,
    legend_above,
    log_axis,
    looks,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CAPTION", "contrast_figures"]

CAPTION = (
    "Log contrast of each type with the reference type in bins of {}, what a simulation expects "
    "taken out; the line is a straight one, in the logarithm for energy."
)


def contrast_figures(bins: pl.DataFrame, trends: pl.DataFrame) -> dict[str, Figure]:
    """Draw one figure by covariate.

    Parameters
    ----------
    bins, trends : DataFrame
        Tables of ``arraycal.calib.types.bins``.

    Returns
    -------
    dict of str to Figure
        By the name of the covariate.
    """
    import matplotlib as mpl

    drawn = {}
    with mpl.rc_context(STYLE):
        for (name,), part in bins.group_by("covariate", maintain_order=True):
            drawn[str(name)] = _draw(part, trends.filter(pl.col("covariate") == name))
    return drawn


def _draw(part: pl.DataFrame, trends: pl.DataFrame) -> Figure:
    figure = new_figure(5.1, 3.0, Margins(left=0.75))
    axes = figure.add_subplot()
    axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
    axes.grid(axis="y")
    logarithmic = part["covariate"][0] == "energy"
    if logarithmic:
        log_axis(axes)
    for tel_type, look in looks(part["tel_type"].unique().sort()).items():
        own = part.filter(pl.col("tel_type") == tel_type)
        error = np.hypot(own["error"].to_numpy(), own["expected_error"].to_numpy())
        axes.errorbar(
            own["mean"].to_numpy(),
            (own["contrast"] - own["expected"]).to_numpy(),
            yerr=error,
            fmt=look.marker,
            color=look.colour,
            markersize=4,
            label=plain(tel_type),
        )
        line = trends.filter(pl.col("tel_type") == tel_type)
        if len(line):
            _line(axes, own, error, line["slope"][0], look.colour, logarithmic=logarithmic)
    axes.set_xlabel(plain(f"{part['covariate'][0]} [{part['unit'][0]}]"))
    axes.set_ylabel(plain(f"ln contrast with {part['tel_ref'][0]}"))
    # Above the axes: inside there is no place that no error bar reaches.
    legend_above(axes)
    return figure


def _line(
    axes: Axes, own: pl.DataFrame, error: np.ndarray[tuple[int], np.dtype[np.float64]],
    slope: float, colour: str, *, logarithmic: bool,
) -> None:  # fmt: skip
    """Draw the fitted line, which passes through the weighted mean of the bins."""
    mean = own["mean"].to_numpy()
    x = np.log(mean) if logarithmic else mean
    y = (own["contrast"] - own["expected"]).to_numpy()
    middle, level = (float(np.average(values, weights=1 / error**2)) for values in (x, y))
    axes.plot(mean, level + slope * (x - middle), color=colour, linewidth=1.0, alpha=0.7)
