"""Block files of the simulation: ctapipe DL2 files of data model v7.6.0.

Takes a `SimulatedBlock` of plain arrays, gives a file that ctapipe and the tools built on it read
as one of their own. The columns of the tables are in `arraycal.calib.simulation.tables`; here they
get their values. The content of a file depends on the block alone, not on when or where it is
written.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5
from zlib import crc32

import numpy as np

from arraycal.calib.hdf5.writing import create_file, set_attributes, write_table
from arraycal.calib.simulation import tables
from arraycal.calib.simulation.instrument import instrument_tables
from arraycal.calib.simulation.parameters import image_parameters, telescope_keys
from arraycal.calib.simulation.tables import TableData, make_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from arraycal.calib.simulation.block import SimulatedBlock, SimulatedShowers

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["write_block"]

#: The algorithms a real file names; here they are toys.
GEOMETRY, ENERGY, PARTICLE = (
    "HillasReconstructor",
    "RandomForestRegressor",
    "RandomForestClassifier",
)

SUBARRAY_EVENT = 32
GAMMA, PROTON = 0, 101
QUANTA_PER_S = 4_000_000_000
#: Depth of the atmosphere against height: exponential.
ATMOSPHERE_SCALE_M, GROUND_DEPTH_G_PER_CM2 = 7500.0, 1030.0
UNIX_EPOCH_MJD = 40587
#: What an observation does not have.
SIMULATION_TABLE = re.compile("^(/configuration)?/simulation/")
#: The pointing is monitored from before the block until after it.
MONITORING_STEP_S, MONITORING_MARGIN_S = 10, 10


def write_block(path: Path, block: SimulatedBlock) -> None:
    """Write a block as a DL2 file.

    Parameters
    ----------
    path : Path
        The file; it must not exist.
    block : SimulatedBlock
        What to write. Telescopes without an image get no tables, as in real files.

    Raises
    ------
    FileExistsError
        If the file exists.
    """
    content = io.BytesIO()  # a disk that fills up while HDF5 writes to it takes Python with it
    with create_file(content) as file:
        set_attributes(
            file, _header(block, "DL1_PARAMETERS,DL2" if block.settings.write_dl1 else "DL2")
        )
        for table in _all_tables(block):
            if _is_observation(block) and SIMULATION_TABLE.search(table.path):
                continue
            write_table(file, table.path, table.columns, table.attributes)
    with path.open("xb") as stream:
        stream.write(content.getbuffer())


def _is_observation(block: SimulatedBlock) -> bool:
    """Whether the file passes for an observation's."""
    return block.settings.clocks.convention == "raw"


def _all_tables(block: SimulatedBlock) -> Iterator[TableData]:
    """Tables of a block, made when they are asked for."""
    yield from instrument_tables(block.layout)
    yield from _observation(block)
    yield from _array_events(block)
    yield _telescope_triggers(block)
    order = np.argsort(block.images.telescope, kind="stable")
    counts = np.bincount(block.images.telescope, minlength=len(block.layout.types))
    for telescope, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        if len(rows):
            yield from _telescope_pointing(block, telescope)
            yield from _telescope_events(block, telescope, rows)
            if block.settings.write_dl1:
                yield image_parameters(block, telescope, rows)


def _header(block: SimulatedBlock, levels: str) -> dict[str, str]:
    """Root attributes: ctapipe's reference metadata."""
    seconds = [block.start_s, round(block.start_s + block.duration_s)]
    start, stop = (f"{np.datetime64(s, 's')}.000".replace("T", " ") for s in seconds)
    name = f"{block.layout.name} {block.obs_id} {crc32(block.images.size.tobytes())}"
    return {
        "CTA REFERENCE VERSION": "1",
        "CTA PRODUCT DATA MODEL NAME": "ASWG",
        "CTA PRODUCT DATA MODEL VERSION": "v7.6.0",
        "CTA PRODUCT DATA MODEL URL": "",
        "CTA PRODUCT DATA LEVELS": levels,
        "CTA PRODUCT DATA CATEGORY": "Other" if _is_observation(block) else "Sim",
        "CTA PRODUCT DATA ASSOCIATION": "Subarray",
        "CTA PRODUCT FORMAT": "hdf5",
        "CTA PRODUCT ID": str(uuid5(NAMESPACE_OID, name)),
        "CTA PRODUCT DESCRIPTION": "Simulated observation block",
        "CTA PRODUCT CREATION TIME": stop,
        "CTA PROCESS TYPE": "Observation" if _is_observation(block) else "Simulation",
        "CTA PROCESS SUBTYPE": "",
        "CTA PROCESS ID": str(block.obs_id),
        "CTA ACTIVITY NAME": "arraycal simulate",
        "CTA ACTIVITY ID": str(uuid5(NAMESPACE_OID, f"simulate {name}")),
        "CTA ACTIVITY TYPE": "software",
        "CTA ACTIVITY START TIME": start,
        "CTA ACTIVITY STOP TIME": stop,
        "CTA ACTIVITY SOFTWARE NAME": "arraycal",
        "CTA ACTIVITY SOFTWARE VERSION": "unknown",
        "CTA INSTRUMENT SITE": "Other",
        "CTA INSTRUMENT CLASS": "Other",
        "CTA INSTRUMENT TYPE": "unspecified",
        "CTA INSTRUMENT SUBTYPE": "unspecified",
        "CTA INSTRUMENT VERSION": "unspecified",
        "CTA INSTRUMENT ID": block.layout.name,
        "CTA CONTACT NAME": "unknown",
        "CTA CONTACT EMAIL": "unknown",
        "CTA CONTACT ORGANIZATION": "unknown",
    }


