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
from arraycal.calib.dl2.findings import CONTRADICTION, REPEATED
from arraycal.calib.dl2.repeated import split_repeated
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.dl2.columns import ColumnSource
    from arraycal.calib.dl2.door import Door
    from arraycal.calib.dl2.numbering import Numbering
    from arraycal.calib.hdf5.table import Scratch, Table

    Keys = npt.NDArray[np.int64]
    Columns = dict[str, npt.NDArray[Any]]

__all__ = [
    "Common",
    "Cursor",
    "Reader",
    "Role",
    "Shares",
    "TelescopeCursor",
    "UnsortedRows",
]


class UnsortedRows(CannotCompute):
    """A file that was to be streamed turned out to be out of order."""


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


#: Column of a table of all telescopes that tells which one a row is of.
TELESCOPE = "tel_id"


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


class Common(NamedTuple):
    """What all cursors of a block share.

    Parameters
    ----------
    numbering : Numbering
        Numbers of the showers.
    shares : Shares
        Parts of the table to read and to give at a time.
    scratch : Scratch
        Memory to read into.
    door : Door, optional
        Tells which rows may pass, and takes note of the others. Without it all may, and of rows of
        one key the first stays.
    """

    numbering: Numbering
    shares: Shares
    scratch: Scratch
    door: Door | None = None


class Role(NamedTuple):
    """What a table is: its name, whether its rows are those of EVENTS, or of all telescopes."""

    label: str = ""
    leads: bool = False
    shared: bool = False


