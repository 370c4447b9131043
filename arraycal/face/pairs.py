"""Pairs of telescopes from tables of the user's own.

The rows of telescopes go through the same selection as those of a block, as far as the table has
the columns for it; what could not be applied is said in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.blocks.pair_rows import paired_windows
from arraycal.calib.criteria import columns_of
from arraycal.calib.dl2.block import Block, ColumnSource, EventWindow
from arraycal.calib.dl2.findings import CONTRADICTION, REPEATED, Findings, example
from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.observables.filters import PairFilter
from arraycal.calib.pairs.exchange import pairs_of_rows, read_asymmetries, telescopes_of
from arraycal.calib.pairs.rules import inter_first, pair_rules, pairs_to_form, reconstructors
from arraycal.calib.pairs.saturation import UNCHECKED
from arraycal.calib.schema import EVENT_KEYS, LEFT_OUT, PAIRS
from arraycal.face.arrays import Array
from arraycal.face.calibrations import Calibration, as_calibration
from arraycal.face.display import html_paragraph, html_table, text_table
from arraycal.face.frames import ColumnRequest, column_kind, column_names, picked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arraycal.config.models import Configuration

__all__ = ["Pairs", "pairs"]

#: Where rows come from that no file holds.
TABLE = "table"
#: What is said of a selection that cannot be applied to a table.
NOT_APPLIED = "not applied: the table has no column {}"
#: For a selection that looks at more than columns.
NEEDS_FILE = "not applied: it needs the camera, which only a block file describes"


@dataclass(frozen=True, repr=False)
class Pairs:
    """Rows of pairs of telescopes that saw the same shower; `pairs` makes them.

    Parameters
    ----------
    calibration : Calibration
        What they are for.
    array : Array
        The telescopes.
    frame : DataFrame
        One row for each shower and pair: schema ``arraycal.calib.schema.PAIRS``.
    summary : dict
        Rows read and refused, and notes, as in the cache of blocks.
    """

    calibration: Calibration
    array: Array
    frame: pl.DataFrame
    summary: dict[str, Any]

    @property
    def rejected(self) -> pl.DataFrame:
        """Rows that were left out, by the first rule that refused them."""
        # Pairs of elsewhere come without examples.
        full = [(*row, "")[: len(LEFT_OUT)] for row in self.summary["rejected"]]
        found = pl.DataFrame(full, schema=LEFT_OUT, orient="row")
        return found.filter(pl.col("rows") > 0)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What a reader must know about the selection: topic and text."""
        return [(topic, text) for topic, text in self.summary["notes"]]

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        notes = [f"{topic}: {text}" for topic, text in self.notes]
        return "\n".join([self._title, *notes, text_table(self.rejected)])

    def _repr_html_(self) -> str:
        notes = [html_paragraph(f"{topic}: {text}") for topic, text in self.notes]
        return "".join([html_paragraph(self._title), *notes, html_table(self.rejected)])

    @property
    def _title(self) -> str:
        return f"Pairs for {self.calibration.name}: {len(self):,} rows; left out:"


def pairs(
    table: Any,  # noqa: ANN401  any library's table
    array: Array | None,
    calibration: Calibration | str,
    *,
    value: str = "value",
    uncertainty: str = "uncertainty",
    impact: str = "impact_m",
) -> Pairs:
    """Pair telescopes of your own table, or take pairs that you have formed.

    Parameters
    ----------
    table : table or path
        Of polars, pandas, astropy, or a mapping of columns, with either one row for each
        telescope and shower (``obs_id``, ``event_id``, ``tel_id`` and the columns below), or one
        for each pair of telescopes in a shower (``obs_id``, ``event_id``, ``tel_id_1``,
        ``tel_id_2`` and the columns below with ``_1`` and ``_2``, as in ``value_1`` and
        ``impact_1_m``). A path is that of a file of event-wise asymmetries, of
        ``arraycal asymmetry`` or of ctao-calibpipe.
    array : Array or None
        The telescopes; None for those that appear in pairs of one type.
    calibration : Calibration or str
        Of `preset`, or the name of one. Its cuts on telescopes and pairs are applied where the
        table has the column, under its name in ctapipe, and noted where it has not. Pairs are
        not cut.
    value : str
        Column to compare: energies in TeV, image sizes in p.e.; a column with a unit is converted.
    uncertainty, impact : str
        Columns of its uncertainty and of the distance from the shower axis in m, if there are any.

    Returns
    -------
    Pairs
        For `arraycal.calibrate`.

    Raises
    ------
    WrongUsage
        If columns are missing, telescopes are not in the array, or the calibration cannot be made
        of a table.
    CannotCompute
        If rows contradict each other.
    NothingToDo
        If there is no row.
    """
    chosen = as_calibration(calibration)
    _refuse_files_only(chosen)
    if isinstance(table, str | Path):
        found = read_asymmetries(Path(table), chosen.observable)
        return _of_pairs(found.pairs, found.rejected, array, chosen)
    names = column_names(table)
    columns = {"value": value, "uncertainty": uncertainty, "impact": impact}
    if "tel_id_1" in names:
        rows = picked(table, _pair_requests(columns, chosen))
        made = pairs_of_rows(_complete(rows, array), chosen.observable, "the table")
        return _of_pairs(made.pairs, made.rejected, array, chosen)
    if array is None:
        raise WrongUsage(
            "rows of single telescopes do not say of which type these are: give an arraycal.Array."
        )
    return _of_telescopes(table, array, chosen, columns)


