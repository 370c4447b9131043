"""The residuals of every telescope in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import fixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["residuals_section"]


def residuals_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the tests of the residuals, if there are any."""
    table = result.extras.get("residual_tests")
    if table is None or table.is_empty():
        return
    header = (
        "type", "telescope", "telescope events", "resolution/%", "usual of the type/%",
        "width", "error", "outlying", "share/%", "usual/%", "flag",
    )  # fmt: skip
    rows = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            f"{row['n_events']:,}",
            fixed(100 * row["resolution"], 1),
            fixed(100 * row["usual"], 1),
            fixed(row["width"], 2),
            fixed(row["width_error"], 2),
            f"{row['n_outlying']:g}",
            fixed(100 * row["share"], 2),
            fixed(100 * row["expected"], 2),
            row["flag"],
        )
        for row in table.iter_rows(named=True)
    ]
    tones = ["" if flag in ("ok", "few") else "warn" for flag in table["flag"]]
    yield "<h2>Residuals of the telescopes</h2>"
    yield (
        "<p>Values against the mean of their shower: the width of the residuals over that of the "
        "fitted resolution, and values more than 4 sigma off, beside what is usual in the rest of "
        "the type. Telescopes with few events are not tested.</p>"
    )
    built = page.table(header, rows, numbers=" nnnnnnnnn ", tones=tones)
    yield page.details(f"Telescope by telescope ({len(rows)})", built, is_open="warn" in tones)
