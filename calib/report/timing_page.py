"""The parts of a report on clocks: offsets, jumps, pairs."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import MISSING, fixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["offset_pairs", "offset_table", "timing_section"]

#: Chances below this are 0 to a computer, and to nobody else.
SMALLEST_CHANCE = 1e-300


def offset_table(result: CalibrationResult) -> str:
    """Offsets by telescope."""
    header = (
        "type", "telescope", "offset/ns", "statistical", "systematic", "residual rms/ns",
        "drift/(ns/h)", "showers", "candidates", "partners", "flag", "reason",
    )  # fmt: skip
    rows, tones = [], []
    for row in result.telescopes.sort("tel_type", "tel_id").iter_rows(named=True):
        tones.append(
            "" if row["flag"] == "ok" else "warn" if math.isfinite(row["value"]) else "bad"
        )
        numbers = (fixed(row[name], 3) for name in ("value", "error", "systematic", "residual_rms"))
        drift = f"{fixed(row['drift'], 2, '+')} \N{PLUS-MINUS SIGN} {fixed(row['drift_error'], 2)}"
        counts = (f"{row[name]:,}" for name in ("n_events", "n_candidates", "n_partners"))
        named = (row["tel_type"], str(row["tel_id"]))
        rows.append((*named, *numbers, drift, *counts, row["flag"], row["reason"]))
    return page.table(header, rows, numbers=" nnnnnnnnn w", tones=tones)


def timing_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the jumps and the intervals between them; nothing for other calibrations."""
    if "intervals" not in result.extras:
        return
    header = ("type", "telescope", "time (TAI)", "size/ns", "error/ns", "p-value")
    rows = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            _date(row["time_s"]),
            fixed(row["size_ns"], 2, "+"),
            fixed(row["error_ns"], 2),
            _chance(row["p_value"]),
        )
        for row in result.extras["steps"].iter_rows(named=True)
    ]
    yield page.details(
        f"Jumps of clocks ({len(rows)})", page.table(header, rows, numbers=" n nnn"), is_open=True
    )
    columns = ("type", "telescope", "from (TAI)", "to (TAI)", "offset/ns", "error/ns", "showers")
    spans = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            _date(row["start_s"]),
            _date(row["stop_s"]),
            fixed(row["offset_ns"], 3),
            fixed(row["error_ns"], 3),
            f"{row['n_events']:,}",
        )
        for row in result.extras["intervals"].iter_rows(named=True)
    ]
    yield page.details(
        f"Intervals of validity ({len(spans)})", page.table(columns, spans, numbers=" n  nnn")
    )


def offset_pairs(result: CalibrationResult) -> str:
    """Residual differences by pair of telescopes."""
    header = ("type", "telescopes", "showers", "mean residual/ns", "error", "scatter", "pull")
    names = ("mean_residual_ns", "mean_residual_error_ns", "std_residual_ns")
    rows = [
        (
            row["tel_type"],
            f"{row['tel_id_1']} {MISSING} {row['tel_id_2']}",
            f"{row['n_events']:,}",
            *(fixed(row[name], 3) for name in names),
            fixed(row["pull"], 2, "+"),
        )
        for row in result.pairs.iter_rows(named=True)
    ]
    built = page.table(header, rows, numbers="  nnnnn")
    return page.details(f"Telescope pairs ({len(rows)})", built)


def _chance(p_value: float) -> str:
    return f"{p_value:.1e}" if p_value >= SMALLEST_CHANCE else f"< {SMALLEST_CHANCE:.0e}"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-5]