def _refuse_files_only(chosen: Calibration) -> None:
    if chosen.name == TIMING_CROSS.name:
        raise WrongUsage("timing-cross needs the time stamps of block files: use arraycal.read.")
    if inter_first(chosen.observable, chosen.configuration):
        raise WrongUsage(
            "the method three_step reads blocks twice: use arraycal.read, or the method joint."
        )


def _of_pairs(
    frame: pl.DataFrame, rejected: pl.DataFrame, array: Array | None, chosen: Calibration
) -> Pairs:
    found = array or Array.of_subarray(telescopes_of(frame))
    _require_known([*frame["tel_id_1"].unique(), *frame["tel_id_2"].unique()], found)
    summary = {
        "n_events": len(frame) + int(rejected["rows"].sum()),
        "n_pairs": len(frame),
        "rejected": rejected.rows(),
        "notes": [["selection", "rows of pairs are taken as they are, without any cut"]],
    }
    return Pairs(chosen, found, frame, summary)


def _pair_requests(columns: Mapping[str, str], chosen: Calibration) -> dict[str, ColumnRequest]:
    requests = _id_requests("obs_id", "event_id", "tel_id_1", "tel_id_2")
    unit = chosen.observable.unit
    for side in (1, 2):
        for name, of_unit in (("value", unit), ("uncertainty", unit), ("impact", "m")):
            stem = columns[name]
            metres = stem.endswith("_m")
            source = f"{stem.removesuffix('_m')}_{side}_m" if metres else f"{stem}_{side}"
            target = f"impact_{side}_m" if name == "impact" else f"{name}_{side}"
            requests[target] = ColumnRequest(source, pl.Float64(), of_unit, name == "value")
    requests["tel_type"] = ColumnRequest("tel_type", pl.String(), needed=False)
    return requests


def _id_requests(*names: str) -> dict[str, ColumnRequest]:
    return {
        name: ColumnRequest(name, pl.UInt16() if name.startswith("tel") else pl.Int64())
        for name in names
    }


def _complete(rows: pl.DataFrame, array: Array | None) -> pl.DataFrame:
    """Add what the user's pairs lack: type of the pair, uncertainties and distances of NaN."""
    if array is not None:
        _require_known([*rows["tel_id_1"].unique(), *rows["tel_id_2"].unique()], array)
        kinds = dict(zip(array.tel_ids, array.types, strict=True))
        sides = zip(rows["tel_id_1"], rows["tel_id_2"], strict=True)
        labels = ["-".join(sorted({kinds[one], kinds[two]})) for one, two in sides]
        rows = rows.with_columns(pl.Series("tel_type", labels, pl.String))
    elif "tel_type" not in rows.columns:
        raise WrongUsage(
            "the table does not say of which type the telescopes are: give an arraycal.Array, or "
            "a column tel_type."
        )
    given = {*rows.columns, "asymmetry", "asymmetry_uncertainty", "log_ratio"}
    missing = [name for name in PAIRS if name not in given]
    return rows.with_columns(
        *(pl.lit(float("nan")).alias(name) for name in missing),
        stored=pl.lit(None, dtype=pl.Float64),
    )


def _of_telescopes(
    table: Any,  # noqa: ANN401  any library's table
    array: Array,
    chosen: Calibration,
    columns: Mapping[str, str],
) -> Pairs:
    block = _as_block(table, array, chosen, columns)
    configuration, notes = _applicable(chosen, block)
    rules = pair_rules(chosen.observable, configuration, block)
    events = _events(table, block, rules.columns)
    _require_known(events["tel_id"].unique().to_list(), array)
    findings = Findings()
    window = EventWindow(_judged_rows(events, findings), 0)
    summary: dict[str, Any] = {}
    allowed = pairs_to_form(chosen.observable, configuration, array.subarray)
    parts = list(paired_windows([window], rules, array.subarray, allowed, summary, findings))
    summary["notes"] = [*map(list, (*notes, *findings.notes())), *summary["notes"]]
    summary["remarks"] = findings.remarks({})
    if not parts:
        lost = [f"{rule}: {n}" for _, rule, n, *_ in summary["rejected"] if n]
        raise NothingToDo(
            f"no pair of telescopes is left of {len(events)} rows ({'; '.join(lost) or 'no rows'})."
        )
    return Pairs(chosen, array, pl.concat(parts), summary)


