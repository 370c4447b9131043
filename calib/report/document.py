"""The report of a calibration for people: an HTML page, and Markdown for the Prefect interface.

Both come from the result alone and know nothing of files. The verdict is first, then the numbers,
then what supports them. Text that came from a file or a configuration is escaped.
"""

from __future__ import annotations

import json
import math
from pathlib import PurePath
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.figures import CLOCK_FIGURES, FIGURES, Picture, caption, draw_figures
from arraycal.calib.report import elements as page
from arraycal.calib.report.blocks_page import constancy_section
from arraycal.calib.report.facts import (
    MISSING,
    digest,
    fixed,
    in_percent,
    key_facts,
    moment,
    nights,
    observations,
    shown_fact,
)
from arraycal.calib.report.residuals_page import residuals_section
from arraycal.calib.report.scan_page import gallery_section, scan_section
from arraycal.calib.report.sizes_page import comparison_section, sizes_section
from arraycal.calib.report.summary_page import markdown
from arraycal.calib.report.timing_page import offset_pairs, offset_table, timing_section
from arraycal.calib.report.types_page import types_section
from arraycal.calib.report.window_page import window_section
from arraycal.calib.result.result import CLOCK_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["html", "markdown"]


def html(result: CalibrationResult, index: str = "") -> str:
    """Write a result as one self-contained page.

    Parameters
    ----------
    result : CalibrationResult
        Any result, also an unusable one.
    index : str
        Path of the index over the nights relative to the page; empty without one.

    Returns
    -------
    str
        HTML that loads nothing, for screen and paper.
    """
    return page.page(
        f"{' '.join([result.calibration, *_only_night(result)])}: {result.verdict.status}",
        [
            *_heading(result, index),
            f"<h2>{'Offsets' if result.quantity is CLOCK_OFFSET else 'Coefficients'}</h2>",
            _coefficient_table(result),
            *window_section(result),
            *timing_section(result),
            *types_section(result),
            *sizes_section(result),
            *comparison_section(result),
            "<h2>Figures</h2>",
            _figures(result),
            *gallery_section(result),
            *constancy_section(result),
            *residuals_section(result),
            *scan_section(result),
            "<h2>Data</h2>",
            _block_table(result),
            _rejected_table(result),
            _pair_table(result),
            "<h2>How it was made</h2>",
            *_background(result),
        ],
    )


def _only_night(result: CalibrationResult) -> list[str]:
    found = result.provenance.get("nights")
    return [str(found[0])] if isinstance(found, list) and len(found) == 1 else []


def _heading(result: CalibrationResult, index: str) -> Iterator[str]:
    text = page.text
    if index:
        yield (
            f'<nav><a href="{text(index)}">All nights</a> \N{MIDDLE DOT} '
            f'<a href="{text(index)}#trends">Trends over the nights</a></nav>'
        )
    night = nights(result)
    of_night = f", {text(night)}" if night else ""
    yield f"<h1>Array calibration: {text(result.calibration)}{of_night}</h1>"
    made, configuration = result.provenance.get("time_utc"), digest(result)
    when = f", calibrated {text(moment(made))}" if made else ""
    known = f", configuration {text(configuration)}" if configuration else ""
    yield f'<p class="quiet">{text(observations(result))}{known}{when}</p>'
    reasons = "".join(f"<li>{text(reason)}</li>" for reason in result.verdict.reasons)
    status = result.verdict.status
    yield (
        f'<div class="verdict {text(status)}"><strong>{text(status)}</strong>'
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div>"
    )
    if result.verdict.untested:
        yield f'<p class="quiet">Not tested: {text("; ".join(result.verdict.untested))}</p>'
    facts = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in key_facts(result)
    )
    yield f"<dl>{facts}</dl>"


