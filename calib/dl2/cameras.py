"""Size of the cameras of a block, for cuts on where in the camera an image lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.subarray import MAX_TEL_ID

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block

__all__ = ["camera_radii"]

INSTRUMENT = "/configuration/instrument"
LAYOUT = f"{INSTRUMENT}/subarray/layout"
OPTICS = f"{INSTRUMENT}/telescope/optics"
GEOMETRY = f"{INSTRUMENT}/telescope/camera/geometry"
#: The effective one includes coma and is what ctapipe turns camera into sky coordinates with.
FOCAL_LENGTHS = ("effective_focal_length", "equivalent_focal_length")
#: Pixels of a camera; the largest one has 11,328.
MAX_PIXELS = 1_000_000


def camera_radii(block: Block, unit: str) -> dict[int, float] | str:
    """Distance of the outermost pixel from the camera centre.

    Parameters
    ----------
    block : Block
        The file.
    unit : {"deg", "m"}
        On the sky, by the focal length, or in the camera.

    Returns
    -------
    dict of int to float, or str
        Radius by telescope id; or what the file lacks to tell it.

    Raises
    ------
    CannotCompute
        If a table is damaged.
    """
    with hdf5.open_file(block.path) as file:
        layout = hdf5.require_table(file, LAYOUT, block.path)
        if "camera_index" not in layout.columns:
            return "the layout does not say which camera a telescope has"
        rows = layout.read_few(MAX_TEL_ID + 1)
        radius_m: dict[int, float] = {}
        for index in np.unique(rows["camera_index"]).tolist():
            table = hdf5.find_table(file, f"{GEOMETRY}_{index}", block.path)
            if table is None or not {"pix_x", "pix_y"} <= set(table.columns) or not len(table):
                return f"the file has no geometry of camera {index}"
            pixels = table.read_few(MAX_PIXELS)
            radius_m[index] = float(np.hypot(pixels["pix_x"], pixels["pix_y"]).max())
        radius = np.array([radius_m[index] for index in rows["camera_index"].tolist()])
        if unit == "deg":
            focal_m = _focal_lengths_m(file, block, rows["optics_index"])
            if isinstance(focal_m, str):
                return focal_m
            radius = np.degrees(radius / focal_m)
    return dict(zip(rows["tel_id"].tolist(), radius.tolist(), strict=True))


def _focal_lengths_m(
    file: hdf5.File, block: Block, optics_index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | str:
    table = hdf5.find_table(file, OPTICS, block.path)
    if table is None or not set(FOCAL_LENGTHS) <= set(table.columns):
        return "the file has no focal lengths"
    rows = table.read_few(MAX_TEL_ID + 1)
    effective, equivalent = (rows[name].astype(float) for name in FOCAL_LENGTHS)
    focal = np.where(np.isfinite(effective), effective, equivalent)
    if optics_index.max() >= len(focal) or not np.isfinite(focal[optics_index]).all():
        return "some telescopes have no focal length"
    return np.asarray(focal[optics_index])