def _observation(block: SimulatedBlock) -> Iterator[TableData]:
    """Observation block, scheduling block and simulation settings."""
    start_mjd = UNIX_EPOCH_MJD + block.start_s / 86400
    is_pointing = "observation" in block.settings.pointing_tables
    common = {"sb_id": block.obs_id, "producer_id": "simulation"}
    observation = common | {
        "obs_id": block.obs_id,
        "state": 3,
        "subarray_pointing_lat": block.pointing_alt_deg if is_pointing else np.nan,
        "subarray_pointing_lon": block.pointing_az_deg if is_pointing else np.nan,
        "subarray_pointing_frame": 0,
        "scheduled_duration": block.duration_s / 60,
        "scheduled_start_time": start_mjd,
        "actual_start_time": start_mjd,
        "actual_duration": block.duration_s / 60,
    }
    scheduling = common | {"sb_type": 0, "observing_mode": -1, "pointing_mode": 1}
    run = {"obs_id": block.obs_id, "run_number": block.obs_id, **block.run}
    folder = "/configuration/observation"
    yield make_table(f"{folder}/observation_block", tables.OBSERVATION_BLOCK, observation)
    yield make_table(f"{folder}/scheduling_block", tables.SCHEDULING_BLOCK, scheduling)
    yield make_table("/configuration/simulation/run", tables.RUN, run)


def _array_events(block: SimulatedBlock) -> Iterator[TableData]:
    """Tables with one row per shower."""
    showers, n_showers = block.showers, len(block.showers.time)
    keys = {"obs_id": block.obs_id, "event_id": np.arange(1, n_showers + 1)}
    trigger = {
        "time": high_resolution(showers.time),
        "tels_with_trigger": _mask(block, np.ones(len(block.images.size), np.bool_)),
        "event_type": SUBARRAY_EVENT,
    }
    used = {"telescopes": _mask(block, block.images.is_valid)}
    has_energy = {"is_valid": ~np.isnan(showers.rec_energy_tev)}
    energy = {"energy": showers.rec_energy_tev, "energy_uncert": showers.rec_energy_uncert_tev}
    particle = {"prediction": showers.rec_gammaness}
    dl2 = "/dl2/event/subarray"
    for path, schema, prefix, values in (
        ("/dl1/event/subarray/trigger", tables.ARRAY_TRIGGER, "", trigger),
        (f"{dl2}/geometry/{GEOMETRY}", tables.GEOMETRY, f"{GEOMETRY}_", _geometry(block) | used),
        (f"{dl2}/energy/{ENERGY}", tables.ARRAY_ENERGY, f"{ENERGY}_", energy | has_energy | used),
        (
            f"{dl2}/particle_type/{PARTICLE}",
            tables.ARRAY_PARTICLE,
            f"{PARTICLE}_",
            particle | has_energy | used,
        ),
        ("/simulation/event/subarray/shower", tables.SHOWER, "true_", _true_shower(block)),
    ):
        yield make_table(path, schema, keys | values, prefix=prefix)


def high_resolution(quanta: Integers) -> npt.NDArray[np.uint32]:
    """Time stamps as stored: whole seconds and quarter nanoseconds, shape (n, 2)."""
    return np.column_stack(np.divmod(quanta, QUANTA_PER_S)).astype(np.uint32)


