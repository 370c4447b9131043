"""Clocks unlike those of their type, by values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from arraycal.calib.timing.sums import empty_sums
from arraycal.calib.timing.trust import LEAST_ROWS, Strange, strange


def strange_of(
    rms_ns: list[float], lost: list[float] | None = None, n_rows: int = 1000
) -> list[Strange]:
    """Of clocks of one type with a fitted noise of 1 ns."""
    n = len(rms_ns)
    kept = np.full((1, n), float(n_rows))
    share = np.zeros(n) if lost is None else np.array(lost)
    sums = replace(
        empty_sums(1, n, 0),
        n_rows=kept,
        n_all=kept / (1 - share),
        square=np.square(rms_ns),
        expected=np.ones(n),
    )
    return strange(sums, np.ones(n), np.zeros(n, np.intp))


def test_a_clock_is_compared_with_the_others_of_its_type() -> None:
    # Those of the third scatter by 1.1: 1.5 times that is 1.65. With its own it would be 1.8.
    (found,) = strange_of([1.0, 1.2, 1.7])
    assert (found.telescope, found.what) == (2, "scatter")
    assert (found.value, found.usual) == pytest.approx((1.7, 1.1))
    assert strange_of([1.0, 1.2, 1.6]) == []


def test_of_two_clocks_nobody_knows_which_is_unlike_the_other() -> None:
    assert strange_of([1.0, 5.0]) == []
    assert strange_of([5.0]) == []


def test_stamps_that_contradict_are_counted_beyond_twice_those_of_the_type() -> None:
    (found,) = strange_of([1.0] * 3, [0.01, 0.01, 0.05])
    assert (found.telescope, found.what) == (2, "contradict")
    assert (found.value, found.usual) == pytest.approx((0.05, 0.01))
    assert strange_of([1.0] * 3, [0.01, 0.01, 0.039]) == []


def test_of_few_stamps_nothing_is_said() -> None:
    assert strange_of([1.0, 1.0, 9.0], n_rows=LEAST_ROWS - 1) == []
    assert len(strange_of([1.0, 1.0, 9.0], n_rows=LEAST_ROWS)) == 1
