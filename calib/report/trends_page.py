"""Trends over the nights, for the index: telescopes with a flag first, each with its course."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calib.drift import flags_in_words, is_clock
from calib.figures import Picture, encode
from calib.figures.trend import TREND_CAPTION, trend_figures
from calib.report import elements as page
from calib.report.facts import MISSING, fixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from calib.drift import Trends

__all__ = [
    "TRENDS_HEADER",
    "SeenTrends",
    "all_trend_pictures",
    "trend_pictures",
    "trend_row",
    "trends_section",
]

PERCENT = 100.0
TRENDS_HEADER = (
    "calibration", "telescope", "flag", "step", "step at", "change per night", "outliers",
    "nights", "same since", "in words",
)  # fmt: skip
#: Kinds of these columns.
NUMBERS = "bbbbbbnnbw"
DPI = 90


@dataclass(frozen=True)
class SeenTrends:
    """Trends of one calibration.

    Parameters
    ----------
    calibration : str
        Its name.
    trends : Trends
        What changed.
    remarks : tuple of str
        Which of several runs of a night were chosen, and the like.
    """

    calibration: str
    trends: Trends
    remarks: tuple[str, ...] = ()


def trends_section(seen: Sequence[SeenTrends]) -> Iterator[str]:
    """Yield the parts of the index on trends.

    Parameters
    ----------
    seen : sequence of SeenTrends
        By calibration; those without telescopes are not spoken of.
    """
    seen = [item for item in seen if not item.trends.telescopes.is_empty()]
    if not seen:
        return
    flagged = [row for item in seen for row in _rows(item.trends.flagged)]
    yield "<h2>Trends over the nights</h2>"
    yield from (f'<p class="quiet">{page.text(text)}</p>' for text in _extents(seen))
    yield from (f'<p class="quiet">{page.text(text)}</p>' for item in seen for text in item.remarks)
    if flagged:
        tones = ["warn"] * len(flagged)
        yield page.table(TRENDS_HEADER, flagged, numbers=NUMBERS, tones=tones)
        yield page.figures(picture for item in seen for picture in trend_pictures(item))
    else:
        yield "<p>No telescope has changed.</p>"
    yield _everything(seen)


def trend_pictures(seen: SeenTrends) -> Iterator[Picture]:
    """Courses of the telescopes with a flag, a figure by type."""
    tel_ids = seen.trends.flagged["tel_id"].to_list()
    if not tel_ids:
        return
    for name, figure in trend_figures(seen.trends, tel_ids).items():
        yield Picture(f"trend {name}", TREND_CAPTION, figure)


def trend_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One telescope of ``calib.drift.TELESCOPES``, for a table under `TRENDS_HEADER`."""
    factor, unit, digits = (1.0, "ns", 2) if is_clock(row["calibration"]) else (PERCENT, "%", 2)

    def number(name: str) -> str:
        value, error = row[name], row[f"{name}_error"]
        if value is None or not abs(value) < float("inf"):
            return MISSING
        plus_minus = f" \N{PLUS-MINUS SIGN} {fixed(factor * error, digits)}"
        return f"{fixed(factor * value, digits, '+')}{plus_minus} {unit}"

    return (
        row["calibration"],
        f"{row['tel_type']} {row['tel_id']}",
        flags_in_words(row) or "steady",
        number("step"),
        _date(row["step_night"]),
        number("rate"),
        str(row["outlier_nights"]),
        str(row["n_nights"]),
        _date(row["valid_from"]),
        row["reason"],
    )


def _rows(table: pl.DataFrame) -> list[tuple[str, ...]]:
    return [trend_row(row) for row in table.iter_rows(named=True)]


def _extents(seen: Sequence[SeenTrends]) -> Iterator[str]:
    """Say what was looked at; calibrations of the same telescopes and nights in one sentence."""
    flagged: dict[str, list[str]] = {}
    for item in seen:
        nights = sorted(set(item.trends.nights["night"].to_list()))
        extent = (
            f"{len(item.trends.telescopes)} telescopes, {len(nights)} nights from {nights[0]} to "
            f"{nights[-1]}"
        )
        number = f"{len(item.trends.flagged)} in {item.calibration}"
        flagged.setdefault(extent, []).append(number)
    for extent, numbers in flagged.items():
        yield f"{extent}. Telescopes with a flag: {', '.join(numbers)}."


def all_trend_pictures(seen: SeenTrends) -> Iterator[Picture]:
    """Courses of all telescopes, a figure by type; one with many shows those with a flag first."""
    for name, figure in trend_figures(seen.trends).items():
        yield Picture(f"trend {name}", TREND_CAPTION, figure)


def _everything(seen: Sequence[SeenTrends]) -> str:
    """Tables and figures of all telescopes, folded away; raster figures, as vectors are large."""
    parts = []
    n_telescopes = 0
    for item in seen:
        rows = _rows(item.trends.telescopes)
        n_telescopes += len(rows)
        drawn = [
            page.figure(encode(figure, "png", dpi=DPI), name, caption)
            for name, caption, figure in all_trend_pictures(item)
        ]
        parts.append(page.table(TRENDS_HEADER, rows, numbers=NUMBERS))
        parts.append(f'<div class="figures">{"".join(drawn)}</div>')
    return page.details(f"All telescopes ({n_telescopes})", "".join(parts))


def _date(night: object) -> str:
    return MISSING if night is None else str(night)
