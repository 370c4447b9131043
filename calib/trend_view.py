"""The history as it is looked at: the runs of a selection, one per night, and their trends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from calib.drift import AGEING, STEP, Trends, has_place, trends
from calib.history.reading import Selection, coefficients, covariances, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import date

    from calib.history.database import History
    from config.models import TrendMonitorOptions

__all__ = ["Choice", "TrendView", "choose_runs", "newly_flagged", "view_trends"]


@dataclass(frozen=True)
class Choice:
    """One run per night and calibration.

    Parameters
    ----------
    run_ids : tuple of int
        The chosen runs.
    remarks : tuple of str
        What was chosen where there was a choice, a sentence each.
    """

    run_ids: tuple[int, ...]
    remarks: tuple[str, ...]


def choose_runs(runs: pl.DataFrame) -> Choice:
    """Choose one run per night and calibration.

    Parameters
    ----------
    runs : DataFrame
        Schema ``calib.history.reading.RUNS``.

    Returns
    -------
    Choice
        Runs that gave no coefficients do not count. The configuration of a calibration is that of
        its newest night, there the run published last; a night without that configuration is
        represented by the run published last.
    """
    usable = runs.filter(pl.col("status") != "unusable").sort("published", "run_id")
    run_ids: list[int] = []
    remarks: list[str] = []
    for (name,), own in sorted(usable.group_by("calibration"), key=lambda item: str(item[0][0])):
        newest = own.sort("night", "published", "run_id")["configuration_digest"][-1]
        ranked = own.with_columns(fits=pl.col("configuration_digest") == newest)
        ranked = ranked.sort("night", "fits", "published", "run_id")
        chosen = ranked.group_by("night", maintain_order=True).last()
        run_ids += chosen["run_id"].to_list()
        n_other = int((~chosen["fits"]).sum())
        n_several = len(own) - len(chosen)
        if n_several or n_other:
            text = f"{name}: configuration {newest}, that of the newest night"
            text += f"; {n_several} other runs of the same nights left out" if n_several else ""
            text += f"; {n_other} nights have only runs with another configuration, the one "
            text += "published last is shown" if n_other else ""
            remarks.append(text if n_other else text.split("; 0 nights")[0])
    return Choice(tuple(sorted(run_ids)), tuple(remarks))


@dataclass(frozen=True)
class TrendView:
    """What the history says.

    Parameters
    ----------
    runs : DataFrame
        Schema ``calib.history.reading.RUNS`` with ``chosen``: whether the trends stand on the run.
    coefficients : DataFrame
        Schema ``calib.history.reading.COEFFICIENTS``, of all these runs.
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


def view_trends(history: History, selection: Selection, options: TrendMonitorOptions) -> TrendView:
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

    Raises
    ------
    HistoryError, OSError
        If the database is damaged, or cannot be reached.
    """
    found = runs(history, selection)
    table = coefficients(history, selection)
    choice = choose_runs(found)
    chosen = table.filter(pl.col("run_id").is_in(list(choice.run_ids)))
    if selection.since is not None and not chosen.is_empty():
        nights = chosen["night"].to_list()
        options = options.model_copy(update={"look_back": (max(nights) - min(nights)).days + 1})
    return TrendView(
        runs=found.with_columns(chosen=pl.col("run_id").is_in(list(choice.run_ids))),
        coefficients=table,
        trends=trends(chosen, covariances(history, _window(chosen, selection, options)), options),
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
    history: History, calibration: str, night: date, options: TrendMonitorOptions
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

    Returns
    -------
    DataFrame
        Rows of schema ``calib.drift.TELESCOPES``.
    """
    first = night - timedelta(days=options.look_back - 1)
    selection = Selection(calibration=calibration, since=first, until=night)
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
