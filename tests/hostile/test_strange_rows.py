"""Rows and values that no sound file has: named, and never better than they are."""

import h5py
import numpy as np
import polars as pl
import pytest
from dl2_changes import change, event_tables, in_telescope

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import CannotCompute
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, TIMING_CROSS
from arraycal.calib.pairs.rules import NO_DISTANCE
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import load_preset
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import configured
from arraycal.flows.jobs.parameters import CalibrateParameters

ENERGIES = "/dl2/event/telescope/energy/RandomForestRegressor"
ENERGY = "RandomForestRegressor_tel_energy"


@pytest.fixture
def blocks(night, tmp_path):
    def read(observable=ENERGY_INTER):
        configuration = load_preset(observable.name)
        return [
            rows_of_block(path, observable, configuration, tmp_path / "cache")
            for path in sorted(night.glob("*.dl2.h5"))
        ]

    return read


def without_geometry(path):
    def rule(rows):
        for name in rows.dtype.names:
            if name.startswith("HillasReconstructor"):
                rows[name] = np.nan if rows.dtype[name].kind == "f" else 0
        return rows

    for table in event_tables(path):
        if "HillasReconstructor" in table:
            change(path, table, rule)


def times(factor, step=1):
    def rule(rows):
        rows[ENERGY][::step] *= factor
        return rows

    return rule


def test_a_telescope_with_infinite_energies_is_named(block, blocks):
    change(block, in_telescope(ENERGIES, 2), times(np.inf, step=3))
    first, second = blocks()
    (remark,) = first.remarks
    assert (
        "values of LST 2 are infinite, zero or negative (0.0% of those of its siblings)" in remark
    )
    assert second.remarks == []
    result = calibrate([first, second], ENERGY_INTER, load_preset("energy-inter"))
    assert any("LST 2 are infinite" in reason for reason in result.verdict.reasons)


def test_infinite_energies_of_all_telescopes_alike_name_none(block, blocks):
    for table in event_tables(block):
        if table.startswith(ENERGIES):
            change(block, table, times(np.inf, step=50))
    assert blocks()[0].remarks == []


def test_a_block_in_another_unit_is_not_usable(block, blocks):
    for table in event_tables(block):
        if table.startswith(ENERGIES):
            change(block, table, times(1000.0))
    result = calibrate(blocks(), ENERGY_INTER, load_preset("energy-inter"))
    assert result.verdict.status != "usable"
    assert any("are they in another unit?" in reason for reason in result.verdict.reasons)


def test_sound_blocks_are_on_one_scale(blocks):
    result = calibrate(blocks(), ENERGY_INTER, load_preset("energy-inter"))
    assert not any("another unit" in reason for reason in result.verdict.reasons)


def test_size_thresholds_that_differ_within_a_type_are_refused(block, tmp_path):
    configuration = load_preset("timing-cross")
    section = configuration.CalculateTimingCalibration
    unlike = type(section).model_validate(
        section.model_dump() | {"size_threshold": [["type", "*", 80.0], ["id", 7, 120.0]]}
    )
    changed = configuration.model_copy(update={"CalculateTimingCalibration": unlike})
    found = rows_of_block(block, TIMING_CROSS, changed, tmp_path / "cache")
    assert found.status == "failed"
    assert found.wrong_request
    assert "size_threshold differs within MST: 80 for" in found.reason
    assert "120 for 7" in found.reason


def test_a_block_too_large_for_the_memory_costs_that_block(block, blocks, monkeypatch):
    sound = blocks()[1]

    def fail(*_, **__):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("arraycal.calib.blocks.pair_rows.select_rows", fail)
    change(block, in_telescope(ENERGIES, 2), times(1.0001))
    failed, kept = blocks()
    assert (failed.status, kept.status) == ("failed", "ok")
    assert kept.entry == sound.entry
    assert "not enough memory for this block (Unable to allocate 9 GiB)" in failed.reason
    assert "smaller chunk_size" in failed.reason


def asked_for(tmp_path, **more):
    inter = tmp_path / "inter.h5"
    inter.touch()
    parameters = CalibrateParameters.model_validate(
        {"calibration": "energy-cross", "blocks": ["*.h5"], "output": "x", "inter": str(inter)}
        | more
    )
    return configured(parameters, Settings(cache_root=tmp_path)).CalculateCrossCalibration


def test_an_inter_calibration_asks_for_the_method_that_uses_it(tmp_path):
    section = asked_for(tmp_path)
    assert section.method == "three_step"
    assert section.inter_calibration == str(tmp_path / "inter.h5")


def test_a_method_that_is_set_by_name_beside_it_is_a_contradiction(tmp_path):
    joint = ["CalculateCrossCalibration.method=joint"]
    with pytest.raises(ConfigurationError, match="inter_calibration is not used by method 'joint'"):
        asked_for(tmp_path, overrides=joint)


ALL = (ENERGY_INTER, ENERGY_CROSS, IMAGE_INTER, TIMING_CROSS)


@pytest.mark.parametrize("observable", ALL, ids=lambda observable: observable.name)
def test_a_block_without_geometry_is_named_in_every_calibration(block, blocks, observable):
    without_geometry(block)
    first, second = blocks(observable)
    (remark,) = first.remarks
    assert f"none of {first.n_events:,} telescope events can be compared" in remark
    assert second.n_rows > 0
    assert second.remarks == []
    result = calibrate([first, second], observable, load_preset(observable.name))
    assert result.verdict.status == "degraded"
    assert any(block.name in text and remark in text for text in result.verdict.reasons)


@pytest.mark.parametrize("observable", ALL[:3], ids=lambda observable: observable.name)
def test_a_night_without_geometry_has_no_usable_factor(night, blocks, observable):
    for path in night.glob("*.dl2.h5"):
        without_geometry(path)
    result = calibrate(blocks(observable), observable, load_preset(observable.name))
    assert result.verdict.status == "unusable"
    assert set(result.telescopes["flag"]) == {"no_data"}


def test_a_night_without_geometry_has_no_clocks(night, blocks):
    for path in night.glob("*.dl2.h5"):
        without_geometry(path)
    with pytest.raises(CannotCompute, match="no stamp to compare") as error:
        calibrate(blocks(TIMING_CROSS), TIMING_CROSS, load_preset("timing-cross"))
    assert str(error.value).count("no valid geometry: ") == 2


def test_rows_without_a_distance_are_left_out_by_rule(block, blocks):
    impacts = "/dl2/event/telescope/impact/HillasReconstructor"

    def rule(rows):
        rows["HillasReconstructor_tel_impact_distance"][:7] = np.nan
        return rows

    change(block, in_telescope(impacts, 1), rule)
    lost = [b.rejected.filter(pl.col("rule") == NO_DISTANCE)["rows"].sum() for b in blocks()]
    assert lost == [7, 0]


def test_types_are_not_compared_blindly_without_distances(block, blocks):
    with h5py.File(block, "r+") as file:
        del file["/dl2/event/telescope/impact"]
    first, second = blocks(ENERGY_CROSS)
    assert any("it has no distances to the shower axis" in text for text in first.remarks)
    assert second.remarks == []
    assert blocks(ENERGY_INTER)[0].remarks == []
