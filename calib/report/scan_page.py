"""Threshold scan and log ratios of pairs in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.figures import Picture
from arraycal.calib.figures.pair_gallery import GALLERY_CAPTION, gallery_figures
from arraycal.calib.figures.scan import SCAN_CAPTION, scan_figure
from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import CHI_SQUARED, MISSING, fixed, in_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["gallery_pictures", "gallery_section", "scan_pictures", "scan_section"]


def scan_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the threshold scan; nothing where there was none."""
    types = result.extras.get("threshold_scan_types")
    if types is None:
        return
    yield "<h2>Threshold scan</h2>"
    lines = "".join(f"<li>{page.text(line)}</li>" for line in _plateaus(types))
    yield f"<ul>{lines}</ul>"
    yield page.figure_elements(scan_pictures(result))
    yield page.details("Types at other margins", _type_table(types), is_open=True)
    table = result.extras["threshold_scan"]
    yield page.details(f"Telescopes at other margins ({len(table)})", _telescope_table(table))


def scan_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Yield the figure of the scan."""
    table, types = (result.extras.get(name) for name in ("threshold_scan", "threshold_scan_types"))
    if table is None or types is None:
        return
    drawn = scan_figure(table, types)
    if drawn is not None:
        yield Picture("threshold scan", SCAN_CAPTION, drawn)


def _plateaus(types: pl.DataFrame) -> Iterator[str]:
    """Yield where the plateau of each type begins, and whether the margin in use is on it."""
    for (name,), part in types.sort("tel_type", "margin").group_by("tel_type", maintain_order=True):
        known = part.filter(pl.col("n_telescopes") > 0)
        if known.is_empty():
            yield f"{name}: no coefficient to compare."
            continue
        in_use = part.filter("in_use").row(0, named=True)
        margin = f"the margin in use, {in_use['margin']:g},"
        larger = known.filter(pl.col("margin") > in_use["margin"], pl.col("p_value").is_finite())
        if larger.is_empty():
            yield f"{name}: {margin} has no larger one with enough showers to compare with."
        elif in_use["plateau"]:
            first = known.filter("plateau").row(0, named=True)["margin"]
            yield f"{name}: nothing changes from margin {first:g} on; {margin} is on the plateau."
        else:
            yield f"{name}: {margin} is not on the plateau."


def _type_table(types: pl.DataFrame) -> str:
    header = (
        "type", "margin", "verdict", "telescopes", "showers differ", "rms/%",
        CHI_SQUARED, "ndf", "p", "largest: telescope", "change/%", "error/%", "p",
    )  # fmt: skip
    rows = [
        (
            row["tel_type"],
            f"{row['margin']:g}",
            _word(row),
            str(row["n_telescopes"]),
            f"{row['n_showers_changed']:,}",
            fixed(100 * row["rms"], 2),
            fixed(row["chi2"], 1),
            str(row["ndf"] or MISSING),
            _chance(row["p_value"]),
            str(row["tel_id"]) if row["tel_id"] >= 0 else MISSING,
            *in_percent(row["difference"], row["difference_error"]),
            _chance(row["p_largest"]),
        )
        for row in types.iter_rows(named=True)
    ]
    tones = ["warn" if spoils else "" for spoils in _spoiling(types)]
    return page.table(header, rows, numbers=" n nnnnnnnnnn", tones=tones)


def _word(row: dict[str, object]) -> str:
    if row["in_use"]:
        return "in use"
    if row["changed"]:
        return "changed"
    return "plateau" if row["plateau"] else ""


def _spoiling(types: pl.DataFrame) -> list[bool]:
    """Margins above the one in use at which something has changed."""
    in_use = pl.col("margin").filter(pl.col("in_use")).first().over("tel_type")
    return types.select(pl.col("changed") & (pl.col("margin") > in_use)).to_series().to_list()


def _chance(value: float) -> str:
    return f"{value:.2g}" if value == value else MISSING  # noqa: PLR0124  NaN is not itself


def _telescope_table(table: pl.DataFrame) -> str:
    header = (
        "type", "telescope", "margin", "coefficient", "error", "change/%", "error/%",
        "showers",
    )  # fmt: skip
    rows = [
        (
            row["tel_type"],
            str(row["tel_id"]),
            f"{row['margin']:g}",
            fixed(row["value"], 4),
            fixed(row["error"], 4),
            *in_percent(row["difference"], row["difference_error"]),
            f"{row['n_events']:,}",
        )
        for row in table.iter_rows(named=True)
    ]
    return page.table(header, rows, numbers=" nnnnnnn")


def gallery_section(result: CalibrationResult) -> Iterator[str]:
    """Yield the histograms of pairs; nothing where there are none."""
    if "pair_histograms" not in result.extras:
        return
    yield "<h2>Log ratios of telescope pairs</h2>"
    yield page.figure_elements(gallery_pictures(result))


def gallery_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Yield the gallery of each type or combination of types."""
    histograms = result.extras.get("pair_histograms")
    if histograms is None:
        return
    for name, drawn in gallery_figures(histograms).items():
        kept = len(histograms.filter(pl.col("tel_type") == name))
        pairs = len(result.pairs.filter(pl.col("tel_type") == name))
        caption = f"{name}: {GALLERY_CAPTION.format(_kept(kept, pairs))}"
        yield Picture(f"log ratios of {name}", caption, drawn)


def _kept(kept: int, pairs: int) -> str:
    if kept >= pairs:
        return "all pairs"
    return (
        f"{kept} of {pairs:,} pairs, the best partner of every telescope first "
        f"({pairs - kept:,} are not shown: RelativeThroughputFitter.histogram_pairs)"
    )
