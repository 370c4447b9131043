"""Files of corrected values as ctapipe reads them."""

import json

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from astropy.time import Time

ctapipe_io = pytest.importorskip("ctapipe.io")
metadata = pytest.importorskip("ctapipe.io.metadata")

ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
COLUMN = "RandomForestRegressor_tel_energy"
TRIGGER = "/dl1/event/telescope/trigger"
FACTORS = "/dl2/service/arraycal/apply/factors"


@pytest.fixture(scope="module")
def folder(array):
    return array / "corrected"


@pytest.fixture(scope="module")
def block(array):
    truth = json.loads((array / "blocks" / "truth.json").read_text(encoding="utf-8"))
    return array / "blocks" / f"block_{truth['obs_ids'][0]}.dl2.h5"


def test_energies_have_units_keys_and_truth_values_of_the_block(folder, block):
    factors = ctapipe_io.read_table(folder / "energy.corrected.h5", FACTORS)
    for row in factors:
        name = f"{ENERGY}/tel_{row['tel_id']:03d}"
        found = ctapipe_io.read_table(folder / "energy.corrected.h5", name)
        original = ctapipe_io.read_table(block, name)
        for column in (
            "obs_id",
            "event_id",
            "tel_id",
            "RandomForestRegressor_tel_is_valid",
            COLUMN,
        ):
            np.testing.assert_array_equal(found[column], original[column])
        assert found["RandomForestRegressor_tel_is_valid"].dtype == np.bool_
        assert found[f"{COLUMN}_corrected"].unit == u.TeV
        np.testing.assert_allclose(
            found[f"{COLUMN}_corrected"], original[COLUMN] * row["factor"], rtol=1e-14
        )


def test_times_keep_their_quarter_nanoseconds(folder, block):
    found = ctapipe_io.read_table(folder / "time.corrected.h5", TRIGGER)
    original = ctapipe_io.read_table(block, TRIGGER)
    assert isinstance(found["time_corrected"], Time)
    for column in ("obs_id", "event_id", "tel_id"):
        np.testing.assert_array_equal(found[column], original[column])
    factors = ctapipe_io.read_table(folder / "time.corrected.h5", FACTORS)
    assert factors["offset"].unit == u.ns
    offset = dict(zip(factors["tel_id"], factors["offset_applied"], strict=True))
    shift = (original["time"] - found["time_corrected"]).to_value(u.ns)
    expected = [offset[tel_id] for tel_id in found["tel_id"]]
    # ctapipe makes days of the stamps, which costs some 10 ps; half a quarter nanosecond and more
    # would be another stamp.
    np.testing.assert_allclose(shift, expected, rtol=0, atol=0.124)


def test_the_root_has_the_metadata_of_a_data_product(folder):
    reference = metadata.read_reference_metadata(folder / "energy.corrected.h5")
    assert reference.activity.name == "apply"


def test_the_lookup_table_is_read_by_astropy(folder):
    table = QTable.read(folder / "lookup.ecsv")
    assert {"tel_id", "factor", "factor_error"} <= set(table.colnames)
    assert table.meta["quantity"] == "energy"
