"""The index over the nights: one self-contained page beside their folders, newest night first.

Knows nothing of files: what is in them arrives as entries, and links are relative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

from arraycal.calib.report import elements as page
from arraycal.calib.report.facts import MISSING
from arraycal.calib.report.trend_links import SECTION, telescope_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

__all__ = [
    "NO_TRENDS",
    "UNREADABLE",
    "CalibrationEntry",
    "NightEntry",
    "NightTrends",
    "nights_page",
]

#: In the place of a verdict: there is a record, and nobody knows what it says.
UNREADABLE = "record cannot be read"
#: Nights in the table at the top; the others are folded away by month.
LATEST = 14
#: Reasons in a row of a table, before it says how many more there are.
MAX_REASONS = 3
#: Characters of such a reason; the report and ``night.json`` have the whole text.
LONGEST_REASON = 160


@dataclass(frozen=True)
class CalibrationEntry:
    """One calibration of a night.

    Parameters
    ----------
    name : str
        Of the calibration.
    status : str
        Its verdict.
    reasons : tuple of str
        What is wrong.
    report : str
        Path of its report relative to the index, empty without one.
    n_blocks : int
        Blocks asked for.
    outliers : tuple of str
        Telescopes out of range.
    trends : tuple of str
        Telescopes that the night has newly flagged in the trends, each with what was found:
        ``MST 7: step of ...``.
    """

    name: str
    status: str
    reasons: tuple[str, ...] = ()
    report: str = ""
    n_blocks: int = 0
    outliers: tuple[str, ...] = ()
    trends: tuple[str, ...] = ()

    @property
    def newly_flagged(self) -> tuple[str, ...]:
        """Those telescopes alone."""
        return tuple(dict.fromkeys(text.partition(": ")[0] for text in self.trends))


@dataclass(frozen=True)
class NightEntry:
    """One night.

    Parameters
    ----------
    night : date
        Date of its evening.
    status : str
        The verdict, or `UNREADABLE`.
    reasons : tuple of str
        What is wrong, each with its calibration or file.
    calibrations : tuple of CalibrationEntry
        In the order of their runs; none for a night without data.
    is_complete : bool
        False while files of the night are still being written.
    n_blocks : int
        Files that were calibrated.
    """

    night: date
    status: str
    reasons: tuple[str, ...] = ()
    calibrations: tuple[CalibrationEntry, ...] = ()
    is_complete: bool = True
    n_blocks: int = 0

    @property
    def newly_flagged(self) -> dict[str, list[str]]:
        """Calibrations by telescope that the night has newly flagged."""
        return _by_telescope({item.name: item.newly_flagged for item in self.calibrations})


@dataclass(frozen=True)
class NightTrends:
    """What the index says of the trends over the nights.

    Parameters
    ----------
    parts : tuple of str
        Parts of the page, as HTML; none without a history.
    flagged : mapping of str to tuple of str
        Telescopes with a flag now, by calibration.
    """

    parts: tuple[str, ...] = ()
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NO_TRENDS = NightTrends()


def nights_page(
    nights: Iterable[NightEntry], trends: NightTrends = NO_TRENDS, *, marks: str = ""
) -> str:
    """Write the index.

    Parameters
    ----------
    nights : iterable of NightEntry
        In any order.
    trends : NightTrends
        The trends over the nights.
    marks : str
        Kept in the page for the program that wrote it.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    ordered = sorted(nights, key=lambda entry: entry.night, reverse=True)
    names = list(dict.fromkeys(item.name for entry in ordered for item in entry.calibrations))
    latest, earlier = ordered[:LATEST], ordered[LATEST:]
    n_now = len(_by_telescope(trends.flagged))
    return page.page(
        f"Nights: {ordered[0].night} {ordered[0].status}" if ordered else "Nights",
        [
            "<h1>Array calibration, night by night</h1>",
            f'<p class="quiet">{page.text(_extent(ordered))}</p>',
            *_newest(ordered, trends),
            *(("<h2>Latest nights</h2>", _night_table(latest, names, n_now)) if latest else ()),
            *trends.parts,
            *_by_month(earlier, names),
        ],
        marks=marks,
    )


def _extent(ordered: Sequence[NightEntry]) -> str:
    if not ordered:
        return "No night has been calibrated yet."
    if len(ordered) == 1:
        return f"1 night, {ordered[0].night}"
    counts = {entry.status: 0 for entry in ordered}
    for entry in ordered:
        counts[entry.status] += 1
    kinds = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    return f"{len(ordered)} nights, {ordered[-1].night} to {ordered[0].night}: {kinds}"


def _newest(ordered: Sequence[NightEntry], trends: NightTrends) -> Iterator[str]:
    """Yield the verdict on the newest night, and the calibrations of the newest that has some."""
    if not ordered:
        return
    entry = ordered[0]
    now = _by_telescope(trends.flagged)
    items = [page.text(reason) for reason in entry.reasons]
    items += _flagged(entry.newly_flagged, now)
    reasons = "".join(f"<li>{item}</li>" for item in items)
    waits = "" if entry.is_complete else " (not complete: files are still being written)"
    n_flagged = len(now.keys() | entry.newly_flagged.keys())
    count = f", {_counted(n_flagged)} flagged by the trends" if n_flagged else ""
    # A night is usable when its own numbers are; a telescope that changes needs a look all the
    # same, so that the box is never that of an all-clear then.
    tone = "flagged" if n_flagged and entry.status == "usable" else _tone(entry.status)
    yield (
        f'<div class="verdict {tone}"><strong>{entry.night}: '
        f"{page.text(entry.status)}{count}</strong>{page.text(waits)}"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div>"
    )
    with_results = next((entry for entry in ordered if entry.calibrations), None)
    if with_results is None:
        return
    if with_results is not entry:
        yield f"<p>The last night with blocks was {with_results.night}:</p>"
    yield _calibration_table(with_results, with_reasons=with_results is not entry)


