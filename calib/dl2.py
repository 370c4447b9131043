"""Block files in, EVENTS out.

Knows which tables of a ctapipe DL2 file mean what (data models v4 to v7) and reads them once,
front to back, in windows of complete showers, so that memory does not grow with the file.

EVENTS rows carry ``obs_id``, ``event_id`` and ``tel_id`` followed by the requested columns
under their names in the file. A value a file does not have for a row (no such row in a
companion table, no table at all for that telescope) is NaN, False or -1: none of them passes
a selection.

Facts of the format used here, and what happens when one does not hold:

* the tables of a telescope have the same rows in the same order: compared batch by batch,
  matched on the keys otherwise;
* rows are in ascending order of event within an observation: checked; a file that is out of
  order is sorted in memory (about 50 bytes a row) instead of streamed;
* a row is unique in (obs_id, event_id, tel_id): repeated rows are dropped and counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from calib import hdf5
from calib.errors import CannotCompute
from calib.schema import EVENT_KEYS
from calib.subarray import Subarray, read_subarray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Columns = dict[str, npt.NDArray[Any]]

__all__ = ["WINDOW_ROWS", "Block", "Source", "UnsortedRows", "Window", "open_block", "scan_events", "windows"]

SUPPORTED_MODELS = range(4, 8)
TELESCOPE_GROUPS = (
    "/dl2/event/telescope/energy",
    "/dl2/event/telescope/impact",
    "/dl2/event/telescope/particle_type",
    "/dl2/event/telescope/classification",  # the name of particle_type before v7.2
    "/dl2/event/telescope/geometry",
)
TELESCOPE_TABLES = ("/dl1/event/telescope/parameters", "/simulation/event/telescope/impact")
SUBARRAY_GROUPS = (
    "/dl2/event/subarray/energy",
    "/dl2/event/subarray/geometry",
    "/dl2/event/subarray/particle_type",
    "/dl2/event/subarray/classification",
)
SUBARRAY_TABLES = ("/simulation/event/subarray/shower",)
TRIGGER = "/dl1/event/subarray/trigger"
OBSERVATION_BLOCK = "/configuration/observation/observation_block"

#: v4 called the impact distance ``<algo>_tel_distance``.
OLD_IMPACT = re.compile(r"_tel_distance(_uncert)?$")

#: Telescope events read at a time; bounds the memory of a block of any length.
WINDOW_ROWS = 600_000
#: An event is identified within a file by ``observation << EVENT_BITS | event_id``.
EVENT_BITS = 44

MISSING: dict[str, Any] = {"f": np.nan, "b": False, "i": -1, "u": 0}


class UnsortedRows(CannotCompute):
    """A file that was to be streamed turned out to be out of order."""


@dataclass(frozen=True)
class Source:
    """Where a column is found.

    Parameters
    ----------
    group : str
        The table (``scope == "subarray"``) or the group of its ``tel_XXX`` tables.
    stored : str
        The name of the column there.
    scope : {"telescope", "subarray"}
        Whether a row belongs to a telescope and shower or to a shower.
    kind : str
        ``bool``, ``int`` or the unit of a number in VOUnit syntax (empty for none).
    """

    group: str
    stored: str
    scope: str
    kind: str


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
        Observation ids, in the order of their rows.
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
    columns: dict[str, Source] = field(repr=False)

    @property
    def catalog(self) -> dict[str, str]:
        """Kind of every column, as `calib.criteria` wants it."""
        return {name: source.kind for name, source in self.columns.items()}


class Window(NamedTuple):
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
    """
    with hdf5.open_file(path) as file:
        data_model = _data_model(file, path)
        columns = _find_columns(file, path)
        if not any(source.group.startswith("/dl2") for source in columns.values()):
            levels = hdf5.attribute_text(file.attrs.get("CTA PRODUCT DATA LEVELS", "none stated"))
            msg = (
                f"{path}: no DL2 event tables found (data levels: {levels}). "
                "Run ctapipe-process and ctapipe-apply-models first."
            )
            raise CannotCompute(msg)
        return Block(
            path=path,
            data_model=data_model,
            process_type=hdf5.attribute_text(file.attrs.get("CTA PROCESS TYPE", "")),
            obs_ids=_observation_ids(file, path),
            subarray=read_subarray(file, path),
            columns=columns,
        )


