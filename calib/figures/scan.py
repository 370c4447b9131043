"""Figure of the threshold scan: what other margins would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.figures.style import (
    FAINT,
    INK,
    QUIET,
    STYLE,
    Margins,
    looks,
    name_ticks,
    new_figure,
    plain,
    telescope_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arraycal.calib.figures.style import Look

__all__ = ["SCAN_CAPTION", "scan_figure"]

SCAN_CAPTION = (
    "Solution at other margins from the threshold, less that at the margin in use (dashed line); a "
    "line is a telescope. Error bars are those of differences between nested samples; grey: "
    "changes too small to matter. Filled markers: margins on the plateau, from which on nothing "
    "changes beyond errors."
)
#: Changes up to here do not matter, in percent; see ``arraycal.calib.checks.scan_tables``.
SMALL_PERCENT = 0.5
PANEL_IN, HEIGHT_IN = 2.9, 2.9
#: Telescopes stand side by side over this part of the least distance between two margins.
SPREAD = 0.5


def scan_figure(telescopes: pl.DataFrame, types: pl.DataFrame) -> Figure | None:
    """Draw the scan, a panel for each type.

    Parameters
    ----------
    telescopes, types : DataFrame
        Schemas ``arraycal.calib.checks.scan_tables.SCAN`` and ``SCAN_TYPES``.

    Returns
    -------
    Figure or None
        None if no telescope can be compared at any other margin.
    """
    import matplotlib as mpl

    compared = telescopes.filter(
        (pl.col("difference_error") > 0).any().over("tel_type"), pl.col("difference").is_finite()
    )
    if compared.is_empty():
        return None
    shown = looks(telescopes["tel_type"])
    names = sorted(set(compared["tel_type"]))
    with mpl.rc_context(STYLE):
        margins = Margins(left=0.6, top=0.35)
        figure = new_figure(PANEL_IN * len(names) + 0.6, HEIGHT_IN, margins)
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        figure.subplots_adjust(wspace=0.22)
        for axes, name in zip(panels, names, strict=True):
            own = pl.col("tel_type") == name
            _draw_type(axes, compared.filter(own), types.filter(own), shown[name])
            axes.set_title(plain(name), loc="left")
        panels[0].set_ylabel("change of ln c / %")
    return figure


def _draw_type(axes: Axes, telescopes: pl.DataFrame, types: pl.DataFrame, look: Look) -> None:
    axes.axhspan(-SMALL_PERCENT, SMALL_PERCENT, color=FAINT, zorder=0, linewidth=0)
    axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=1)
    in_use = types.filter("in_use")["margin"].item()
    axes.axvline(in_use, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    margins = types["margin"].unique().sort().to_numpy()
    step = SPREAD * float(np.diff(margins).min()) if len(margins) > 1 else 0.0
    # Side by side, so that error bars do not hide each other.
    place = (pl.col("tel_id").rank("dense") - 0.5) / pl.col("tel_id").n_unique() - 0.5
    points = telescopes.with_columns(
        x=pl.col("margin") + step * place, y=100 * pl.col("difference")
    ).sort("tel_id", "margin")
    telescope_lines(axes, points, look.colour)
    on_plateau = pl.col("margin").is_in(types.filter("plateau")["margin"].implode())
    for part, fill in ((points.filter(on_plateau), look.colour), (points.filter(~on_plateau), "w")):
        error = 100 * part["difference_error"].to_numpy()
        axes.errorbar(
            part["x"].to_numpy(), part["y"].to_numpy(), error, fmt=look.marker, color=look.colour,
            ms=3, lw=0.7, mfc=fill, zorder=3,
        )  # fmt: skip
    axes.set_xlabel("margin / sigma of the telescope event")
    name_ticks(axes.xaxis, margins.tolist(), [f"{margin:g}" for margin in margins])
