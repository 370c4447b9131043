"""Image sizes in the report: distance curves, what they leave, and the contrast with energies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.figures import Picture
from arraycal.calib.figures.sizes import (
    CONTRAST_CAPTION,
    CURVE_CAPTION,
    RESIDUAL_CAPTIONS,
    contrast_figure,
    curve_figure,
    residual_figures,
)
from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import fixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["comparison_pictures", "comparison_section", "size_pictures", "sizes_section"]


def sizes_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the parts on the dependence on the distance; nothing where none was fitted."""
    curve = result.extras.get("distance_curve")
    if curve is None:
        return
    yield "<h2>Dependence on the impact distance</h2>"
    yield page.figure_elements(size_pictures(result))
    bins = result.extras.get("residual_bins")
    yield page.details(f"Distance curves ({len(curve)} knots)", _curve_table(curve))
    if bins is not None:
        yield page.details(f"Residuals in bins ({len(bins)})", _bin_table(bins))


def size_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Distance curve, and what it leaves."""
    curve, bins = (result.extras.get(name) for name in ("distance_curve", "residual_bins"))
    if curve is None:
        return
    drawn = curve_figure(curve)
    if drawn is not None:
        yield Picture("distance curve", CURVE_CAPTION, drawn)
    if bins is not None:
        for name, figure in residual_figures(bins).items():
            yield Picture(f"residual by {name}", RESIDUAL_CAPTIONS[name], figure)


def _curve_table(curve: pl.DataFrame) -> str:
    rows = [
        (
            row["tel_type"],
            fixed(row["impact_m"], 1),
            fixed(row["log_value"], 4, "+"),
            fixed(row["error"], 4),
        )
        for row in curve.iter_rows(named=True)
    ]
    return page.table(("type", "knot/m", "ln relative light", "error"), rows, numbers=" nnn")


def _bin_table(bins: pl.DataFrame) -> str:
    header = ("type", "in", "from", "to", "telescope events", "residual", "error")
    rows = [
        (
            row["tel_type"],
            f"{row['covariate']} [{row['unit']}]",
            f"{row['low']:.3g}",
            f"{row['high']:.3g}",
            f"{row['n_events']:,}",
            fixed(row["residual"], 4, "+"),
            fixed(row["error"], 4),
        )
        for row in bins.iter_rows(named=True)
    ]
    return page.table(header, rows, numbers="  nnnnn")


def comparison_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the comparison with the energies; nothing where none was asked for."""
    table = result.extras.get("comparison")
    if table is None:
        return
    fit = result.fit
    yield "<h2>Sizes against energies</h2>"
    yield (
        f"<p>Compared with {page.text(fit['compared_calibration'])}, "
        f"{page.text(fit['compared_with'])}. Observations: "
        f"{page.text(fit['compared_observations'])}. Telescopes that lose light lose it in both "
        "and have no contrast; one with a contrast has another size or another energy than its "
        "throughput explains.</p>"
    )
    yield page.figure_elements(comparison_pictures(result))
    header = (
        "type", "telescope", "sizes", "energies", "ln contrast", "error", "z", "flag", "reason",
    )  # fmt: skip
    rows = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            fixed(row["value"], 4),
            fixed(row["other"], 4),
            fixed(row["contrast"], 4, "+"),
            fixed(row["error"], 4),
            fixed(row["z"], 1, "+"),
            row["flag"],
            row["reason"],
        )
        for row in table.iter_rows(named=True)
    ]
    tones = ["" if flag == "ok" else "warn" for flag in table["flag"]]
    yield page.details(
        f"Contrasts ({len(rows)})", page.table(header, rows, numbers=" nnnnnn", tones=tones),
        is_open=True,
    )  # fmt: skip


def comparison_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Contrasts of sizes with energies."""
    table = result.extras.get("comparison")
    drawn = None if table is None else contrast_figure(table)
    if drawn is not None:
        yield Picture("contrast with energies", CONTRAST_CAPTION, drawn)
