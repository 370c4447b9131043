"""Which tables of a DL2 file hold which columns, data models v4 to v7.

Takes an open file and gives the catalogue of every column that can be asked for, under the name
the current data model has for it. No row is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib import hdf5
from arraycal.calib.dl2.pointing import ALTITUDE, AZIMUTH, find_pointing
from arraycal.calib.dl2.times import seconds
from arraycal.calib.errors import CannotCompute
from arraycal.calib.schema import EVENT_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "MISSING",
    "TELESCOPE_TRIGGER",
    "TIME_KIND",
    "TRIGGER_TIME",
    "ColumnSource",
    "TableGroup",
    "by_group",
    "find_columns",
]

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

#: Time of the shower; the only time among the columns of EVENTS.
TRIGGER_TIME, TRIGGER, TRIGGER_COLUMN = "trigger_time", "/dl1/event/subarray/trigger", "time"
#: One table for all telescopes, a row per telescope and event.
TELESCOPE_TRIGGER = "/dl1/event/telescope/trigger"
#: Kind of a time column: seconds since 1970.
TIME_KIND = "s"
#: Kind of a column with a truth value for each telescope of the array.
MASK = "bool[]"
#: The size of an image is the same number in either frame, under two names.
SIZE, CAMERA_FRAME_SIZE = "hillas_intensity", "camera_frame_hillas_intensity"

#: v4 called the impact distance ``<algo>_tel_distance``.
OLD_IMPACT = re.compile(r"_tel_distance(_uncert)?$")

#: What stands for a value that a file does not have, by the kind of its dtype.
MISSING: dict[str, float | bool | int] = {"f": np.nan, "b": False, "i": -1, "u": 0}


@dataclass(frozen=True)
class ColumnSource:
    """Where a column is found.

    Parameters
    ----------
    group : str
        The table (``scope == "subarray"``) or the group of its ``tel_XXX`` tables.
    stored : str
        The name of the column there.
    scope : {"telescope", "subarray", "trigger", "pointing"}
        Whether a row belongs to a telescope and shower, in tables of their own or in the one of all
        triggers, or to a shower; the last is for what `arraycal.calib.dl2.pointing` makes of the
        group.
    kind : str
        ``bool``, ``int`` or the unit of a number in VOUnit syntax (empty for none); ``bool[]`` for
        truth values of all telescopes of the array, in the order of the layout.
    length : int
        Number of these telescopes; 0 for a column of single values.
    """

    group: str
    stored: str
    scope: Literal["telescope", "subarray", "trigger", "pointing"]
    kind: str
    length: int = 0

    @property
    def numpy_type(self) -> type[np.generic]:
        """Type of the values in EVENTS."""
        types = {"bool": np.bool_, MASK: np.bool_, "int": np.int64}
        return types.get(self.kind, np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value."""
        return (self.length,) if self.length else ()

    @property
    def polars_type(self) -> pl.DataType:
        """The same for polars."""
        if self.length:
            return pl.Array(pl.Boolean(), self.length)
        return {"bool": pl.Boolean(), "int": pl.Int64()}.get(self.kind, pl.Float64())

    def values(self, table: hdf5.Table, rows: npt.NDArray[np.void]) -> npt.NDArray[np.generic]:
        """Values of the column in rows of one of its tables."""
        if self.kind == TIME_KIND:
            return seconds(table, self.stored, rows)
        return table.column(self.stored, rows).astype(self.numpy_type, copy=False)

    def check(self, table: hdf5.Table) -> None:
        """Raise `CannotCompute` unless `table` has the column, in the unit of the catalogue.

        The catalogue is made from one telescope; the others must agree with it.
        """
        table.require(self.stored)
        kind = kind_of(table, self.stored)
        if kind != self.kind:
            raise CannotCompute(
                f"{table.path}: {self.stored} of {table.name} is in {kind or 'no unit'}, "
                f"in other tables of {self.group} in {self.kind or 'no unit'}."
            )


class TableGroup(NamedTuple):
    """Columns that come from the same table, or from the same table of each telescope."""

    group: str
    sources: dict[str, ColumnSource]


def find_columns(file: hdf5.File, path: Path) -> dict[str, ColumnSource]:
    """Catalogue every column by its name; on a name clash the DL2 tables win."""
    found: dict[str, ColumnSource] = {}
    for group in (*_algorithms(file, TELESCOPE_GROUPS, path), *TELESCOPE_TABLES):
        _catalogue(found, group, hdf5.first_telescope_table(file, group, path), "telescope")
    for group in (*_algorithms(file, SUBARRAY_GROUPS, path), *SUBARRAY_TABLES):
        if hdf5.has_table(file, group, path):
            _catalogue(found, group, hdf5.find_table(file, group, path), "subarray")
    trigger = hdf5.find_table(file, TRIGGER, path)
    _catalogue(found, TRIGGER, trigger, "subarray")
    if trigger is not None and TRIGGER_COLUMN in trigger.columns:
        found[TRIGGER_TIME] = ColumnSource(TRIGGER, TRIGGER_COLUMN, "subarray", TIME_KIND)
    if hdf5.has_table(file, TELESCOPE_TRIGGER, path):
        _catalogue(
            found, TELESCOPE_TRIGGER, hdf5.find_table(file, TELESCOPE_TRIGGER, path), "trigger"
        )
    pointing = find_pointing(file, path)
    if pointing:
        for name in (ALTITUDE, AZIMUTH):
            found[name] = ColumnSource(pointing, "", "pointing", "rad")
    return found


def by_group(sources: Mapping[str, ColumnSource], scope: str) -> list[TableGroup]:
    """Columns of one scope by the tables they come from, both in order of first mention."""
    groups: dict[str, TableGroup] = {}
    for name, source in sources.items():
        if source.scope == scope:
            groups.setdefault(source.group, TableGroup(source.group, {})).sources[name] = source
    return list(groups.values())


def kind_of(table: hdf5.Table, column: str) -> str:
    """``bool``, ``int`` or the unit of a number."""
    if column == TRIGGER_COLUMN:
        return TIME_KIND
    if table.dtype[column].shape:
        return MASK
    if column in table.booleans:
        return "bool"
    return "int" if table.dtype[column].kind in "iu" else table.unit(column)


def _algorithms(file: hdf5.File, groups: Iterable[str], path: Path) -> list[str]:
    return [f"{group}/{name}" for group in groups for name in hdf5.child_names(file, group, path)]


def _catalogue(
    found: dict[str, ColumnSource],
    group: str,
    table: hdf5.Table | None,
    scope: Literal["telescope", "subarray", "trigger"],
) -> None:
    if table is None:
        return
    for stored in table.columns:
        dtype = table.dtype[stored]
        is_mask = scope == "subarray" and _is_mask(dtype)
        # Other vectors (times) and texts are no columns of EVENTS.
        if stored in EVENT_KEYS or (dtype.base.kind if is_mask else dtype.kind) not in MISSING:
            continue
        if group in (TRIGGER, TELESCOPE_TRIGGER) and stored == TRIGGER_COLUMN:
            continue
        name = OLD_IMPACT.sub(r"_tel_impact_distance\1", stored)
        length = dtype.shape[0] if is_mask else 0
        found.setdefault(name, ColumnSource(group, stored, scope, kind_of(table, stored), length))
        if stored == CAMERA_FRAME_SIZE:
            found.setdefault(SIZE, found[name])


def _is_mask(dtype: np.dtype[Any]) -> bool:
    """Tell truth values of the telescopes of an array, which HDF5 has as bits or small numbers."""
    return len(dtype.shape) == 1 and dtype.base.kind in "bu" and dtype.base.itemsize == 1
