"""Block files of the simulation: ctapipe DL2 files of data model v7.6.0.

Takes a `Block` of plain arrays, gives a file that ctapipe and the tools built on it read as
one of their own. The tables are spelled out below, column by column, as ctapipe 0.32 writes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from calib.hdf5 import Column, create_file, set_attributes, write_table
from calib.simulation_arrays import KINDS, Kind, Layout, hexagonal_grid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["Block", "Images", "Showers", "write_block"]


@dataclass(frozen=True)
class Showers:
    """Showers of a block; one entry per shower. What starts with ``rec_`` is reconstructed."""

    time: Integers
    """Earliest time stamp of its telescopes: quarter nanoseconds TAI since 1970."""
    energy_tev: Floats
    """True energy."""
    is_proton: Bools
    """Proton instead of gamma ray."""
    alt_deg: Floats
    """True altitude."""
    az_deg: Floats
    """True azimuth, from north through east."""
    core_x_m: Floats
    """True core on the ground, to the north."""
    core_y_m: Floats
    """True core on the ground, to the west."""
    h_max_m: Floats
    """True height of the shower maximum above sea level."""
    h_first_m: Floats
    """Height of the first interaction above sea level."""
    rec_alt_deg: Floats
    """Altitude; like all geometry NaN when the reconstruction failed."""
    rec_az_deg: Floats
    """Azimuth."""
    rec_direction_error_deg: Floats
    """Expected error of the direction per coordinate."""
    rec_core_x_m: Floats
    """Core on the ground, to the north."""
    rec_core_y_m: Floats
    """Core on the ground, to the west."""
    rec_h_max_m: Floats
    """Height of the shower maximum above sea level."""
    rec_is_valid: Bools
    """Whether the geometry was reconstructed."""
    rec_mean_size: Floats
    """Mean size of the images used, photo-electrons."""
    rec_energy_tev: Floats
    """Energy from all valid images."""
    rec_energy_uncert_tev: Floats
    """Its spread over the images."""
    rec_gammaness: Floats
    """Gammaness from all valid images."""


@dataclass(frozen=True)
class Images:
    """Images of a block; one entry per triggered telescope, by shower, then by telescope."""

    shower: Integers
    """Index of the shower."""
    telescope: Integers
    """Index of the telescope in the layout."""
    time: Integers
    """Time stamp: quarter nanoseconds TAI since 1970."""
    size: Floats
    """Photo-electrons."""
    impact_m: Floats
    """True perpendicular distance of the telescope from the shower axis."""
    rec_impact_m: Floats
    """The same from the reconstructed axis; NaN without one."""
    is_clean: Bools
    """Whether an image survived cleaning; otherwise it has no parameters."""
    is_valid: Bools
    """Whether energy and gammaness could be reconstructed."""
    energy_tev: Floats
    """Reconstructed energy, NaN if not valid."""
    gammaness: Floats
    """Reconstructed gammaness, NaN if not valid."""


@dataclass(frozen=True)
class Block:
    """One observation block in memory."""

    obs_id: int
    """Id of the block."""
    layout: Layout
    """The array."""
    pointing_alt_deg: float
    """Altitude of the common pointing."""
    pointing_az_deg: float
    """Azimuth of the common pointing."""
    start_s: int
    """Start, whole seconds TAI since 1970."""
    duration_s: float
    """Duration."""
    run: Mapping[str, Any]
    """Values of the simulation table."""
    showers: Showers
    """The showers."""
    images: Images
    """Their images."""


#: Tables as ``column dtype [unit]``. Instead of a unit ``@`` introduces what is no plain number:
#: ``@mask`` telescopes in layout order, ``@time`` and ``@mjd`` times, ``@SomeEnum`` a ctapipe enum.
#: Columns no value is given for are missing: NaN, -1 or the empty string.
_EVENT = "obs_id i4; event_id i8"
_IMAGE = f"{_EVENT}; tel_id i2"
#: apply-models widens tel_id and marks the telescopes used without saying that they are a mask.
_MODEL = f"{_EVENT}; tel_id i4"

_LAYOUT = (
    "tel_id u2; name S; type S; pos_x f8 m; pos_y f8 m; pos_z f8 m; camera_name S; optics_name S;"
    "camera_index i8; optics_index i8; tel_description S"
)
_OPTICS = (
    "optics_name S; size_type S; reflector_shape S; mirror_area f8 m**2; n_mirrors i8;"
    "n_mirror_tiles i8; equivalent_focal_length f8 m; effective_focal_length f8 m"
)
_PIXELS = "pix_id i8; pix_x f8 m; pix_y f8 m; pix_area f8 m**2"
_READOUT = (
    "reference_pulse_shape_channel0 f8; reference_pulse_shape_channel1 f8;"
    "reference_pulse_sample_time f8 ns"
)
_OBSERVATION_BLOCK = (
    "obs_id i4; sb_id u8; producer_id S; state i8 @ObservationBlockState;"
    "subarray_pointing_lat f8 deg; subarray_pointing_lon f8 deg;"
    "subarray_pointing_frame i8 @CoordinateFrameType; scheduled_duration f8 min;"
    "scheduled_start_time f8 @mjd; actual_start_time f8 @mjd; actual_duration f8 min"
)
_SCHEDULING_BLOCK = (
    "sb_id u8; sb_type i8 @SchedulingBlockType; producer_id S; observing_mode i8 @ObservingMode;"
    "pointing_mode i8 @PointingMode"
)
_RUN = (
    "obs_id i8; run_number i4; corsika_version i8; simtel_version i8; energy_range_min f4 TeV;"
    "energy_range_max f4 TeV; prod_site_B_total f8 uT; prod_site_B_declination f8 rad;"
    "prod_site_B_inclination f8 rad; prod_site_alt f8 m; spectral_index f8; shower_prog_start i8;"
    "shower_prog_id i8; detector_prog_start i8; detector_prog_id i8; n_showers i8;"
    "shower_reuse i8; max_alt f4 rad; min_alt f4 rad; max_az f4 rad; min_az f4 rad; diffuse bool;"
    "max_viewcone_radius f4 deg; min_viewcone_radius f4 deg; max_scatter_range f4 m;"
    "min_scatter_range f4 m; core_pos_mode i8; atmosphere i8; corsika_iact_options i8;"
    "corsika_low_E_model i8; corsika_high_E_model i8; corsika_bunchsize f8;"
    "corsika_wlen_min f8 nm; corsika_wlen_max f8 nm; corsika_low_E_detail i8;"
    "corsika_high_E_detail i8"
)
_POINTING = (
    "obs_id i4; tel_id i8; telescope_pointing_azimuth f8 rad; telescope_pointing_altitude f8 rad"
)
_ARRAY_TRIGGER = f"{_EVENT}; time u4 @time; tels_with_trigger u1 @mask; event_type i8 @EventType"
_TELESCOPE_TRIGGER = f"{_IMAGE}; time u4 @time; event_type i8 @EventType; n_trigger_pixels i8"
_PARAMETERS = (
    f"{_IMAGE}; hillas_intensity f8; hillas_skewness f8; hillas_kurtosis f8;"
    "hillas_fov_lon f8 deg; hillas_fov_lat f8 deg; hillas_r f8 deg; hillas_phi f8 deg;"
    "hillas_length f8 deg; hillas_length_uncertainty f8 deg; hillas_width f8 deg;"
    "hillas_width_uncertainty f8 deg; hillas_psi f8 deg; hillas_psi_uncertainty f8 deg;"
    "hillas_transverse_cog_uncertainty f8 deg; timing_intercept f8; timing_deviation f8;"
    "timing_slope f8 deg**-1; leakage_pixels_width_1 f8; leakage_pixels_width_2 f8;"
    "leakage_intensity_width_1 f4; leakage_intensity_width_2 f4; concentration_cog f8;"
    "concentration_core f8; concentration_pixel f8; morphology_n_pixels i8;"
    "morphology_n_islands i8; morphology_n_small_islands i8; morphology_n_medium_islands i8;"
    "morphology_n_large_islands i8; intensity_max f4; intensity_min f4; intensity_mean f4;"
    "intensity_std f4; intensity_skewness f8; intensity_kurtosis f8; peak_time_max f4;"
    "peak_time_min f4; peak_time_mean f4; peak_time_std f4; peak_time_skewness f8;"
    "peak_time_kurtosis f8; core_psi f8 deg"
)
_GEOMETRY = (
    f"{_EVENT}; alt f8 deg; alt_uncert f8 deg; az f8 deg; az_uncert f8 deg;"
    "ang_distance_uncert f8 deg; core_x f8 m; core_y f8 m; core_uncert_x f8 m; core_uncert_y f8 m;"
    "core_tilted_x f8 m; core_tilted_y f8 m; core_tilted_uncert_x f8 m;"
    "core_tilted_uncert_y f8 m; h_max f8 m; h_max_uncert f8 m; is_valid bool;"
    "average_intensity f8; goodness_of_fit f8; telescopes u1 @mask"
)
_ARRAY_ENERGY = (
    f"{_EVENT}; energy f8 TeV; energy_uncert f8 TeV; is_valid bool; goodness_of_fit f8;"
    "telescopes u1"
)
_ARRAY_PARTICLE = f"{_EVENT}; prediction f8; is_valid bool; goodness_of_fit f8; telescopes u1"
_IMPACT = f"{_IMAGE}; distance f8 m; distance_uncert f8 m"
_ENERGY = f"{_MODEL}; energy f8 TeV; is_valid bool; energy_uncert f8 TeV; goodness_of_fit f8"
_PARTICLE = f"{_MODEL}; prediction f8; is_valid bool; goodness_of_fit f8"
_SHOWER = (
    f"{_EVENT}; energy f8 TeV; alt f8 deg; az f8 deg; core_x f8 m; core_y f8 m; h_first_int f8 m;"
    "x_max f8 g.cm**-2; starting_grammage f8 g.cm**-2; shower_primary_id i2"
)
_TRUE_IMAGE = f"{_IMAGE}; true_image_sum i4"

_GEOMETRY_NAME, _ENERGY_NAME = "HillasReconstructor", "RandomForestRegressor"
_PARTICLE_NAME = "RandomForestClassifier"
_KEYS = ("obs_id", "event_id", "tel_id")
_PARAMETER_PREFIX = re.compile(
    r"^(hillas|timing|leakage|concentration|morphology|intensity|peak_time|core)_"
)
_ATMOSPHERE_SCALE_M, _GROUND_DEPTH = 7500.0, 1030.0
_SUBARRAY_EVENT = 32
_GAMMA, _PROTON = 0, 101
_QUANTA_PER_S = 4_000_000_000


def write_block(path: Path, block: Block, *, write_dl1: bool = True) -> None:
    """Write a block as a DL2 file.

    Parameters
    ----------
    path : Path
        The file; it must not exist.
    block : Block
        What to write. Telescopes without an image get no tables, as in real files.
    write_dl1 : bool
        Write the image parameters, by far the widest tables.

    Raises
    ------
    FileExistsError
        If the file exists.
    """
    with create_file(path) as file:
        _write_header(file, block)
        _write_instrument(file, block.layout)
        _write_observation(file, block)
        _write_array_events(file, block)
        order = np.argsort(block.images.telescope, kind="stable")
        counts = np.bincount(block.images.telescope, minlength=len(block.layout.types))
        _write_telescope_triggers(file, block)
        for telescope, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
            if len(rows):
                _write_telescope(file, block, telescope, rows, write_dl1=write_dl1)


def _write(
    file: h5py.File,
    path: str,
    schema: str,
    values: Mapping[str, Any],
    *,
    prefix: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a table; single values are repeated, columns without a value are missing."""
    n_rows = max((len(v) for v in values.values() if np.ndim(v)), default=1)
    columns: dict[str, Column] = {}
    enums: dict[str, Any] = {}
    for index, entry in enumerate(schema.split(";")):
        name, dtype, unit = (*entry.split(), "")[:3]
        key = name if name in _KEYS else prefix + name
        columns[key] = _column(name, dtype, unit, values.get(name), n_rows)
        if columns[key].transform == "enum":
            # ctapipe looks the class up by this pickled reference, an ASCII attribute.
            reference = f"cctapipe.containers\n{unit[1:]}\np0\n."
            enums[f"CTAFIELD_{index}_ENUM"] = np.bytes_(reference.encode())
    write_table(file, path, columns, enums | dict(attributes or {}))


