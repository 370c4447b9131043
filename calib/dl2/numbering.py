"""One ascending number for each shower of a file, from the ids of observation and event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from arraycal.calib.hdf5.table import Table

    Keys = npt.NDArray[np.int64]

__all__ = ["Numbering", "out_of_range"]

#: A shower is identified within a file by ``position of its observation << EVENT_BITS | event_id``.
EVENT_BITS = 44


def out_of_range(event_ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which ids of events have no number."""
    # A negative number read without its sign is a very large one.
    return np.asarray(event_ids.astype(np.int64).view(np.uint64) >> np.uint64(EVENT_BITS) != 0)


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
        if out_of_range(event_ids).any():
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
