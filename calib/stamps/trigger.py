"""What a block file says of time: trigger stamps as integers, altitude.

``/dl1/event/telescope/trigger`` holds the stamps of all telescopes, as two unsigned integers: whole
seconds and quarter nanoseconds. They stay integers here; a float of seconds or a modified Julian
date has no room for nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib import hdf5
from arraycal.calib.dl2.columns import TELESCOPE_TRIGGER
from arraycal.calib.dl2.cursor import UnsortedRows
from arraycal.calib.dl2.door import note_shortfalls, short_table_name
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block
    from arraycal.calib.dl2.door import Door

__all__ = ["QUARTERS_PER_S", "TriggerReader", "altitude_m"]

LAYOUT = "/configuration/instrument/subarray/layout"

#: Quarter nanoseconds in a second.
QUARTERS_PER_S = 4_000_000_000
#: Rows to read at a time.
READ_ROWS = 400_000


class TriggerReader:
    """Reads the trigger table front to back, in step with windows of EVENTS.

    Parameters
    ----------
    file : hdf5.File
        The open block file.
    block : Block
        Its description.
    door : Door
        Tells which stamps are of showers, and gets to know how many there are.
    stream : bool
        False reads the whole table at once and sorts it.

    Raises
    ------
    CannotCompute
        If there is no such table, or its stamps are no integers.
    """

    def __init__(self, file: hdf5.File, block: Block, door: Door, *, stream: bool) -> None:
        table = hdf5.require_table(file, TELESCOPE_TRIGGER, block.path)
        table.require("obs_id", "event_id", "tel_id", "time")
        _require_integers(table, block)
        self._table = table
        self._door, self._stream = door, stream
        self._tel_ids = block.subarray.tel_ids
        self._parts = {tel: np.zeros(len(door.edges), np.int64) for tel in self._tel_ids}
        self._position = 0
        self._last = -1
        self._waiting: list[pl.DataFrame] = []

    def upto(self, limit: tuple[int, int] | None) -> pl.DataFrame:
        """Return the rows up to a shower that were not returned yet.

        Parameters
        ----------
        limit : (int, int) or None
            ``obs_id`` and ``event_id`` of the last shower; None for all that is left.

        Returns
        -------
        DataFrame
            ``key`` (ascending number of the shower), ``obs_id``, ``event_id``, ``tel_id``,
            ``seconds`` and ``quarters``.
        """
        last = None if limit is None else self._key(*limit)
        while self._position < len(self._table) and (last is None or self._last <= last):
            self._waiting.append(self._read())
        if not self._waiting:
            return EMPTY.to_frame()
        rows = pl.concat(self._waiting)
        taken = rows if last is None else rows.filter(pl.col("key") <= last)
        self._waiting = [] if last is None else [rows.filter(pl.col("key") > last)]
        return taken

    def _key(self, obs_id: int, event_id: int) -> int:
        pair = np.array([(obs_id, event_id)], [("obs_id", np.int64), ("event_id", np.int64)])
        return int(self._door.numbering.keys(pair, self._table)[0])

    def _read(self) -> pl.DataFrame:
        table, count = self._table, READ_ROWS if self._stream else len(self._table)
        step = -(-count // table.chunk_rows) * table.chunk_rows
        rows = table.read(self._position, self._position + step)
        self._position += step
        keys, rows = self._admitted(rows)
        if np.any(np.diff(keys, prepend=self._last) < 0):
            if self._stream:
                raise UnsortedRows(
                    f"{table.path}: rows of {table.name} are unordered; read the file again with "
                    "stream=False."
                )
            order = np.argsort(keys, kind="stable")
            keys, rows = keys[order], rows[order]
        if len(keys):
            self._last = int(keys[-1])
            self._count(keys, rows)
        return self._frame(keys, rows)

    def _admitted(self, rows: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        keys, refused = self._door.admit(rows, self._table)
        self._door.note_misplaced(short_table_name(TELESCOPE_TRIGGER), refused, rows)
        for rule, which in refused.items():
            for one in rows[which][:1]:
                self._door.lose(rule, rows[which], int(one["tel_id"]))
        return keys, rows[~np.any(list(refused.values()), axis=0)]

    def _count(self, keys: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> None:
        dated = rows["time"][:, 0] > 0
        for tel_id in self._parts:
            self._parts[tel_id] += self._door.parts_of(keys, dated & (rows["tel_id"] == tel_id))

    def finish(self) -> None:
        """Note where stamps are missing, after the last row."""
        label = short_table_name(TELESCOPE_TRIGGER)
        note_shortfalls(self._door, [(label, tel, parts) for tel, parts in self._parts.items()])

    def first(self) -> pl.DataFrame:
        """Return the rows of one reading from the beginning of the table, in order of showers."""
        keys, rows = self._admitted(self._table.read(0, READ_ROWS))
        order = np.argsort(keys, kind="stable")
        return self._frame(keys[order], rows[order])

    def _frame(self, keys: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "key": keys,
                **{name: rows[name].astype(np.int64) for name in ("obs_id", "event_id")},
                "tel_id": rows["tel_id"].astype(np.int64),
                "seconds": rows["time"][:, 0].astype(np.int64),
                "quarters": rows["time"][:, 1].astype(np.int64),
            },
            schema=EMPTY,
        )


EMPTY = pl.Schema(
    dict.fromkeys(("key", "obs_id", "event_id", "tel_id", "seconds", "quarters"), pl.Int64)
)


def _require_integers(table: hdf5.Table, block: Block) -> None:
    """Refuse stamps that are one floating-point number."""
    stored = table.dtype["time"]
    if stored.shape == (2,) and stored.base.kind in "iu":
        return
    found = table.time_format("time") or "no stated format"
    raise CannotCompute(
        f"{block.path}: the stamps of {table.name} are {stored.base} numbers ({found}), whose "
        f"steps are near a microsecond; timing needs whole seconds and quarter nanoseconds "
        f"(ctao_high_res), which files have from data model v7 (ctapipe 0.24) on. This one is "
        f"{block.data_model}. Process the data again with a current ctapipe."
    )


def altitude_m(file: hdf5.File, path: Path) -> float | None:
    """Height of the array's reference point above the ellipsoid, m; None if it is not stated."""
    table = hdf5.require_table(file, LAYOUT, path)
    texts = [table.attribute(f"reference_itrs_{axis}") for axis in "xyz"]
    if not all(texts):
        return None
    from astropy import units
    from astropy.coordinates import EarthLocation

    place = EarthLocation.from_geocentric(*(float(text) for text in texts), unit=units.m)
    return float(place.height.to_value(units.m))
