"""Instrument tables of a simulated file: array, optics, cameras, as ctapipe 0.32 writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.simulation import tables
from arraycal.calib.simulation.arrays import KINDS, Kind, Layout, hexagonal_grid
from arraycal.calib.simulation.tables import TableData, make_table

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["instrument_tables"]


def instrument_tables(layout: Layout) -> Iterator[TableData]:
    """Make the tables `SubarrayDescription.from_hdf` of ctapipe reads.

    Parameters
    ----------
    layout : Layout
        The array.

    Yields
    ------
    TableData
        Layout and optics, then pixels and readout of each camera.
    """
    kinds = [KINDS[name] for name in dict.fromkeys(layout.types)]
    meta = {"SUBARRAY": layout.name, "ORIGIN": "ctapipe.instrument.SubarrayDescription"}
    yield _layout(layout, kinds, meta)
    optics = {
        "optics_name": [kind.optics for kind in kinds],
        "size_type": [kind.type for kind in kinds],
        "reflector_shape": [kind.reflector for kind in kinds],
        "mirror_area": [kind.mirror_area_m2 for kind in kinds],
        "n_mirrors": 1,
        "n_mirror_tiles": [kind.n_mirror_tiles for kind in kinds],
        "equivalent_focal_length": [kind.focal_length_m for kind in kinds],
        "effective_focal_length": [kind.effective_focal_length_m for kind in kinds],
    }
    yield make_table(
        "/configuration/instrument/telescope/optics",
        tables.OPTICS,
        optics,
        attributes=meta | {"TAB_TYPE": "optics", "TAB_VER": "4.0"},
    )
    for number, kind in enumerate(kinds):
        yield _camera_pixels(number, kind)
        yield _camera_readout(number, kind)


def _layout(layout: Layout, kinds: list[Kind], meta: dict[str, str]) -> TableData:
    """Telescopes and their positions."""
    index = [[kind.type for kind in kinds].index(name) for name in layout.types]
    x, y, z = layout.positions_m.T
    values = {
        "tel_id": layout.tel_ids,
        "name": [kinds[i].optics for i in index],
        "type": list(layout.types),
        "pos_x": x,
        "pos_y": y,
        "pos_z": z,
        "camera_name": [kinds[i].camera for i in index],
        "optics_name": [kinds[i].optics for i in index],
        "camera_index": index,
        "optics_index": index,
        "tel_description": [kinds[i].description for i in index],
    }
    site = zip("xyz", layout.site_itrs_m, strict=True)
    return make_table(
        "/configuration/instrument/subarray/layout",
        tables.LAYOUT,
        values,
        attributes=meta
        | {"TAB_TYPE": "subarray", "TAB_VER": "2.0", "name": layout.name}
        | {f"reference_itrs_{axis}": value for axis, value in site},
    )


def _camera_pixels(number: int, kind: Kind) -> TableData:
    """Pixels of a camera: a round piece of a hexagonal grid."""
    x, y = hexagonal_grid(kind.n_pixels, kind.pixel_pitch_m).T
    return make_table(
        f"/configuration/instrument/telescope/camera/geometry_{number}",
        tables.PIXELS,
        {
            "pix_id": np.arange(kind.n_pixels),
            "pix_x": x,
            "pix_y": y,
            "pix_area": np.sqrt(0.75) * kind.pixel_pitch_m**2,
        },
        attributes={
            "CAM_ID": kind.camera,
            "PIX_TYPE": "hexagon",
            "GRID": "hex",
            "PIX_ROT": 30.0,
            "CAM_ROT": 0.0,
            "TAB_VER": "2.1",
            "TAB_TYPE": "ctapipe.instrument.CameraGeometry",
        },
    )


def _camera_readout(number: int, kind: Kind) -> TableData:
    """Readout of a camera: a Gaussian pulse."""
    time_ns = np.arange(250) * 0.1
    pulse = np.exp(-0.5 * ((time_ns - 12.5) / 1.3) ** 2)
    return make_table(
        f"/configuration/instrument/telescope/camera/readout_{number}",
        tables.READOUT,
        {
            "reference_pulse_shape_channel0": pulse,
            "reference_pulse_shape_channel1": pulse,
            "reference_pulse_sample_time": time_ns,
        },
        attributes={
            "CAM_ID": kind.camera,
            "NCHAN": 2,
            "NPIXELS": kind.n_pixels,
            "NSAMPLES": 40,
            "REFWIDTH": 0.1,
            "SAMPFREQ": 1.0,
            "TAB_VER": "3.0",
            "TAB_TYPE": "ctapipe.instrument.CameraReadout",
        },
    )
