"""Coefficients against night: one small panel per telescope, changes marked.

For the index over the nights and for ``arraycal history --figure``::

    figure = trend_figure(trends)                              # all calibrations and types
    figure = trend_figure(trends, calibration="energy-inter")  # one calibration
    for name, figure in trend_figures(trends).items():         # one each: "energy-inter MST"
        page.figure(encode(figure, "svg"), f"trend {name}", TREND_CAPTION)

`trends` is a `arraycal.calib.trends.trends.Trends`. Drawing and saving need the style of
`arraycal.calib.figures.style`: these functions and `arraycal.calib.figures.gallery.encode` set it,
a plain `savefig` belongs into ``rc_context(STYLE)``. A type of 9 telescopes and 60 nights is about
200 kB of SVG.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.figures.style import COLOURS, FAINT, INK, QUIET, STYLE, new_figure, plain
from arraycal.calib.trends.series import AGEING
from arraycal.calib.trends.trends import flags_in_words, is_clock

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arraycal.calib.trends.trends import Trends

    Floats = npt.NDArray[np.float64]

__all__ = ["TREND_CAPTION", "trend_figure", "trend_figures"]

TREND_CAPTION = (
    "Coefficient of every telescope relative to the mean of the steady telescopes of its type, "
    "less its own median, by night. Coloured: telescopes with a flag. Line: the course found; "
    "dashed: steps; dotted: a step that may be ageing instead; shading: validity intervals in "
    "turn; ring: outlying night; triangle: beyond the range."
)
#: Panels of a calibration and type; flagged telescopes come first into them.
MOST = 16
COLUMNS = 4
#: Sizes in inches.
WIDTH, PANEL, GAP, LEFT, RIGHT, HEADER, FOOTER = 8.0, 0.95, 0.28, 0.6, 0.1, 0.5, 0.3
BESIDE = 0.12
PANEL_WIDTH = (WIDTH - LEFT - RIGHT - (COLUMNS - 1) * BESIDE) / COLUMNS
FLAGGED = COLOURS[1]
PERCENT = 100.0
#: Least half range of a panel: %, and ns.
LEAST_REACH = {False: 1.0, True: 1.0}


class _Group(NamedTuple):
    """Telescopes of one type in one calibration, as they are shown."""

    calibration: str
    tel_type: str
    shown: pl.DataFrame
    n_hidden: int


def trend_figures(trends: Trends, tel_ids: Collection[int] = ()) -> dict[str, Figure]:
    """Draw a figure for every calibration and type.

    Parameters
    ----------
    trends : Trends
        From `arraycal.calib.trends.trends.telescope_trends`.
    tel_ids : collection of int
        Which telescopes; all if empty.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        By ``"CALIBRATION TYPE"``; without those that have nothing to show.
    """
    return {
        f"{group.calibration} {group.tel_type}": _drawn(trends, [group])
        for group in _groups(trends, None, tel_ids)
    }


def trend_figure(
    trends: Trends, *, calibration: str | None = None, tel_ids: Collection[int] = ()
) -> Figure | None:
    """Draw all telescopes in one figure, calibrations and types below each other.

    Parameters
    ----------
    trends : Trends
        From `arraycal.calib.trends.trends.telescope_trends`.
    calibration : str, optional
        Only this one.
    tel_ids : collection of int
        Which telescopes; all if empty.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if no telescope has two nights to compare.
    """
    groups = _groups(trends, calibration, tel_ids)
    return _drawn(trends, groups) if groups else None


def _groups(trends: Trends, calibration: str | None, tel_ids: Collection[int]) -> list[_Group]:
    table = trends.telescopes.filter(pl.col("n_nights") > 1)
    if calibration is not None:
        table = table.filter(pl.col("calibration") == calibration)
    if tel_ids:
        table = table.filter(pl.col("tel_id").is_in(list(tel_ids)))
    found = []
    for (name, tel_type), own in table.group_by("calibration", "tel_type", maintain_order=True):
        first = own.with_columns(steady=pl.col("flags") == "").sort("steady", "tel_id")
        shown = first.head(MOST).sort("tel_id")
        found.append(_Group(str(name), str(tel_type), shown, len(own) - len(shown)))
    return found


def _drawn(trends: Trends, groups: list[_Group]) -> Figure:
    from matplotlib import rc_context

    rows = [math.ceil(len(group.shown) / COLUMNS) for group in groups]
    height = sum(HEADER + n * (PANEL + GAP) + FOOTER for n in rows)
    columns = min(COLUMNS, max(len(group.shown) for group in groups))
    with rc_context(STYLE):
        # As wide as its panels: a single telescope leaves no empty page beside it.
        figure = new_figure(WIDTH - (COLUMNS - columns) * (PANEL_WIDTH + BESIDE), height)
        top = height
        for group, n in zip(groups, rows, strict=True):
            _draw_group(figure, trends, group, top)
            top -= HEADER + n * (PANEL + GAP) + FOOTER
    return figure


def _draw_group(figure: Figure, trends: Trends, group: _Group, top: float) -> None:
    """Draw the panels of a group below `top`, inches from the bottom of the figure."""
    width, height = figure.get_size_inches()
    hidden = f", {group.n_hidden} more not shown" if group.n_hidden else ""
    title = plain(f"{group.calibration}, {group.tel_type}{hidden}")
    figure.text(LEFT / width, (top - 0.18) / height, title, fontweight="bold", va="center")
    unit = "ns" if is_clock(group.calibration) else "%"
    own = {row["tel_id"]: _series(trends, group, row["tel_id"]) for row in _rows(group)}
    reach = _reach(list(own.values()), LEAST_REACH[is_clock(group.calibration)])
    first, last = group.shown["first_night"].min(), group.shown["last_night"].max()
    for number, row in enumerate(_rows(group)):
        line, column = divmod(number, COLUMNS)
        left = LEFT + column * (PANEL_WIDTH + BESIDE)
        bottom = top - HEADER - line * (PANEL + GAP) - PANEL
        place = (left / width, bottom / height, PANEL_WIDTH / width, PANEL / height)
        axes = figure.add_axes(place)
        _draw_panel(axes, trends, group, row, own[row["tel_id"]].with_columns(reach=reach))
        axes.set(xlim=_limits(first, last), ylim=(-reach, reach))  # type: ignore[arg-type]
        is_lowest = number + COLUMNS >= len(group.shown)
        _label(axes, unit=unit if column == 0 else "", dates=is_lowest)


def _rows(group: _Group) -> list[dict[str, object]]:
    return group.shown.to_dicts()


def _series(trends: Trends, group: _Group, tel_id: object) -> pl.DataFrame:
    """Nights of a telescope with `y`, `dy`, `course`: less its median, in % or ns."""
    own = trends.nights.filter(
        (pl.col("calibration") == group.calibration)
        & (pl.col("tel_type") == group.tel_type)
        & (pl.col("tel_id") == tel_id)
        & pl.col("relative").is_finite()
        & pl.col("error").is_finite()
    ).sort("night")
    middle = pl.col("relative").median()
    if is_clock(group.calibration):
        return own.with_columns(
            y=pl.col("relative") - middle, dy=pl.col("error"), course=pl.col("fitted") - middle
        )
    return own.with_columns(
        y=PERCENT * (pl.col("relative") / middle - 1),
        dy=PERCENT * pl.col("error") / middle,
        course=PERCENT * (pl.col("fitted") / middle - 1),
    )


def _reach(series: list[pl.DataFrame], least: float) -> float:
    """Half of the common range: every course, and all points but a few wild ones."""
    courses = np.concatenate([np.abs(own["course"].to_numpy()) for own in series])
    points = np.concatenate([(own["y"].abs() + own["dy"]).to_numpy() for own in series])
    wide = [np.max(courses, initial=0.0), np.quantile(points, 0.995) if len(points) else 0.0]
    return 1.1 * float(max(least, *wide))


def _draw_panel(
    axes: Axes, trends: Trends, group: _Group, row: Mapping[str, object], own: pl.DataFrame
) -> None:
    flags = flags_in_words(row)
    colour = FLAGGED if flags else QUIET
    _shade(axes, _of(trends.intervals, group, row))
    x, y = own["night"].to_numpy(), own["y"].to_numpy()
    axes.errorbar(
        x, y, own["dy"].to_numpy(), color=colour, ls="none", marker="o", ms=2.2, elinewidth=0.7
    )
    steps = _of(trends.steps, group, row).sort("night")["night"].to_numpy()
    # The step is the rival of an open course that is a line, not a part of it.
    is_line = row["is_open"] and str(row["flags"]).startswith(AGEING)
    breaks = np.searchsorted(x, [] if is_line else steps)
    for part in np.split(np.arange(len(x)), breaks):
        axes.plot(x[part], own["course"].to_numpy()[part], color=INK, linewidth=0.9, zorder=3)
    _mark_wild(axes, own, colour)
    for at in steps:
        # Between the nights: the step is before the first night behind it.
        axes.axvline(
            at - np.timedelta64(12, "h"),
            color=INK,
            linestyle=":" if row["is_open"] else "--",
            linewidth=0.8,
        )
    name = plain(f"{row['tel_type']} {row['tel_id']}")
    label = f"{name}: {flags}" if flags else name
    weight = "bold" if flags else "normal"
    axes.set_title(label, loc="left", fontsize=8, color=colour, fontweight=weight, pad=3)


def _mark_wild(axes: Axes, own: pl.DataFrame, colour: str) -> None:
    """Mark outlying nights, and points that the panel has no room for, at its edge."""
    x, y, wild = own["night"].to_numpy(), own["y"].to_numpy(), own["outlier"].to_numpy()
    reach = float(own["reach"].max() or 0.0)  # type: ignore[arg-type]  # the column is numbers
    style = {"ls": "none", "color": colour}
    axes.plot(x[wild], y[wild], marker="o", ms=7, mfc="none", **style)  # type: ignore[arg-type]
    for sign, marker in ((1.0, "^"), (-1.0, "v")):
        beyond = sign * y > reach
        edge = np.full(int(beyond.sum()), 0.93 * sign * reach)
        axes.plot(x[beyond], edge, marker=marker, ms=4, **style)  # type: ignore[arg-type]


def _of(table: pl.DataFrame, group: _Group, row: Mapping[str, object]) -> pl.DataFrame:
    return table.filter(
        (pl.col("calibration") == group.calibration)
        & (pl.col("tel_type") == group.tel_type)
        & (pl.col("tel_id") == row["tel_id"])
    )


def _shade(axes: Axes, intervals: pl.DataFrame) -> None:
    """Shade every other validity interval, beginning with the last but one."""
    half = np.timedelta64(12, "h")
    for row in intervals.sort("first_night", descending=True)[1::2].iter_rows(named=True):
        first, last = np.datetime64(row["first_night"]), np.datetime64(row["last_night"])
        axes.axvspan(first - half, last + half, color=FAINT, linewidth=0, zorder=0)  # type: ignore[arg-type]


def _limits(first: date, last: date) -> tuple[np.datetime64, np.datetime64]:
    room = np.timedelta64(max(12, 12 * (last - first).days // 15), "h")
    return np.datetime64(first) - room, np.datetime64(last) + room


def _label(axes: Axes, *, unit: str, dates: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=5)  # type: ignore[no-untyped-call]
    locator.intervald[3] = [1, 2, 3, 7, 14, 21]  # whole days: nights have no hours
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=dates))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set_fontsize(7)
    axes.tick_params(labelbottom=dates, labelleft=bool(unit), labelsize=7, length=2)
    axes.axhline(0.0, color=FAINT, linewidth=0.6, zorder=0)
    if unit:
        axes.set_ylabel(unit)
