"""Figure of blocks or nights: how each telescope differs from its value in the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.figures.style import (
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

__all__ = ["BLOCKS_CAPTION", "blocks_figure"]

BLOCKS_CAPTION = (
    "Difference of ln c of every telescope in a block (or night) from its value in all others, "
    "relative to the other telescopes of its type; a line is a telescope. Named: beyond 4 errors."
)
#: Parts that are drawn, and what their axis is called.
LABELS = {"blocks": "observation", "nights": "night"}
PANEL_IN, HEIGHT_IN = 2.9, 2.9
#: Telescopes of a block stand side by side over this part of the distance between two blocks.
SPREAD = 0.5
#: Differences beyond so many errors are named, the largest ones first.
NAMED_SIGMA, MAX_NAMED = 4.0, 6
MAX_TICKS = 8


def blocks_figure(deviations: pl.DataFrame) -> Figure | None:
    """Draw the differences, a panel for each type.

    Parameters
    ----------
    deviations : DataFrame
        Schema ``arraycal.calib.checks.parts.CONSTANCY_DEVIATIONS``, of which blocks and nights
        are drawn.

    Returns
    -------
    Figure or None
        None if no telescope can be compared.
    """
    import matplotlib as mpl

    deviations = deviations.filter(pl.col("kind").is_in(list(LABELS)), pl.col("tel_id") >= 0)
    if deviations.is_empty():
        return None
    shown = looks(deviations["tel_type"])
    blocks = sorted(set(deviations["part"]), key=_in_order)
    places = {name: float(place) for place, name in enumerate(blocks)}
    number = pl.col("part").replace_strict(places, return_dtype=pl.Float64)
    place = (pl.col("tel_id").rank("dense") - 0.5) / pl.col("tel_id").n_unique() - 0.5
    points = deviations.with_columns(x=number + SPREAD * place.over("tel_type"))
    with mpl.rc_context(STYLE):
        figure = new_figure(PANEL_IN * len(shown) + 0.6, HEIGHT_IN, Margins(left=0.6, bottom=0.75))
        panels = figure.subplots(1, len(shown), squeeze=False, sharex=True)[0]
        figure.subplots_adjust(wspace=0.22)
        for axes, (name, look) in zip(panels, shown.items(), strict=True):
            _draw_type(axes, points.filter(pl.col("tel_type") == name), look)
            axes.set_title(plain(name), loc="left")
            _label_blocks(axes, blocks)
            axes.set_xlabel(LABELS[deviations["kind"][0]])
        panels[0].set_ylabel("difference of ln c / %")
    return figure


def _label_blocks(axes: Axes, blocks: list[str]) -> None:
    """Name some of the blocks, as many as there is room for."""
    step = -(-len(blocks) // MAX_TICKS)
    ticks = range(0, len(blocks), step)
    names = [blocks[tick] for tick in ticks]
    name_ticks(axes.xaxis, ticks, names, labelrotation=30, labelsize=7)
    axes.xaxis.get_major_ticks(1)[0].label1.set_horizontalalignment("right")


def _in_order(name: str) -> tuple[int, str]:
    """Key that sorts texts which begin with a number by it."""
    first = name.partition(" ")[0]
    return len(first), first


def _draw_type(axes: Axes, points: pl.DataFrame, look: Look) -> None:
    axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=1)
    points = points.with_columns(y=100 * pl.col("difference"), dy=100 * pl.col("difference_error"))
    telescope_lines(axes, points, look.colour)
    x, y, error = points.select("x", "y", "dy").to_numpy().T
    axes.errorbar(x, y, error, fmt=look.marker, color=look.colour, ms=3, lw=0.7, zorder=3)
    size = (pl.col("difference") / pl.col("difference_error")).abs()
    far = points.filter(size > NAMED_SIGMA, pl.col("difference_error") > 0)
    for row in far.sort(size, descending=True).head(MAX_NAMED).iter_rows(named=True):
        at = (row["x"], row["y"])
        axes.annotate(
            str(row["tel_id"]), at, (4, 2), textcoords="offset points", fontsize=8, zorder=4
        )
