"""Parts of the data against each other in the report: blocks, stretches of time, nights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arraycal.calib.figures import Picture
from arraycal.calib.figures.blocks import BLOCKS_CAPTION, blocks_figure
from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import MISSING, fixed, in_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["constancy_pictures", "constancy_section"]

CHI2 = "\N{GREEK SMALL LETTER CHI}\N{SUPERSCRIPT TWO}"
BIRGE = f"\N{SQUARE ROOT}({CHI2}/ndf)"


def constancy_section(result: CalibrationResult) -> Iterator[str]:
    """Yield how well parts of the data agree; nothing where there are none to compare."""
    table = result.extras.get("constancy")
    if table is None:
        return
    parts = result.extras["constancy_parts"]
    yield "<h2>Parts against each other</h2>"
    method = page.text(str(result.fit.get("error_method", MISSING)))
    yield (
        "<p>Each part (a block of the night, a stretch of time of its block) is solved by itself "
        "and compared with all others. Errors of the "
        f"coefficients are clustered by {method}; the factor {BIRGE} is not applied to them.</p>"
    )
    yield _type_table(table)
    yield page.figure_elements(constancy_pictures(result))
    yield page.details(f"Part by part ({len(parts)})", _part_table(parts))


def constancy_pictures(result: CalibrationResult) -> Iterator[Picture]:
    """Yield the figure of the blocks."""
    table = result.extras.get("constancy_deviations")
    drawn = None if table is None else blocks_figure(table)
    if drawn is not None:
        yield Picture("blocks", BLOCKS_CAPTION, drawn)


def _type_table(types: pl.DataFrame) -> str:
    header = (
        "parts", "type", "verdict", "number", CHI2, "ndf", "p", BIRGE,
        "scatter beyond errors/%", "largest: in", *LARGEST,
    )  # fmt: skip
    rows = [
        (
            row["kind"],
            row["tel_type"],
            "contradict" if row["changed"] else "agree" if row["ndf"] else "not compared",
            str(row["n_parts"]),
            fixed(row["chi2"], 1),
            str(row["ndf"]),
            _chance(row["p_value"]),
            fixed(row["birge"], 2),
            fixed(100 * row["scatter"], 2),
            row["part"] or MISSING,
            *_largest(row),
        )
        for row in types.iter_rows(named=True)
    ]
    tones = ["warn" if changed else "" for changed in types["changed"]]
    return page.table(header, rows, numbers="   nnnnnn nnnn", tones=tones)


LARGEST = ("telescope", "difference/%", "error/%", "p")


def _part_table(parts: pl.DataFrame) -> str:
    header = ("part", "type", "telescope events", "telescopes", CHI2, "ndf", "p", *LARGEST)
    rows = [
        (
            row["part"],
            row["tel_type"],
            f"{row['n_events']:,}",
            str(row["n_telescopes"]),
            fixed(row["chi2"] if row["ndf"] else None, 1),
            str(row["ndf"]),
            _chance(row["p_value"]),
            *_largest(row),
        )
        for row in parts.iter_rows(named=True)
    ]
    return page.table(header, rows, numbers="  nnnnnnnnn")


def _largest(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        str(row["tel_id"]) if row["tel_id"] >= 0 else row["deviating"] or MISSING,
        *in_percent(row["difference"], row["difference_error"]),
        _chance(row["p_largest"]),
    )


def _chance(value: float | None) -> str:
    return f"{value:.2g}" if value is not None and value == value else MISSING  # noqa: PLR0124  NaN
