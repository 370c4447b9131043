"""Trends over the nights, for the index: telescopes with a flag first, each with its course."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arraycal.calib.figures import Picture, encode
from arraycal.calib.figures.trend import TREND_CAPTION, trend_figures
from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import MISSING, fixed
from arraycal.calib.report.trend_links import SECTION, telescope_id
from arraycal.calib.trends.series import AGEING, STEP
from arraycal.calib.trends.trends import flags_in_words, is_clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from arraycal.calib.trends.trends import Trends

__all__ = [
    "FLAGGED_HEADER",
    "FLAGGED_NUMBERS",
    "NUMBERS",
    "TRENDS_HEADER",
    "SeenTrends",
    "all_trend_pictures",
    "flagged_telescopes",
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
#: Of the telescopes with a flag: what needs a look, and room for the words.
FLAGGED_HEADER = ("calibration", "telescope", "flag", "change", "same since", "nights", "in words")
FLAGGED_NUMBERS = "bbbbbnw"
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
    flagged = [row for item in seen for row in item.trends.flagged.iter_rows(named=True)]
    yield f'<h2 id="{SECTION}">Trends over the nights</h2>'
    yield from (f'<p class="quiet">{page.text(text)}</p>' for text in _extents(seen))
    yield from (f'<p class="quiet">{page.text(text)}</p>' for item in seen for text in item.remarks)
    if flagged:
        rows = [_flagged_row(row) for row in flagged]
        yield page.table(FLAGGED_HEADER, rows, numbers=FLAGGED_NUMBERS, tones=["warn"] * len(rows))
        pictures = [picture for item in seen for picture in trend_pictures(item)]
        yield page.figure_elements(pictures, natural=True)
        yield f'<p class="quiet">{page.text(TREND_CAPTION)}</p>' if pictures else ""
    else:
        yield "<p>No telescope has changed.</p>"
    yield _everything(seen)


def flagged_telescopes(seen: Sequence[SeenTrends]) -> dict[str, tuple[str, ...]]:
    """Telescopes with a flag by calibration, as ``MST 7``."""
    return {
        item.calibration: tuple(
            f"{tel_type} {tel_id}"
            for tel_type, tel_id in item.trends.flagged.select("tel_type", "tel_id").iter_rows()
        )
        for item in seen
    }


def trend_pictures(seen: SeenTrends) -> Iterator[Picture]:
    """Courses of the telescopes with a flag, a figure by type; the page explains them once."""
    tel_ids = seen.trends.flagged["tel_id"].to_list()
    if not tel_ids:
        return
    for name, figure in trend_figures(seen.trends, tel_ids).items():
        yield Picture(f"trend {name}", "", figure)


def _flagged_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One telescope with a flag: its change is the step, or the ageing per night."""
    calibration, telescope, flag, step, _, rate, _, nights, since, words = trend_row(row)
    place = telescope_id(calibration, telescope)
    named = page.Html(f'<span id="{place}">{page.text(telescope)}</span>')
    change = {STEP: step, AGEING: f"{rate} per night"}.get(row["flags"].split(",")[0], MISSING)
    return (calibration, named, flag, change, since, nights, words)


def trend_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One telescope of the trends of telescopes, for a table under `TRENDS_HEADER`."""
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
        rows = [row[1:] for row in _rows(item.trends.telescopes)]
        n_telescopes += len(rows)
        drawn = [
            page.figure(encode(figure, "png", dpi=DPI), name, caption)
            for name, caption, figure in all_trend_pictures(item)
        ]
        parts.append(f"<h3>{page.text(item.calibration)}</h3>")
        parts.append(page.table(TRENDS_HEADER[1:], rows, numbers=NUMBERS[1:]))
        parts.append(f'<div class="figures natural">{"".join(drawn)}</div>')
    return page.details(f"All telescopes ({n_telescopes})", "".join(parts))


def _date(night: object) -> str:
    return MISSING if night is None else str(night)
