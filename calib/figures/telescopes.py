"""Figures with telescopes in them: coefficients, the array from above, correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.figures.style import (
    ABSENT,
    DIVERGING,
    FAINT,
    INK,
    QUIET,
    Look,
    Margins,
    label_telescopes,
    looks,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from arraycal.calib.result.result import CalibrationResult

    Floats = npt.NDArray[np.float64]
    Places = dict[int, tuple[float, float]]

__all__ = ["array_map", "coefficients", "correlation"]

#: Marker area of the first type in the map, and how much smaller that of each next one is.
MAP_AREA, MAP_SHRINK = 130.0, 0.62
#: Links are drawn in so many widths: all of a width are one line with gaps.
LINK_WIDTHS = 12
#: Errors below this part of the spread of the values are drawn again on a scale of their own.
VISIBLE_SHARE = 0.01
#: More names than the first are written small; more than the second would cover the map.
FEW_NAMES, MAX_NAMES = 30, 60


def coefficients(result: CalibrationResult) -> Figure | None:
    """Coefficients with their errors, by telescope."""
    table = result.telescopes.sort("tel_type", "tel_id")
    if table.is_empty():
        return None
    width_in = min(max(6.0, 2.0 + 0.17 * len(table)), 11.0)
    below = _bars_vanish(table)
    figure = new_figure(width_in, 4.6 if below else 3.3)
    heights = (2.4, 1.0) if below else (1.0,)
    axes, *lower = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    axes.axhline(result.quantity.neutral, color=QUIET, linewidth=0.8, zorder=0)
    axes.grid(axis="y")
    types = table["tel_type"].to_numpy()
    for name, look in looks(types).items():
        _draw_coefficients(axes, table, np.flatnonzero(types == name), look)
    for edge in np.flatnonzero(types[1:] != types[:-1]):
        axes.axvline(edge + 0.5, color=FAINT, linewidth=0.8, zorder=0)
    _mark_missing(axes, table)
    for panel in (axes, *lower):
        label_telescopes(panel, table["tel_id"].to_list(), width_in - 0.8)
        panel.set(xlim=(-0.7, len(table) - 0.3))
    axes.set(ylabel=result.quantity.label)
    for panel in lower:
        _draw_errors(panel, table, result.quantity.label.partition(" / ")[2])
    (lower or [axes])[-1].set(xlabel="telescope")
    return figure


def _bars_vanish(table: pl.DataFrame) -> bool:
    """Whether most errors are too small beside the spread of the values to be seen as bars."""
    known = table.filter(pl.col("value").is_finite())
    if known.is_empty():
        return False
    total = _total_error(known)
    span = float(np.ptp(known["value"].to_numpy()))
    return bool(0 < np.median(total) < VISIBLE_SHARE * span)


def _total_error(table: pl.DataFrame) -> Floats:
    parts = (np.nan_to_num(table[name].to_numpy()) for name in ("error", "systematic"))
    return np.asarray(np.hypot(*parts))


def _draw_errors(axes: Axes, table: pl.DataFrame, unit: str) -> None:
    """Errors on a scale of their own: filled the statistical one, open with the systematic one."""
    types = table["tel_type"].to_numpy()
    known = np.isfinite(table["value"].to_numpy())
    for name, look in looks(types).items():
        rows = np.flatnonzero((types == name) & known)
        own = table[rows]
        style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ls": "none", "ms": 4}
        axes.plot(rows, _total_error(own), markerfacecolor="none", **style)
        axes.plot(rows, np.nan_to_num(own["error"].to_numpy()), **style)
    axes.set(ylabel=f"error / {unit}" if unit else "error", ylim=(0, None))
    axes.grid(axis="y")


def _draw_coefficients(
    axes: Axes, table: pl.DataFrame, rows: npt.NDArray[np.intp], look: Look
) -> None:
    """Coefficients of one type, its name above them."""
    own = table[rows]
    value, error = own["value"].to_numpy(), np.nan_to_num(own["error"].to_numpy())
    total = _total_error(own)
    style: dict[str, Any] = {"color": look.colour, "linestyle": "none"}
    axes.errorbar(rows, value, total, elinewidth=0.9, capsize=2.0, **style)
    size = min(4.5, 200 / len(table))
    axes.errorbar(rows, value, error, elinewidth=2.4, marker=look.marker, markersize=size, **style)
    odd = (own["flag"] == "outlier").to_numpy()
    axes.scatter(rows[odd], value[odd], 95, facecolors="none", edgecolors=INK, zorder=5)
    above = axes.get_xaxis_transform()
    name = plain(str(own["tel_type"][0]))
    axes.text(
        rows.mean(), 1.02, name, color=look.colour, transform=above, ha="center", weight="bold"
    )


def _mark_missing(axes: Axes, table: pl.DataFrame) -> None:
    """Crosses on the axis for telescopes without a coefficient."""
    missing = np.flatnonzero(~np.isfinite(table["value"].to_numpy()))
    if len(missing) == len(table):
        axes.set_ylim(0.9, 1.1)
        axes.text(0.5, 0.6, "no telescope has a coefficient", transform=axes.transAxes, ha="center")
    bottom = np.full(len(missing), 0.03)
    size = min(5.0, 200 / len(table))
    axes.plot(missing, bottom, "x", color=INK, ms=size, transform=axes.get_xaxis_transform())


def array_map(result: CalibrationResult) -> Figure | None:
    """The array from above, north up and west left."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # GroundFrame: x points north and y west, so that east is -y.
    places = {tel_id: (-y, x) for tel_id, (x, y, _) in result.positions_m.items()}
    table = result.telescopes.filter(pl.col("tel_id").is_in(list(places)))
    if len(set(places.values())) < 2:  # noqa: PLR2004  positions unknown, or one telescope
        return None
    figure = new_figure(6.0, 5.0, Margins(top=0.4))
    axes = figure.add_subplot()
    _draw_links(axes, result.pairs, places)
    values = table["value"].to_numpy()
    neutral = result.quantity.neutral
    reach = np.abs(values[np.isfinite(values)] - neutral).max(initial=result.quantity.least_reach)
    norm = Normalize(neutral - reach, neutral + reach)
    for index, (name, look) in enumerate(looks(table["tel_type"]).items()):
        own = table.filter(pl.col("tel_type") == name)
        _draw_places(axes, own, places, look, norm, MAP_AREA * MAP_SHRINK**index)
    if len(table) <= MAX_NAMES:
        _name_places(axes, table, places)
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=axes, shrink=0.8, aspect=30)
    bar.set_label(result.quantity.label)
    axes.set(
        xlabel="west \N{LEFTWARDS ARROW}  -y / m  \N{RIGHTWARDS ARROW} east",
        ylabel="x / m  \N{RIGHTWARDS ARROW} north",
    )
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.1)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6)
    return figure