def _coefficient_table(result: CalibrationResult) -> str:
    if result.quantity is CLOCK_OFFSET:
        return offset_table(result)
    header = (
        "type", "telescope", "coefficient", "statistical", "systematic", "deviation/%", "z",
        "showers", "candidates", "partners", "flag", "reason",
    )  # fmt: skip
    rows, tones = [], []
    for row in result.telescopes.sort("tel_type", "tel_id").iter_rows(named=True):
        has_value = math.isfinite(row["value"])
        tones.append("" if row["flag"] == "ok" else "warn" if has_value else "bad")
        rows.append(
            (
                row["tel_type"],
                str(row["tel_id"]),
                fixed(row["value"], 4),
                fixed(row["error"], 4),
                fixed(row["systematic"], 4),
                in_percent(row["deviation"], digits=1)[0],
                fixed(row["z"], 1, "+"),
                f"{row['n_events']:,}",
                f"{row['n_candidates']:,}",
                str(row["n_partners"]),
                row["flag"],
                row["reason"],
            )
        )
    return page.table(header, rows, numbers=" nnnnnnnnn w", tones=tones)


def _figures(result: CalibrationResult) -> str:
    drawn = draw_figures(result)
    shown = page.figure_elements(
        Picture(name, caption(name, result), drawn[name]) for name in drawn
    )
    absent = [
        name
        for name in FIGURES
        if name not in drawn and (name not in CLOCK_FIGURES or result.quantity is CLOCK_OFFSET)
    ]
    note = (
        f'<p class="quiet">Nothing to show for: {page.text(", ".join(absent))}.</p>'
        if absent
        else ""
    )
    return f"{shown}{note}"


def _block_table(result: CalibrationResult) -> str:
    header = (
        "block",
        "status",
        "reason",
        "observations",
        "data model",
        "events",
        result.quantity.rows,
        "digest",
    )
    rows = [
        (
            PurePath(row["path"]).name,
            row["status"],
            row["reason"],
            row["obs_ids"],
            row["data_model"],
            f"{row['n_events']:,}",
            f"{row['n_pairs']:,}",
            row["digest"],
        )
        for row in result.blocks.iter_rows(named=True)
    ]
    tones = ["" if status in ("ok", "empty") else "bad" for status in result.blocks["status"]]
    built = page.table(header, rows, numbers="b w  nn", tones=tones)
    return page.details(f"Blocks ({len(rows)})", built, is_open=True)


def _rejected_table(result: CalibrationResult) -> str:
    table = result.rejected
    header = ("level", "rule", "rows", "example")
    if "example" not in table.columns:  # published before there were any
        table = table.with_columns(example=pl.lit(""))
    rows = [(level, rule, f"{n:,}", one) for level, rule, n, one in table.select(header).rows()]
    built = page.table(header, rows, numbers="  n ")
    return page.details("Rows left out, by rule", built, is_open=True)


def _pair_table(result: CalibrationResult) -> str:
    if result.quantity is CLOCK_OFFSET:
        return offset_pairs(result)
    header = (
        "type", "telescopes", "showers", "mean asymmetry", "error", "mean log ratio", "error",
        "fitted", "pull", "flag",
    )  # fmt: skip
    digits = ("mean_asymmetry", "mean_asymmetry_error", "mean_log_ratio", "mean_log_ratio_error",
              "fitted_log_ratio")  # fmt: skip
    rows = [
        (
            row["tel_type"],
            f"{row['tel_id_1']} {MISSING} {row['tel_id_2']}",
            f"{row['n_events']:,}",
            *(fixed(row[name], 4, "+" if "error" not in name else "") for name in digits),
            fixed(row["pull"], 2, "+"),
            row["flag"],
        )
        for row in result.pairs.iter_rows(named=True)
    ]
    return page.details(
        f"Telescope pairs ({len(rows)})", page.table(header, rows, numbers="  nnnnnnn")
    )


def _background(result: CalibrationResult) -> Iterator[str]:
    facts = [(name.replace("_", " "), shown_fact(value)) for name, value in result.fit.items()]
    yield page.details("Fit", page.table(("quantity", "value"), facts))
    yield page.details("Configuration", f"<pre>{page.text(result.configuration)}</pre>")
    made = [(name.replace("_", " "), _in_words(value)) for name, value in _flat(result.provenance)]
    yield page.details("Software", page.table(("what", "value"), made), is_open=True)


def _in_words(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _flat(provenance: dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in provenance.items():
        if name == "versions" and isinstance(value, dict):
            yield from value.items()
        else:
            yield name, value
