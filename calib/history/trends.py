"""The history as it is looked at: the runs of a selection, one per night, and their trends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.history.reading import Selection, covariances, recorded_coefficients, runs
from arraycal.calib.trends.series import AGEING, STEP
from arraycal.calib.trends.trends import Trends, has_place, telescope_trends

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import date

    from arraycal.calib.history.database import History
    from arraycal.config.models import TrendMonitorOptions

__all__ = ["Choice", "TrendView", "choose_runs", "newly_flagged", "view_trends"]

#: Other configurations in a remark, before it says how many more there are.
MAX_NAMED = 3


@dataclass(frozen=True)
class Choice:
    """One run per night and calibration, all runs of a calibration with the same configuration.

    Parameters
    ----------
    run_ids : tuple of int
        The chosen runs.
    remarks : tuple of str
        What was chosen where there was a choice, a sentence for each calibration.
    """

    run_ids: tuple[int, ...]
    remarks: tuple[str, ...]


def choose_runs(runs: pl.DataFrame, folder: Path | None = None) -> Choice:
    """Choose the runs of one configuration for each calibration.

    Parameters
    ----------
    runs : DataFrame
        Schema ``arraycal.calib.history.reading.RUNS``.
    folder : Path, optional
        Folder of the folders of the nights. The configuration in use is that of the newest night
        published in it; without such a night, or folder, that of the newest night.

    Returns
    -------
    Choice
        Runs that gave no coefficients do not count. Of a night, the run published last decides.
        Nights without the configuration are not in the choice: another one gives other
        coefficients, and the difference would look like a step of telescopes.
    """
    usable = runs.filter(pl.col("status") != "unusable").sort("night", "published", "run_id")
    run_ids: list[int] = []
    remarks: list[str] = []
    for (name,), own in sorted(usable.group_by("calibration"), key=lambda item: str(item[0][0])):
        ours = own.filter(_published_in(own, folder))
        newest = own[-1] if ours.is_empty() else ours[-1]
        fits = pl.col("configuration_digest") == newest["configuration_digest"][0]
        chosen, others = own.filter(fits), own.filter(~fits)
        run_ids += chosen["run_id"].to_list()
        if not others.is_empty():
            where = "" if ours.is_empty() else f" in {folder}"
            origin = f"that of the newest night{where} ({newest['night'][0]})"
            remarks.append(_remark(str(name), chosen, origin, others))
    return Choice(tuple(sorted(run_ids)), tuple(remarks))


def _published_in(runs: pl.DataFrame, folder: Path | None) -> pl.Series:
    """Whether runs were published into the folder of their night below `folder`."""
    if folder is None:
        return pl.Series([False] * len(runs), dtype=pl.Boolean)
    # Links followed: the folder of the nights may be known by another name than when they ran.
    ours = folder.resolve()
    places = runs.select("night", "result_path").iter_rows()
    found = [ours / night.isoformat() in Path(path).resolve().parents for night, path in places]
    return pl.Series(found, dtype=pl.Boolean)


def _remark(name: str, chosen: pl.DataFrame, origin: str, others: pl.DataFrame) -> str:
    """Say which configuration is shown, which are not, and how to see those."""
    listed = [
        f"{_counted(len(own), 'run')} of {digest} ({_extent(own)})"
        for (digest,), own in others.group_by("configuration_digest", maintain_order=True)
    ]
    more = len(listed) - MAX_NAMED
    named = ", ".join([*listed[-MAX_NAMED:], *([f"{more} older ones"] if more > 0 else [])])
    digest, n_nights = chosen["configuration_digest"][0], _counted(len(chosen), "night")
    return (
        f"{name}: configuration {digest}, {origin}, {n_nights}. Not in the trends: {named}; "
        "arraycal history --configuration DIGEST shows another one"
    )


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _extent(runs: pl.DataFrame) -> str:
    first, last = runs["night"][0], runs["night"][-1]
    return f"{first}" if first == last else f"{first} to {last}"


@dataclass(frozen=True)
class TrendView:
    """What the history says.

    Parameters
    ----------
    runs : DataFrame
        Schema ``arraycal.calib.history.reading.RUNS`` with ``chosen``: whether the trends stand on
        the run.
    coefficients : DataFrame
        Schema ``arraycal.calib.history.reading.COEFFICIENTS``, of all these runs.
    trends : Trends
        Of the chosen runs.
    remarks : tuple of str
        Which runs were chosen, where there was a choice, and which coefficients cannot be used.
    """

    runs: pl.DataFrame
    coefficients: pl.DataFrame
    trends: Trends
    remarks: tuple[str, ...]

    def of(self, tel_ids: Collection[int]) -> TrendView:
        """The same of some telescopes; their trends still stand on all of them."""
        ours = pl.col("tel_id").is_in(list(tel_ids))
        tables = {field.name: getattr(self.trends, field.name) for field in fields(self.trends)}
        return replace(
            self,
            coefficients=self.coefficients.filter(ours),
            trends=Trends(**{name: table.filter(ours) for name, table in tables.items()}),
        )


def view_trends(
    history: History,
    selection: Selection,
    options: TrendMonitorOptions,
    folder: Path | None = None,
) -> TrendView:
    """Read a part of the history and find what changed.

    Parameters
    ----------
    history : History
        Where from.
    selection : Selection
        Which runs. With a first night the trends begin there instead of ``look_back`` before the
        last one.
    options : TrendMonitorOptions
        What counts as a change.
    folder : Path, optional
        Folder of the folders of the nights, whose configuration is shown: see `choose_runs`.

    Raises
    ------
    HistoryError, OSError
        If the database is damaged, or cannot be reached.
    """
    with history.snapshot() as seen:
        return _view(seen, selection, options, folder)


def _view(
    history: History, selection: Selection, options: TrendMonitorOptions, folder: Path | None
) -> TrendView:
    found = runs(history, selection)
    table = recorded_coefficients(history, selection)
    choice = choose_runs(found, folder)
    chosen = table.filter(pl.col("run_id").is_in(list(choice.run_ids)))
    if selection.since is not None and not chosen.is_empty():
        nights = chosen["night"].to_list()
        options = options.model_copy(update={"look_back": (max(nights) - min(nights)).days + 1})
    return TrendView(
        runs=found.with_columns(chosen=pl.col("run_id").is_in(list(choice.run_ids))),
        coefficients=table,
        trends=telescope_trends(
            chosen, covariances(history, _window(chosen, selection, options)), options
        ),
        remarks=(*choice.remarks, *_not_positive(chosen)),
    )


def _not_positive(chosen: pl.DataFrame) -> Iterator[str]:
    """Say which throughputs have no logarithm; they are no part of the trends."""
    lost = chosen.filter(pl.col("value").is_finite() & ~has_place())
    for (name,), own in sorted(lost.group_by("calibration"), key=lambda item: str(item[0][0])):
        tel_ids = ", ".join(map(str, sorted(set(own["tel_id"]))))
        nights = sorted(set(own["night"]))
        yield (
            f"{name}: {len(own)} coefficients that are not positive are left out of the trends "
            f"(telescopes {tel_ids}; nights {nights[0]} to {nights[-1]}): no throughput can be so"
        )


def _window(chosen: pl.DataFrame, selection: Selection, options: TrendMonitorOptions) -> Selection:
    """The nights that trends look at: the covariances of years are many."""
    if chosen.is_empty():
        return selection
    latest = chosen.group_by("calibration").agg(pl.col("night").max())["night"].to_list()
    since = min(latest) - timedelta(days=options.look_back - 1)
    return replace(selection, since=max(since, selection.since or since))


def newly_flagged(
    history: History,
    calibration: str,
    night: date,
    options: TrendMonitorOptions,
    configuration: str | None = None,
) -> pl.DataFrame:
    """Telescopes that a night has given a flag they did not have without it.

    Parameters
    ----------
    history : History
        With the night in it.
    calibration : str
        Which one.
    night : date
        The night; later ones do not count.
    options : TrendMonitorOptions
        What counts as a change.
    configuration : str, optional
        Digest of the configuration of the night: others do not count.

    Returns
    -------
    DataFrame
        Rows of schema ``arraycal.calib.trends.trends.TELESCOPES``.
    """
    first = night - timedelta(days=options.look_back - 1)
    selection = Selection(calibration, first, night, configuration)
    now = view_trends(history, selection, options).trends.flagged
    if now.is_empty():
        return now
    earlier = replace(selection, until=night - timedelta(days=1))
    before = view_trends(history, earlier, options).trends.flagged
    known = _flags(before)
    return now.filter(pl.Series([bool(own - known) for own in map(_flags, now.iter_slices(1))]))


def _flags(table: pl.DataFrame) -> set[tuple[str, int, str]]:
    """Type, telescope and flag, for every flag; a change is one, whatever it is called."""
    changes = {AGEING: "change", STEP: "change"}
    return {
        (tel_type, tel_id, changes.get(flag, flag))
        for tel_type, tel_id, flags in table.select("tel_type", "tel_id", "flags").iter_rows()
        for flag in flags.split(",")
    }