def _column(name: str, dtype: str, unit: str, value: Any, n_rows: int) -> Column:
    """One column from its entry in a schema."""
    if value is None:
        value = {"f": np.nan, "S": "", "b": False}.get(dtype[0], -1)
    data = np.asarray(value, None if dtype == "S" else dtype)
    if data.ndim == 0:
        data = np.repeat(data, n_rows)
    kind = unit[1:] if unit.startswith("@") else ""
    return Column(
        data,
        unit="" if kind else unit,
        name=_PARAMETER_PREFIX.sub("", name),
        time_format={"time": "ctao_high_res", "mjd": "mjd"}.get(kind, ""),
        transform={"mask": "tel_list_to_mask", "time": "", "mjd": "", "": ""}.get(kind, "enum"),
    )


def _high_resolution(quanta: Integers) -> npt.NDArray[np.uint32]:
    """Time stamps as stored: whole seconds and quarter nanoseconds, shape (n, 2)."""
    return np.column_stack(np.divmod(quanta, _QUANTA_PER_S)).astype(np.uint32)


def _write_header(file: h5py.File, block: Block) -> None:
    """Write the root attributes; nothing in them depends on when or where the file is written."""
    start = str(np.datetime64(block.start_s, "s")).replace("T", " ") + ".000"
    stop = str(np.datetime64(round(block.start_s + block.duration_s), "s")).replace("T", " ") + ".000"
    product = {
        "DATA MODEL NAME": "ASWG",
        "DATA MODEL VERSION": "v7.6.0",
        "DATA MODEL URL": "",
        "DATA LEVELS": "DL1_PARAMETERS,DL2",
        "DATA CATEGORY": "Sim",
        "DATA ASSOCIATION": "Subarray",
        "FORMAT": "hdf5",
        "ID": str(uuid5(NAMESPACE_OID, f"{block.layout.name} {block.obs_id}")),
        "DESCRIPTION": "Simulated observation block",
        "CREATION TIME": stop,
    }
    activity = {
        "NAME": "arraycal simulate",
        "ID": str(uuid5(NAMESPACE_OID, f"arraycal simulate {block.obs_id}")),
        "TYPE": "software",
        "START TIME": start,
        "STOP TIME": stop,
        "SOFTWARE NAME": "arraycal",
        "SOFTWARE VERSION": "unknown",
    }
    instrument = {
        "SITE": "Other",
        "CLASS": "Other",
        "TYPE": "unspecified",
        "SUBTYPE": "unspecified",
        "VERSION": "unspecified",
        "ID": block.layout.name,
    }
    process = {"TYPE": "Simulation", "SUBTYPE": "", "ID": str(block.obs_id)}
    contact = dict.fromkeys(("NAME", "EMAIL", "ORGANIZATION"), "unknown")
    groups = {
        "PRODUCT": product,
        "ACTIVITY": activity,
        "INSTRUMENT": instrument,
        "PROCESS": process,
        "CONTACT": contact,
    }
    for group, entries in groups.items():
        set_attributes(file, {f"CTA {group} {key}": value for key, value in entries.items()})
    set_attributes(file, {"CTA REFERENCE VERSION": "1"})


