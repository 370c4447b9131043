"""A night of real-looking trouble: every fault is named, and costs no other telescope.

Four blocks: flat fields and pedestals among the showers of all, a telescope whose energies end in
the middle of the second, one that loses high voltage in the middle of the third, a clock that
drifts, the first block once more under another name in part, and a fifth that is torn off.
"""

import shutil

import h5py
import hdf5plugin  # noqa: F401  registers the filter of the tables
import numpy as np
import polars as pl
import pytest
from dl2_changes import ARRAY_TRIGGER, change, in_telescope, only_events, with_events

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER, OBSERVABLES, TIMING_CROSS
from arraycal.calib.simulation import ClockSettings, SimulationSettings, simulate_night
from arraycal.config.loading import load_preset

#: Telescopes of the north array: 1 to 4 are LST, from 5 on MST.
DEAD_HALF, HIGH_VOLTAGE, DRIFTING = 3, 2, 9
DRIFT_NS_PER_H = 400.0
ENERGIES = "/dl2/event/telescope/energy/RandomForestRegressor"
ENERGY = "RandomForestRegressor_tel_energy"


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Folders of the sound and of the troubled night."""
    sound, troubled = tmp_path_factory.mktemp("sound"), tmp_path_factory.mktemp("troubled")
    clocks = ClockSettings(drift_ns_per_h={DRIFTING: DRIFT_NS_PER_H})
    settings = SimulationSettings(array="north", n_blocks=5, n_showers=4000, seed=11, clocks=clocks)
    simulate_night(sound, settings)
    blocks = [shutil.copy(path, troubled) for path in sorted(sound.glob("*.dl2.h5"))]
    for number, path in enumerate(blocks[:4]):
        with_events(path, 150, event_type=0, first_id=900_000, seed=number)
        with_events(path, 150, event_type=2, first_id=950_000, seed=10 + number)
    ends_in_the_middle(blocks[1])
    loses_high_voltage(blocks[2])
    chunk = shutil.copy(blocks[0], troubled / "again.dl2.h5")
    only_events(chunk, lambda ids: ids[: len(ids) // 3])
    whole = (troubled / blocks[4]).read_bytes()
    (troubled / blocks[4]).write_bytes(whole[: len(whole) // 2])
    (sound / "last").mkdir()
    shutil.move(sound / (troubled / blocks[4]).name, sound / "last")
    return sound, troubled


def middle(path):
    with h5py.File(path) as file:
        return np.median(file[ARRAY_TRIGGER]["event_id"][:])


def ends_in_the_middle(path):
    half = middle(path)
    change(path, in_telescope(ENERGIES, DEAD_HALF), lambda rows: rows[rows["event_id"] < half])


def loses_high_voltage(path):
    half = middle(path)

    def weaker(rows):
        rows[ENERGY][rows["event_id"] > half] *= 0.8
        return rows

    change(path, in_telescope(ENERGIES, HIGH_VOLTAGE), weaker)


@pytest.fixture(scope="module")
def results(nights, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {
        (night, name): calibrate(
            [
                rows_of_block(path, observable, load_preset(name), cache)
                for path in sorted(folder.glob("*.dl2.h5"))
            ],
            observable,
            load_preset(name),
        )
        for night, folder in zip(("sound", "troubled"), nights, strict=True)
        for name, observable in OBSERVABLES.items()
        if name in (ENERGY_INTER.name, TIMING_CROSS.name)
    }


def reason(result, *words):
    (found,) = [text for text in result.verdict.reasons if all(word in text for word in words)]
    return found


def test_the_sound_night_has_nothing_to_say_of_throughputs(results):
    assert results["sound", "energy-inter"].verdict.reasons == ()


def test_every_fault_of_throughputs_is_named(results):
    result = results["troubled", "energy-inter"]
    assert result.verdict.status == "degraded"
    assert f"LST {DEAD_HALF} 0 of" in reason(result, "are missing for a part of the time")
    changed = reason(result, "contradict each other")
    assert f"telescope {HIGH_VOLTAGE}" in changed
    assert "1003" in changed
    assert "block_1005" in reason(result, "1 block left out")
    lost = dict(result.rejected.group_by("rule").agg(pl.col("rows").sum()).iter_rows())
    # 300 events in each of four blocks, a third of a block with its own twice: 13 telescopes each.
    assert 0.9 * 13 * 300 * 4 < lost["no shower event"] <= 13 * 300 * 5
    assert lost["copy of a row in another file of the observation"] > 0


def test_no_other_telescope_is_off(results):
    sound, troubled = (
        results[night, "energy-inter"].telescopes.sort("tel_id") for night in ("sound", "troubled")
    )
    others = ~sound["tel_id"].is_in([DEAD_HALF, HIGH_VOLTAGE]).to_numpy()
    # The telescope that changed takes the mean of its type along: the others are compared with it.
    step = np.log(troubled["value"].to_numpy() / sound["value"].to_numpy())
    types = sound["tel_type"].to_numpy()
    for kind in ("LST", "MST"):
        step[types == kind] -= step[(types == kind) & others].mean()
    z = step * troubled["value"].to_numpy() / troubled["error"].to_numpy()
    assert np.abs(z[others]).max() < 2.5


def test_the_drifting_clock_is_named_and_no_other(results):
    result = results["troubled", "timing-cross"]
    assert f"the clock of MST-{DRIFTING} drifts by +" in reason(result, "drift")
    others = result.telescopes.filter(pl.col("tel_id") != DRIFTING)
    assert set(others["flag"]) == {"ok"}
    # All other clocks are right; what is common to them is the gauge.
    value = others["value"].to_numpy()
    error = np.hypot(others["error"].to_numpy(), others["systematic"].to_numpy())
    assert np.abs((value - value.mean()) / error).max() < 2.5
