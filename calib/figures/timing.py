"""Figures of clocks: residuals against distance, offsets over time, trigger walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from calib.figures.style import INK, QUIET, log_axis, looks, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calib.result import CalibrationResult

__all__ = ["clock_history", "distance_residuals", "walk_curve"]

#: Bins with fewer stamps scatter too much to show.
MIN_ROWS = 10
MINUTE_S = 60.0


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
    final = dict(result.telescopes.select("tel_id", "value").iter_rows())
    start = float(table["start_s"].min() or 0.0)  # type: ignore[arg-type]  # the column is numbers
    figure = new_figure(7.5, 3.4)
    axes = figure.add_subplot()
    types = looks(table["tel_type"])
    named: set[str] = set()
    ordered = table.sort("chunk").group_by("tel_type", "tel_id", maintain_order=True)
    for (name, tel_id), own in ordered:
        look, base = types[str(name)], final.get(tel_id)
        if base is None or not np.isfinite(base):
            continue
        time = (0.5 * (own["start_s"] + own["stop_s"]) - start).to_numpy() / MINUTE_S
        label = None if str(name) in named else plain(str(name))
        named.add(str(name))
        offset = own["offset_ns"].to_numpy() - base
        axes.errorbar(
            time, offset, own["error_ns"].to_numpy(), color=look.colour, marker=look.marker, ms=3,
            lw=0.7, label=label,
        )  # fmt: skip
    for row in result.extras["steps"].iter_rows(named=True):
        at = (row["time_s"] - start) / MINUTE_S
        axes.axvline(at, color=INK, linestyle="--", linewidth=0.8)
        text = f" {plain(row['tel_type'])} {row['tel_id']}: {row['size_ns']:+.1f} ns"
        axes.text(at, 0.98, text, transform=axes.get_xaxis_transform(), va="top", fontsize=7)
    axes.set(xlabel="time / min", ylabel="offset - final offset / ns")
    if named:
        axes.legend()
    axes.grid()
    return figure


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