def _write_instrument(file: h5py.File, layout: Layout) -> None:
    """Write array, optics and cameras."""
    kinds = [KINDS[name] for name in dict.fromkeys(layout.types)]
    index = np.array([[kind.type for kind in kinds].index(name) for name in layout.types])
    x, y, z = layout.positions_m.T
    subarray = {"SUBARRAY": layout.name, "ORIGIN": "ctapipe.instrument.SubarrayDescription"}
    site = dict(zip(("x", "y", "z"), layout.site_itrs_m, strict=True))
    _write(
        file,
        "/configuration/instrument/subarray/layout",
        _LAYOUT,
        {
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
        },
        attributes=subarray
        | {"TAB_TYPE": "subarray", "TAB_VER": "2.0", "name": layout.name}
        | {f"reference_itrs_{axis}": value for axis, value in site.items()},
    )
    _write(
        file,
        "/configuration/instrument/telescope/optics",
        _OPTICS,
        {
            "optics_name": [kind.optics for kind in kinds],
            "size_type": [kind.type for kind in kinds],
            "reflector_shape": [kind.reflector for kind in kinds],
            "mirror_area": [kind.mirror_area_m2 for kind in kinds],
            "n_mirrors": 1,
            "n_mirror_tiles": [kind.n_mirror_tiles for kind in kinds],
            "equivalent_focal_length": [kind.focal_length_m for kind in kinds],
            "effective_focal_length": [kind.effective_focal_length_m for kind in kinds],
        },
        attributes=subarray | {"TAB_TYPE": "optics", "TAB_VER": "4.0"},
    )
    for number, kind in enumerate(kinds):
        _write_camera(file, number, kind)


