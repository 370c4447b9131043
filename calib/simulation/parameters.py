"""Image parameters of a simulated file, in the telescope's frame or in the camera's.

Takes the images of a telescope, gives its DL1 table. Size, position, orientation, leakage, number
of pixels and brightest pixel are those of the simulation; the rest is merely plausible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arraycal.calib.simulation import camera, tables
from arraycal.calib.simulation.tables import TableData, make_table

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.simulation.arrays import Kind
    from arraycal.calib.simulation.block import Images, SimulatedBlock

    Integers = npt.NDArray[np.int64]

__all__ = ["image_parameters", "telescope_keys"]

#: ctapipe calls an island of more pixels large.
MEDIUM_ISLAND_PIXELS = 50
#: Image parameters nobody calibrates with.
FIXED_PARAMETERS: dict[str, Any] = {
    "hillas_skewness": 0.1,
    "hillas_kurtosis": 2.4,
    "timing_intercept": 15.0,
    "timing_deviation": 0.3,
    "concentration_cog": 0.3,
    "concentration_core": 0.3,
    "morphology_n_islands": 1,
    "morphology_n_small_islands": 0,
    "intensity_min": 4.0,
    "intensity_skewness": 0.5,
    "intensity_kurtosis": -0.5,
    "peak_time_max": 17.0,
    "peak_time_min": 13.0,
    "peak_time_mean": 15.0,
    "peak_time_std": 0.8,
    "peak_time_skewness": 0.0,
    "peak_time_kurtosis": 0.0,
}


def telescope_keys(block: SimulatedBlock, telescope: int, rows: Integers) -> dict[str, Any]:
    """Keys of the images of one telescope."""
    event_id = block.images.shower[rows] + 1
    return {
        "obs_id": block.obs_id,
        "event_id": event_id,
        "tel_id": int(block.layout.tel_ids[telescope]),
    }


def image_parameters(block: SimulatedBlock, telescope: int, rows: Integers) -> TableData:
    """Make the image parameters of one telescope.

    Parameters
    ----------
    block : SimulatedBlock
        The block.
    telescope : int
        Index of the telescope in the layout.
    rows : array
        Its images.

    Returns
    -------
    TableData
        Values are missing where the image did not survive cleaning.
    """
    keys = telescope_keys(block, telescope, rows)
    lost = ~block.images.is_clean[rows]
    parameters = _parameters(block.images, rows)
    frame = block.settings.camera.frame
    if frame == "camera":
        kind = block.layout.kinds[block.layout.types[telescope]]
        parameters = _in_camera_frame(parameters, kind)
    values = {
        name: np.where(lost, -1 if name.startswith("morphology") else np.nan, parameter)
        for name, parameter in parameters.items()
    }
    path = f"/dl1/event/telescope/parameters/tel_{keys['tel_id']:03d}"
    return make_table(path, tables.PARAMETERS[frame], keys | values)


def _parameters(images: Images, rows: Integers) -> dict[str, Any]:
    """Image parameters in the telescope's frame."""
    size, n_pixels = images.measured_size[rows], camera.n_pixels(images.size[rows])
    lon, lat, psi = images.fov_lon_deg[rows], images.fov_lat_deg[rows], images.psi_deg[rows]
    length, width = camera.image_extent_deg(images.size[rows])
    leakage, brightest = images.leakage[rows], images.brightest_pe[rows]
    return FIXED_PARAMETERS | {
        "hillas_intensity": size,
        "hillas_fov_lon": lon,
        "hillas_fov_lat": lat,
        "hillas_r": np.hypot(lon, lat),
        "hillas_phi": np.degrees(np.arctan2(lat, lon)),
        "hillas_length": length,
        "hillas_width": width,
        "hillas_psi": psi,
        "timing_slope": 8.0 * (images.impact_m[rows] / 110.0 - 1),
        "leakage_pixels_width_1": leakage / 2,
        "leakage_pixels_width_2": leakage,
        "leakage_intensity_width_1": leakage / 2,
        "leakage_intensity_width_2": leakage,
        "concentration_pixel": brightest / size,
        "morphology_n_pixels": n_pixels,
        "morphology_n_medium_islands": (n_pixels <= MEDIUM_ISLAND_PIXELS).astype(np.int64),
        "morphology_n_large_islands": (n_pixels > MEDIUM_ISLAND_PIXELS).astype(np.int64),
        "intensity_max": brightest,
        "intensity_mean": size / n_pixels,
        "intensity_std": 0.5 * size / n_pixels,
        "core_psi": psi,
    }


def _in_camera_frame(parameters: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Turn angles on the sky into distances in the camera, as ctapipe's CameraFrame has them.

    The x axis of the camera is that of the latitude, the y axis that of the longitude.
    """
    metres = 1 / kind.deg_per_m
    turned = parameters | {
        "hillas_x": parameters["hillas_fov_lat"] * metres,
        "hillas_y": parameters["hillas_fov_lon"] * metres,
        "hillas_r": parameters["hillas_r"] * metres,
        "hillas_phi": (270 - parameters["hillas_phi"]) % 360 - 180,
        "hillas_length": parameters["hillas_length"] * metres,
        "hillas_width": parameters["hillas_width"] * metres,
        "hillas_psi": (180 - parameters["hillas_psi"]) % 180 - 90,
        "timing_slope": parameters["timing_slope"] / metres,
    }
    return {
        f"camera_frame_{name}" if name.startswith(("hillas", "timing")) else name: value
        for name, value in turned.items()
        if name not in {"hillas_fov_lon", "hillas_fov_lat"}
    }
