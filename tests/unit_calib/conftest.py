"""Tiny DL2 files, made to measure: a sound one, to which each test does its own damage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest

from arraycal.calib import dl2
from arraycal.calib.hdf5 import writing as hdf5_writing
from arraycal.calib.hdf5.writing import Column, create_file, set_attributes, write_table

#: Telescope id -> type and position (m); ids have gaps, and rows of the layout no order.
TELESCOPES = {
    12: ("MST", (150.0, 40.0, 0.0)),
    4: ("LST", (-60.0, 60.0, 5.0)),
    561: ("MST", (90.0, -110.0, 0.0)),
    7: ("LST", (70.0, 0.0, 5.0)),
    11: ("MST", (0.0, 120.0, 0.0)),
}
ENERGY, GEOMETRY, CLASSIFIER = (
    "RandomForestRegressor",
    "HillasReconstructor",
    "RandomForestClassifier",
)

LAYOUT = "/configuration/instrument/subarray/layout"
OBSERVATION_BLOCK = "/configuration/observation/observation_block"
TRIGGER = "/dl1/event/subarray/trigger"
TEL_ENERGY = f"/dl2/event/telescope/energy/{ENERGY}"
TEL_IMPACT = f"/dl2/event/telescope/impact/{GEOMETRY}"
TEL_PARTICLE = f"/dl2/event/telescope/particle_type/{CLASSIFIER}"
ARRAY_ENERGY = f"/dl2/event/subarray/energy/{ENERGY}"
ARRAY_GEOMETRY = f"/dl2/event/subarray/geometry/{GEOMETRY}"


@dataclass
class Dl2File:
    """The tables of a DL2 file, by path, as long as it is not written."""

    path: Path
    rows: pl.DataFrame
    tables: dict[str, dict[str, Column]]
    attributes: dict[str, str] = field(
        default_factory=lambda: {
            "CTA PRODUCT DATA MODEL VERSION": "v7.6.0",
            "CTA PRODUCT DATA LEVELS": "DL1_PARAMETERS,DL2",
            "CTA PROCESS TYPE": "Simulation",
        }
    )

    def write(self, chunk_bytes: int = hdf5_writing.CHUNK_BYTES) -> Path:
        """Write the file; small chunks make many windows of few rows."""
        self.path.unlink(missing_ok=True)
        with (
            mock.patch.object(hdf5_writing, "CHUNK_BYTES", chunk_bytes),
            create_file(self.path) as file,
        ):
            set_attributes(file, self.attributes)
            for name, columns in self.tables.items():
                write_table(file, name, columns)
        return self.path

    def telescope_tables(self, group: str) -> list[str]:
        """Paths of the tables of a group."""
        return [name for name in self.tables if name.startswith(f"{group}/tel_")]

    def rename_group(self, old: str, new: str) -> None:
        """Move tables to where another data model has them."""
        self.tables = {name.replace(old, new): table for name, table in self.tables.items()}

    def rename_columns(self, old: str, new: str) -> None:
        """Replace a part of column names."""
        self.tables = {
            path: {name.replace(old, new): column for name, column in table.items()}
            for path, table in self.tables.items()
        }

    def select(self, table: str, rows: Any) -> None:
        """Keep some rows of a table, in the order given."""
        self.tables[table] = {
            name: Column(**(vars(column) | {"data": column.data[rows]}))
            for name, column in self.tables[table].items()
        }

    def set_data(self, table: str, column: str, data: object) -> None:
        """Replace the values of a column."""
        old = self.tables[table][column]
        self.tables[table][column] = Column(**(vars(old) | {"data": np.asarray(data)}))


def layout_table(telescopes):
    types, positions = zip(*telescopes.values(), strict=True)
    x, y, z = np.array(positions, np.float32).T
    return {
        "tel_id": Column(np.array(list(telescopes), np.uint16)),
        "name": Column(np.array([f"{t}-{i}" for t, i in zip(types, telescopes, strict=True)])),
        "type": Column(np.array(types)),
        "pos_x": Column(x, "m"),
        "pos_y": Column(y, "m"),
        "pos_z": Column(z, "m"),
        "tel_description": Column(np.array([f"{t}_{t}_{t}Cam" for t in types])),
    }


def event_tables(rows):
    """Every table with a row per event, filled from `rows`; what they do not give is random."""
    rng = np.random.default_rng(len(rows))
    showers = rows.unique(["obs_id", "event_id"], maintain_order=True)
    array_key = {
        "obs_id": Column(showers["obs_id"].to_numpy().astype(np.int32)),
        "event_id": Column(showers["event_id"].to_numpy()),
    }
    tables = {
        TRIGGER: array_key
        | {"time": Column(np.zeros((len(showers), 2), np.uint32), time_format="ctao_high_res")},
        ARRAY_ENERGY: array_key
        | {f"{ENERGY}_energy": Column(showers["shower_energy"].to_numpy(), "TeV")},
        ARRAY_GEOMETRY: array_key
        | {
            f"{GEOMETRY}_core_x": Column(rng.normal(size=len(showers)), "m"),
            f"{GEOMETRY}_is_valid": Column(rng.random(len(showers)) < 0.5),
        },
    }
    for (tel_id,), part in rows.group_by("tel_id", maintain_order=True):
        key = {
            "obs_id": Column(part["obs_id"].to_numpy().astype(np.int32)),
            "event_id": Column(part["event_id"].to_numpy()),
        }
        # Models widen the telescope id.
        narrow = key | {"tel_id": Column(part["tel_id"].to_numpy().astype(np.int16))}
        wide = key | {"tel_id": Column(part["tel_id"].to_numpy().astype(np.int32))}
        missing = np.full(len(part), np.nan)
        tables[f"{TEL_ENERGY}/tel_{tel_id:03d}"] = wide | {
            f"{ENERGY}_tel_energy": Column(part["energy"].to_numpy(), "TeV"),
            f"{ENERGY}_tel_is_valid": Column(part["is_valid"].to_numpy()),
            f"{ENERGY}_tel_energy_uncert": Column(missing, "TeV"),
        }
        tables[f"{TEL_IMPACT}/tel_{tel_id:03d}"] = narrow | {
            f"{GEOMETRY}_tel_impact_distance": Column(part["impact"].to_numpy(), "m"),
        }
        tables[f"{TEL_PARTICLE}/tel_{tel_id:03d}"] = wide | {
            f"{CLASSIFIER}_tel_prediction": Column(part["gammaness"].to_numpy()),
        }
    return tables


@pytest.fixture
def make_rows():
    """Make random telescope events: `make_rows(n_showers)`, each seen by some of the telescopes."""

    def make(n_showers=20, tel_ids=tuple(TELESCOPES), obs_id=1, seed=1, participation=0.6):
        rng = np.random.default_rng(seed)
        present = rng.random((n_showers, len(tel_ids))) < participation
        shower, telescope = np.nonzero(present)
        n_rows = len(shower)
        return pl.DataFrame(
            {
                "obs_id": np.full(n_rows, obs_id, np.int64),
                # Neither contiguous nor from 0.
                "event_id": 100 + 3 * shower.astype(np.int64),
                "tel_id": np.array(sorted(tel_ids), np.uint16)[telescope],
                "energy": rng.lognormal(size=n_rows),
                "gammaness": rng.random(n_rows),
                "impact": 50 + 100 * rng.random(n_rows),
                "is_valid": rng.random(n_rows) < 0.8,
                "shower_energy": (1 + 0.001 * shower).astype(np.float64),
            }
        )

    return make


@pytest.fixture
def make_block(tmp_path, make_rows):
    """Make a DL2 file that is not written yet: `make_block(rows)`."""

    def make(rows=None, telescopes=TELESCOPES, name="block.dl2.h5"):
        rows = make_rows() if rows is None else rows
        obs_ids = rows["obs_id"].unique(maintain_order=True).to_numpy()
        tables = {
            LAYOUT: layout_table(telescopes),
            OBSERVATION_BLOCK: {"obs_id": Column(obs_ids.astype(np.uint64))},
            **event_tables(rows),
        }
        return Dl2File(tmp_path / name, rows, tables)

    return make


@pytest.fixture
def read_no_further_than_a_window(monkeypatch):
    """Read the tables window by window; blocks of some rows would otherwise be read at once."""
    monkeypatch.setattr(dl2.block, "READ_ROWS", 1)