def windows(
    block: Block, columns: Sequence[str], *, rows: int = WINDOW_ROWS, stream: bool = True
) -> Iterator[Window]:
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

    Yields
    ------
    Window
        Showers ascend from window to window; inside one, rows are grouped by telescope.

    Raises
    ------
    CannotCompute
        If a column does not exist or rows are damaged.
    UnsortedRows
        If `stream` is true, the file needs more than one window, and its rows turn out to be
        out of order: read it again with ``stream=False``.
    """
    _require_columns(block, columns)
    with hdf5.open_file(block.path) as file:
        leading = hdf5.telescope_tables(file, block.columns[columns[0]].group, block.path)
        total = sum(map(len, leading.values()))
        single = total <= rows or not stream
        share = 1.0 if single else rows / total
        telescopes = [
            _Cursor(block, file, columns, tel_id, share, sort=single)
            for tel_id in leading
            if tel_id in block.subarray.index
        ]
        shower = _Cursor(block, file, columns, None, share, sort=single)
        while (window := _next_window(block, telescopes, shower)) is not None:
            yield window


def scan_events(block: Block, leading: str) -> pl.LazyFrame:
    """EVENTS of a block as a polars lazy frame.

    Only the tables of the projected columns are opened; a filter is applied window by window
    before the rows leave the reader.

    Parameters
    ----------
    block : Block
        The file.
    leading : str
        The column whose tables define the rows.

    Returns
    -------
    polars.LazyFrame
        All columns of the block.
    """
    others = [name for name in block.columns if name != leading]
    schema = pl.Schema(EVENT_KEYS | {name: _dtype(block.columns[name]) for name in (leading, *others)})

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001  a hint; windows follow showers instead
    ) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if with_columns is None else with_columns
        tested = [] if predicate is None else predicate.meta.root_names()
        needed = dict.fromkeys([leading, *wanted, *tested])
        for window in windows(block, [name for name in needed if name not in EVENT_KEYS]):
            frame = window.events
            if predicate is not None:
                frame = frame.filter(predicate)
            frame = frame.select(wanted)
            if n_rows is not None:
                frame = frame.head(n_rows)
                n_rows -= len(frame)
            yield frame
            if n_rows == 0:
                return

    return register_io_source(source, schema=schema, validate_schema=True)


def _data_model(file: hdf5.File, path: Path) -> str:
    version = hdf5.attribute_text(file.attrs.get("CTA PRODUCT DATA MODEL VERSION", ""))
    if not version:
        msg = f"{path}: no ctapipe file, the attribute CTA PRODUCT DATA MODEL VERSION is missing."
        raise CannotCompute(msg)
    match = re.match(r"v(\d+)\.", version)
    if match is None or int(match[1]) not in SUPPORTED_MODELS:
        msg = (
            f"{path}: data model {version} is not supported, expected v4 to v7. "
            "Process the data again with a current ctapipe."
        )
        raise CannotCompute(msg)
    return version


def _observation_ids(file: hdf5.File, path: Path) -> tuple[int, ...]:
    """Observation ids in the order in which a merge appended them."""
    table = hdf5.find_table(file, OBSERVATION_BLOCK, path)
    if table is None or len(table) == 0:
        table = hdf5.require_table(file, TRIGGER, path)
    ids = table.read()["obs_id"].astype(np.int64)
    return tuple(dict.fromkeys(ids.tolist()))


def _find_columns(file: hdf5.File, path: Path) -> dict[str, Source]:
    """Catalogue every column by its name; on a name clash the DL2 tables win."""
    found: dict[str, Source] = {}
    telescope = (*_algorithms(file, TELESCOPE_GROUPS), *TELESCOPE_TABLES)
    for group in telescope:
        for table in hdf5.telescope_tables(file, group, path).values():
            _catalogue(found, group, table, "telescope")
            break  # the tables of a group agree; one that does not is caught when it is read
    for group in (*_algorithms(file, SUBARRAY_GROUPS), *SUBARRAY_TABLES):
        subarray_table = hdf5.find_table(file, group, path)
        if subarray_table is not None:
            _catalogue(found, group, subarray_table, "subarray")
    return found


def _algorithms(file: hdf5.File, groups: Iterable[str]) -> list[str]:
    return [f"{group}/{name}" for group in groups if group in file for name in file[group]]


def _catalogue(found: dict[str, Source], group: str, table: hdf5.Table, scope: str) -> None:
    for stored in table.columns:
        dtype = table.dataset.dtype[stored]
        if stored in EVENT_KEYS or dtype.shape or dtype.kind not in MISSING:
            continue
        if stored in table.booleans:
            kind = "bool"
        else:
            kind = "int" if dtype.kind in "iu" else table.units.get(stored, "")
        name = OLD_IMPACT.sub(r"_tel_impact_distance\1", stored)
        found.setdefault(name, Source(group, stored, scope, kind))


def _dtype(source: Source) -> pl.DataType:
    return {"bool": pl.Boolean(), "int": pl.Int64()}.get(source.kind, pl.Float64())


def _require_columns(block: Block, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in block.columns:
            msg = (
                f"{block.path}: column {name} does not exist; "
                f"per telescope and shower there are: {', '.join(sorted(block.columns))}."
            )
            raise CannotCompute(msg)
    if block.columns[columns[0]].scope != "telescope":
        msg = f"{columns[0]} is a column of the shower, not of a telescope; it cannot lead EVENTS."
        raise ValueError(msg)


def _next_window(block: Block, telescopes: list[_Cursor], shower: _Cursor) -> Window | None:
    """Advance all cursors to the last shower that all of them have reached."""
    for cursor in telescopes:
        cursor.fill()
    reached = [cursor.last for cursor in telescopes if not cursor.exhausted]
    limit = min(reached) if reached else None
    taken = [(cursor.tel_id, cursor.take(limit)) for cursor in telescopes]
    repeated = sum(cursor.pop_repeated() for cursor in telescopes)
    parts = [(tel_id, columns) for tel_id, columns in taken if len(columns[KEY])]
    if not parts:
        return None if limit is None else Window(_frame(block, []), repeated)
    shower.fill_to(max(int(columns[KEY][-1]) for _, columns in parts))
    return Window(_frame(block, [(t, shower.match(columns)) for t, columns in parts]), repeated)


def _frame(block: Block, parts: list[tuple[int | None, Columns]]) -> pl.DataFrame:
    names = [name for name in parts[0][1] if name != KEY] if parts else []
    joined = {name: np.concatenate([columns[name] for _, columns in parts]) for name in names}
    keys = np.concatenate([columns[KEY] for _, columns in parts]) if parts else np.empty(0, np.int64)
    lengths = [len(columns[KEY]) for _, columns in parts]
    tel_ids = np.repeat(np.array([t for t, _ in parts], np.uint16), np.array(lengths, np.int64))
    obs_ids = np.asarray(block.obs_ids, np.int64)
    return pl.DataFrame(
        {
            "obs_id": obs_ids[keys >> EVENT_BITS] if len(obs_ids) > 1 else np.full(len(keys), obs_ids[0]),
            "event_id": keys & ((1 << EVENT_BITS) - 1),
            "tel_id": tel_ids,
            **joined,
        }
    )


#: Name of the ordering key among the columns of a cursor; no file has such a column.
KEY = " key"


class _Cursor:
    """Reads the tables of one telescope (or those of the showers) side by side, front to back."""

    def __init__(  # noqa: PLR0913
        self,
        block: Block,
        file: hdf5.File,
        columns: Sequence[str],
        tel_id: int | None,
        share: float,
        *,
        sort: bool,
    ) -> None:
        self.tel_id = tel_id
        self._block = block
        self._sort = sort
        scope = "subarray" if tel_id is None else "telescope"
        self._groups = _by_group(block, [c for c in columns if block.columns[c].scope == scope])
        self._tables = {g: self._table(file, g) for g in self._groups}
        leading = next(iter(self._tables.values()), None)
        self._rows = len(leading) if leading is not None else 0
        chunk = leading.chunk_rows if leading is not None else 1
        # Whole chunks, so that none is decompressed twice.
        self._step = self._rows if share >= 1 else -(-int(self._rows * share + 1) // chunk) * chunk
        self._position = 0
        self._repeated = 0
        self._lookup: dict[str, Columns] = {}
        self._buffer: Columns = self._read(0, 0)

    def _table(self, file: hdf5.File, group: str) -> hdf5.Table | None:
        name = group if self.tel_id is None else f"{group}/tel_{self.tel_id:03d}"
        return hdf5.find_table(file, name, self._block.path)

    @property
    def exhausted(self) -> bool:
        """Whether every row has been read (some may still be buffered)."""
        return self._position >= self._rows

    @property
    def last(self) -> int:
        """Key of the last buffered row."""
        return int(self._buffer[KEY][-1])

    def fill(self) -> None:
        """Read the next batch when the buffer is empty."""
        while not len(self._buffer[KEY]) and not self.exhausted:
            self._extend()

    def fill_to(self, key: int) -> None:
        """Read on until `key` is buffered or the table ends."""
        while not self.exhausted and (not len(self._buffer[KEY]) or self.last < key):
            self._extend()

    def take(self, limit: int | None) -> Columns:
        """Remove and return the buffered rows up to and including `limit`."""
        keys = self._buffer[KEY]
        cut = len(keys) if limit is None else int(np.searchsorted(keys, limit, side="right"))
        taken = {name: values[:cut] for name, values in self._buffer.items()}
        self._buffer = {name: values[cut:] for name, values in self._buffer.items()}
        return taken

    def pop_repeated(self) -> int:
        """Return how many repeated rows were dropped since the last call."""
        count, self._repeated = self._repeated, 0
        return count

    def match(self, rows: Columns) -> Columns:
        """Add the columns of the showers to telescope rows whose showers are buffered."""
        if not self._groups:
            return rows
        return rows | _align(self._buffer, rows[KEY])

    def _extend(self) -> None:
        stop = min(self._position + self._step, self._rows)
        batch = self._ordered(self._read(self._position, stop))
        self._position = stop
        before = self._buffer
        if len(before[KEY]):
            batch = {name: np.concatenate([before[name], batch[name]]) for name in batch}
        self._buffer = batch

    def _read(self, start: int, stop: int) -> Columns:
        """Read a batch of the leading table and match the companions to it."""
        batch: Columns = {KEY: np.empty(0, np.int64)}
        for position, (group, names) in enumerate(self._groups.items()):
            table = self._tables[group]
            if position == 0:
                batch = self._columns(table, names, start, stop)
            else:
                batch |= self._companion(group, names, start, stop, batch[KEY])
        return batch

    def _companion(
        self, group: str, names: Columns_, start: int, stop: int, keys: npt.NDArray[np.int64]
    ) -> Columns:
        table = self._tables[group]
        if table is not None and len(table) == self._rows and group not in self._lookup:
            batch = self._columns(table, names, start, stop)
            if np.array_equal(batch.pop(KEY), keys):
                return batch
        if group not in self._lookup:
            whole = self._columns(table, names, 0, 0 if table is None else len(table))
            order = np.argsort(whole[KEY], kind="stable")
            self._lookup[group] = {name: values[order] for name, values in whole.items()}
        return _align(self._lookup[group], keys)

    def _columns(self, table: hdf5.Table | None, names: Columns_, start: int, stop: int) -> Columns:
        if table is None:
            empty: Columns = {KEY: np.empty(0, np.int64)}
            return empty | {n: np.empty(0, _NUMPY[_kind(s)]) for n, s in names.items()}
        absent = [source.stored for source in names.values() if source.stored not in table.columns]
        if absent:
            msg = (
                f"{self._block.path}: {table.name} has no column {', '.join(absent)}; "
                f"it has {', '.join(table.columns)}."
            )
            raise CannotCompute(msg)
        rows = table.read(start, stop)
        columns: Columns = {KEY: self._keys(rows, table)}
        for name, source in names.items():
            columns[name] = table.column(source.stored, rows).astype(_NUMPY[_kind(source)], copy=False)
        return columns

    def _keys(self, rows: npt.NDArray[Any], table: hdf5.Table) -> npt.NDArray[np.int64]:
        obs_ids, event_ids = rows["obs_id"], rows["event_id"].astype(np.int64)
        if len(rows) and (event_ids.min() < 0 or event_ids.max() >> EVENT_BITS):
            msg = f"{self._block.path}: {table.name} has event ids outside 0 to 2^{EVENT_BITS}."
            raise CannotCompute(msg)
        known = np.asarray(self._block.obs_ids)
        if len(known) == 1 and np.all(obs_ids == known[0]):
            return event_ids
        order = np.argsort(known)
        rank = order[np.searchsorted(known, obs_ids, sorter=order).clip(max=len(known) - 1)]
        if not np.array_equal(known[rank], obs_ids):
            stray = sorted(set(obs_ids.tolist()) - set(known.tolist()))
            msg = (
                f"{self._block.path}: {table.name} has rows of obs_id {stray}, but the file lists "
                f"only {known.tolist()}."
            )
            raise CannotCompute(msg)
        return (rank.astype(np.int64) << EVENT_BITS) | event_ids

    def _ordered(self, batch: Columns) -> Columns:
        """Check or restore ascending keys; drop and count repeated rows."""
        keys = batch[KEY]
        previous = self._buffer[KEY][-1:]
        steps = np.diff(np.concatenate([previous, keys]))
        if np.all(steps > 0):
            return batch
        if np.any(steps < 0):
            if not self._sort:
                msg = f"{self._block.path}: events of telescope {self.tel_id} are not in order."
                raise UnsortedRows(msg)
            order = np.argsort(keys, kind="stable")
            batch = {name: values[order] for name, values in batch.items()}
            keys = batch[KEY]
        first = np.ones(len(keys), np.bool_)
        first[1:] = keys[1:] != keys[:-1]
        if len(previous) and len(keys):
            first[0] = keys[0] != previous[0]
        self._repeated += int(len(keys) - first.sum())
        return {name: values[first] for name, values in batch.items()}


Columns_ = dict[str, Source]
_NUMPY: dict[str, type] = {"bool": np.bool_, "int": np.int64, "float": np.float64}


def _kind(source: Source) -> str:
    return source.kind if source.kind in _NUMPY else "float"


def _by_group(block: Block, columns: Iterable[str]) -> dict[str, Columns_]:
    groups: dict[str, Columns_] = {}
    for name in columns:
        source = block.columns[name]
        groups.setdefault(source.group, {})[name] = source
    return groups


def _align(table: Columns, keys: npt.NDArray[np.int64]) -> Columns:
    """Look `keys` up in a table with ascending keys; absent rows get the missing value."""
    known = table[KEY]
    if not len(known):
        return {
            name: np.full(len(keys), MISSING[values.dtype.kind], values.dtype)
            for name, values in table.items()
            if name != KEY
        }
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    absent = known[place] != keys
    aligned: Columns = {}
    for name, values in table.items():
        if name != KEY:
            aligned[name] = values[place]
            aligned[name][absent] = MISSING[values.dtype.kind]
    return aligned