def _judged_rows(events: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """Keep one of equal rows, and none of unequal rows of one key, as of a block file."""
    keys = EVENT_KEYS.names()
    once = events.unique(maintain_order=True)
    sound = once.filter(pl.len().over(keys) == 1)
    findings.n_rows = len(events)
    for rule, rows, rest in (
        (REPEATED, events.filter(events.is_duplicated()), len(events) - len(once)),
        (CONTRADICTION, once.filter(pl.len().over(keys) > 1), len(once) - len(sound)),
    ):
        if rest:
            one = example(*rows.select(keys).row(0))
            findings.lose(rule, rest, one)
            if rule == CONTRADICTION:
                findings.contradict("the table", None, rows.select(keys).n_unique(), one)
    return sound


def _as_block(
    table: Any,  # noqa: ANN401  any library's table
    array: Array,
    chosen: Calibration,
    columns: Mapping[str, str],
) -> Block:
    """Describe a table like a block file: its columns under the names they have in ctapipe."""
    observable = chosen.observable
    names = reconstructors(getattr(chosen.configuration, observable.section))
    units = {
        quantity.column.format(**names): quantity.unit
        for filter_ in observable.filters
        for quantity in filter_.quantities
    }
    there = column_names(table)
    sources = {
        name: ColumnSource(TABLE, name, "telescope", unit)
        for name, unit in units.items()
        if name in there
    }
    for _, text in chosen.configuration.QualityQuery.quality_criteria:
        for name in sorted(columns_of(text)):
            if name in there and name not in sources:
                kind = column_kind(table, name)
                sources[name] = ColumnSource(TABLE, name, "telescope", kind)
    own = (
        (observable.value, "value", observable.unit, True),
        (observable.uncertainty, "uncertainty", observable.unit, False),
        (observable.impact, "impact", "m", False),
    )
    for template, name, unit, needed in own:
        if template is not None and (needed or columns[name] in there):
            source = ColumnSource(TABLE, columns[name], "telescope", unit)
            sources[template.format(**names)] = source
    return Block(Path(TABLE), "", "", (), array.subarray, sources)


def _applicable(chosen: Calibration, block: Block) -> tuple[Configuration, list[tuple[str, str]]]:
    """The configuration without the cuts that a table cannot be asked for, and what these are."""
    observable, configuration = chosen.observable, chosen.configuration
    section = getattr(configuration, observable.section)
    names = reconstructors(section)
    notes: list[tuple[str, str]] = []
    off: dict[str, None] = {}
    for filter_ in observable.filters:
        if getattr(section.event_filters, filter_.key) is None:
            continue
        wanted = [quantity.column.format(**names) for quantity in filter_.quantities]
        every = all if isinstance(filter_, PairFilter) else any
        if not isinstance(filter_, PairFilter) and filter_.limits is not None:
            notes.append((filter_.key, NEEDS_FILE))
        elif not every(name in block.columns for name in wanted):
            notes.append((filter_.key, NOT_APPLIED.format(", ".join(wanted))))
        else:
            continue
        off[filter_.key] = None
    criteria = configuration.QualityQuery.quality_criteria
    missing = {name: set(columns_of(text)) - set(block.columns) for name, text in criteria}
    notes += [
        (name, NOT_APPLIED.format(", ".join(sorted(lacking))))
        for name, lacking in missing.items()
        if lacking
    ]
    if observable.brightest is not None:
        notes.append(UNCHECKED)
    filters = section.event_filters.model_copy(update=off)
    kept = [(name, text) for name, text in criteria if not missing[name]]
    quality = configuration.QualityQuery.model_copy(update={"quality_criteria": kept})
    changed = {
        observable.section: section.model_copy(update={"event_filters": filters}),
        "QualityQuery": quality,
    }
    return configuration.model_copy(update=changed), notes


def _events(
    table: Any,  # noqa: ANN401  any library's table
    block: Block,
    wanted: tuple[str, ...],
) -> pl.DataFrame:
    requests = _id_requests("obs_id", "event_id", "tel_id")
    for name in wanted:
        source = block.columns[name]
        requests[name] = ColumnRequest(source.stored, source.polars_type, source.kind)
    return picked(table, requests).select(*EVENT_KEYS, *wanted)


def _require_known(tel_ids: list[int], array: Array) -> None:
    unknown = sorted(set(tel_ids) - set(array.tel_ids))
    if unknown:
        raise WrongUsage(
            f"telescopes {np.asarray(unknown).tolist()} are in the table and not in the array, "
            f"which has {list(array.tel_ids)}."
        )
