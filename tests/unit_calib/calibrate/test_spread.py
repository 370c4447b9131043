"""Rows that are summed elsewhere, in any order of time, give the numbers of one thread."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from arraycal.calib import throughput
from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.calib.spread import BlockWindows, in_turn, over_blocks
from arraycal.config.loading import load_preset


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    simulate_night(folder, SimulationSettings(array="north", n_blocks=3, n_showers=700, seed=5))
    return folder


def sent(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  of our own


def by_pickles(work, items):
    """Nothing but bytes gets there and back."""
    for item in items:
        yield sent(sent(work)(sent(item)))


def backwards(work, items):
    """The last block is done first."""
    answers = [work(item) for item in reversed(items)]
    return reversed(answers)


def by_threads(work, items):
    with ThreadPoolExecutor(3) as pool:
        yield from pool.map(work, items)


@pytest.mark.parametrize("observable", [ENERGY_INTER, ENERGY_CROSS, IMAGE_INTER])
def test_the_numbers_are_the_same_to_the_last_bit(night, tmp_path, monkeypatch, observable):
    monkeypatch.setattr(throughput, "MIN_SPREAD_ROWS", 0)
    configuration = load_preset(observable.name)
    blocks = [
        rows_of_block(path, observable, configuration, tmp_path)
        for path in sorted(night.glob("*.dl2.h5"))
    ]
    asked = []

    def counted(work, items):
        asked.append(len(items))
        return by_pickles(work, items)

    here = calibrate(blocks, observable, configuration)
    for spread in (counted, backwards, by_threads):
        there = calibrate(blocks, observable, configuration, spread=spread)
        assert there.telescopes.equals(here.telescopes)
        np.testing.assert_array_equal(there.covariance, here.covariance)
        assert there.verdict == here.verdict
        assert there.extras.keys() == here.extras.keys()
        for name, table in here.extras.items():
            assert there.extras[name].equals(table, null_equal=True), name
    # Every block is sketched and swept at least once.
    assert len(asked) >= 2
    assert set(asked) == {3}


def test_a_small_night_is_summed_here(night, tmp_path):
    configuration = load_preset("energy-inter")
    blocks = [
        rows_of_block(path, ENERGY_INTER, configuration, tmp_path)
        for path in sorted(night.glob("*.dl2.h5"))
    ]

    def refuse(*_):
        raise AssertionError

    assert calibrate(blocks, ENERGY_INTER, configuration, spread=refuse).telescopes.height == 13


def test_answers_come_one_by_one_in_the_order_of_blocks():
    done = []

    def work(windows):
        done.append(sum(windows))
        return done[-1]

    windows = BlockWindows((lambda: [1, 2], lambda: [10], list), in_turn)
    answers = over_blocks(windows, work)
    assert next(answers) == 3
    assert done == [3]
    assert list(answers) == [10, 0]
    assert list(windows()) == [1, 2, 10]


def five():
    return [2, 3]


def test_windows_that_are_not_of_blocks_are_worked_on_at_once():
    assert list(over_blocks(five, sum)) == [5]
