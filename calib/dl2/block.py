"""Block files in, EVENTS out.

Describes a ctapipe DL2 file (data models v4 to v7) and reads it once, front to back, in windows
of complete showers, so that memory does not grow with the file.

EVENTS rows carry ``obs_id``, ``event_id`` and ``tel_id`` followed by the requested columns
under their names in the file. A value a file does not have for a row (no such row in a
companion table, no table at all for that telescope) is NaN, False or -1: none of them passes
a selection.

Facts of the format used here, and what happens when one does not hold:

* the tables of a telescope have the same rows in the same order: compared, and matched on the
  keys otherwise;
* rows are in ascending order of event within an observation: checked; a file that is out of
  order is sorted in memory (about 50 bytes a row) instead of streamed;
* a row is unique in (obs_id, event_id, tel_id): of equal rows one stays, unequal ones contradict
  each other and go altogether (through `open_door`; without it the first row stays);
* a table of a telescope has rows of that telescope, and the layout lists it: else an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from arraycal.calib import hdf5
from arraycal.calib.dl2.columns import (
    TELESCOPE_TRIGGER,
    TRIGGER_TIME,
    ColumnSource,
    TableGroup,
    by_group,
    find_columns,
)
from arraycal.calib.dl2.cursor import (
    TELESCOPE,
    Common,
    Cursor,
    Reader,
    Role,
    Shares,
    TelescopeCursor,
    UnsortedRows,
)
from arraycal.calib.dl2.door import note_shortfalls, short_table_name
from arraycal.calib.dl2.findings import unsigned
from arraycal.calib.dl2.numbering import Numbering
from arraycal.calib.dl2.pointing import ALTITUDE, AZIMUTH, read_pointing
from arraycal.calib.errors import CannotCompute, NothingToDo
from arraycal.calib.schema import EVENT_KEYS
from arraycal.calib.subarray import MAX_TEL_ID, Subarray
from arraycal.calib.wording import nearest_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from arraycal.calib.dl2.door import Door
    from arraycal.calib.dl2.pointing import Pointing

__all__ = [
    "WINDOW_ROWS",
    "Block",
    "ColumnSource",
    "EventWindow",
    "UnsortedRows",
    "open_block",
    "read_subarray",
    "scan_events",
    "windows",
]

SUPPORTED_MODELS = range(4, 8)
LAYOUT = "/configuration/instrument/subarray/layout"
TRIGGER = "/dl1/event/subarray/trigger"
#: Where results of calibrations are, ours and those of ctao-calibpipe.
COEFFICIENTS = "/dl2/monitoring/subarray"
OBSERVATION_BLOCK = "/configuration/observation/observation_block"

#: Types of telescopes; a description begins with one.
TYPES = {"LST", "MST", "SST"}

#: Telescope events read at a time; bounds the memory of a block of any length.
WINDOW_ROWS = 600_000
#: Rows read at a time when the file has more: about 50 bytes each until their window comes.
READ_ROWS = 1_500_000
#: Rows of all telescopes that are held in memory when they are out of order; 5 GB.
MAX_SORTED_ROWS = 100_000_000
#: Observations of a file; merged simulations have some thousands.
MAX_OBSERVATIONS = 1_000_000


@dataclass(frozen=True)
class Block:
    """What a block file holds, without its rows.

    Parameters
    ----------
    path : Path
        The file.
    data_model : str
        Version of the data model, such as ``v7.6.0``.
    process_type : str
        ``Simulation`` or ``Observation``; empty when the file does not say.
    obs_ids : tuple of int
        Observation ids, in the order of their rows, as in EVENTS: numbers of 64 bits with sign.
    subarray : Subarray
        The telescopes.
    columns : dict of str to Source
        Every column that can be requested.
    """

    path: Path
    data_model: str
    process_type: str
    obs_ids: tuple[int, ...]
    subarray: Subarray
    columns: dict[str, ColumnSource] = field(repr=False)

    @property
    def observations(self) -> tuple[int, ...]:
        """Observation ids as the file means them, without sign."""
        return tuple(map(unsigned, self.obs_ids))

    @property
    def catalog(self) -> dict[str, str]:
        """Kind of every column, as `arraycal.calib.criteria` wants it."""
        return {name: source.kind for name, source in self.columns.items()}


class EventWindow(NamedTuple):
    """EVENTS of complete showers, and how many repeated rows were dropped from them."""

    events: pl.DataFrame
    repeated: int


def open_block(path: Path) -> Block:
    """Read what a block file says about itself.

    Parameters
    ----------
    path : Path
        A ctapipe DL2 file.

    Returns
    -------
    Block
        The description; no event has been read.

    Raises
    ------
    CannotCompute
        If it is no DL2 file, of an unsupported data model, or lacks its layout or events.
    NothingToDo
        If it has no events because nothing triggered.
    """
    with hdf5.open_file(path) as file:
        data_model = _data_model(file, path)
        columns = find_columns(file, path)
        if not any(source.group.startswith("/dl2") for source in columns.values()):
            trigger = hdf5.find_table(file, TRIGGER, path)
            if trigger is not None and not len(trigger):
                raise NothingToDo(f"{path}: no shower in it.")
            levels = hdf5.root_attribute(file, "CTA PRODUCT DATA LEVELS", path) or "none stated"
            raise CannotCompute(
                f"{path}: no DL2 event tables found (data levels: {levels}). "
                "Run ctapipe-process and ctapipe-apply-models first."
            )
        return Block(
            path=path,
            data_model=data_model,
            process_type=hdf5.root_attribute(file, "CTA PROCESS TYPE", path),
            obs_ids=_observation_ids(file, path),
            subarray=read_subarray(file, path),
            columns=columns,
        )


def read_subarray(file: hdf5.File, path: Path) -> Subarray:
    """Read the layout of an open DL2 file.

    Raises
    ------
    CannotCompute
        If the layout is missing, lacks a column, or describes no array: see `Subarray`.
    """
    table = hdf5.require_table(file, LAYOUT, path)
    table.require("tel_id", "type", "pos_x", "pos_y", "pos_z", "tel_description")
    rows = table.read_few(MAX_TEL_ID + 1)
    tel_ids, types = rows["tel_id"].astype(np.int64), table.column("type", rows)
    order = np.lexsort((tel_ids, types))
    descriptions = table.column("tel_description", rows)
    _refuse_contradiction(path, tel_ids.tolist(), types.tolist(), descriptions.tolist())
    positions = np.stack([rows[f"pos_{axis}"].astype(float) for axis in "xyz"], axis=1)
    positions[~np.isfinite(positions).all(axis=1)] = np.nan
    try:
        return Subarray(
            name=table.attribute("name"),
            tel_ids=tuple(tel_ids[order].tolist()),
            types=tuple(types[order].tolist()),
            descriptions=tuple(descriptions[order].tolist()),
            positions_m=tuple((x, y, z) for x, y, z in positions[order].tolist()),
        )
    except ValueError as error:
        raise CannotCompute(f"{path}: {LAYOUT}: {error}.") from error


def _refuse_contradiction(
    path: Path, tel_ids: Sequence[int], types: Sequence[str], descriptions: Sequence[str]
) -> None:
    """Refuse a layout whose types are not those that the descriptions begin with."""
    for tel_id, tel_type, description in zip(tel_ids, types, descriptions, strict=True):
        stated = description.partition("_")[0]
        if stated in TYPES and tel_type in TYPES and stated != tel_type:
            raise CannotCompute(
                f"{path}: {LAYOUT}: telescope {tel_id} has the type {tel_type}, and its "
                f"description {description} says {stated}. Pairs are formed by type, parameters "
                "chosen by description: correct the one that is wrong, or produce the file again."
            )


def windows(
    block: Block,
    columns: Sequence[str],
    *,
    rows: int = WINDOW_ROWS,
    stream: bool = True,
    door: Door | None = None,
) -> Iterator[EventWindow]:
    """Read EVENTS in windows of complete showers.

    Parameters
    ----------
    block : Block
        The file.
    columns : sequence of str
        Columns to read. The first must be per telescope: the rows of its tables are the
        rows of EVENTS, everything else is matched to them.
    rows : int
        About how many rows to hold at a time.
    stream : bool
        False sorts the whole file in memory first.
    door : Door, optional
        Of `arraycal.calib.dl2.door.open_door`: rows that may not pass it are left out, and its
        findings are complete after the last window. Without it every row passes, and of rows of
        one key the first.

    Yields
    ------
    EventWindow
        Showers ascend from window to window; inside one, rows are grouped by telescope.

    Raises
    ------
    CannotCompute
        If a column does not exist, rows are damaged, or a telescope with rows is not in the
        layout.
    UnsortedRows
        If `stream` is true, the file needs more than one window, and its rows turn out to be
        out of order: read it again with ``stream=False``.
    """
    _require_columns(block, columns)
    stored = [name for name in columns if block.columns[name].scope != "pointing"]
    with hdf5.open_file(block.path) as file:
        pointing = None
        pointed = [block.columns[name] for name in columns if name not in stored]
        if pointed:
            pointing = read_pointing(file, block.path, pointed[0].group)
            needed = [TRIGGER_TIME] if pointing.measured else []
            stored += [name for name in needed if name not in stored]
        reader = _open_reader(block, file, stored, rows if stream else None, door)
        while (rows_read := reader.next_rows()) is not None:
            events, repeated = rows_read
            if pointing is not None:
                events = _with_pointing(events, pointing).select(*EVENT_KEYS, *columns)
            yield EventWindow(events, repeated)
        if door is not None:
            _refuse_nothing(block, block.columns[columns[0]].group, door)
            note_shortfalls(door, [(c.label, c.tel_id, c.parts) for c in reader.cursors])


def _refuse_nothing(block: Block, group: str, door: Door) -> None:
    """Raise unless there are rows of the telescopes."""
    if door.findings.n_rows:
        return
    if None not in door.triggers:
        raise NothingToDo(f"{block.path}: no shower in it.")
    raise CannotCompute(
        f"{block.path}: {door.triggers[None].sum():,} showers triggered, and {group} has no row. "
        "Was the job that writes it killed? Produce the file again."
    )


def _with_pointing(events: pl.DataFrame, pointing: Pointing) -> pl.DataFrame:
    tel_ids, obs_ids = (events[name].to_numpy().astype(np.int64) for name in ("tel_id", "obs_id"))
    time_s = events[TRIGGER_TIME].to_numpy() if pointing.measured else None
    altitude, azimuth = pointing.directions(tel_ids, obs_ids, time_s).T
    return events.with_columns(pl.Series(ALTITUDE, altitude), pl.Series(AZIMUTH, azimuth))


def scan_events(
    block: Block, leading: str, *, rows: int = WINDOW_ROWS, stream: bool = True
) -> pl.LazyFrame:
    """EVENTS of a block as a polars lazy frame.

    Only the tables of the projected columns are opened; a filter is applied window by window
    before the rows leave the reader.

    Parameters
    ----------
    block : Block
        The file.
    leading : str
        The column whose tables define the rows.
    rows, stream
        As in `windows`.

    Returns
    -------
    polars.LazyFrame
        All columns of the block.
    """
    _require_columns(block, [leading])
    types = {name: source.polars_type for name, source in block.columns.items()}
    schema = pl.Schema(EVENT_KEYS | {leading: types[leading]} | types)

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001  a hint; windows follow showers instead
    ) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if with_columns is None else with_columns
        tested = [] if predicate is None else predicate.meta.root_names()
        read = [n for n in dict.fromkeys([leading, *wanted, *tested]) if n not in EVENT_KEYS]
        for window in windows(block, read, rows=rows, stream=stream):
            frame = window.events if predicate is None else window.events.filter(predicate)
            frame = frame.select(wanted)
            if n_rows is None:
                yield frame
            else:
                yield frame.head(n_rows)
                n_rows -= len(frame)
                if n_rows <= 0:
                    return

    return register_io_source(source, schema=schema, validate_schema=True)


def _open_reader(
    block: Block,
    file: hdf5.File,
    columns: Sequence[str],
    rows: int | None,
    door: Door | None = None,
) -> Reader:
    """Open the tables of some columns, to hold about `rows` rows; None for all."""
    sources = {name: block.columns[name] for name in columns}
    leading, *companions = by_group(sources, "telescope")
    tables = _tables_with_rows(block, file, leading.group)
    beside = [(group, hdf5.telescope_tables(file, group.group, block.path)) for group in companions]
    total = sum(map(len, tables.values()))
    _refuse_too_many_rows(block, leading.group, total, hdf5.MAX_ROWS if rows else MAX_SORTED_ROWS)
    shares = Shares(1.0, 1.0)
    if rows is not None and rows < total:
        shares = Shares(rows / total, max(rows, READ_ROWS) / total)
    numbering = Numbering(block.path, block.obs_ids)
    common = Common(numbering, shares, hdf5.Scratch(), door)

    def cursor(
        table: hdf5.Table | None,
        group: TableGroup,
        tel_id: int | None = None,
        *,
        shared: bool = False,
    ) -> Cursor:
        role = Role(short_table_name(group.group), group is leading, shared)
        return Cursor(table, group.sources, common, tel_id, role)

    telescopes = tuple(
        TelescopeCursor(
            tel_id,
            cursor(table, leading, tel_id),
            tuple(cursor(found.get(tel_id), group, tel_id) for group, found in beside),
            door,
        )
        for tel_id, table in tables.items()
    )
    showers = tuple(
        cursor(hdf5.require_table(file, group.group, block.path), group)
        for group in by_group(sources, "subarray")
    )
    triggers = None
    for group in by_group(sources, "trigger"):
        of = ColumnSource(TELESCOPE_TRIGGER, TELESCOPE, "trigger", "int")
        every = TableGroup(group.group, group.sources | {TELESCOPE: of})
        triggers = cursor(hdf5.require_table(file, group.group, block.path), every, shared=True)
    schema = EVENT_KEYS | {name: source.polars_type for name, source in sources.items()}
    return Reader(numbering, pl.Schema(schema), telescopes, showers, triggers, door)


def _refuse_too_many_rows(block: Block, group: str, total: int, most: int) -> None:
    if total > most:
        what = "" if most == hdf5.MAX_ROWS else "out of order, "
        raise CannotCompute(
            f"{block.path}: {group} has {total:,} rows, {what}expected at most {most:,}. "
            "Split the file by observations, in order of event_id."
        )


def _tables_with_rows(block: Block, file: hdf5.File, group: str) -> dict[int, hdf5.Table]:
    """Tables of the leading group; a telescope that never triggered has none, or an empty one."""
    tables = hdf5.telescope_tables(file, group, block.path)
    found = {tel_id: table for tel_id, table in tables.items() if len(table)}
    strangers = sorted(set(found) - set(block.subarray.tel_ids))
    if strangers:
        raise CannotCompute(
            f"{block.path}: {group} has rows of telescopes {strangers}, which {LAYOUT} does not "
            "list. Was the file merged from different arrays?"
        )
    return found


def _data_model(file: hdf5.File, path: Path) -> str:
    version = hdf5.root_attribute(file, "CTA PRODUCT DATA MODEL VERSION", path)
    if not version:
        raise CannotCompute(
            f"{path}: no ctapipe file, the attribute CTA PRODUCT DATA MODEL VERSION is missing."
        )
    match = re.match(r"v(\d+)\.", version)
    if match is None or int(match[1]) not in SUPPORTED_MODELS:
        if hdf5.child_names(file, COEFFICIENTS, path):
            raise CannotCompute(
                f"{path}: expected a block of DL2 events, found the result of a calibration. "
                "Give the blocks that it was made from; arraycal apply takes results."
            )
        raise CannotCompute(
            f"{path}: data model {version} is not supported, expected v4 to v7. "
            "Process the data again with a current ctapipe."
        )
    return version


def _observation_ids(file: hdf5.File, path: Path) -> tuple[int, ...]:
    """Observation ids in the order in which a merge appended them."""
    table = hdf5.find_table(file, OBSERVATION_BLOCK, path)
    if table is None or len(table) == 0:
        table = hdf5.require_table(file, TRIGGER, path)
    table.require("obs_id")
    found: dict[int, None] = {}
    step = max(WINDOW_ROWS // table.chunk_rows, 1) * table.chunk_rows
    for start in range(0, len(table), step):
        ids = table.read(start, start + step)["obs_id"].astype(np.int64)
        changes = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
        found |= dict.fromkeys(ids[changes].tolist())
        if len(found) > MAX_OBSERVATIONS:
            raise CannotCompute(
                f"{path}: {table.name} names more than {MAX_OBSERVATIONS:,} observations. Split "
                "the file, or produce it again."
            )
    return tuple(found)


def _require_columns(block: Block, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in block.columns:
            near = nearest_column(name, block.columns)
            hint = f"did you mean {near}? " if near else ""
            raise CannotCompute(
                f"{block.path}: there is no column {name}; {hint}"
                f"Per telescope and shower there are: {', '.join(sorted(block.columns))}."
            )
    if block.columns[columns[0]].scope != "telescope":
        raise ValueError(
            f"{columns[0]} is a column of the shower, not of a telescope; it cannot lead EVENTS."
        )
