"""Tables read front to back, side by side, in batches of ascending showers.

Takes tables of one file, whose rows carry ``obs_id`` and ``event_id``; gives their columns for
all showers up to a limit. What was given is forgotten, so that memory does not grow with the
file. Ascending order is checked, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.dl2.columns import MISSING
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from arraycal.calib.dl2.columns import ColumnSource
    from arraycal.calib.hdf5.table import Scratch, Table

    Keys = npt.NDArray[np.int64]
    Columns = dict[str, npt.NDArray[Any]]

__all__ = ["Cursor", "Numbering", "Reader", "Shares", "TelescopeCursor", "UnsortedRows"]

#: A shower is identified within a file by ``position of its observation << EVENT_BITS | event_id``.
EVENT_BITS = 44


class UnsortedRows(CannotCompute):
    """A file that was to be streamed turned out to be out of order."""


@dataclass(frozen=True)
class Numbering:
    """One ascending number for each shower of a file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    obs_ids : tuple of int
        Its observations, in the order of their rows.
    """

    path: Path
    obs_ids: tuple[int, ...]

    def keys(self, rows: npt.NDArray[Any], table: Table) -> Keys:
        """Number the showers of table rows.

        Raises
        ------
        CannotCompute
            If an event id is out of range, or an observation is none of the file's.
        """
        event_ids: Keys = rows["event_id"].astype(np.int64)
        if not len(rows):
            return event_ids
        # A negative number read without its sign is a very large one.
        if event_ids.view(np.uint64).max() >> EVENT_BITS:
            raise CannotCompute(
                f"{self.path}: {table.name} has event ids from {event_ids.min()} to "
                f"{event_ids.max()}, expected 0 to 2^{EVENT_BITS} - 1."
            )
        if len(self.obs_ids) == 1 and (rows["obs_id"] == self.obs_ids[0]).all():
            return event_ids
        positions = self._positions(rows["obs_id"].astype(np.int64), table)
        keys: Keys = (positions << EVENT_BITS) | event_ids
        return keys

    def _positions(self, obs_ids: Keys, table: Table) -> Keys:
        known = np.asarray(self.obs_ids, np.int64)
        order = np.argsort(known)
        places = np.searchsorted(known, obs_ids, sorter=order)
        positions: Keys = np.append(order, -1)[places.clip(max=len(known) - 1)].astype(np.int64)
        if not known.size or not np.array_equal(known[positions], obs_ids):
            raise CannotCompute(
                f"{self.path}: {table.name} has rows of obs_id "
                f"{np.setdiff1d(obs_ids, known).tolist()}, but the file lists {known.tolist()}."
            )
        return positions

    def ids(self, keys: Keys) -> tuple[Keys, Keys]:
        """Return ``obs_id`` and ``event_id`` of shower numbers."""
        if len(self.obs_ids) == 1:
            return np.full(len(keys), self.obs_ids[0]), keys
        obs_ids: Keys = np.asarray(self.obs_ids, np.int64)[keys >> EVENT_BITS]
        return obs_ids, keys & ((1 << EVENT_BITS) - 1)


@dataclass(frozen=True)
class Batch:
    """Rows of one table with ascending, different keys."""

    keys: Keys
    columns: Columns

    def rows(self, which: slice | npt.NDArray[Any]) -> Batch:
        """Return some of the rows: a slice, a mask or positions."""
        return Batch(self.keys[which], {name: v[which] for name, v in self.columns.items()})

    def with_columns(self, columns: Columns) -> Batch:
        """Return the rows with further columns."""
        return Batch(self.keys, self.columns | columns)

    def followed_by(self, other: Batch) -> Batch:
        """Return the rows of both."""
        if not self.keys.size:
            return other
        joined = {n: np.concatenate([v, other.columns[n]]) for n, v in self.columns.items()}
        return Batch(np.concatenate([self.keys, other.keys]), joined)


def aligned(batch: Batch, keys: Keys) -> Columns:
    """Look ascending `keys` up in a batch; rows it does not have get the missing value."""
    if np.array_equal(batch.keys, keys):
        return batch.columns
    if not batch.keys.size:
        return {
            name: np.full((len(keys), *values.shape[1:]), MISSING[values.dtype.kind], values.dtype)
            for name, values in batch.columns.items()
        }
    place = np.searchsorted(batch.keys, keys).clip(max=len(batch.keys) - 1)
    absent = batch.keys[place] != keys
    found = {name: values[place] for name, values in batch.columns.items()}
    for values in found.values():
        values[absent] = MISSING[values.dtype.kind]
    return found


class Shares(NamedTuple):
    """Parts of every table: `window` given at a time, `read` read at a time.

    Reading is dearer by the call, holding by the row. From 1 on a table is read at once, and
    rows out of order are sorted; otherwise they are refused.
    """

    window: float
    read: float


class Cursor:
    """Reads one table, front to back.

    Parameters
    ----------
    table : Table or None
        The table; None, or one without rows, is exhausted from the start.
    sources : mapping of str to Source
        Columns to read, by their names in EVENTS.
    numbering : Numbering
        Numbers of the showers.
    shares : Shares
        Parts of the table to read and to give at a time.
    scratch : Scratch
        Memory to read into, shared by all cursors.
    tel_id : int, optional
        The telescope all rows must be of.

    Raises
    ------
    CannotCompute
        If the table lacks a column or has it in another unit; while reading, if its rows are
        damaged or belong to other telescopes or observations.
    UnsortedRows
        While reading, if the table is not read at once.
    """

    def __init__(
        self,
        table: Table | None,
        sources: Mapping[str, ColumnSource],
        numbering: Numbering,
        shares: Shares,
        scratch: Scratch,
        tel_id: int | None = None,
    ) -> None:
        self._scratch = scratch
        self._table = table
        self._name = "" if table is None else table.name
        self._sources = sources
        self._numbering = numbering
        self._tel_id = tel_id
        self._sort = shares.read >= 1
        self._rows = self._batch = self._step = 0
        if table is not None:
            self._rows = len(table)
            self._step = min(int(self._rows * shares.window) + 1, self._rows)
            self._batch = (
                self._rows if self._sort else _whole_chunks(table, self._rows * shares.read)
            )
            table.require("obs_id", "event_id", *(() if tel_id is None else ("tel_id",)))
            for source in sources.values():
                source.check(table)
        self._position = 0
        self._last_read = -1
        self._repeated = 0
        empty = {
            name: np.empty((0, *source.shape), source.numpy_type)
            for name, source in sources.items()
        }
        self._buffer = Batch(np.empty(0, np.int64), empty)

    @property
    def exhausted(self) -> bool:
        """Whether every row has been read (some may still be buffered)."""
        return self._position >= self._rows

    @property
    def reach(self) -> int | None:
        """Key of the last row of a full window; None when all that is left fits into one."""
        buffered = self._buffer.keys.size
        if self.exhausted and buffered <= self._step:
            return None
        return int(self._buffer.keys[min(self._step, buffered) - 1])

    def fill(self) -> None:
        """Read on until there are the rows of a window."""
        while self._buffer.keys.size < self._step and not self.exhausted:
            self._extend()

    def take(self, limit: int | None) -> Batch:
        """Remove and return the buffered rows up to and including key `limit`."""
        keys = self._buffer.keys
        cut = len(keys) if limit is None else int(np.searchsorted(keys, limit, side="right"))
        taken, self._buffer = self._buffer.rows(slice(cut)), self._buffer.rows(slice(cut, None))
        return taken

    def advance(self, limit: int) -> Batch:
        """Read on until key `limit` has been passed; remove and return the rows up to it."""
        while not self.exhausted and self._last_read < limit:
            self._extend()
        return self.take(limit)

    def finish(self) -> None:
        """Read what is left and forget it: a row in it may be one that was missed before."""
        while not self.exhausted:
            self._extend()
            self.take(None)

    def pop_repeated(self) -> int:
        """Return how many repeated rows were dropped since the last call."""
        count, self._repeated = self._repeated, 0
        return count

    def _extend(self) -> None:
        batch = self._distinct(self._read())
        if batch.keys.size:
            self._last_read = int(batch.keys[-1])
            self._buffer = self._buffer.followed_by(batch)

    def _read(self) -> Batch:
        table = self._table
        assert table is not None  # noqa: S101  without a table the cursor is exhausted
        rows = table.read(self._position, self._position + self._batch, self._scratch)
        self._position += self._batch
        if self._tel_id is not None and (rows["tel_id"] != self._tel_id).any():
            raise CannotCompute(
                f"{table.path}: {table.name} has rows of telescope "
                f"{sorted(set(rows['tel_id'].tolist()) - {self._tel_id})}."
            )
        columns = {name: source.values(table, rows) for name, source in self._sources.items()}
        return Batch(self._numbering.keys(rows, table), columns)

    def _distinct(self, batch: Batch) -> Batch:
        """Check or restore ascending keys; drop and count repeated rows."""
        keys = batch.keys
        if not keys.size or (keys[0] > self._last_read and (keys[1:] > keys[:-1]).all()):
            return batch
        steps = np.diff(keys, prepend=self._last_read)
        if np.any(steps < 0):
            if not self._sort:
                raise UnsortedRows(
                    f"{self._numbering.path}: rows of {self._name} are unordered; read the file "
                    "again with stream=False."
                )
            batch = batch.rows(np.argsort(batch.keys, kind="stable"))
            steps = np.diff(batch.keys, prepend=self._last_read)
        self._repeated += int(np.count_nonzero(steps == 0))
        return batch.rows(steps > 0)


def _whole_chunks(table: Table, rows: float) -> int:
    """Round up to chunks, so that none is decompressed twice."""
    return -(-int(rows + 1) // table.chunk_rows) * table.chunk_rows


@dataclass(frozen=True)
class TelescopeCursor:
    """Cursors of one telescope: over the table whose rows are EVENTS, and over its companions."""

    tel_id: int
    leading: Cursor
    companions: tuple[Cursor, ...]

    def take(self, limit: int | None) -> Batch:
        """Remove and return the rows up to shower `limit`, companions matched to them."""
        rows = self.leading.take(limit)
        if rows.keys.size:
            last = int(rows.keys[-1])
            for companion in self.companions:
                rows = rows.with_columns(aligned(companion.advance(last), rows.keys))
        return rows


@dataclass(frozen=True)
class Reader:
    """All cursors of a block, advanced together.

    Parameters
    ----------
    numbering : Numbering
        Numbers of the showers.
    schema : polars.Schema
        Keys and columns of the rows to give.
    telescopes : tuple of TelescopeCursor
        One per telescope with rows.
    showers : tuple of Cursor
        Tables with a row per shower.
    """

    numbering: Numbering
    schema: pl.Schema
    telescopes: tuple[TelescopeCursor, ...]
    showers: tuple[Cursor, ...]

    def next_rows(self) -> tuple[pl.DataFrame, int] | None:
        """Advance to the first shower with which a telescope completes its window.

        Returns
        -------
        (DataFrame, int) or None
            Rows of the showers on the way, grouped by telescope, and how many repeated rows
            were dropped; None at the end.
        """
        for telescope in self.telescopes:
            telescope.leading.fill()
        reached = [telescope.leading.reach for telescope in self.telescopes]
        limit = min((key for key in reached if key is not None), default=None)
        taken = [(telescope.tel_id, telescope.take(limit)) for telescope in self.telescopes]
        parts = [(tel_id, rows) for tel_id, rows in taken if rows.keys.size]
        repeated = sum(telescope.leading.pop_repeated() for telescope in self.telescopes)
        if not parts:
            self._finish()
            return (self.schema.to_frame(), repeated) if repeated else None
        return self._frame(self._with_showers(parts)), repeated

    def _finish(self) -> None:
        for cursor in (*self.showers, *(c for t in self.telescopes for c in t.companions)):
            cursor.finish()

    def _with_showers(self, parts: Sequence[tuple[int, Batch]]) -> list[tuple[int, Batch]]:
        last = max(int(rows.keys[-1]) for _, rows in parts)
        complete = list(parts)
        for cursor in self.showers:
            showers = cursor.advance(last)
            complete = [(t, rows.with_columns(aligned(showers, rows.keys))) for t, rows in complete]
        return complete

    def _frame(self, parts: Sequence[tuple[int, Batch]]) -> pl.DataFrame:
        keys = np.concatenate([rows.keys for _, rows in parts])
        obs_id, event_id = self.numbering.ids(keys)
        tel_ids = np.array([tel_id for tel_id, _ in parts], np.uint16)
        tel_id = np.repeat(tel_ids, [len(rows.keys) for _, rows in parts])
        columns: Columns = {"obs_id": obs_id, "event_id": event_id, "tel_id": tel_id}
        for name in parts[0][1].columns:
            columns[name] = np.concatenate([rows.columns[name] for _, rows in parts])
        return pl.DataFrame(columns).select(self.schema.names())
