"""Gallery of the log ratios of telescope pairs, with the fitted and the plain mean.

All panels of a type are drawn into one pair of axes: dozens of axes would take matplotlib
seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arraycal.calib.figures.style import (
    FAINT,
    INK,
    QUIET,
    STYLE,
    Look,
    Margins,
    looks,
    name_ticks,
    new_figure,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]

__all__ = ["GALLERY_CAPTION", "gallery_figures"]

GALLERY_CAPTION = (
    "ln(v1/v2) of single showers as selected, {}; a panel is a pair, with its telescopes and the "
    "number of showers. Black: difference of the fitted telescopes; yellow, dashed: plain mean of "
    "the showers, and how far it is from the fit in units of its own error. The plain mean counts "
    "every shower alike and knows two telescopes alone, the fit weighs and knows all."
)
COLUMNS = 6
CELL_IN = (1.42, 1.12)
#: Part of a cell that the panel takes.
WIDTH, HEIGHT = 0.9, 0.62
#: A panel reaches this many standard deviations beyond the farthest mean, and has this many bins.
REACH, BINS, FEWEST_BINS = 3.5, 40, 12
PLAIN_MEAN = "#F0E442"
TICKS = (0.05, 0.1, 0.2, 0.5, 1.0)


def gallery_figures(histograms: pl.DataFrame) -> dict[str, Figure]:
    """Draw the gallery, a figure for each type or combination of types.

    Parameters
    ----------
    histograms : DataFrame
        Schema ``arraycal.calib.checks.pair_histograms.PAIR_HISTOGRAMS``.

    Returns
    -------
    dict of str to Figure
        By type.
    """
    import matplotlib as mpl

    drawn = {}
    shown = looks(histograms["tel_type"])
    with mpl.rc_context(STYLE):
        for (name,), part in histograms.sort("tel_type").group_by("tel_type", maintain_order=True):
            drawn[str(name)] = _draw(part.sort("tel_id_1", "tel_id_2"), shown[str(name)])
    return drawn


def _draw(pairs: pl.DataFrame, look: Look) -> Figure:
    columns = min(COLUMNS, len(pairs))
    n_rows = math.ceil(len(pairs) / columns)
    margins = Margins(left=0.1, right=0.1, bottom=0.42, top=0.05)
    width = max(columns * CELL_IN[0], 3.0)
    figure = new_figure(width + 0.2, n_rows * CELL_IN[1] + 0.47, margins)
    axes = figure.add_subplot()
    reach = _reach(pairs)
    panels = [
        Panel(row, 0.05 + number % columns, n_rows - 1 - number // columns + 0.16, reach)
        for number, row in enumerate(pairs.iter_rows(named=True))
    ]
    _draw_panels(axes, panels, look)
    for panel in panels:
        _write(axes, panel)
    axes.set(xlim=(0, width / CELL_IN[0]), ylim=(0, n_rows))
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    tick = max(t for t in TICKS if t < reach)
    ticks = [(panel.across(x), f"{x:g}") for panel in panels[:columns] for x in (-tick, 0.0, tick)]
    places, labels = zip(*ticks, strict=True)
    name_ticks(axes.xaxis, places, labels, labelsize=7, length=2, pad=1)
    axes.set_xlabel("ln(v1 / v2)")
    return figure


def _reach(pairs: pl.DataFrame) -> float:
    """Half the range of the panels of a figure, in ln(v1 / v2), a round number."""
    spread = pairs["mean_error"].fill_nan(0.0) * pairs["n_events"].sqrt()
    wanted = float((pairs["mean"].abs() + REACH * spread).max() or 0.0)  # type: ignore[arg-type]
    return min(max(0.1 * math.ceil(10 * wanted), 0.1), float(pairs["high"][0]))


class Panel(NamedTuple):
    """A pair, the lower left corner of its panel, and half the range shown."""

    row: dict[str, Any]
    left: float
    bottom: float
    reach: float

    def across(self, value: float) -> float:
        """Place of a log ratio."""
        return self.left + WIDTH * (value / self.reach + 1) / 2

    def upright(self, value: float, height: float = 1.0) -> list[tuple[float, float]]:
        """Line at a log ratio; none outside the range or if there is no number."""
        if not abs(value) <= self.reach:
            return []
        x = self.across(value)
        return [(x, self.bottom), (x, self.bottom + height * HEIGHT)]


def _draw_panels(axes: Axes, panels: Sequence[Panel], look: Look) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    shapes = []
    for panel in panels:
        counts, edges = _rebinned(panel.row, panel.reach)
        tall = panel.bottom + HEIGHT * counts / max(counts.max(), 1.0)
        x = np.repeat([panel.across(edge) for edge in edges], 2)
        y = np.concatenate([[panel.bottom], np.repeat(tall, 2), [panel.bottom]])
        shapes.append(np.column_stack([x, y]))
    axes.add_collection(PolyCollection(shapes, facecolors=look.colour, alpha=0.75))
    sets: list[tuple[list[Any], dict[str, Any]]] = [
        ([panel.upright(0.0) for panel in panels], {"colors": FAINT, "zorder": 0}),
        ([_base(panel) for panel in panels], {"colors": QUIET}),
        ([panel.upright(panel.row["fitted"], 1.05) for panel in panels], {"colors": INK}),
        (
            [panel.upright(panel.row["mean"], 1.05) for panel in panels],
            {"colors": PLAIN_MEAN, "linestyles": (0, (2, 2))},
        ),
    ]
    for lines, style in sets:
        axes.add_collection(LineCollection([line for line in lines if line], lw=1.0, **style))


def _base(panel: Panel) -> list[tuple[float, float]]:
    return [(panel.left, panel.bottom), (panel.left + WIDTH, panel.bottom)]


def _write(axes: Axes, panel: Panel) -> None:
    row, right = panel.row, panel.left + WIDTH
    top = panel.bottom + 1.1 * HEIGHT
    axes.text(panel.left, top, f"{row['tel_id_1']}, {row['tel_id_2']}", fontsize=7)
    axes.text(right, top, f"{row['n_events']:,}", fontsize=7, ha="right", color=QUIET)
    if row["mean_error"] > 0 and math.isfinite(row["fitted"]):
        pull = (row["mean"] - row["fitted"]) / row["mean_error"]
        text = f"{round(pull, 1) + 0.0:+.1f} \N{GREEK SMALL LETTER SIGMA}"
        axes.text(right, panel.bottom + 0.8 * HEIGHT, text, fontsize=6.5, ha="right", color=QUIET)


def _rebinned(row: dict[str, Any], reach: float) -> tuple[Floats, Floats]:
    """Counts within the reach, in some forty bins; in fewer where there are few."""
    counts = np.asarray(row["counts"], np.float64)
    edges = np.linspace(row["low"], row["high"], len(counts) + 1)
    bins = min(BINS, max(FEWEST_BINS, 2 * math.sqrt(counts.sum())))
    wanted = 2 * reach / bins / (edges[1] - edges[0])
    merged = max(k for k in _divisors(len(counts)) if k <= max(wanted, 1.0))
    counts, edges = counts.reshape(-1, merged).sum(axis=1), edges[::merged]
    inside = (edges[:-1] > -reach - 1e-9) & (edges[1:] < reach + 1e-9)
    first, last = np.flatnonzero(inside)[[0, -1]]
    return counts[first : last + 1], edges[first : last + 2]


def _divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]