def _mask(block: SimulatedBlock, selected: Bools) -> npt.NDArray[np.uint8]:
    """Telescopes of each shower among the selected images, shape (n_showers, n_telescopes)."""
    mask = np.zeros((len(block.showers.time), len(block.layout.types)), np.uint8)
    mask[block.images.shower[selected], block.images.telescope[selected]] = 1
    return mask


def _geometry(block: SimulatedBlock) -> dict[str, Any]:
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


def _true_shower(block: SimulatedBlock) -> dict[str, Any]:
    """Parameters of the simulated showers."""
    showers: SimulatedShowers = block.showers
    depth = GROUND_DEPTH_G_PER_CM2 * np.exp(-showers.h_max_m / ATMOSPHERE_SCALE_M)
    return {
        "energy": showers.energy_tev,
        "alt": showers.alt_deg,
        "az": showers.az_deg,
        "core_x": showers.core_x_m,
        "core_y": showers.core_y_m,
        "h_first_int": showers.h_first_m,
        "x_max": depth / np.sin(np.radians(showers.alt_deg)),
        "starting_grammage": 0.0,
        "shower_primary_id": np.where(showers.is_proton, PROTON, GAMMA),
    }


def _telescope_triggers(block: SimulatedBlock) -> TableData:
    """Table with one row per image."""
    images = block.images
    values = {
        "obs_id": block.obs_id,
        "event_id": images.shower + 1,
        "tel_id": block.layout.tel_ids[images.telescope],
        "time": high_resolution(images.time),
        "event_type": SUBARRAY_EVENT,
    }
    return make_table("/dl1/event/telescope/trigger", tables.TELESCOPE_TRIGGER, values)


def _telescope_pointing(block: SimulatedBlock, telescope: int) -> Iterator[TableData]:
    """Pointing of one telescope: fixed, monitored or not at all."""
    tel_id = int(block.layout.tel_ids[telescope])
    azimuth, altitude = np.radians([block.pointing_az_deg, block.pointing_alt_deg])
    fixed = {
        "obs_id": block.obs_id,
        "tel_id": tel_id,
        "telescope_pointing_azimuth": azimuth,
        "telescope_pointing_altitude": altitude,
    }
    # Stamps may fall outside the block by the clock offset: nobody should have to extrapolate.
    stop_s = block.start_s + round(block.duration_s) + MONITORING_MARGIN_S + MONITORING_STEP_S
    seconds = np.arange(block.start_s - MONITORING_MARGIN_S, stop_s, MONITORING_STEP_S)
    monitored = {
        "time": high_resolution(seconds * QUANTA_PER_S),
        "azimuth": azimuth,
        "altitude": altitude,
    }
    for name, path, schema, values in (
        ("configuration", "/configuration/telescope/pointing", tables.POINTING, fixed),
        ("dl0", "/dl0/monitoring/telescope/pointing", tables.MONITORED_POINTING, monitored),
        ("dl1", "/dl1/monitoring/telescope/pointing", tables.MONITORED_POINTING, monitored),
    ):
        if name in block.settings.pointing_tables:
            yield make_table(f"{path}/tel_{tel_id:03d}", schema, values)


def _telescope_events(block: SimulatedBlock, telescope: int, rows: Integers) -> Iterator[TableData]:
    """Tables of one telescope with one row per image."""
    images, keys = block.images, telescope_keys(block, telescope, rows)
    name = f"tel_{keys['tel_id']:03d}"
    is_valid = {"is_valid": images.is_valid[rows]}
    energy = {"energy": images.energy_tev[rows]} | is_valid
    particle = {"prediction": images.gammaness[rows]} | is_valid
    distance = {"distance": images.rec_impact_m[rows]}
    dl2, true = "/dl2/event/telescope", "/simulation/event/telescope"
    for folder, schema, prefix, values in (
        (f"{dl2}/impact/{GEOMETRY}", tables.IMPACT, f"{GEOMETRY}_tel_impact_", distance),
        (f"{dl2}/energy/{ENERGY}", tables.ENERGY, f"{ENERGY}_tel_", energy),
        (f"{dl2}/particle_type/{PARTICLE}", tables.PARTICLE, f"{PARTICLE}_tel_", particle),
        (f"{true}/impact", tables.IMPACT, "true_impact_", {"distance": images.impact_m[rows]}),
        (f"{true}/images", tables.TRUE_IMAGE, "", {"true_image_sum": images.size[rows]}),
    ):
        yield make_table(f"{folder}/{name}", schema, keys | values, prefix=prefix)