def _by_telescope(flagged: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for calibration, telescopes in flagged.items():
        for telescope in telescopes:
            found.setdefault(telescope, []).append(calibration)
    return found


def _flagged(new: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield telescopes that the night has newly flagged, and those flagged before, with links."""
    before = {telescope: names for telescope, names in now.items() if telescope not in new}
    for title, found in (("Newly flagged with this night", new), ("Flagged before", before)):
        if found:
            yield f"{title}: {', '.join(_flagged_telescope(*item) for item in found.items())}"


def _flagged_telescope(telescope: str, calibrations: Sequence[str]) -> str:
    link = f'<a href="{telescope_link(calibrations[0], telescope)}">{page.text(telescope)}</a>'
    return f"{link} ({page.text(', '.join(calibrations))})"


def _counted(number: int) -> str:
    return f"{number} telescope{'' if number == 1 else 's'}"


def _calibration_table(entry: NightEntry, *, with_reasons: bool) -> str:
    """Calibrations of a night; their reasons only where the verdict does not say them already."""
    header = ["calibration", "verdict and report", "blocks", "telescopes out of range",
              "newly flagged by the trends"]  # fmt: skip
    rows = [
        [
            item.name,
            _link(item.report, item.status, _tone(item.status)),
            str(item.n_blocks),
            ", ".join(item.outliers) or MISSING,
            ", ".join(item.newly_flagged) or MISSING,
            *([_shortened(item.reasons)] if with_reasons else []),
        ]
        for item in entry.calibrations
    ]
    header += ["remarks"] if with_reasons else []
    return page.table(header, rows, numbers="bbn  w", sortable=False)


def _night_table(nights: Sequence[NightEntry], names: Sequence[str], n_now: int = 0) -> str:
    """Nights, a row each; telescopes with a flag now belong to the newest, which is first."""
    header = ("night", "verdict", *names, "blocks", "trends", "telescopes out of range", "remarks")
    numbers = f"bb{'b' * len(names)}nb w"
    rows = [_row(entry, names, 0 if at else n_now) for at, entry in enumerate(nights)]
    return page.table(header, rows, numbers=numbers)


def _row(entry: NightEntry, names: Sequence[str], n_now: int) -> tuple[str, ...]:
    found = {item.name: item for item in entry.calibrations}
    outliers = [
        f"{telescope} ({item.name})" for item in entry.calibrations for telescope in item.outliers
    ]
    n_new = len(entry.newly_flagged)
    tone = "flagged" if n_new + n_now and entry.status == "usable" else _tone(entry.status)
    counts = [f"{n} {word}" for n, word in ((n_new, "new"), (n_now, "now")) if n]
    flagged = page.Html(f'<a class="flagged" href="#{SECTION}">{", ".join(counts)}</a>')
    return (
        entry.night.isoformat(),
        page.Html(f'<span class="{tone}">{page.text(entry.status)}</span>'),
        *(
            _link(found[name].report, found[name].status, _tone(found[name].status))
            if name in found
            else MISSING
            for name in names
        ),
        str(entry.n_blocks),
        flagged if counts else MISSING,
        ", ".join(outliers) or MISSING,
        _shortened(entry.reasons),
    )


def _by_month(nights: Sequence[NightEntry], names: Sequence[str]) -> Iterator[str]:
    if not nights:
        return
    yield "<h2>Earlier nights</h2>"
    for month, group in groupby(nights, key=lambda entry: f"{entry.night:%Y-%m}"):
        entries = list(group)
        odd = sum(entry.status in {"degraded", "unusable"} for entry in entries)
        title = f"{month}: {len(entries)} nights, {odd} of them degraded or unusable"
        unknown = sum(entry.status == UNREADABLE for entry in entries)
        title += f", the records of {unknown} cannot be read" if unknown else ""
        yield page.details(title, _night_table(entries, names))


def _shortened(reasons: Sequence[str]) -> str:
    texts = [
        reason
        if len(reason) <= LONGEST_REASON
        else f"{reason[: LONGEST_REASON - 1]}\N{HORIZONTAL ELLIPSIS}"
        for reason in reasons[:MAX_REASONS]
    ]
    more = len(reasons) - MAX_REASONS
    return "; ".join([*texts, *([f"and {more} more"] if more > 0 else [])])


def _link(target: str, label: str, tone: str) -> page.Html:
    shown = page.text(label)
    if not target:
        return page.Html(f'<span class="{tone}">{shown}</span>')
    return page.Html(f'<a class="{tone}" href="{page.text(quote(target))}">{shown}</a>')


def _tone(status: str) -> str:
    return page.text("unusable" if status == UNREADABLE else status.replace(" ", "-"))
