"""Figures about the data: residuals of pairs and of single showers, rows left out."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.figures.style import (
    ABSENT,
    DIVERGING,
    FAINT,
    INK,
    QUIET,
    Margins,
    label_telescopes,
    legend_above,
    looks,
    name_ticks,
    new_figure,
    plain,
    powers_of_ten,
)
from arraycal.calib.figures.telescopes import separate

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arraycal.calib.result.result import CalibrationResult

    Floats = npt.NDArray[np.float64]

__all__ = ["MIN_SHOWERS", "pulls", "rejected", "residual_figure", "residual_matrix"]

#: Colours and histograms of pulls end here, with a note of what lies beyond.
PULL_LIMIT = 4.0
PULL_BINS = 33
#: Colours of residuals end at the residual that this share of the pairs stays below.
RESIDUAL_QUANTILE = 0.98
#: Width of a letter of the tick labels.
LETTER_IN = 0.066
#: Letters of a line of such a label, and its lines, before a name is cut.
LONGEST_LINE, MOST_LINES = 46, 4
#: The error of a mean of fewer is itself so uncertain that the pull has long tails.
MIN_SHOWERS = 10


def pulls(result: CalibrationResult) -> Figure | None:
    """Pulls of the telescope pairs, as a matrix and as a histogram."""
    pairs = result.pairs.filter(pl.col("pull").is_finite(), pl.col("n_events") >= MIN_SHOWERS)
    if pairs.is_empty():
        return None
    figure = new_figure(8.6, 4.4, Margins(top=0.55))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    telescopes = result.telescopes.sort("tel_type", "tel_id")
    _draw_matrix(left, telescopes, pairs.with_columns(shown="pull"), PULL_LIMIT, "pull")
    _draw_distribution(right, pairs)
    return figure


def residual_matrix(result: CalibrationResult) -> Figure | None:
    """Measured minus fitted differences of the telescope pairs, as a matrix."""
    if "mean_residual_ns" in result.pairs.columns:
        shown, label = pl.col("mean_residual_ns"), "residual / ns"
    else:
        shown = 100 * (pl.col("mean_log_ratio") - pl.col("fitted_log_ratio"))
        label = "residual of ln ratio / %"
    pairs = result.pairs.with_columns(shown=shown).filter(
        pl.col("shown").is_finite(), pl.col("n_events") >= MIN_SHOWERS
    )
    if pairs.is_empty():
        return None
    figure = new_figure(4.9, 4.2, Margins(top=0.15, right=0.3))
    axes = figure.add_subplot()
    # The few largest are those of pairs with few showers; they would pale all others.
    reach = float(np.quantile(np.abs(pairs["shown"].to_numpy()), RESIDUAL_QUANTILE)) or 1.0
    _draw_matrix(axes, result.telescopes.sort("tel_type", "tel_id"), pairs, reach, label)
    return figure


def _draw_matrix(
    axes: Axes, telescopes: pl.DataFrame, pairs: pl.DataFrame, limit: float, label: str
) -> None:
    """Draw the column `shown` of pairs."""
    tel_ids = telescopes["tel_id"].to_list()
    index = {tel_id: position for position, tel_id in enumerate(tel_ids)}
    matrix = np.full((len(tel_ids), len(tel_ids)), np.nan)
    for first, second, value in pairs.select("tel_id_1", "tel_id_2", "shown").iter_rows():
        # Row over column: the sign turns with the order of the two.
        matrix[index[first], index[second]] = value
        matrix[index[second], index[first]] = -value
    axes.set_facecolor(ABSENT)
    image = axes.imshow(matrix, cmap=DIVERGING, interpolation="none")
    image.set_clim(-limit, limit)
    beyond: Any = "both" if np.nanmax(np.abs(matrix)) > limit else "neither"
    axes.figure.colorbar(
        image, ax=axes, shrink=0.85, aspect=30, extend=beyond, label=f"{label} of row over column"
    )
    label_telescopes(axes, tel_ids, 3.0, both=True)
    separate(axes, telescopes["tel_type"].to_list())
    axes.set(xlabel="telescope", ylabel="telescope")


def _draw_distribution(axes: Axes, pairs: pl.DataFrame) -> None:
    edges = np.linspace(-PULL_LIMIT, PULL_LIMIT, PULL_BINS)
    types = looks(pairs["tel_type"])
    below = np.zeros(len(edges) - 1)
    for name, look in types.items():
        values = pairs.filter(pl.col("tel_type") == name)["pull"].to_numpy()
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        label = f"{plain(name)}: width {np.sqrt(np.mean(values**2)):.2f}"
        above = below + counts
        style: dict[str, Any] = {"color": look.colour, "alpha": 0.85, "label": label}
        axes.stairs(above, edges, baseline=below, fill=True, **style)
        below = above
    _draw_gaussian(axes, len(pairs) * float(edges[1] - edges[0]))
    axes.set(xlabel="pull", ylabel="telescope pairs", xlim=(edges[0], edges[-1]))
    legend_above(axes)


def _draw_gaussian(axes: Axes, area: float) -> None:
    x = np.linspace(-8, 8, 400)
    density = area * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    axes.plot(x, density, color=INK, linewidth=1.1, label="unit Gaussian")


def residual_figure(result: CalibrationResult) -> Figure | None:
    """Residuals of single showers by type."""
    table = result.residuals.filter(pl.col("rows").sum().over("tel_type") > 0)
    if table.is_empty():
        return None
    figure = new_figure(4.9, 3.6, Margins(top=0.55))
    axes = figure.add_subplot()
    low, high = table["low"].to_numpy(), table["high"].to_numpy()
    for name, look in looks(table["tel_type"]).items():
        own = table.filter(pl.col("tel_type") == name).sort("low")
        rows = own["rows"].to_numpy().astype(float)
        edges = np.append(own["low"].to_numpy(), own["high"].to_numpy()[-1])
        density = rows / rows.sum() / np.diff(edges)
        label = f"{plain(name)}: core width {_core_width(rows, edges):.2f}"
        axes.stairs(
            density, edges, color=look.colour, linestyle=look.line, linewidth=1.3, label=label
        )
    _draw_gaussian(axes, 1.0)
    axes.set(xlabel="residual / expected size", ylabel="density", yscale="log")
    powers_of_ten(axes.yaxis)
    axes.set(xlim=(low.min(), high.max()), ylim=(2e-5, 1.0))
    axes.grid()
    legend_above(axes)
    return figure


def _core_width(rows: Floats, edges: Floats) -> float:
    """Half the width of the central 68.3 %, which tails do not move."""
    share = np.append(0.0, np.cumsum(rows)) / rows.sum()
    low, high = np.interp([0.15865, 0.84135], share, edges)
    return float(high - low) / 2


def rejected(result: CalibrationResult) -> Figure | None:
    """Rows left out, by rule."""
    table = result.rejected.filter(pl.col("rows") > 0)
    if table.is_empty():
        return None
    # The level is first, so that no name is so long that it would be cut off.
    named = [f"{level}: {rule}" for level, rule in table.select("level", "rule").iter_rows()]
    wrapped = [wrap(plain(name), LONGEST_LINE, max_lines=MOST_LINES) for name in named]
    names_in = LETTER_IN * max(len(line) for lines in wrapped for line in lines)
    row_in = 0.16 + 0.14 * max(map(len, wrapped))
    height_in = 0.7 + row_in * len(table)
    figure = new_figure(names_in + 3.4, height_in, Margins(left=names_in + 0.2, top=0.1))
    axes = figure.add_subplot()
    colours = looks(table["level"])
    rows = table["rows"].to_numpy()
    bars: Any = axes.barh(
        range(len(table)), rows, 0.65, color=[colours[level].colour for level in table["level"]]
    )
    axes.bar_label(bars, [f"{n:,}" for n in rows], padding=3, fontsize=8, color=QUIET)
    name_ticks(axes.yaxis, range(len(table)), ["\n".join(lines) for lines in wrapped])
    axes.set(xlabel="rows left out", xlim=(0, 1.15 * rows.max()))
    axes.invert_yaxis()
    axes.grid(axis="x", color=FAINT)
    return figure
