"""Trends of telescopes over nights: ageing, steps, outlying nights, validity intervals.

Takes the coefficients of many nights with their covariances (`arraycal.calib.history.reading`) and
gives every telescope a course: relative to the geometric mean of the steady telescopes of its type
(arithmetic, in ns, for clocks), with a line, steps, outliers, and flags by the section
``TrendMonitor``. Guaranteed: a night without a telescope is a gap and moves no other telescope; one
that drifts does not make the others drift; a flag that the nights do not bear out is not given, and
where they cannot tell a step from ageing both flags are, and the reason says so.

`arraycal.calib.trends.gauge` finds the steady telescopes, `arraycal.calib.trends.series` judges one
series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.trends.gauge import Nights, settle
from arraycal.calib.trends.series import AGEING, OUTLIER, STEP, Limits
from arraycal.calib.wording import relative

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import numpy.typing as npt

    from arraycal.calib.checks.changepoint import Step
    from arraycal.calib.trends.gauge import Settled
    from arraycal.calib.trends.series import Course
    from arraycal.config.models import TrendMonitorOptions

    Floats = npt.NDArray[np.float64]

__all__ = [
    "AGEING",
    "INTERVALS",
    "NIGHTS",
    "OUTLIER",
    "STEP",
    "STEPS",
    "TELESCOPES",
    "Trends",
    "flags_in_words",
    "has_place",
    "is_clock",
    "telescope_trends",
]

#: Calibration whose coefficients are clock offsets. Spelt out: `arraycal.calib.observables` knows
#: of files, and reports, which show trends, shall not.
CLOCKS = "timing-cross"
KEY = {"calibration": pl.String, "tel_type": pl.String, "tel_id": pl.Int64}

#: One row per calibration and telescope. `rate` is the change per day (a night is one day),
#: relative or in ns for clocks, with the steps fitted along; `step` is the latest one, at the first
#: night behind it, null without one. `valid_from` is the first night of the present validity
#: interval. `flags` are comma-joined: of two changes, the one that describes the nights better
#: first. `is_open` tells that these cannot be told apart. `p_value` is the chance of such a change
#: in a steady telescope; `scatter` the scatter from night to night beyond the stated errors, which
#: is in all errors; `is_stable` whether the telescope is part of the mean. Unknown is NaN.
TELESCOPES = pl.Schema(
    {
        **KEY,
        "n_nights": pl.Int64,
        "first_night": pl.Date,
        "last_night": pl.Date,
        "rate": pl.Float64,
        "rate_error": pl.Float64,
        "step_night": pl.Date,
        "step": pl.Float64,
        "step_error": pl.Float64,
        "valid_from": pl.Date,
        "outlier_nights": pl.Int64,
        "is_open": pl.Boolean,
        "p_value": pl.Float64,
        "scatter": pl.Float64,
        "is_stable": pl.Boolean,
        "flags": pl.String,
        "reason": pl.String,
    }
)
#: One row per finite coefficient. `relative` is 1 (0 ns) at the mean of the steady telescopes over
#: all nights, `fitted` the course found; NaN for a night that nothing connects with the others.
NIGHTS = pl.Schema(
    {
        "night": pl.Date,
        **KEY,
        "relative": pl.Float64,
        "error": pl.Float64,
        "fitted": pl.Float64,
        "outlier": pl.Boolean,
    }
)
#: One row per flagged step: first night behind it, the earliest and latest night that the data
#: allow (about 95 %), size (relative, or ns) and its error.
STEPS = pl.Schema(
    {
        **KEY,
        "night": pl.Date,
        "earliest": pl.Date,
        "latest": pl.Date,
        "step": pl.Float64,
        "step_error": pl.Float64,
    }
)
#: One row per validity interval: its nights, and the weighted mean of their coefficients.
INTERVALS = pl.Schema(
    {
        **KEY,
        "first_night": pl.Date,
        "last_night": pl.Date,
        "n_nights": pl.Int64,
        "relative": pl.Float64,
        "error": pl.Float64,
    }
)


@dataclass(frozen=True)
class Trends:
    """Courses of all telescopes.

    Parameters
    ----------
    telescopes, nights, steps, intervals : DataFrame
        Schemas `TELESCOPES`, `NIGHTS`, `STEPS`, `INTERVALS`.
    """

    telescopes: pl.DataFrame
    nights: pl.DataFrame
    steps: pl.DataFrame
    intervals: pl.DataFrame

    @property
    def flagged(self) -> pl.DataFrame:
        """Rows of `telescopes` with a flag."""
        return self.telescopes.filter(pl.col("flags") != "")


def is_clock(calibration: str) -> bool:
    """Whether the coefficients of a calibration are clock offsets in ns."""
    return calibration == CLOCKS


def flags_in_words(row: Mapping[str, Any]) -> str:
    """Flags of a row of `TELESCOPES` as text: ``ageing or step, outlier`` where it is open."""
    flags = str(row["flags"]).replace(",", ", ")
    either = f"{AGEING}, {STEP}", f"{STEP}, {AGEING}"
    for pair in either if row["is_open"] else ():
        flags = flags.replace(pair, pair.replace(",", " or"))
    return flags


def has_place() -> pl.Expr:
    """Whether a coefficient can be in trends: clocks may have any finite value, throughputs > 0."""
    value = pl.col("value")
    return value.is_finite() & ((pl.col("calibration") == CLOCKS) | (value > 0))


def telescope_trends(
    coefficients: pl.DataFrame, covariances: dict[int, Floats], options: TrendMonitorOptions
) -> Trends:
    """Find what changed over the nights.

    Parameters
    ----------
    coefficients : DataFrame
        Schema ``arraycal.calib.history.reading.COEFFICIENTS``, all telescopes of each run. Of
        several runs of one night and calibration the one with the largest number counts: choose
        with `arraycal.calib.history.trends.choose_runs` first. Throughputs that are not positive do
        not count.
    covariances : dict of int to array, shape (m, m)
        Of the finite coefficients of a run, in the order of telescope ids. A run without one gets
        the squares of its errors on the diagonal.
    options : TrendMonitorOptions
        What counts as a change.

    Returns
    -------
    Trends
        In the order of calibration, type, telescope, night.
    """
    known = coefficients.filter(pl.col("value").is_finite())
    known = known.filter(pl.col("run_id") == pl.col("run_id").max().over("calibration", "night"))
    since = pl.col("night").max().over("calibration") - pl.duration(days=options.look_back)
    full, known = known, known.filter((pl.col("night") > since) & has_place())
    by_run = {int(run_id): own for (run_id,), own in full.group_by("run_id")}
    tables: list[list[dict[str, Any]]] = [[], [], [], []]
    groups = known.group_by("calibration", "tel_type")
    for (name, tel_type), own in sorted(groups, key=lambda item: tuple(map(str, item[0]))):
        group = _Group.of(str(name), str(tel_type), own, by_run, covariances)
        settled = settle(group.nights, _limits(group, options), _fixed_scatter(group, options))
        for number in range(len(group.tel_ids)):
            rows = _rows(group, settled, number, options)
            for table, new in zip(tables, rows, strict=True):
                table.extend(new)
    schemas = (TELESCOPES, NIGHTS, STEPS, INTERVALS)
    return Trends(
        *(pl.DataFrame(t, schema=s, orient="row") for t, s in zip(tables, schemas, strict=True))
    )


@dataclass(frozen=True)
class _Group:
    """Telescopes of one type in one calibration."""

    calibration: str
    tel_type: str
    dates: tuple[date, ...]
    tel_ids: tuple[int, ...]
    nights: Nights

    @classmethod
    def of(
        cls,
        calibration: str,
        tel_type: str,
        rows: pl.DataFrame,
        by_run: dict[int, pl.DataFrame],
        covariances: dict[int, Floats],
    ) -> _Group:
        dates = tuple(sorted(set(rows["night"])))
        tel_ids = tuple(sorted(set(rows["tel_id"])))
        shape = (len(dates), len(tel_ids))
        values, covariance = np.full(shape, np.nan), np.full((*shape, shape[1]), np.nan)
        for (run_id,), own in rows.sort("tel_id").group_by("run_id", maintain_order=True):
            at = dates.index(own["night"][0])
            nodes = np.searchsorted(tel_ids, own["tel_id"].to_numpy())
            value = own["value"].to_numpy()
            noise = _covariance(own, by_run[int(run_id)], covariances.get(int(run_id)))
            if not is_clock(calibration):
                value, noise = np.log(value), noise / np.outer(value, value)
            values[at, nodes] = value
            covariance[at][np.ix_(nodes, nodes)] = noise
        days = np.array([float(night.toordinal()) for night in dates])
        return cls(calibration, tel_type, dates, tel_ids, Nights(days, values, covariance))

    @property
    def key(self) -> dict[str, Any]:
        return {"calibration": self.calibration, "tel_type": self.tel_type}

    @property
    def is_clock(self) -> bool:
        return is_clock(self.calibration)

    def shown(self, value: float, error: float) -> tuple[float, float]:
        """Value as it is shown: a ratio instead of its logarithm."""
        if self.is_clock:
            return value, error
        return math.exp(value), math.exp(value) * error

    def change(self, value: float, error: float) -> tuple[float, float]:
        """Change as it is shown: relative instead of a difference of logarithms."""
        return (value, error) if self.is_clock else relative(value, error)

    def text(self, value: float, error: float, per: str = "") -> str:
        """A change as it is shown, with its error, for people."""
        if self.is_clock:
            return f"{value:+.2f} ± {error:.2f} ns{per}"
        return f"{100 * value:+.2f} ± {100 * error:.2f} %{per}"


def _covariance(own: pl.DataFrame, run: pl.DataFrame, whole: Floats | None) -> Floats:
    """Covariance of telescopes of one type, out of that of the run."""
    if whole is None or len(whole) != len(run):
        return np.asarray(np.diag(own["error"].to_numpy() ** 2))
    order = np.sort(run["tel_id"].to_numpy())
    part = np.searchsorted(order, own["tel_id"].to_numpy())
    return np.asarray(whole[np.ix_(part, part)])


def _limits(group: _Group, options: TrendMonitorOptions) -> Limits:
    change, outlier = options.min_change, options.min_outlier
    if group.is_clock:
        change, outlier = options.min_clock_change, options.min_clock_outlier
    return Limits(
        false_alarm=options.false_alarm_probability,
        min_odds=options.min_odds,
        min_nights=options.min_nights,
        min_change=change,
        min_outlier=outlier,
    )


def _fixed_scatter(group: _Group, options: TrendMonitorOptions) -> float | None:
    return options.clock_night_scatter if group.is_clock else options.night_scatter


def _rows(
    group: _Group, settled: Settled, number: int, options: TrendMonitorOptions
) -> tuple[list[dict[str, Any]], ...]:
    """Rows of one telescope in the four tables."""
    key = {**group.key, "tel_id": group.tel_ids[number]}
    values, errors = settled.values[:, number], settled.errors[:, number]
    course = settled.courses[number]
    nights = []
    for at in np.flatnonzero(np.isfinite(group.nights.values[:, number])):
        relative, error = group.shown(float(values[at]), float(errors[at]))
        fitted, _ = group.shown(float(course.fitted[at]), 0.0)
        row = {"relative": relative, "error": error, "fitted": fitted}
        is_outlier = bool(course.outliers[at])
        nights.append({"night": group.dates[at], **key, **row, "outlier": is_outlier})
    steps = [{**key, **_step_row(group, step)} for step in course.steps]
    intervals = [{**key, **row} for row in _intervals(group, values, errors, course, options)]
    summary = _summary(group, settled, number)
    first = intervals[-1]["first_night"] if intervals else None
    return [{**key, **summary, "valid_from": first}], nights, steps, intervals


def _summary(group: _Group, settled: Settled, number: int) -> dict[str, Any]:
    course = settled.courses[number]
    known = np.flatnonzero(np.isfinite(settled.values[:, number]))
    dates = [group.dates[at] for at in known]
    last = _step_row(group, course.steps[-1]) if course.steps else {}
    rate, rate_error = group.change(course.rate, course.rate_error)
    return {
        "n_nights": len(known),
        "first_night": dates[0] if dates else None,
        "last_night": dates[-1] if dates else None,
        "rate": rate,
        "rate_error": rate_error,
        "step_night": last.get("night"),
        "step": last.get("step"),
        "step_error": last.get("step_error"),
        "outlier_nights": int(course.outliers.sum()),
        "is_open": course.is_open,
        "p_value": course.p_value,
        "scatter": settled.scatter,
        "is_stable": bool(settled.stable[number]),
        "flags": ",".join(course.flags),
        "reason": _reason(group, settled, number, len(known)),
    }


def _step_row(group: _Group, step: Step) -> dict[str, Any]:
    size, error = group.change(step.size, step.error)
    return {
        "night": group.dates[step.index],
        "earliest": group.dates[step.first],
        "latest": group.dates[step.last],
        "step": size,
        "step_error": error,
    }


def _intervals(
    group: _Group, values: Floats, errors: Floats, course: Course, options: TrendMonitorOptions
) -> list[dict[str, Any]]:
    """Validity intervals, the present one last: cut at steps, and where ageing has gone too far."""
    tolerance = options.clock_tolerance if group.is_clock else options.tolerance
    edges = {step.index for step in course.steps}
    known = np.flatnonzero(np.isfinite(values) & ~course.outliers)
    pieces: list[list[int]] = []
    for at in known[::-1]:
        start = pieces[-1][0] if pieces else None
        is_new = start is None or any(at < edge <= pieces[-1][-1] for edge in edges)
        if start is not None and AGEING in course.flags:
            span = group.nights.days[start] - group.nights.days[at]
            is_new |= abs(course.rate * span) > tolerance
        if is_new:
            pieces.append([int(at)])
        else:
            pieces[-1].append(int(at))
    rows = []
    for piece in reversed(pieces):
        weight = 1.0 / np.maximum(errors[piece], np.finfo(float).tiny) ** 2
        mean = float(np.average(values[piece], weights=weight))
        relative, error = group.shown(mean, float(1.0 / np.sqrt(weight.sum())))
        first, last = group.dates[piece[-1]], group.dates[piece[0]]
        nights = {"first_night": first, "last_night": last, "n_nights": len(piece)}
        rows.append({**nights, "relative": relative, "error": error})
    return rows


def _reason(group: _Group, settled: Settled, number: int, n_nights: int) -> str:
    """What was found, as a sentence."""
    course = settled.courses[number]
    if len(group.tel_ids) == 1:
        return "the only telescope of its type: nothing to compare it with"
    too_few = not math.isfinite(course.p_value)
    if too_few and OUTLIER not in course.flags:
        return f"{n_nights} nights are too few to judge (min_nights)"
    parts = []
    line = f"ageing: {group.text(*group.change(course.rate, course.rate_error), ' per day')}"
    steps = "; ".join(_step_text(group, settled, number, step) for step in course.steps)
    if course.is_open:
        first, second = (line, steps) if course.flags[0] == AGEING else (steps, line)
        parts.append(f"{n_nights} nights cannot tell {first} from {second}")
    else:
        parts += [line] if AGEING in course.flags else []
        parts += [steps] if STEP in course.flags else []
    if OUTLIER in course.flags:
        nights = ", ".join(str(group.dates[at]) for at in np.flatnonzero(course.outliers))
        parts.append(f"outlier on {nights}")
    if too_few:
        others = n_nights - int(np.count_nonzero(course.outliers))
        parts.append(f"the {others} other nights are too few to judge their course (min_nights)")
    if course.has_changed and not settled.is_anchored:
        parts.append("too few steady telescopes to say which of them changed")
    return "; ".join(parts) or "steady"


def _step_text(group: _Group, settled: Settled, number: int, step: Step) -> str:
    row = _step_row(group, step)
    text = f"step of {group.text(row['step'], row['step_error'])} on {row['night']}"
    if row["earliest"] != row["latest"]:
        text += f" (or from {row['earliest']} to {row['latest']})"
    course = settled.courses[number]
    known = np.flatnonzero(np.isfinite(settled.values[:, number]) & ~course.outliers)
    if known[-1] == step.index:
        text += ", one night behind it: an outlying night would look the same"
    elif known[1] == step.index:
        text += ", one night before it: an outlying night would look the same"
    return text
