"""Telescopes of an array: identity, type, position, and which of them may form a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.errors import CannotCompute
from calib.hdf5 import attribute_text, require_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from calib.hdf5 import File

__all__ = ["Subarray", "allowed_pairs", "read_subarray"]

LAYOUT = "/configuration/instrument/subarray/layout"
#: Positions closer than this are the same position; surveys do not reach it.
POSITION_TOLERANCE_M = 1e-3


@dataclass(frozen=True)
class Subarray:
    """The telescopes of one array, ordered by type and then by id.

    Parameters
    ----------
    name : str
        Name of the subarray in its file.
    tel_ids : tuple of int
        Telescope ids; neither contiguous nor starting at 1.
    types : tuple of str
        LST, MST or SST for each telescope. Pairs are formed within a type, not within a
        description: recent files give every telescope a description of its own.
    descriptions : tuple of str
        ``TYPE_OPTICS_CAMERA``, which telescope parameters are matched against.
    positions_m : tuple of (float, float, float)
        Position in the GroundFrame (x north, y west, z up), m.
    """

    name: str
    tel_ids: tuple[int, ...]
    types: tuple[str, ...]
    descriptions: tuple[str, ...]
    positions_m: tuple[tuple[float, float, float], ...]

    def __len__(self) -> int:
        """Return the number of telescopes."""
        return len(self.tel_ids)

    @property
    def index(self) -> dict[int, int]:
        """Position of each telescope id in the tuples."""
        return {tel_id: index for index, tel_id in enumerate(self.tel_ids)}

    @property
    def type_codes(self) -> npt.NDArray[np.intp]:
        """Index of each telescope's type among the sorted types, shape (n,)."""
        return np.unique(np.asarray(self.types), return_inverse=True)[1]

    def difference(self, other: Subarray) -> str | None:
        """Say in one clause how `other` differs, or None when it is the same array."""
        if self.tel_ids != other.tel_ids:
            missing = sorted(set(self.tel_ids) - set(other.tel_ids))
            extra = sorted(set(other.tel_ids) - set(self.tel_ids))
            return f"telescopes missing: {missing}, additional: {extra}"
        if self.descriptions != other.descriptions:
            changed = [
                tel_id
                for tel_id, one, two in zip(
                    self.tel_ids, self.descriptions, other.descriptions, strict=True
                )
                if one != two
            ]
            return f"telescopes of another description: {changed}"
        shift = np.abs(np.asarray(self.positions_m) - np.asarray(other.positions_m)).max(axis=1)
        moved = np.flatnonzero(shift > POSITION_TOLERANCE_M)
        return f"telescopes moved: {[self.tel_ids[i] for i in moved]}" if moved.size else None


def read_subarray(file: File, path: Path) -> Subarray:
    """Read the layout of an open DL2 file.

    Raises
    ------
    CannotCompute
        If the layout is missing, empty or names a telescope twice.
    """
    table = require_table(file, LAYOUT, path)
    needed = ("tel_id", "type", "pos_x", "pos_y", "pos_z", "tel_description")
    absent = [name for name in needed if name not in table.columns]
    if absent:
        msg = f"{path}: {LAYOUT} has no column {absent}; it has {list(table.columns)}."
        raise CannotCompute(msg)
    rows = table.read()
    tel_ids = rows["tel_id"].astype(np.int64)
    if len(rows) == 0 or len(np.unique(tel_ids)) != len(rows):
        msg = f"{path}: {LAYOUT} must name each telescope once, found ids {tel_ids.tolist()}."
        raise CannotCompute(msg)
    types = table.column("type", rows)
    order = np.lexsort((tel_ids, types))
    positions = np.stack([rows[f"pos_{axis}"].astype(float) for axis in "xyz"], axis=1)
    return Subarray(
        name=attribute_text(table.dataset.attrs.get("name", "")),
        tel_ids=tuple(tel_ids[order].tolist()),
        types=tuple(types[order].tolist()),
        descriptions=tuple(table.column("tel_description", rows)[order].tolist()),
        positions_m=tuple((float(x), float(y), float(z)) for x, y, z in positions[order]),
    )


def allowed_pairs(
    subarray: Subarray, max_impact_m: Mapping[int, float], scope: str
) -> npt.NDArray[np.intp]:
    """Telescope pairs that may be compared.

    A pair is allowed when the telescopes stand no further apart than the sum of their
    largest useful impact distances, ``|r_i - r_j| <= R_i + R_j`` (Mitchell et al. 2016).

    Parameters
    ----------
    subarray : Subarray
        The telescopes.
    max_impact_m : mapping of int to float
        R for every telescope id, m.
    scope : {"same_type", "cross_type", "any"}
        Whether the telescopes must be of one type, of different types, or either.

    Returns
    -------
    array of int, shape (n_pairs, 2)
        Indices into the subarray with ``tel_id`` of the first below that of the second,
        ordered by those ids.
    """
    tel_ids = np.asarray(subarray.tel_ids)
    positions = np.asarray(subarray.positions_m)
    reach = np.asarray([max_impact_m[tel_id] for tel_id in subarray.tel_ids])
    separation = np.linalg.norm(positions[:, None] - positions[None, :], axis=2)
    same = np.asarray(subarray.types)[:, None] == np.asarray(subarray.types)[None, :]
    matches = {"same_type": same, "cross_type": ~same, "any": np.ones_like(same)}[scope]
    allowed = matches & (separation <= reach[:, None] + reach[None, :])
    first, second = np.nonzero(allowed & (tel_ids[:, None] < tel_ids[None, :]))
    order = np.lexsort((tel_ids[second], tel_ids[first]))
    return np.stack([first[order], second[order]], axis=1)
