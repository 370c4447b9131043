"""Stamps that no clock makes, of one telescope: named, whatever their mean is."""

import numpy as np
import pytest
from dl2_changes import change

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import TIMING_CROSS
from arraycal.config.loading import load_preset

TRIGGER = "/dl1/event/telescope/trigger"
QUARTERS_PER_S = 4_000_000_000


@pytest.fixture
def calibrated(night, tmp_path):
    def run(rule=None, tel_id=2):
        configuration = load_preset("timing-cross")
        paths = sorted(night.glob("*.dl2.h5"))
        for path in paths if rule else ():
            change(path, TRIGGER, stamped(tel_id, rule))
        blocks = [
            rows_of_block(path, TIMING_CROSS, configuration, tmp_path / "cache") for path in paths
        ]
        return calibrate(blocks, TIMING_CROSS, configuration).verdict

    return run


def stamped(tel_id, rule):
    """Change the stamps of a telescope, in quarter nanoseconds."""

    def change_rows(rows):
        own = rows["tel_id"] == tel_id
        time = rows["time"].astype(np.int64)
        quarters = rule(time[own, 0] * QUARTERS_PER_S + time[own, 1])
        time[own] = np.stack(np.divmod(quarters, QUARTERS_PER_S), axis=1)
        rows["time"] = time
        return rows

    return change_rows


def some(n, share):
    return np.random.default_rng(5).random(n) < share


SCATTER = {
    "counts in 8 ns": lambda quarters: quarters // 32 * 32,
    "two values 15 ns apart": lambda quarters: quarters + 60 * (np.arange(len(quarters)) % 2),
    "a fifth late by 6 ns": lambda quarters: quarters + 24 * some(len(quarters), 0.2),
}


@pytest.mark.parametrize("rule", SCATTER.values(), ids=list(SCATTER))
def test_a_clock_that_scatters_more_than_its_type_is_named(calibrated, rule):
    verdict = calibrated(rule)
    assert verdict.status == "degraded"
    (reason,) = verdict.reasons
    assert reason.startswith("the stamps of LST-2 scatter by ")


def test_a_clock_many_of_whose_stamps_are_left_out_is_named(calibrated):
    verdict = calibrated(lambda quarters: quarters + 200 * some(len(quarters), 0.15), tel_id=3)
    assert verdict.status == "degraded"
    (reason,) = verdict.reasons
    assert "of the stamps of LST-3 contradict their showers (0." in reason


def test_sound_clocks_name_nobody(calibrated):
    verdict = calibrated()
    assert (verdict.status, verdict.reasons) == ("usable", ())
