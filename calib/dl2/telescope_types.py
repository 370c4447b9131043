"""Events that are no shower for a telescope, whatever they are for the array.

The trigger table of the telescopes has an event type of its own. A lamp that fires in one camera
while the others see a shower is a flat field there only: the row of that telescope is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.dl2.columns import TELESCOPE_TRIGGER
from arraycal.calib.dl2.numbering import out_of_range

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from arraycal.calib.dl2.numbering import Numbering

    Bools = npt.NDArray[np.bool_]
    Keys = npt.NDArray[np.int64]

__all__ = ["SHOWER_EVENT", "OtherTypes", "read_other_types"]

#: ctapipe's number of the event type of showers; the others are calibration and muon events.
SHOWER_EVENT = 32
#: The type of events whose type nobody found out: it says nothing.
UNKNOWN_EVENT = 255


@dataclass(frozen=True)
class OtherTypes:
    """Events that are no showers for a telescope.

    Parameters
    ----------
    events : dict of int to array of int64
        Their numbers, sorted, by telescope.
    """

    events: Mapping[int, Keys] = field(default_factory=dict)

    def has(self, keys: Keys, tel_ids: npt.NDArray[Any]) -> Bools:
        """Tell which rows are of a telescope for which the event is no shower.

        Parameters
        ----------
        keys : array of int64, shape (n_rows,)
            Numbers of the events.
        tel_ids : array of int, shape (n_rows,)
            Telescopes.
        """
        found = np.zeros(len(keys), np.bool_)
        for tel_id, events in self.events.items():
            own = np.flatnonzero(tel_ids == tel_id)
            found[own] = np.isin(keys[own], events)
        return found


def read_other_types(file: hdf5.File, path: Path, numbering: Numbering) -> OtherTypes:
    """Read which events are no showers for a telescope.

    Parameters
    ----------
    file : hdf5.File
        The open file.
    path : Path
        Where it is.
    numbering : Numbering
        Numbers of the events; those without a number are in no other table.

    Returns
    -------
    OtherTypes
        Nothing if the table of the telescopes' triggers has no types.
    """
    table = hdf5.find_table(file, TELESCOPE_TRIGGER, path)
    if table is None or not {"obs_id", "event_id", "tel_id", "event_type"} <= set(table.columns):
        return OtherTypes()
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for rows in table.portions():
        other = ~np.isin(rows["event_type"], (SHOWER_EVENT, UNKNOWN_EVENT))
        other &= ~out_of_range(rows["event_id"])
        other &= np.isin(rows["obs_id"].astype(np.int64), numbering.obs_ids)
        parts.append((numbering.keys(rows[other], table), rows["tel_id"][other].astype(np.int64)))
    keys, tel_ids = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return OtherTypes({int(tel): np.unique(keys[tel_ids == tel]) for tel in np.unique(tel_ids)})