def _draw_links(axes: Axes, pairs: pl.DataFrame, places: Places) -> None:
    """Lines between telescopes with common showers, the wider the more they have."""
    from matplotlib.collections import LineCollection

    known = pl.col("tel_id_1").is_in(list(places)) & pl.col("tel_id_2").is_in(list(places))
    links = pairs.filter(known).sort("n_events")
    if links.is_empty():
        return
    gap = (np.nan, np.nan)
    lines = np.asarray(
        [(places[i], places[j], gap) for i, j in links.select("tel_id_1", "tel_id_2").iter_rows()]
    )
    # The root keeps the many thin links of an array visible beside its few strong ones.
    root = np.sqrt(links["n_events"].to_numpy() / links["n_events"].to_numpy().max())
    widths = np.ceil(LINK_WIDTHS * root)
    share = np.unique(widths) / LINK_WIDTHS
    colours = np.column_stack([np.full((len(share), 3), 0.55), 0.05 + 0.6 * share**2])
    alike = [lines[widths == width].reshape(-1, 2) for width in np.unique(widths)]
    axes.add_collection(LineCollection(alike, linewidths=0.3 + 2.7 * share, colors=colours))


def _draw_places(
    axes: Axes, own: pl.DataFrame, places: Places, look: Look, norm: Normalize, area: float
) -> None:
    """Telescopes of one type, coloured by coefficient; open without one."""
    east, north = np.asarray([places[tel_id] for tel_id in own["tel_id"]]).T
    value = own["value"].to_numpy()
    known = np.isfinite(value)
    style: dict[str, Any] = {"marker": look.marker, "s": area, "edgecolors": INK, "zorder": 3}
    axes.scatter(east[~known], north[~known], facecolors="white", linestyle=":", **style)
    colours: dict[str, Any] = {"c": value[known], "cmap": DIVERGING, "norm": norm}
    axes.scatter(east[known], north[known], linewidths=0.8, **colours, **style)
    label = plain(str(own["tel_type"][0]))
    axes.scatter([], [], facecolors="white", label=label, **style | {"s": 0.5 * area})


def _name_places(axes: Axes, table: pl.DataFrame, places: Places) -> None:
    for tel_id in table["tel_id"]:
        axes.annotate(
            str(tel_id),
            places[tel_id],
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7 if len(table) <= FEW_NAMES else 5.5,
            color=QUIET,
            zorder=4,
        )


def correlation(result: CalibrationResult) -> Figure | None:
    """Correlation matrix of the coefficients."""
    if len(result.tel_ids) < 2:  # noqa: PLR2004  nothing to correlate with
        return None
    types = dict(result.telescopes.select("tel_id", "tel_type").iter_rows())
    order = sorted(
        range(len(result.tel_ids)), key=lambda i: (types[result.tel_ids[i]], result.tel_ids[i])
    )
    covariance = result.covariance[np.ix_(order, order)]
    sigma = np.sqrt(np.diag(covariance))
    # A fixed reference telescope has no error and no correlation.
    matrix = covariance / np.where(np.outer(sigma, sigma) > 0, np.outer(sigma, sigma), np.nan)
    figure = new_figure(4.9, 4.2, Margins(top=0.15, right=0.3))
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="none")
    figure.colorbar(image, ax=axes, shrink=0.85, aspect=30, label="correlation")
    label_telescopes(axes, [result.tel_ids[i] for i in order], 3.2, both=True)
    axes.set_facecolor(ABSENT)
    separate(axes, [types[result.tel_ids[i]] for i in order])
    axes.set(xlabel="telescope", ylabel="telescope")
    return figure


def separate(axes: Axes, types: list[str]) -> None:
    """Lines between the telescope types of a matrix."""
    names = np.asarray(types)
    for edge in np.flatnonzero(names[1:] != names[:-1]):
        axes.axvline(edge + 0.5, color=INK, linewidth=0.6)
        axes.axhline(edge + 0.5, color=INK, linewidth=0.6)