class Cursor:
    """Reads one table, front to back.

    Parameters
    ----------
    table : Table or None
        The table; None, or one without rows, is exhausted from the start.
    sources : mapping of str to Source
        Columns to read, by their names in EVENTS.
    common : Common
        What all cursors of the block share.
    tel_id : int, optional
        The telescope all rows must be of.
    role : Role
        What the table is.

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
        common: Common,
        tel_id: int | None = None,
        role: Role | None = None,
    ) -> None:
        door, shares, role = common.door, common.shares, role or Role()
        self._scratch, self._door, self._numbering = common.scratch, door, common.numbering
        self.label, self._leads, self._shared = role
        self.parts = np.zeros(0 if door is None else len(door.edges), np.int64)
        self._contradicted = np.empty(0, np.int64)
        self._table = table
        self._name = "" if table is None else table.name
        self._sources = sources
        self.tel_id = tel_id
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
    def waiting(self) -> bool:
        """Whether there are rows to give."""
        return bool(self._buffer.keys.size)

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

    def pop_contradicted(self, limit: int) -> Keys:
        """Return the showers up to `limit` of which the rows contradict each other."""
        past = self._contradicted <= limit
        found, self._contradicted = self._contradicted[past], self._contradicted[~past]
        return found

    def pop_repeated(self) -> int:
        """Return how many repeated rows were dropped since the last call."""
        count, self._repeated = self._repeated, 0
        return count

    def _extend(self) -> None:
        rows = self._read()
        keys, rows = self._admitted(rows)
        if not keys.size:
            return
        keys, rows = self._ascending(keys, rows)
        last = int(keys[-1])
        keys, rows, torn = self._distinct(keys, rows)
        self._last_read = last
        table = self._table
        assert table is not None  # noqa: S101  without a table there are no rows
        columns = {name: source.values(table, rows) for name, source in self._sources.items()}
        if self._door is not None:
            self.parts += self._door.parts_of(keys, _measured(columns, len(keys)))
            # Rows that contradict each other are told as such; they do not lack.
            self.parts += self._door.parts_of(torn, np.ones(len(torn), np.bool_))
        self._buffer = self._buffer.followed_by(Batch(keys, columns))

    def _read(self) -> npt.NDArray[Any]:
        table, size = self._table, self._batch
        assert table is not None  # noqa: S101  without a table the cursor is exhausted
        while True:
            rows = table.read(self._position, self._position + size, self._scratch)
            whole = len(rows) if self._position + size >= self._rows else self._whole(rows)
            if whole:
                break
            size *= 2
        self._position += whole
        rows = rows[:whole]
        if self.tel_id is not None and (rows["tel_id"] != self.tel_id).any():
            raise CannotCompute(
                f"{table.path}: {table.name} has rows of telescope "
                f"{sorted(set(rows['tel_id'].tolist()) - {self.tel_id})}."
            )
        return rows

    def _whole(self, rows: npt.NDArray[Any]) -> int:
        """Rows before those of the last shower, which may go on in the next batch."""
        if self._door is None:
            return len(rows)
        last = rows[-1]
        other = (rows["event_id"] != last["event_id"]) | (rows["obs_id"] != last["obs_id"])
        return len(rows) - int(np.argmax(other[::-1])) if other.any() else 0

    def _admitted(self, rows: npt.NDArray[Any]) -> tuple[Keys, npt.NDArray[Any]]:
        """Numbers of the showers, and the rows of those that may pass."""
        table, door = self._table, self._door
        assert table is not None  # noqa: S101  without a table there are no rows
        if door is None:
            return self._numbering.keys(rows, table), rows
        keys, refused = door.admit(rows, table)
        door.note_misplaced(self.label, refused, rows)
        if self._leads:
            door.findings.n_rows += len(rows)
            door.lose_refused(refused, rows, self.tel_id)
        passes = slice(None) if len(keys) == len(rows) else ~np.any(list(refused.values()), axis=0)
        return keys, rows[passes]

    def _ascending(self, keys: Keys, rows: npt.NDArray[Any]) -> tuple[Keys, npt.NDArray[Any]]:
        """Check or restore ascending keys."""
        if keys[0] >= self._last_read and (keys[1:] >= keys[:-1]).all():
            return keys, rows
        if not self._sort:
            raise UnsortedRows(
                f"{self._numbering.path}: rows of {self._name} are unordered; read the file "
                "again with stream=False."
            )
        order = np.argsort(keys, kind="stable")
        return keys[order], rows[order]

    def _distinct(self, keys: Keys, rows: npt.NDArray[Any]) -> tuple[Keys, npt.NDArray[Any], Keys]:
        """Leave one row of each key, or none; count the others, and return keys without any."""
        torn = np.empty(0, np.int64)
        kept = np.diff(keys, prepend=self._last_read) > 0
        if kept.all() or self._shared:
            return keys, rows, torn
        copies = int(np.count_nonzero(~kept))
        if self._door is not None:
            kept, torn, copies = split_repeated(keys, rows)
            self._note_repeated(self._door, keys, torn, copies)
        self._repeated += copies
        return keys[kept], rows[kept], torn

    def _note_repeated(self, door: Door, keys: Keys, torn: Keys, copies: int) -> None:
        findings = door.findings
        self._contradicted = np.append(self._contradicted, torn)
        if torn.size:
            one = door.named(int(torn[0]), self.tel_id)
            findings.contradict(self.label, self.tel_id, len(torn), one)
            if self._leads:
                findings.lose(CONTRADICTION, int(np.isin(keys, torn).sum()), one)
        if copies and self._leads:
            again = keys[1:][keys[1:] == keys[:-1]]
            first = again[~np.isin(again, torn)][0]
            findings.lose(REPEATED, copies, door.named(int(first), self.tel_id))
        elif copies:
            findings.copies[self.label] += copies


def _measured(columns: Columns, n_rows: int) -> npt.NDArray[np.bool_]:
    """Rows with a finite number; without columns of numbers all rows."""
    numbers = [values for values in columns.values() if values.dtype.kind == "f"]
    if not numbers:
        return np.ones(n_rows, np.bool_)
    found = np.isfinite(numbers[0])
    for values in numbers[1:]:
        if found.all():
            break
        found |= np.isfinite(values)
    return found


def _whole_chunks(table: Table, rows: float) -> int:
    """Round up to chunks, so that none is decompressed twice."""
    return -(-int(rows + 1) // table.chunk_rows) * table.chunk_rows


def without(rows: Batch, torn: Keys, door: Door | None, tel_id: int) -> Batch:
    """Return the rows without those of showers that contradict themselves elsewhere, counted."""
    if not torn.size or door is None:
        return rows
    lost = np.isin(rows.keys, torn)
    if lost.any():
        one = door.named(int(rows.keys[lost][0]), tel_id)
        door.findings.lose(CONTRADICTION, int(lost.sum()), one)
    return rows.rows(~lost)


@dataclass(frozen=True)
class TelescopeCursor:
    """Cursors of one telescope: over the table whose rows are EVENTS, and over its companions."""

    tel_id: int
    leading: Cursor
    companions: tuple[Cursor, ...]
    door: Door | None = None

    def complete(self, rows: Batch, last: int) -> Batch:
        """Match the companions to rows of the leading table, which end with shower `last`."""
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
    triggers : Cursor, optional
        The table of the triggers of all telescopes.
    door : Door, optional
        As for the cursors.
    """

    numbering: Numbering
    schema: pl.Schema
    telescopes: tuple[TelescopeCursor, ...]
    showers: tuple[Cursor, ...]
    triggers: Cursor | None = None
    door: Door | None = None

    @property
    def cursors(self) -> tuple[Cursor, ...]:
        """Those of tables with a row per shower, or per telescope and shower."""
        own = (c for t in self.telescopes for c in (t.leading, *t.companions))
        return (*own, *self.showers)

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
        at_end = not any(telescope.leading.waiting for telescope in self.telescopes)
        taken = [telescope.leading.take(limit) for telescope in self.telescopes]
        repeated = sum(telescope.leading.pop_repeated() for telescope in self.telescopes)
        if at_end:
            self._finish()
            return (self.schema.to_frame(), repeated) if repeated else None
        parts = self._complete(taken)
        return (self._frame(parts) if parts else self.schema.to_frame()), repeated

    def _finish(self) -> None:
        for cursor in (*self.showers, *(c for t in self.telescopes for c in t.companions)):
            cursor.finish()

    def _complete(self, taken: Sequence[Batch]) -> list[tuple[int, Batch]]:
        """Match all other tables to the rows of telescopes; drop showers with a contradiction."""
        last = max((int(rows.keys[-1]) for rows in taken if rows.keys.size), default=None)
        if last is None:
            return []
        parts = [
            (t.tel_id, t.complete(rows, last))
            for t, rows in zip(self.telescopes, taken, strict=True)
        ]
        for cursor in self.showers:
            showers = cursor.advance(last)
            parts = [(t, rows.with_columns(aligned(showers, rows.keys))) for t, rows in parts]
        if self.triggers is not None:
            parts = self._with_triggers(parts, self.triggers.advance(last))
        # Two showers may have got one number: whichever table tells, no row of it can be trusted.
        torn = np.unique(np.concatenate([cursor.pop_contradicted(last) for cursor in self.cursors]))
        parts = [(t, without(rows, torn, self.door, t)) for t, rows in parts]
        return [(t, rows) for t, rows in parts if rows.keys.size]

    def _with_triggers(
        self, parts: Sequence[tuple[int, Batch]], triggers: Batch
    ) -> list[tuple[int, Batch]]:
        columns = dict(triggers.columns)
        of = columns.pop(TELESCOPE)
        own = [(t, Batch(triggers.keys, columns).rows(of == t), rows) for t, rows in parts]
        return [(t, rows.with_columns(aligned(found, rows.keys))) for t, found, rows in own]

    def _frame(self, parts: Sequence[tuple[int, Batch]]) -> pl.DataFrame:
        keys = np.concatenate([rows.keys for _, rows in parts])
        obs_id, event_id = self.numbering.ids(keys)
        tel_ids = np.array([tel_id for tel_id, _ in parts], np.uint16)
        tel_id = np.repeat(tel_ids, [len(rows.keys) for _, rows in parts])
        columns: Columns = {"obs_id": obs_id, "event_id": event_id, "tel_id": tel_id}
        for name in parts[0][1].columns:
            columns[name] = np.concatenate([rows.columns[name] for _, rows in parts])
        return pl.DataFrame(columns).select(self.schema.names())
