"""Telescopes of an array: identity, type, position, and which of them may form a pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import shorten
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arraycal.config.errors import ConfigurationError
from arraycal.config.telescope import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.config.telescope import TelescopeParameter

__all__ = ["MAX_TEL_ID", "Subarray", "allowed_pairs", "refuse_unlike", "value_by_telescope"]

V = TypeVar("V")

#: Positions closer than this are the same position; surveys do not reach it.
POSITION_TOLERANCE_M = 1e-3
#: EVENTS and PAIRS keep telescope ids as 16-bit numbers, as the layout does.
MAX_TEL_ID = 65535
#: Characters of a list of ids in a message.
MAX_LISTED = 500


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
        Position in the GroundFrame (x north, y west, z up), m. NaN for a telescope without one:
        it forms no pair.

    Raises
    ------
    ValueError
        If there is no telescope, or one is named twice.
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

    def __post_init__(self) -> None:
        """Refuse what cannot be an array."""
        found = shorten(str(list(self.tel_ids)), MAX_LISTED, placeholder=" ...]")
        if not self.tel_ids or len(set(self.tel_ids)) != len(self):
            raise ValueError(f"each telescope must be named once, found ids {found}")
        if min(self.tel_ids) < 0 or max(self.tel_ids) > MAX_TEL_ID:
            raise ValueError(f"telescope ids must be 0 to {MAX_TEL_ID}, found {found}")

    @property
    def unplaced(self) -> tuple[int, ...]:
        """Telescopes without a position."""
        places = zip(self.tel_ids, self.positions_m, strict=True)
        return tuple(tel_id for tel_id, place in places if not np.isfinite(place).all())

    @property
    def identity(self) -> Subarray:
        """The array without its name, which files choose freely, and equal to itself.

        NaN, the position of a telescope without one, is not equal to itself; zero is.
        """
        places = dict(zip(self.tel_ids, self.positions_m, strict=True))
        places |= dict.fromkeys(self.unplaced, (0.0, 0.0, 0.0))
        return replace(self, name="", positions_m=tuple(places.values()))

    def difference(self, other: Subarray) -> str | None:
        """Say in one clause how `other` differs, or None when it is the same array."""
        mine, theirs = self._telescopes(), other._telescopes()
        if mine.keys() != theirs.keys():
            missing, extra = sorted(mine.keys() - theirs), sorted(theirs.keys() - mine)
            return f"telescopes missing: {missing}, additional: {extra}"
        changed = sorted(t for t, telescope in mine.items() if telescope[:2] != theirs[t][:2])
        if changed:
            return f"telescopes of another type or description: {changed}"
        moved = sorted(
            t
            for t, telescope in mine.items()
            if np.abs(np.subtract(telescope[2], theirs[t][2])).max() > POSITION_TOLERANCE_M
        )
        return f"telescopes moved: {moved}" if moved else None

    def _telescopes(self) -> dict[int, tuple[str, str, tuple[float, float, float]]]:
        described = zip(self.types, self.descriptions, self.positions_m, strict=True)
        return dict(zip(self.tel_ids, described, strict=True))


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


def value_by_telescope(parameter: TelescopeParameter[V], subarray: Subarray) -> dict[int, V]:
    """Value of a telescope parameter for every telescope id."""
    return resolve(
        parameter, subarray.tel_ids, dict(zip(subarray.tel_ids, subarray.descriptions, strict=True))
    )


def refuse_unlike(name: str, values: Mapping[int, float], subarray: Subarray) -> None:
    """Raise unless all telescopes of a type have one value.

    Two telescopes whose events are selected differently do not differ by their throughput alone:
    ctao-calibpipe refuses it, too.

    Parameters
    ----------
    name : str
        Of the setting, for the message.
    values : mapping of int to float
        By telescope id.
    subarray : Subarray
        The telescopes.

    Raises
    ------
    ConfigurationError
        With the telescopes and their values.
    """
    for kind in sorted(set(subarray.types)):
        members: dict[float, list[int]] = {}
        for tel_id, its in zip(subarray.tel_ids, subarray.types, strict=True):
            if its == kind:
                members.setdefault(values[tel_id], []).append(tel_id)
        if len(members) > 1:
            listed = "; ".join(
                f"{value:g} for {', '.join(map(str, ids))}" for value, ids in members.items()
            )
            raise ConfigurationError(
                f"{name} differs within {kind}: {listed}. Telescopes that are selected differently "
                "cannot be compared; give all of a type one value."
            )
