"""The report as Markdown, with inline pictures: the page of a run in the Prefect interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arraycal.calib.figures import Picture, caption, draw_figures, encode
from arraycal.calib.report.blocks_page import constancy_pictures
from arraycal.calib.report.facts import fixed, in_percent, key_facts, observations
from arraycal.calib.report.scan_page import gallery_pictures, scan_pictures
from arraycal.calib.report.sizes_page import comparison_pictures, size_pictures
from arraycal.calib.report.types_page import type_pictures
from arraycal.calib.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from arraycal.calib.report.trends_page import SeenTrends
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["markdown", "trends_markdown"]

#: The interface gets slow beyond a megabyte or so.
LARGEST_BYTES = 1_000_000
#: In order of importance: the last ones give way when the page gets too large. Between the two
#: come the figures of the calibration alone.
FIRST = ("coefficients", "array map")
LAST = (
    *("clock history", "pulls", "residuals", "residual matrix", "correlation"),
    *("distance residuals", "walk", "rejected rows"),
)
DPI = 80
#: Characters of a cell; the HTML report has the whole text.
LONGEST_CELL = 160

HEADER = ("type", "telescope", None, "statistical", "systematic", "showers", "flag", "reason")
TYPES_HEADER = (
    "type", "factor", "statistical", "systematic", "ln contrast", "error", "reason",
)  # fmt: skip
FACTOR_COLUMNS = ("scaling_factor", "error", "systematic", "contrast", "contrast_error")
LINES_HEADER = ("type", "contrast against", "rise over the bins/%", "sigma", "flag")
#: Characters that Markdown gives a meaning, or that would start HTML.
SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_[]|~#$"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\t": " "}
)


def markdown(result: CalibrationResult) -> str:
    """Write a result as Markdown.

    Parameters
    ----------
    result : CalibrationResult
        Any result, also an unusable one.

    Returns
    -------
    str
        Verdict, coefficients, and as many of the main figures as fit into a megabyte.
    """
    lines = [f"# {_cell(result.calibration)}: {_cell(result.verdict.status)}", ""]
    lines += [f"- {_cell(reason)}" for reason in result.verdict.reasons]
    lines += [f"- not tested: {_cell(item)}" for item in result.verdict.untested]
    lines += ["", _cell(observations(result)), ""]
    lines += _table(("quantity", "value"), list(key_facts(result)))
    lines += ["", "## Coefficients", ""]
    ordered = result.telescopes.sort("tel_type", "tel_id")
    header = [name or result.quantity.label for name in HEADER]
    lines += _table(header, [_row(row) for row in ordered.iter_rows(named=True)])
    lines += _types(result)
    text = "\n".join(lines) + "\n"
    return text + _embedded(_in_order(result), LARGEST_BYTES - len(text.encode()))


def trends_markdown(seen: Sequence[SeenTrends], room: int = LARGEST_BYTES) -> str:
    """Write trends over the nights as Markdown.

    Parameters
    ----------
    seen : sequence of SeenTrends
        By calibration.
    room : int
        Bytes for all of it; figures that do not fit are left out.

    Returns
    -------
    str
        Telescopes with a flag, then the courses of all; empty without any history.
    """
    from arraycal.calib.report.trends_page import TRENDS_HEADER, all_trend_pictures, trend_row

    seen = [item for item in seen if not item.trends.telescopes.is_empty()]
    if not seen:
        return ""
    rows = [trend_row(row) for item in seen for row in item.trends.flagged.iter_rows(named=True)]
    lines = ["## Trends over the nights", ""]
    lines += _table(TRENDS_HEADER, rows) if rows else ["No telescope has changed."]
    text = "\n".join(lines) + "\n"
    # Those with changes first: the last ones give way.
    ordered = sorted(seen, key=lambda item: item.trends.flagged.is_empty())
    pictures = (picture for item in ordered for picture in all_trend_pictures(item))
    return text + _embedded(pictures, room - len(text.encode()))


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = (fixed(row[name], 4) for name in ("value", "error", "systematic"))
    counts = (str(row["tel_id"]), *numbers, f"{row['n_events']:,}")
    return (row["tel_type"], *counts, row["flag"], row["reason"])


def _types(result: CalibrationResult) -> list[str]:
    """Factors of the telescope types, and the flags of the lines through their contrasts."""
    types, lines = result.extras.get("types"), result.extras.get("contrast_trends")
    if types is None:
        return []
    rows = [
        (row["tel_type"], *(fixed(row[name], 4) for name in FACTOR_COLUMNS), row["reason"])
        for row in types.iter_rows(named=True)
    ]
    reference = _cell(types["tel_ref"][0])
    page = ["", f"## Telescope types relative to {reference}", "", *_table(TYPES_HEADER, rows)]
    if "energy_slopes" in result.extras:
        slopes = result.extras["energy_slopes"].iter_rows(named=True)
        rows = [
            (row["tel_type"], *(fixed(row[name], 4) for name in ("slope", "error", "pivot")))
            for row in slopes
        ]
        page += ["", *_table(("type", "slope against ln(energy)", "error", "pivot/TeV"), rows)]
    if lines is None or lines.is_empty():
        return page
    rows = [
        (
            *(row["tel_type"], row["covariate"], in_percent(row["span"], digits=1)[0]),
            *(fixed(row["significance"], 1, "+"), row["flag"]),
        )
        for row in lines.iter_rows(named=True)
    ]
    return [*page, "", *_table(LINES_HEADER, rows)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [list(header), ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _cell(text: str) -> str:
    """Text that stays text, in one line."""
    if len(text) > LONGEST_CELL:
        text = f"{text[: LONGEST_CELL - 1]}\N{HORIZONTAL ELLIPSIS}"
    return markdown_text(text)


def markdown_text(text: str) -> str:
    """Text that Markdown takes for nothing else, in one line."""
    return printable(text).translate(SPECIAL)


def _embedded(pictures: Iterable[Picture], room: int) -> str:
    """Sections with figures, up to a number of bytes."""
    parts = []
    for name, told, figure in pictures:
        title = _cell(name)
        uri = encode(figure, "png", dpi=DPI)
        part = f"\n## {title[:1].upper()}{title[1:]}\n\n![{title}]({uri})\n\n{told}\n"
        room -= len(part.encode())
        if room < 0:
            break
        parts.append(part)
    return "".join(parts)


def _in_order(result: CalibrationResult) -> Iterator[Picture]:
    """Yield the figures of the report, the most important first, each drawn when its turn comes."""
    yield from _drawn(result, FIRST)
    yield from type_pictures(result)
    yield from size_pictures(result)
    yield from comparison_pictures(result)
    yield from constancy_pictures(result)
    yield from scan_pictures(result)
    yield from _drawn(result, LAST)
    yield from gallery_pictures(result)


def _drawn(result: CalibrationResult, names: Iterable[str]) -> Iterator[Picture]:
    for name in names:
        for figure in draw_figures(result, [name]).values():
            yield Picture(name, caption(name, result), figure)
