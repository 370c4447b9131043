"""First offsets: which stamps they are learned from, and what stays where it was."""

from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing import acquire
from arraycal.calib.timing.acquire import Acquirer, coincidences


def acquirer(n_telescopes, n_chunks=2):
    plan: Any = range(n_chunks)  # of a plan only the number of chunks is read
    return Acquirer(n_telescopes, plan, 0.0)


def follow(found, offset_ns, n_showers, chunk):
    """Let it learn from showers that every telescope sees, without noise."""
    n = len(offset_ns)
    telescope = np.tile(np.arange(n), n_showers)
    group = np.repeat(np.arange(n_showers), n)
    found._follow(np.asarray(offset_ns, float)[telescope], telescope, group, chunk)


def test_of_many_showers_every_third_is_taken_with_its_own_rows(monkeypatch):
    monkeypatch.setattr(acquire, "SEARCHED", 2)
    found = acquirer(3)
    telescope, group = np.tile(np.arange(3), 6), np.repeat(np.arange(6), 3)
    offset = np.array([0.0, 3.0, -3.0])
    sign = np.where(group % 3 == 0, 1.0, -1.0)  # 6 showers for 2: numbers 0 and 3 count
    found._follow(sign * offset[telescope], telescope, group, 0)
    np.testing.assert_array_equal(found.offset_ns[0], offset)


def test_known_telescopes_stay_put_when_most_are_new():
    found = acquirer(7)
    for telescope in range(3):
        found._carried[telescope] = (0.0, 3.0, -3.0)[telescope]
    # The middle of every shower is now that of the four new ones, 15 ns late.
    follow(found, [0.0, 3.0, -3.0, 15.0, 15.0, 15.0, 15.0], 10, 1)
    np.testing.assert_array_equal(found.offset_ns[1], [0.0, 3.0, -3.0, 15.0, 15.0, 15.0, 15.0])


def test_noise_is_learned_from_ten_stamps_and_never_below_the_least():
    found = acquirer(3)
    # 10 stamps that are 3 ns off, 9 of another telescope, 10 without any deviation.
    telescope = np.repeat([0, 1, 2], [10, 9, 10])
    deviation = np.repeat([-3.0, 3.0, 0.0], [10, 9, 10])
    found._learn_noise(deviation, telescope)
    # MAD to sigma of a Gaussian: 1 / 0.6745; 2 ns is what it begins with, 0.1 ns the least.
    np.testing.assert_allclose(found.sigma_ns, [3.0 * 1.4826, 2.0, 0.1], rtol=1e-12)


def pairs_of_stamps(difference):
    """Rows of telescope 1, then 0, of showers with that difference."""
    n = len(difference)
    delay = np.zeros(2 * n)
    delay[::2] = difference
    return delay, np.tile([1, 0], n), np.repeat(np.arange(n), 2), 2


@pytest.mark.parametrize(("n", "offset"), [(5, 1040.0), (4, 0.0)])
def test_five_coincidences_are_enough_the_first_row_included(n, offset):
    found = coincidences(*pairs_of_stamps([1040.0] * n))
    np.testing.assert_array_equal(found, [0.0, offset])


def test_a_coincidence_is_the_median_of_all_within_a_bin_of_its_centre():
    # All in the bin from 1000 to 1100: its centre reaches from 950 to 1150.
    found = coincidences(*pairs_of_stamps([1010.0] * 3 + [1090.0] * 4))
    np.testing.assert_array_equal(found, [0.0, 1090.0])
