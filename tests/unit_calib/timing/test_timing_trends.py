"""Straight lines of clocks: where they are zero, and at which date a node has its value."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from arraycal.calib.timing.solve import constant_nodes
from arraycal.calib.timing.steps import ClockCourse, drifts
from arraycal.calib.timing.tables import history_table
from arraycal.calib.timing.trends import ClockTrends, find_trends

HOUR = 3600.0
#: Two chunks of an hour, with their middles at 0.5 h and 2.5 h.
PLAN: Any = SimpleNamespace(
    start_s=np.array([0.0, 2.0]) * HOUR, stop_s=np.array([1.0, 3.0]) * HOUR, obs_id=np.array([7, 8])
)
TRENDS = ClockTrends(np.array([2.0, 0.0]), 0.5 * HOUR)


def test_a_line_is_its_rate_times_the_hours_since_its_zero():
    np.testing.assert_allclose(TRENDS.chunks(PLAN), [[0.0, 0.0], [4.0, 0.0]])


def test_a_node_has_the_mean_date_of_its_stamps_or_else_the_middle_of_its_chunks():
    # Telescope 0 with 30 and 10 stamps: (30 x 0.5 + 10 x 2.5) / 40 = 1 h; telescope 1 without any.
    rows = np.array([[30.0, 0.0], [10.0, 0.0]])
    date, value = TRENDS.nodes(PLAN, constant_nodes(2, 2), rows)
    np.testing.assert_allclose(date, [1.0 * HOUR, 1.5 * HOUR])
    np.testing.assert_allclose(value, [1.0, 0.0])


def test_the_history_is_shifted_to_the_offsets_of_the_result():
    subarray: Any = SimpleNamespace(types=("LST", "LST"), tel_ids=np.array([1, 2]))
    offset = np.array([10.0, -20.0])
    history = SimpleNamespace(offset_ns=np.tile(offset + 5.0, (2, 1)), error_ns=np.ones((2, 2)))
    found: Any = SimpleNamespace(
        history=history,
        offset_ns=offset,
        nodes=constant_nodes(2, 2),
        plan=PLAN,
        detail=SimpleNamespace(sums=SimpleNamespace(n_rows=np.ones((2, 2)))),
    )
    assert history_table(found, subarray)["offset_ns"].to_list() == [10.0, -20.0, 10.0, -20.0]


def test_a_drift_is_the_slope_between_jumps_and_its_error_that_of_a_straight_line():
    # Three hours at 2 ns/h, then the same behind a jump of 100 ns; errors of 0.5 ns.
    offset = 2.0 * np.arange(6.0) + np.repeat([0.0, 100.0], 3)
    past = ClockCourse(offset[:, None], np.full((6, 1), 0.5), HOUR * np.arange(6.0))
    (found,) = drifts(past, {0: [3]})
    # Hours from the middle of each part: 1, 0, 1 squared, twice, over 0.25: 16.
    np.testing.assert_allclose([found.slope, found.error], [2.0, 16**-0.5])


@dataclass(frozen=True)
class Offsets:
    """What the search for drifts reads of a model."""

    offset_ns: np.ndarray


@dataclass(frozen=True)
class Settled:
    """What it reads of a fit: eight chunks of half an hour, errors of 0.1 ns."""

    model: Any
    solution: Any
    sums: Any
    plan: Any


def settled(offset):
    shape, n = offset.shape, offset.shape[1]
    covariance = np.tile(0.01 * np.eye(n), (len(offset), 1, 1))
    start = 1.7e9 + 0.5 * HOUR * np.arange(len(offset))
    return Settled(
        Offsets(offset),
        SimpleNamespace(
            offset_ns=np.zeros(shape), covariance=covariance, model_covariance=covariance
        ),
        SimpleNamespace(n_rows=np.full(shape, 100.0)),
        SimpleNamespace(start_s=start, stop_s=start + 0.5 * HOUR),
    )


def test_drifts_are_those_against_the_clocks_that_keep_time():
    hours = 0.5 * np.arange(8.0)
    uneven = 0.1 * np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0])
    # The middle one of those that keep time is the first of them in every chunk.
    offset = np.stack([5.0 + 0.0 * hours, uneven, -uneven, 2.0 * hours + 40.0, 3.0 * hours], axis=1)
    found: Any = settled(offset)
    trends = find_trends(found, 0.01)
    np.testing.assert_allclose(trends.rate, [0.0, 0.0, 0.0, 2.0, 3.0], atol=1e-9)
    assert trends.zero_s == 1.7e9 + 2.0 * HOUR