def _write_camera(file: h5py.File, number: int, kind: Kind) -> None:
    """Write pixels and readout of a camera: a round hexagonal grid and a Gaussian pulse."""
    x, y = hexagonal_grid(kind.n_pixels, kind.pixel_pitch_m).T
    camera = "/configuration/instrument/telescope/camera"
    pixels = {
        "pix_id": np.arange(kind.n_pixels),
        "pix_x": x,
        "pix_y": y,
        "pix_area": np.sqrt(0.75) * kind.pixel_pitch_m**2,
    }
    shape = {"PIX_TYPE": "hexagon", "GRID": "hex", "PIX_ROT": 30.0, "CAM_ROT": 0.0}
    _write(
        file,
        f"{camera}/geometry_{number}",
        _PIXELS,
        pixels,
        attributes=shape
        | {"CAM_ID": kind.camera, "TAB_VER": "2.1", "TAB_TYPE": "ctapipe.instrument.CameraGeometry"},
    )
    time = np.arange(250) * 0.1
    pulse = np.exp(-0.5 * ((time - 12.5) / 1.3) ** 2)
    _write(
        file,
        f"{camera}/readout_{number}",
        _READOUT,
        {
            "reference_pulse_shape_channel0": pulse,
            "reference_pulse_shape_channel1": pulse,
            "reference_pulse_sample_time": time,
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


def _write_observation(file: h5py.File, block: Block) -> None:
    """Write observation and scheduling block, pointing and simulation settings."""
    start_mjd = 40587 + block.start_s / 86400
    common = {"sb_id": block.obs_id, "producer_id": "simulation"}
    _write(
        file,
        "/configuration/observation/observation_block",
        _OBSERVATION_BLOCK,
        common
        | {
            "obs_id": block.obs_id,
            "state": 3,
            "subarray_pointing_lat": block.pointing_alt_deg,
            "subarray_pointing_lon": block.pointing_az_deg,
            "subarray_pointing_frame": 0,
            "scheduled_duration": block.duration_s / 60,
            "scheduled_start_time": start_mjd,
            "actual_start_time": start_mjd,
            "actual_duration": block.duration_s / 60,
        },
    )
    modes = {"sb_type": 0, "observing_mode": -1, "pointing_mode": 1}
    _write(file, "/configuration/observation/scheduling_block", _SCHEDULING_BLOCK, common | modes)
    run = {"obs_id": block.obs_id, "run_number": block.obs_id} | dict(block.run)
    _write(file, "/configuration/simulation/run", _RUN, run)


def _write_array_events(file: h5py.File, block: Block) -> None:
    """Write the tables with one row per shower."""
    showers, n_showers = block.showers, len(block.showers.time)
    keys = {"obs_id": block.obs_id, "event_id": np.arange(1, n_showers + 1)}
    triggered = _mask(block, np.ones(len(block.images.shower), np.bool_))
    used = _mask(block, block.images.is_valid)
    has_energy = ~np.isnan(showers.rec_energy_tev)
    _write(
        file,
        "/dl1/event/subarray/trigger",
        _ARRAY_TRIGGER,
        keys
        | {
            "time": _high_resolution(showers.time),
            "tels_with_trigger": triggered,
            "event_type": _SUBARRAY_EVENT,
        },
    )
    events = "/dl2/event/subarray"
    _write(
        file,
        f"{events}/geometry/{_GEOMETRY_NAME}",
        _GEOMETRY,
        keys | _geometry_values(block) | {"telescopes": used},
        prefix=f"{_GEOMETRY_NAME}_",
    )
    _write(
        file,
        f"{events}/energy/{_ENERGY_NAME}",
        _ARRAY_ENERGY,
        keys
        | {
            "energy": showers.rec_energy_tev,
            "energy_uncert": showers.rec_energy_uncert_tev,
            "is_valid": has_energy,
            "telescopes": used,
        },
        prefix=f"{_ENERGY_NAME}_",
    )
    particle = {"prediction": showers.rec_gammaness, "is_valid": has_energy, "telescopes": used}
    _write(
        file,
        f"{events}/particle_type/{_PARTICLE_NAME}",
        _ARRAY_PARTICLE,
        keys | particle,
        prefix=f"{_PARTICLE_NAME}_",
    )
    _write(
        file,
        "/simulation/event/subarray/shower",
        _SHOWER,
        keys | _true_values(showers, np.sin(np.radians(block.pointing_alt_deg))),
        prefix="true_",
    )


def _mask(block: Block, selected: Bools) -> npt.NDArray[np.uint8]:
    """Telescopes of each shower among the selected images, shape (n_showers, n_telescopes)."""
    mask = np.zeros((len(block.showers.time), len(block.layout.types)), np.uint8)
    mask[block.images.shower[selected], block.images.telescope[selected]] = 1
    return mask


def _geometry_values(block: Block) -> dict[str, Any]:
    """Reconstructed geometry; the tilted frame is perpendicular to the pointing."""
    showers = block.showers
    alt, az = np.radians([block.pointing_alt_deg, block.pointing_az_deg])
    x, y = showers.rec_core_x_m, showers.rec_core_y_m
    return {
        "alt": showers.rec_alt_deg,
        "alt_uncert": showers.rec_direction_error_deg,
        "az": showers.rec_az_deg,
        "az_uncert": showers.rec_direction_error_deg,
        "core_x": x,
        "core_y": y,
        "core_tilted_x": np.sin(alt) * (np.cos(az) * x - np.sin(az) * y),
        "core_tilted_y": np.sin(az) * x + np.cos(az) * y,
        "h_max": showers.rec_h_max_m,
        "is_valid": showers.rec_is_valid,
        "average_intensity": showers.rec_mean_size,
    }


def _true_values(showers: Showers, sin_alt: float) -> dict[str, Any]:
    """True shower parameters; the depth of the maximum in an exponential atmosphere."""
    depth = _GROUND_DEPTH * np.exp(-showers.h_max_m / _ATMOSPHERE_SCALE_M) / sin_alt
    return {
        "energy": showers.energy_tev,
        "alt": showers.alt_deg,
        "az": showers.az_deg,
        "core_x": showers.core_x_m,
        "core_y": showers.core_y_m,
        "h_first_int": showers.h_first_m,
        "x_max": depth,
        "starting_grammage": 0.0,
        "shower_primary_id": np.where(showers.is_proton, _PROTON, _GAMMA),
    }


def _write_telescope_triggers(file: h5py.File, block: Block) -> None:
    """Write the table with one row per image."""
    images = block.images
    values = {
        "obs_id": block.obs_id,
        "event_id": images.shower + 1,
        "tel_id": block.layout.tel_ids[images.telescope],
        "time": _high_resolution(images.time),
        "event_type": _SUBARRAY_EVENT,
    }
    _write(file, "/dl1/event/telescope/trigger", _TELESCOPE_TRIGGER, values)


def _write_telescope(
    file: h5py.File, block: Block, telescope: int, rows: Integers, *, write_dl1: bool
) -> None:
    """Write the tables of one telescope, all with the same rows."""
    images = block.images
    tel_id = int(block.layout.tel_ids[telescope])
    table = f"tel_{tel_id:03d}"
    keys = {"obs_id": block.obs_id, "event_id": images.shower[rows] + 1, "tel_id": tel_id}
    pointing = {
        "obs_id": block.obs_id,
        "tel_id": tel_id,
        "telescope_pointing_azimuth": np.radians(block.pointing_az_deg),
        "telescope_pointing_altitude": np.radians(block.pointing_alt_deg),
    }
    _write(file, f"/configuration/telescope/pointing/{table}", _POINTING, pointing)
    dl2, is_valid = "/dl2/event/telescope", images.is_valid[rows]
    for path, schema, prefix, values in (
        (f"{dl2}/impact/{_GEOMETRY_NAME}", _IMPACT, f"{_GEOMETRY_NAME}_tel_impact_", {"distance": images.rec_impact_m[rows]}),
        (f"{dl2}/energy/{_ENERGY_NAME}", _ENERGY, f"{_ENERGY_NAME}_tel_", {"energy": images.energy_tev[rows], "is_valid": is_valid}),
        (f"{dl2}/particle_type/{_PARTICLE_NAME}", _PARTICLE, f"{_PARTICLE_NAME}_tel_", {"prediction": images.gammaness[rows], "is_valid": is_valid}),
        ("/simulation/event/telescope/impact", _IMPACT, "true_impact_", {"distance": images.impact_m[rows]}),
        ("/simulation/event/telescope/images", _TRUE_IMAGE, "", {"true_image_sum": images.size[rows]}),
    ):
        _write(file, f"{path}/{table}", schema, keys | values, prefix=prefix)
    if write_dl1:
        values = _image_parameters(images, rows)
        _write(file, f"/dl1/event/telescope/parameters/{table}", _PARAMETERS, keys | values)


def _image_parameters(images: Images, rows: Integers) -> dict[str, Any]:
    """Plausible image parameters; only the size carries information.

    Images grow with the logarithm of their size and lie farther out the larger the impact
    distance is.
    """
    size = images.size[rows]
    bright = np.log10(size)
    offset = images.impact_m[rows] / 110.0
    turn = (images.shower[rows] * 137.5 + images.telescope[rows] * 61.8) % 360 - 180
    n_pixels = np.ceil(size**0.6).astype(np.int64) + 3
    values = {
        "hillas_intensity": size,
        "hillas_skewness": 0.1,
        "hillas_kurtosis": 2.4,
        "hillas_fov_lon": offset * np.cos(np.radians(turn)),
        "hillas_fov_lat": offset * np.sin(np.radians(turn)),
        "hillas_r": offset,
        "hillas_phi": turn,
        "hillas_length": 0.06 + 0.05 * bright,
        "hillas_width": 0.03 + 0.02 * bright,
        "hillas_psi": (turn + 90) % 180 - 90,
        "timing_intercept": 15.0,
        "timing_deviation": 0.3,
        "timing_slope": 8.0 * (offset - 1),
        "leakage_pixels_width_1": 0.0,
        "leakage_pixels_width_2": 0.0,
        "leakage_intensity_width_1": 0.0,
        "leakage_intensity_width_2": 0.0,
        "concentration_cog": 0.3,
        "concentration_core": 0.3,
        "concentration_pixel": 1.5 / n_pixels,
        "morphology_n_pixels": n_pixels,
        "morphology_n_islands": 1,
        "morphology_n_small_islands": 0,
        "morphology_n_medium_islands": (n_pixels <= 50).astype(np.int64),
        "morphology_n_large_islands": (n_pixels > 50).astype(np.int64),
        "intensity_max": 1.5 * size / n_pixels,
        "intensity_min": 4.0,
        "intensity_mean": size / n_pixels,
        "intensity_std": 0.5 * size / n_pixels,
        "intensity_skewness": 0.5,
        "intensity_kurtosis": -0.5,
        "peak_time_max": 17.0,
        "peak_time_min": 13.0,
        "peak_time_mean": 15.0,
        "peak_time_std": 0.8,
        "peak_time_skewness": 0.0,
        "peak_time_kurtosis": 0.0,
        "core_psi": (turn + 90) % 180 - 90,
    }
    lost = ~images.is_clean[rows]
    return {name: np.where(lost, -1 if name.startswith("morph") else np.nan, v) for name, v in values.items()}
