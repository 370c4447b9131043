"""A window of nights in the report: which nights are in it, and how well they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import CHI_SQUARED, fixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["window_section"]

#: A telescope whose scatter over the nights is this unlikely is marked.
RARE = 1e-3


def window_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the parts on the nights; nothing for the result of a single run."""
    window = result.extras.get("window")
    if window is None:
        return
    fit = result.fit
    yield f"<h2>Nights, {page.text(fit['window'])}</h2>"
    yield (
        f"<p>{fit['nights_used']} nights in use, {fit['nights_left_out']} left out, "
        f"{fit['nights_without_run']} without a run.</p>"
    )
    lacking = page.text(fit["not_in_a_window"])
    yield f'<p class="quiet">Needs the showers of the nights, so not here: {lacking}.</p>'
    yield _window_table(window)
    stability = result.extras["stability"]
    yield page.details(
        f"Telescopes over the nights ({len(stability)})", _stability_table(stability), is_open=True
    )


def _window_table(window: pl.DataFrame) -> str:
    header = ("night", "status", "blocks", "showers", CHI_SQUARED, "ndf",
              "why left out", "verdict of the run")  # fmt: skip
    rows, tones = [], []
    for row in window.iter_rows(named=True):
        tones.append("bad" if row["reason"] else "")
        compared = row["ndf"] > 0
        rows.append(
            (
                row["night"],
                row["status"],
                f"{row['n_blocks']:,}",
                f"{row['n_showers']:,}",
                fixed(row["chi2"] if compared else None, 1),
                fixed(row["ndf"] if compared else None, 0),
                row["reason"],
                row["verdict"],
            )
        )
    return page.table(header, rows, numbers="  nnnn", tones=tones)


def _stability_table(stability: pl.DataFrame) -> str:
    header = ("type", "telescope", "nights", "scatter beyond errors/%",
              CHI_SQUARED, "probability", "largest pull", "in night")  # fmt: skip
    rows = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            str(row["n_nights"]),
            fixed(100 * row["scatter"], 2),
            fixed(row["chi2"], 1),
            _chance(row["probability"]),
            fixed(row["largest_pull"], 1, "+"),
            row["night"] or "",
        )
        for row in stability.iter_rows(named=True)
    ]
    tones = ["warn" if chance < RARE else "" for chance in stability["probability"].fill_null(1.0)]
    return page.table(header, rows, numbers=" nnnnnn", tones=tones)


def _chance(probability: float) -> str:
    shown = fixed(probability, 3)
    return "below 0.001" if shown == "0.000" else shown
