"""Which tables of a DL2 file hold which columns, data models v4 to v7.

Takes an open file and gives the catalogue of every column that can be asked for, under the name
the current data model has for it. No row is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

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
#: Kind of a time column: seconds since 1970.
TIME_KIND = "s"
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
    scope : {"telescope", "subarray", "pointing"}
        Whether a row belongs to a telescope and shower or to a shower; the last is for what
        `arraycal.calib.dl2.pointing` makes of the group.
    kind : str
        ``bool``, ``int`` or the unit of a number in VOUnit syntax (empty for none).
    """

    group: str
    stored: str
    scope: Literal["telescope", "subarray", "pointing"]
    kind: str

    @property
    def numpy_type(self) -> type[np.generic]:
        """Type of the values in EVENTS."""
        return {"bool": np.bool_, "int": np.int64}.get(self.kind, np.float64)

    @property
    def polars_type(self) -> pl.DataType:
        """The same for polars."""
        return {"bool": pl.Boolean(), "int": pl.Int64()}.get(self.kind, pl.Float64())

    def values(self, table: hdf5.Table, rows: npt.NDArray[np.void]) -> npt.NDArray[np.generic]:
        """Values of the column in rows of one of its tables."""
        if self.group == TRIGGER:
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
    if trigger is not None and TRIGGER_COLUMN in trigger.columns:
        found[TRIGGER_TIME] = ColumnSource(TRIGGER, TRIGGER_COLUMN, "subarray", TIME_KIND)
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
    if column in table.booleans:
        return "bool"
    return "int" if table.dtype[column].kind in "iu" else table.unit(column)


def _algorithms(file: hdf5.File, groups: Iterable[str], path: Path) -> list[str]:
    return [f"{group}/{name}" for group in groups for name in hdf5.child_names(file, group, path)]


def _catalogue(
    found: dict[str, ColumnSource],
    group: str,
    table: hdf5.Table | None,
    scope: Literal["telescope", "subarray"],
) -> None:
    if table is None:
        return
    for stored in table.columns:
        dtype = table.dtype[stored]
        # Vectors (times, telescope masks) and texts are no columns of EVENTS.
        if stored in EVENT_KEYS or dtype.shape or dtype.kind not in MISSING:
            continue
        name = OLD_IMPACT.sub(r"_tel_impact_distance\1", stored)
        found.setdefault(name, ColumnSource(group, stored, scope, kind_of(table, stored)))
        if stored == CAMERA_FRAME_SIZE:
            found.setdefault(SIZE, found[name])
