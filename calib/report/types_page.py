"""Telescope types in the report: factors, contrasts in bins, straight lines through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.figures import Picture
from arraycal.calib.figures.contrasts import CAPTION, contrast_figures
from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import CHI_SQUARED, fixed, in_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["type_pictures", "types_section"]


def types_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the parts on telescope types; nothing for a calibration within types."""
    types = result.extras.get("types")
    if types is None:
        return
    yield f"<h2>Telescope types relative to {page.text(types['tel_ref'][0])}</h2>"
    yield _type_table(types)
    if "energy_slopes" in result.extras:
        yield _slope_table(result.extras["energy_slopes"])
    bins = result.extras.get("contrast_bins")
    if bins is None or bins.is_empty():
        return
    yield page.figure_elements(type_pictures(result))
    yield page.details("Straight lines through the bins", _trend_table(result), is_open=True)
    yield page.details(f"Contrasts in bins ({len(bins)})", _bin_table(bins))


def type_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Contrasts of the types by covariate."""
    bins = result.extras.get("contrast_bins")
    if bins is None or bins.is_empty():
        return
    drawn = contrast_figures(bins, result.extras["contrast_trends"])
    for name, figure in drawn.items():
        yield Picture(f"contrast by {name}", CAPTION.format(name), figure)


def _type_table(types: pl.DataFrame) -> str:
    header = (
        "type", "own gauge", "telescopes", "pair rows", "factor", "error", "systematic",
        "ln contrast", "error", "expected", "reason",
    )  # fmt: skip
    names = ("scaling_factor", "error", "systematic", "contrast", "contrast_error", "expected")
    rows = [
        (
            row["tel_type"],
            row["gauge"].replace("_", " "),
            str(row["n_telescopes"]),
            f"{row['n_pairs']:,}",
            *(fixed(row[name], 4) for name in names),
            row["reason"],
        )
        for row in types.iter_rows(named=True)
    ]
    tones = ["warn" if reason else "" for reason in types["reason"]]
    return page.table(header, rows, numbers="  nnnnnnnn", tones=tones)


def _slope_table(slopes: pl.DataFrame) -> str:
    header = ("type", "fitted slope against ln(energy)", "error", "pivot/TeV")
    rows = [
        (row["tel_type"], *(fixed(row[name], 4) for name in ("slope", "error", "pivot")))
        for row in slopes.iter_rows(named=True)
    ]
    return page.table(header, rows, numbers=" nnn")


def _trend_table(result: CalibrationResult) -> str:
    header = (
        "type", "in", "bins", "rise over the bins/%", "sigma", f"{CHI_SQUARED} level",
        "ndf", f"{CHI_SQUARED} line", "ndf", "flag",
    )  # fmt: skip
    trends = result.extras["contrast_trends"]
    rows = [
        (
            row["tel_type"],
            row["covariate"],
            str(row["n_bins"]),
            in_percent(row["span"], digits=1)[0],
            fixed(row["significance"], 1, "+"),
            fixed(row["chi2_constant"], 1),
            str(row["ndf_constant"]),
            fixed(row["chi2_line"], 1),
            str(row["ndf_line"]),
            row["flag"],
        )
        for row in trends.iter_rows(named=True)
    ]
    tones = ["" if flag == "ok" else "warn" for flag in trends["flag"]]
    return page.table(header, rows, numbers="  nnnnnnn", tones=tones)


def _bin_table(bins: pl.DataFrame) -> str:
    header = ("type", "in", "from", "to", "showers", "ln contrast", "error", "expected")
    rows = [
        (
            row["tel_type"],
            f"{row['covariate']} [{row['unit']}]",
            f"{row['low']:.3g}",
            f"{row['high']:.3g}",
            f"{row['n_showers']:,}",
            *(fixed(row[name], 4, "+") for name in ("contrast", "error", "expected")),
        )
        for row in bins.iter_rows(named=True)
    ]
    return page.table(header, rows, numbers="  nnnnnn")
