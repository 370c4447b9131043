"""The runs of a window of nights, with their sums, chosen so that they go together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import yaml
from pydantic import ValidationError

from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.fit.sums.kept import FORMAT, unpack
from arraycal.calib.history.tables import Run, StoredSums
from arraycal.config import plain_yaml
from arraycal.config.models import Configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from arraycal.calib.fit.sums.kept import Sums
    from arraycal.calib.history.database import History
    from arraycal.calib.history.reading import Selection

__all__ = [
    "LEFT_OUT",
    "NO_RUN",
    "USED",
    "NightWindow",
    "WindowNight",
    "read_window",
    "window_dates",
]

USED, LEFT_OUT, NO_RUN = "used", "left out", "no run"

#: Columns of a run that a window needs.
COLUMNS = (
    Run.id,
    Run.night,
    Run.configuration_digest,
    Run.configuration,
    Run.status,
    Run.verdict,
    Run.obs_ids,
    Run.published,
    Run.versions,
    Run.result_path,
)
#: Successive nights without a run that are listed one by one; more are one row.
MOST_SINGLE = 31
AGAIN = "calibrate the night again (arraycal nightly --night {night} --again)"


@dataclass(frozen=True)
class WindowNight:
    """A night of a window.

    Parameters
    ----------
    night : date
        Date of the evening.
    status : {"used", "left out", "no run"}
        What became of it.
    reason : str
        Why it is left out.
    verdict : str
        On its run.
    sums : Sums or None
        Of a night that is used.
    n_nights : int
        More than one for a row of nights without a run, of which `night` is the first.
    """

    night: date
    status: str
    reason: str = ""
    verdict: str = ""
    sums: Sums | None = None
    n_nights: int = 1

    @property
    def last(self) -> date:
        """The last night of the row."""
        return self.night + timedelta(days=self.n_nights - 1)

    @property
    def text(self) -> str:
        """The night, or the first and the last one."""
        return f"{self.night}" if self.n_nights == 1 else f"{self.night} to {self.last}"


@dataclass(frozen=True)
class NightWindow:
    """The nights of a window.

    Parameters
    ----------
    nights : tuple of WindowNight
        All of them in order, those without a run included.
    configuration : Configuration
        Under which all runs were made.
    origin : dict
        Where the sums are from, for the provenance: ``configuration_digest``, ``from``, ``to``
        and ``runs``.
    """

    nights: tuple[WindowNight, ...]
    configuration: Configuration
    origin: dict[str, Any]


def read_window(history: History, selection: Selection) -> NightWindow:
    """Read the sums of a calibration from one night to another.

    Parameters
    ----------
    history : History
        Where from.
    selection : Selection
        With calibration, first and last night; the configuration may be left open if there is
        only one.

    Returns
    -------
    NightWindow
        A run that cannot be used is left out, with its reason; so is one with observations that
        are in an earlier night already. More than `MOST_SINGLE` successive nights without a run
        are one `WindowNight`.

    Raises
    ------
    WrongUsage
        If the runs that can be used were made under several configurations, or the last night is
        before the first.
    NothingToDo
        If there is no run.
    CannotCompute
        If sums were written in another format.
    """
    since, until = window_dates(selection)
    rows = _rows(history, selection)
    if not rows:
        chosen = f" of configuration {selection.configuration}" if selection.configuration else ""
        raise NothingToDo(
            f"the history at {history.name} has no run of {selection.calibration}{chosen} from "
            f"{since} to {until}"
        )
    usable = [row for row in rows if _has_sums(row)]
    _refuse_several(usable)
    _refuse_formats(usable)
    # Of several runs of a night, one that can be used.
    found = {row.night: row for row in [*rows, *usable]}
    seen: dict[int, date] = {}
    judged = tuple(
        _judged(found[night.night], seen) if night.night in found else night
        for night in _nights(since, until, sorted(found))
    )
    used = [found[night.night] for night in judged if night.status == USED]
    newest = (usable or rows)[-1]
    origin = {
        "configuration_digest": newest.configuration_digest,
        "from": since.isoformat(),
        "to": until.isoformat(),
        "runs": [_about(row) for row in used],
    }
    return NightWindow(judged, _configuration(newest), origin)


def window_dates(selection: Selection) -> tuple[date, date]:
    """First and last night of a window; needs no history.

    Raises
    ------
    WrongUsage
        If one is missing, or the last night is before the first.
    """
    since, until = selection.since, selection.until
    if since is None or until is None:
        raise WrongUsage("a window needs its first and its last night")
    if until < since:
        raise WrongUsage(
            f"the window ends before it begins: from {since} to {until}; exchange the dates"
        )
    return since, until


def _has_sums(row: Any) -> bool:  # noqa: ANN401  rows have no type
    return row.status != "unusable" and row.content is not None


def _nights(since: date, until: date, recorded: Sequence[date]) -> Iterator[WindowNight]:
    """All nights of a window, as if none had a run; many between recorded ones are one row."""
    # As numbers: there is no date after the last possible one.
    ends = [since.toordinal() - 1, *(n.toordinal() for n in recorded), until.toordinal() + 1]
    for before, after in pairwise(ends):
        if after - before - 1 > MOST_SINGLE:
            first, last = date.fromordinal(before + 1), date.fromordinal(after - 1)
            yield WindowNight(first, NO_RUN, n_nights=(last - first).days + 1)
        else:
            for day in range(before + 1, after):
                yield WindowNight(date.fromordinal(day), NO_RUN)
        if after <= until.toordinal():
            yield WindowNight(date.fromordinal(after), NO_RUN)


def _rows(history: History, selection: Selection) -> Sequence[Any]:
    query = (
        sa.select(*COLUMNS, StoredSums.format, StoredSums.content)
        .outerjoin(StoredSums, StoredSums.run_id == Run.id)
        .where(*selection.conditions())
        .order_by(Run.night, Run.configuration_digest)
    )
    with history.reading() as connection:
        return connection.execute(query).all()


def _refuse_several(rows: Sequence[Any]) -> None:
    nights: dict[str, list[date]] = {}
    for row in rows:
        nights.setdefault(row.configuration_digest, []).append(row.night)
    if len(nights) <= 1:
        return
    listed = "\n".join(
        f"  {digest}: {len(own)} night{'s' if len(own) > 1 else ''}, {own[0]} to {own[-1]}"
        for digest, own in nights.items()
    )
    raise WrongUsage(
        f"the runs of the window were made under {len(nights)} configurations, and their sums do "
        f"not go together; choose one with --configuration:\n{listed}"
    )


def _refuse_formats(rows: Sequence[Any]) -> None:
    others = [row for row in rows if row.format not in {None, FORMAT}]
    if others:
        numbers = ", ".join(str(n) for n in sorted({row.format for row in others}))
        nights = ", ".join(row.night.isoformat() for row in others)
        raise CannotCompute(
            f"the sums of {nights} have format {numbers}, this version of arraycal reads format "
            f"{FORMAT}. Use one version for all nights: update arraycal, or "
            f"{AGAIN.format(night='NIGHT')}."
        )


def _judged(row: Any, seen: dict[int, date]) -> WindowNight:  # noqa: ANN401  rows have no type
    """Take the sums of a run, or say why not; note its observations."""
    night = row.night
    if row.status == "unusable":
        return WindowNight(night, LEFT_OUT, f"its run is {row.verdict}", row.verdict)
    if row.content is None:
        reason = f"recorded without sums; {AGAIN.format(night=night)}"
        return WindowNight(night, LEFT_OUT, reason, row.verdict)
    if not _is_list_of_numbers(row.obs_ids):
        reason = f"its list of observations is damaged; {AGAIN.format(night=night)}"
        return WindowNight(night, LEFT_OUT, reason, row.verdict)
    repeated = sorted(set(row.obs_ids) & seen.keys())
    if repeated:
        reason = f"observation {repeated[0]} is already in the run of {seen[repeated[0]]}"
        return WindowNight(night, LEFT_OUT, reason, row.verdict)
    try:
        sums = unpack(row.content)
    except CannotCompute as error:
        reason = f"{error}; {AGAIN.format(night=night)}"
        return WindowNight(night, LEFT_OUT, reason, row.verdict)
    seen |= dict.fromkeys(row.obs_ids, night)
    return WindowNight(night, USED, "", row.verdict, sums)


def _is_list_of_numbers(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(one, int) for one in found)


def _about(row: Any) -> dict[str, Any]:  # noqa: ANN401  rows have no type
    return {
        "night": row.night.isoformat(),
        "run_id": row.id,
        "published": row.published.isoformat(),
        "arraycal": row.versions.get("arraycal", ""),
        "result": row.result_path,
    }


def _configuration(row: Any) -> Configuration:  # noqa: ANN401  rows have no type
    try:
        return Configuration.model_validate(plain_yaml.parse_yaml(row.configuration))
    except (ValidationError, yaml.YAMLError) as error:
        first = str(error).partition("\n")[0]
        raise CannotCompute(
            f"the configuration {row.configuration_digest} of {row.night} cannot be read by this "
            f"version of arraycal ({first}); {AGAIN.format(night=row.night)}"
        ) from None
