"""Files that look like blocks by their names, and are products of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib import hdf5
from arraycal.calib.dl2.block import COEFFICIENTS
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["product_in"]

#: Groups of files with events, whatever their level.
EVENTS = ("/dl2/event", "/dl1/event", "/dl0/event", "/r1/event", "/simulation/event")
#: Groups of ours in files with coefficients and with corrected values, and of both programs in
#: files with event-wise asymmetries.
OURS, ASYMMETRIES = "/dl2/service/arraycal", "_asymmetry"


def product_in(path: Path) -> str:
    """What a file is that a calibration has made, ours or one of ctao-calibpipe.

    Parameters
    ----------
    path : Path
        Any file; no row of it is read.

    Returns
    -------
    str
        Empty for a block, and for a file that cannot be read: that is for its reader to say.
    """
    try:
        with hdf5.open_file(path) as file:
            if hdf5.child_names(file, OURS, path):
                return "a file that arraycal has made"
            if any(hdf5.child_names(file, group, path) for group in EVENTS):
                return ""
            if hdf5.child_names(file, COEFFICIENTS, path):
                return "the result of a calibration"
            names = hdf5.child_names(file, "/", path)
    except CannotCompute:
        return ""
    is_asymmetry = any(name.endswith(ASYMMETRIES) for name in names)
    return "a file of asymmetries" if is_asymmetry else ""
