"""The verdicts of nights as a page of the Prefect UI, and the worst of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.nights.record import NightRecord, NightStatus
from arraycal.calib.publish.writing import INDEX
from arraycal.calib.report.summary_page import LARGEST_BYTES, markdown_text, trends_markdown
from arraycal.calib.wording import printable

if TYPE_CHECKING:
    from arraycal.calib.report.trends_page import SeenTrends

__all__ = ["night_page", "worst"]

#: The later, the worse; a night without data does not spoil the others.
ORDER: tuple[NightStatus, ...] = ("nothing to do", "usable", "degraded", "unusable")
SIGNS = {"usable": "✅", "degraded": "⚠️", "unusable": "❌", "nothing to do": "▫️"}


def worst(records: Iterable[NightRecord]) -> NightStatus:
    """Status of the worst night; ``nothing to do`` if all are."""
    return max((record.status for record in records), key=ORDER.index, default="nothing to do")


def night_page(
    records: Sequence[NightRecord],
    folders: Mapping[date, Path],
    seen: "Sequence[SeenTrends]" = (),
) -> str:
    """Write nights as Markdown: the verdict first, then what it rests on.

    Parameters
    ----------
    records : sequence of NightRecord
        The nights.
    folders : mapping of date to Path
        Their results.
    seen : sequence of SeenTrends
        Trends over the nights; none in a run without news.

    Returns
    -------
    str
        Markdown with figures, below a megabyte.
    """
    text = "\n\n".join(_night(record, folders[record.night]) for record in records)
    if not seen:
        return text
    trends = trends_markdown(seen, max(LARGEST_BYTES - len(text.encode()), 0))
    return f"{text}\n\n{trends}"


def _night(record: NightRecord, folder: Path) -> str:
    lines = [f"# {SIGNS[record.status]} Night of {record.night}: {record.status}", ""]
    lines += [f"* {markdown_text(text)}" for text in (*record.reasons, *record.remarks)]
    if record.calibrations:
        lines += ["", "| calibration | verdict | blocks | from the cache | results |"]
        lines += ["| --- | --- | ---: | ---: | --- |"]
        for item in record.calibrations:
            where = _code(folder / item.folder).replace("|", "\\|") if item.folder else "none"
            kept = ", unchanged" if item.is_reused else ""
            lines.append(
                f"| {item.calibration} | {SIGNS[item.status]} {item.status}{kept} | "
                f"{item.n_blocks} | {item.n_cached} | {where} |"
            )
    news = [(item.calibration, text) for item in record.calibrations for text in item.trends]
    if news:
        lines += ["", "**New in the trends**", ""]
        lines += [f"* {calibration}: {markdown_text(text)}" for calibration, text in news]
    for title, files in (
        ("Waiting for the next run", record.waiting),
        ("Left out", record.left_out),
    ):
        if files:
            lines += ["", f"**{title}**", ""]
            lines += [f"* {_code(path)}: {markdown_text(reason)}" for path, reason in files]
    lines += ["", f"Noon to noon, {record.time_zone}. Everything is in {_code(folder)}."]
    lines += ["", f"All nights are in {_code(folder.parent / INDEX)}."]
    return "\n".join(lines)


def _code(name: str | Path) -> str:
    """Name as a span of code, out of which no character of it leads."""
    words = " ".join(printable(str(name)).splitlines())
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{words}{space}{fence}"
