"""Figures of clocks: residuals against distance, offsets over time, trigger walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.figures.style import INK, QUIET, log_axis, looks, new_figure, plain
from arraycal.calib.wording import readable_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arraycal.calib.figures.style import Look
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["clock_history", "distance_residuals", "walk_curve"]

#: Bins with fewer stamps scatter too much to show.
MIN_ROWS = 10
MINUTE_S = 60.0
#: A clock that moves so many times as far as most would flatten them; these move at least so far,
#: ns.
FLATTENS, LEAST_REACH_NS = 100.0, 0.5
#: Jumps with a name, those of them that stand one below the other, and clipped clocks with one.
NAMED_JUMPS, JUMP_ROWS, NAMED_CLIPPED = 12, 6, 4


def distance_residuals(result: CalibrationResult) -> Figure | None:
    """Mean residual by distance from the shower axis, its scatter as a band."""
    table = result.extras.get("residual_distance")
    table = None if table is None else table.filter(pl.col("rows") >= MIN_ROWS)
    if table is None or table.is_empty():
        return None
    figure = new_figure(6.0, 3.2)
    axes = figure.add_subplot()
    axes.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
    for name, look in looks(table["tel_type"]).items():
        own = table.filter(pl.col("tel_type") == name).sort("low_m")
        low, high = own["low_m"].to_numpy(), own["high_m"].to_numpy()
        middle = 0.5 * (low + np.where(np.isfinite(high), high, low + 20.0))
        mean, rms = own["mean_ns"].to_numpy(), own["rms_ns"].to_numpy()
        axes.fill_between(middle, mean - rms, mean + rms, color=look.colour, alpha=0.15, lw=0)
        error = rms / np.sqrt(own["rows"].to_numpy())
        axes.errorbar(
            middle, mean, error, color=look.colour, marker=look.marker, ms=4, label=plain(name)
        )
    axes.set(xlabel="distance from the shower axis / m", ylabel="residual / ns")
    axes.legend()
    axes.grid()
    return figure


def clock_history(result: CalibrationResult) -> Figure | None:
    """Offsets of every telescope over time, less its last one; jumps marked."""
    table = result.extras.get("history")
    if table is None or table["chunk"].n_unique() < 2:  # noqa: PLR2004  no time to speak of
        return None
    start = float(table["start_s"].min() or 0.0)  # type: ignore[arg-type]  # the column is numbers
    final = result.telescopes.select("tel_id", base=pl.col("value"))
    moved = pl.col("offset_ns") - pl.col("base")
    middle = (0.5 * (pl.col("start_s") + pl.col("stop_s")) - start) / MINUTE_S
    table = table.join(final, on="tel_id").with_columns(moved_ns=moved, time_min=middle)
    table = table.filter(pl.col("moved_ns").is_finite()).sort("tel_type", "tel_id", "chunk")
    figure = new_figure(7.5, 3.4)
    axes = figure.add_subplot()
    reach = _reach_ns(table)
    for name, look in looks(result.extras["history"]["tel_type"]).items():
        label: str | None = plain(name)
        own = table.filter(pl.col("tel_type") == name)
        for _, course in own.group_by("tel_id", maintain_order=True):
            _draw_course(axes, course, look, reach, label)
            label = None
    _mark_jumps(axes, result.extras["steps"], start)
    axes.set(xlabel="time / min", ylabel="offset - final offset / ns")
    if np.isfinite(reach):
        axes.set_ylim(-1.1 * reach, 1.1 * reach)
        _name_clipped(axes, table, reach)
    if len(table):
        axes.legend(loc="lower left")
    axes.grid()
    return figure


def _reach_ns(table: pl.DataFrame) -> float:
    """Largest offset that is drawn to scale; infinite where none would flatten the others."""
    largest = table.group_by("tel_id").agg(pl.col("moved_ns").abs().max())["moved_ns"].to_numpy()
    if not len(largest):
        return np.inf
    usual = FLATTENS * max(float(np.median(largest)), LEAST_REACH_NS)
    return np.inf if largest.max() <= usual else float(largest[largest <= usual].max(initial=1.0))


def _draw_course(
    axes: Axes, course: pl.DataFrame, look: Look, reach: float, label: str | None
) -> None:
    """Offsets of one telescope; those off the scale are arrows at its edge."""
    time, moved = course["time_min"].to_numpy(), course["moved_ns"].to_numpy()
    inside = np.abs(moved) <= reach
    error = np.where(inside, course["error_ns"].to_numpy(), 0.0)
    axes.errorbar(
        time, np.where(inside, moved, np.nan), error, color=look.colour, marker=look.marker, ms=3,
        lw=0.7, label=label,
    )  # fmt: skip
    for sign, arrow in ((1, "^"), (-1, "v")):
        out = ~inside & (sign * moved > 0)
        edge = np.full(int(out.sum()), sign * 1.04 * reach)
        axes.plot(time[out], edge, arrow, color=look.colour, ms=6)


def _mark_jumps(axes: Axes, steps: pl.DataFrame, start: float) -> None:
    """Lines at the jumps, the first of them with their names in turn one below the other."""
    for number, row in enumerate(steps.iter_rows(named=True)):
        at = (row["time_s"] - start) / MINUTE_S
        axes.axvline(at, color=INK, linestyle="--", linewidth=0.8)
        if number < NAMED_JUMPS:
            named = f"{plain(row['tel_type'])} {row['tel_id']}: {readable_ns(row['size_ns'])}"
            text = f"\N{NO-BREAK SPACE}{named}"  # another space would be lost in SVG
            height = 0.98 - 0.07 * (number % JUMP_ROWS)
            axes.text(at, height, text, transform=axes.get_xaxis_transform(), va="top", fontsize=7)


def _name_clipped(axes: Axes, table: pl.DataFrame, reach: float) -> None:
    """Say whose offsets the arrows are, and how large."""
    far = table.filter(pl.col("moved_ns").abs() > reach)
    extreme = pl.col("moved_ns").sort_by(pl.col("moved_ns").abs()).last()
    rows = far.group_by("tel_type", "tel_id", maintain_order=True).agg(extreme).rows()
    named = [f"{plain(kind)} {tel_id} {readable_ns(size)}" for kind, tel_id, size in rows]
    more = f" and {len(named) - NAMED_CLIPPED} more" if len(named) > NAMED_CLIPPED else ""
    text = f"off the scale: {', '.join(named[:NAMED_CLIPPED])}{more}"
    axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)


def walk_curve(result: CalibrationResult) -> Figure | None:
    """Delay of faint images by size, with the fitted walk."""
    table = result.extras.get("walk")
    table = None if table is None else table.filter(pl.col("rows") >= MIN_ROWS)
    if table is None or table.is_empty():
        return None
    figure = new_figure(6.0, 3.2)
    axes = figure.add_subplot()
    for name, look in looks(table["tel_type"]).items():
        own = table.filter(pl.col("tel_type") == name).sort("low")
        size = own["low"].to_numpy() * 10.0**0.1
        error = (own["rms_ns"] / own["rows"].sqrt()).to_numpy()
        mean = own["mean_ns"].to_numpy()
        style: dict[str, Any] = {"color": look.colour}
        axes.errorbar(
            size, mean, error, marker=look.marker, ms=4, ls="none", label=plain(name), **style
        )
        axes.plot(size, own["fitted_ns"].to_numpy(), lw=1.0, **style)
    log_axis(axes)
    axes.set(xlabel="image size / p.e.", ylabel="delay / ns")
    axes.legend()
    axes.grid()
    return figure
