"""Simulated nights of telescopes that change: dates, truth, and what the data hold of it."""

import dataclasses
from datetime import UTC, date, datetime

import numpy as np
import pytest

from arraycal.calib.dl2.observed import observation_start
from arraycal.calib.simulation import (
    ClockSettings,
    NightSettings,
    SimulationSettings,
    Truth,
    block_path,
    draw_throughput,
    settings_of_nights,
    simulate_block,
    simulate_night,
    simulate_nights,
)

SETTINGS = SimulationSettings(
    array="north",
    n_blocks=1,
    n_showers=50,
    seed=4,
    night=date(2026, 2, 28),
    clocks=ClockSettings(offset_scatter_ns=5.0),
)
CHANGES = NightSettings(
    n_nights=3, steps=((5, -0.08, date(2026, 3, 2)), (5, 0.5, date(2026, 3, 9))), ageing={6: 0.01}
)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nights")
    return folder, simulate_nights(folder, SETTINGS, CHANGES)


def test_the_truth_of_each_night_is_what_its_telescopes_were(nights):
    _, truths = nights
    before = draw_throughput(SETTINGS)
    for index, truth in enumerate(truths):
        expected = before | {6: before[6] * 0.99**index}
        if index == 2:
            expected[5] = before[5] * 0.92
        assert truth.throughput == pytest.approx(expected, rel=1e-12)


def test_the_truth_is_in_the_folder_of_its_date(nights):
    folder, truths = nights
    names = ["2026-02-28", "2026-03-01", "2026-03-02"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name, truth in zip(names, truths, strict=True):
        assert Truth.read(folder / name / "truth.json") == truth
        assert truth.settings.night.isoformat() == name


def test_blocks_are_observed_in_their_night_and_numbered_through(nights):
    folder, truths = nights
    starts = []
    for index, truth in enumerate(truths):
        (obs_id,) = truth.obs_ids
        assert obs_id == 1001 + index
        path = block_path(folder / truth.settings.night.isoformat(), obs_id)
        starts.append(observation_start(path))
    # 22:00 TAI is 37 s earlier in UTC.
    first = datetime(2026, 2, 28, 21, 59, 23, tzinfo=UTC)
    offsets_s = [(start - first).total_seconds() for start in starts]
    assert offsets_s == pytest.approx([0, 86_400, 2 * 86_400], abs=1.5)


def test_nights_have_other_showers_and_the_same_clocks(nights):
    _, truths = nights
    assert len({truth.settings.seed for truth in truths}) == 3
    assert truths[0].settings.seed == SETTINGS.seed
    assert truths[0].clock_offset_ns == truths[2].clock_offset_ns
    later = settings_of_nights(dataclasses.replace(SETTINGS, seed=5), CHANGES)
    assert not {item.seed for item in later} & {truth.settings.seed for truth in truths}


def test_a_night_among_others_is_the_night_alone(nights, tmp_path):
    folder, truths = nights
    again = simulate_night(tmp_path, truths[1].settings)
    assert again == truths[1]
    path = folder / "2026-03-01" / "block_1002.dl2.h5"
    assert block_path(tmp_path, 1002).read_bytes() == path.read_bytes()


def test_the_first_of_several_nights_is_the_one_without_them():
    block = simulate_block(SETTINGS, 1001, draw_throughput(SETTINGS), 7)
    alone = settings_of_nights(SETTINGS, NightSettings())[0]
    same = simulate_block(alone, 1001, alone.throughput, 7)
    assert np.array_equal(block.images.size, same.images.size)
    assert np.array_equal(block.images.time, same.images.time)


def test_nothing_is_written_where_one_of_the_nights_is_there_already(tmp_path):
    simulate_nights(tmp_path, SETTINGS, NightSettings(n_nights=2))
    for path in (tmp_path / "2026-02-28").iterdir():
        path.unlink()
    with pytest.raises(FileExistsError, match="2026-03-01 already holds a night"):
        simulate_nights(tmp_path, SETTINGS, NightSettings(n_nights=2))
    assert not list((tmp_path / "2026-02-28").iterdir())
    simulate_nights(tmp_path, SETTINGS, NightSettings(n_nights=2), overwrite=True)
    assert len(list((tmp_path / "2026-02-28").iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_nights": 0}, "n_nights is 0; it must be at least 1"),
        ({"ageing": {5: 1.0}}, "telescope 5 is to change by -1 of its value"),
        ({"steps": ((5, -2.0, date(2026, 3, 1)),)}, "telescope 5 is to change by -2 of its"),
        ({"steps": ((5, float("nan"), date(2026, 3, 1)),)}, "change by \\+nan of its value"),
    ],
)
def test_changes_that_no_telescope_can_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NightSettings(**changes)


def test_changes_of_telescopes_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"throughput of telescopes \[99\] is to change"):
        settings_of_nights(SETTINGS, NightSettings(ageing={99: 0.1}))


@pytest.mark.parametrize(
    ("first", "n_nights"),
    [
        ("9999-12-30", 5),
        ("9999-12-31", 1),
        ("2043-01-23", 2),
        ("2026-03-01", 10**15),
        ("1970-01-01", 1),
    ],
)
def test_nights_without_time_stamps_are_refused(first, n_nights):
    settings = dataclasses.replace(SETTINGS, night=date.fromisoformat(first))
    with pytest.raises(ValueError, match=f"n_nights is {n_nights}, from {first} on"):
        settings_of_nights(settings, NightSettings(n_nights=n_nights))


@pytest.mark.parametrize("night", ["1970-01-02", "2043-01-23"])
def test_the_first_and_the_last_night_can_be_simulated(night, tmp_path):
    settings = dataclasses.replace(SETTINGS, night=date.fromisoformat(night))
    simulate_nights(tmp_path, settings, NightSettings())
    assert [path.name for path in tmp_path.iterdir()] == [night]
