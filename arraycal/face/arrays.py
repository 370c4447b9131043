"""An array of telescopes, stated in a line or read from a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.dl2.block import open_block
from arraycal.calib.subarray import Subarray
from arraycal.face.display import html_paragraph, html_table, text_table

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.float64] | Sequence[Sequence[float]]

__all__ = ["Array"]

#: Coordinates of a position on the ground, and in space.
PLANE, SPACE = 2, 3


class Array:
    """The telescopes of an array.

    Parameters
    ----------
    tel_ids : sequence of int
        Telescope ids, in any order; neither contiguous nor starting at 1.
    types : str, sequence of str or mapping of int to str
        Type of each telescope, or of all; telescopes of one type are calibrated together.
    positions_m : array, shape (n, 2) or (n, 3), or mapping of int to such rows, optional
        Positions in the GroundFrame (x north, y west, z up), m. A telescope at NaN, or missing in
        a mapping, forms no pair. Without any positions all telescopes are at the origin, so
        that no pair is refused for its distance.
    name : str
        Name of the array.
    descriptions : sequence of str, optional
        ``TYPE_OPTICS_CAMERA`` of each telescope, which patterns in a configuration are matched
        against; the types by default.

    Raises
    ------
    ValueError
        If the numbers of ids, types and positions differ, an id is there twice or out of range.

    Examples
    --------
    >>> array = Array([1, 2, 5], "MST", [(0, 0), (100, 0), (0, 120)])
    >>> array.types
    ('MST', 'MST', 'MST')
    """

    def __init__(
        self,
        tel_ids: Sequence[int],
        types: str | Sequence[str] | Mapping[int, str],
        positions_m: Positions | Mapping[int, Sequence[float]] | None = None,
        *,
        name: str = "",
        descriptions: Sequence[str] | None = None,
    ) -> None:
        ids = [int(tel_id) for tel_id in tel_ids]
        kinds = _types(types, ids)
        described = kinds if descriptions is None else [str(text) for text in descriptions]
        places = _places(positions_m, ids)
        _require_as_many(len(ids), types=kinds, descriptions=described, positions_m=places)
        order = sorted(range(len(ids)), key=lambda index: (kinds[index], ids[index]))
        self._subarray = Subarray(
            name=name,
            tel_ids=tuple(ids[index] for index in order),
            types=tuple(kinds[index] for index in order),
            descriptions=tuple(described[index] for index in order),
            positions_m=tuple(places[index] for index in order),
        )

    @classmethod
    def of_block(cls, path: str | Path) -> Array:
        """Read the array of a block file.

        Raises
        ------
        CannotCompute
            If it is no DL2 file.
        """
        return cls.of_subarray(open_block(Path(path)).subarray)

    @classmethod
    def of_subarray(cls, found: Subarray) -> Array:
        """Wrap what the rest of arraycal calls an array."""
        return cls(
            found.tel_ids,
            found.types,
            found.positions_m,
            name=found.name,
            descriptions=found.descriptions,
        )

    @property
    def subarray(self) -> Subarray:
        """What the rest of arraycal calls an array."""
        return self._subarray

    @property
    def name(self) -> str:
        """Its name; empty for none."""
        return self._subarray.name

    @property
    def tel_ids(self) -> tuple[int, ...]:
        """Telescope ids, by type and then ascending, as everything of the array is ordered."""
        return self._subarray.tel_ids

    @property
    def types(self) -> tuple[str, ...]:
        """Type of each telescope."""
        return self._subarray.types

    @property
    def telescopes(self) -> pl.DataFrame:
        """One row per telescope: tel_type, tel_id, x, y, z in m."""
        x, y, z = (list(axis) for axis in zip(*self._subarray.positions_m, strict=True))
        columns = {"tel_type": self.types, "tel_id": self.tel_ids, "x_m": x, "y_m": y, "z_m": z}
        return pl.DataFrame(columns)

    def __len__(self) -> int:
        return len(self._subarray)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self._subarray.identity == other._subarray.identity

    def __hash__(self) -> int:
        return hash(self._subarray.identity)

    def __repr__(self) -> str:
        return f"{self._title}\n{text_table(self.telescopes, 1)}"

    def _repr_html_(self) -> str:
        return html_paragraph(self._title) + html_table(self.telescopes, 1)

    @property
    def _title(self) -> str:
        counts = {kind: self.types.count(kind) for kind in self.types}
        named = f" {self.name}" if self.name else ""
        return f"Array{named}: {', '.join(f'{n} {kind}' for kind, n in counts.items())}"


def _types(types: str | Sequence[str] | Mapping[int, str], ids: Sequence[int]) -> list[str]:
    if isinstance(types, str):
        return [types] * len(ids)
    if isinstance(types, Mapping):
        missing = [tel_id for tel_id in ids if tel_id not in types]
        if missing:
            raise ValueError(f"telescopes {missing} have no type")
        return [str(types[tel_id]) for tel_id in ids]
    return [str(kind) for kind in types]


def _places(
    positions_m: Positions | Mapping[int, Sequence[float]] | None, ids: Sequence[int]
) -> list[tuple[float, float, float]]:
    if positions_m is None:
        return [(0.0, 0.0, 0.0)] * len(ids)
    if isinstance(positions_m, Mapping):
        nowhere = (np.nan,) * SPACE
        positions_m = [positions_m.get(tel_id, nowhere) for tel_id in ids]
    return [_place(row) for row in positions_m]


def _place(row: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float, float]:
    values = [float(value) for value in row]
    if len(values) not in {PLANE, SPACE}:
        raise ValueError(f"a position has {len(values)} coordinates, expected x, y and z in m")
    x, y, z = (*values, 0.0)[:SPACE]
    return x, y, z


def _require_as_many(n: int, **given: Sequence[object]) -> None:
    for name, values in given.items():
        if len(values) != n:
            raise ValueError(f"{len(values)} {name} for {n} telescopes; expected one for each")
