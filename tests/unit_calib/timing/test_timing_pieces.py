"""Small pieces of the fit of clocks, each against numbers by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing.detail import _bins
from arraycal.calib.timing.fit import SETTLED_NS, _is_settled, _noise
from arraycal.calib.timing.refine import _cut, _deviations
from arraycal.calib.timing.residuals import FrontModel
from arraycal.calib.timing.showers import Plan
from arraycal.calib.timing.steps import clock_course
from arraycal.calib.timing.trends import _rate

MODEL = FrontModel(
    offset_ns=np.array([[10.0, 20.0, 30.0], [15.0, 21.0, 31.0]]),
    log_scale=0.0,
    walk_ns=np.array([2.0, 3.0]),
    sigma_ns=np.array([1.0, 1.0, 2.0]),
    clip=5.0,
    columns=("curvature", "walk"),
)
#: Two chunks of 100 showers of two observations.
PLAN = Plan(
    edges=np.array([0, 100, 200]),
    start_s=np.array([0.0, 60.0]),
    stop_s=np.array([60.0, 120.0]),
    obs_id=np.array([1, 2]),
    pointing=np.zeros((2, 3)),
)


def test_the_noise_of_a_telescope_whose_stamps_come_from_no_clock_ends_at_a_microsecond():
    # A million stamps that scatter by 3162 ns, and by 0.01 ns.
    total: Any = SimpleNamespace(expected=np.full(2, 1e6), square=np.array([1e13, 1e2]))
    found = _noise(np.ones(2), total, np.array([0, 1]))
    np.testing.assert_allclose(found, [1000.0, 0.1])


@pytest.mark.parametrize(("moved", "settled"), [(0.99, True), (1.0, False)])
def test_offsets_that_move_by_the_limit_have_not_settled(moved, settled):
    start = replace(MODEL, offset_ns=np.zeros((1, 3)))
    end = replace(start, offset_ns=np.array([[0.0, -moved * SETTLED_NS, np.nan]]))
    assert _is_settled(start, end) is settled


def test_the_outer_bins_are_open():
    assert _bins(np.array([-7.0, 0.5, 2.0, 3.5, 1e9]), np.arange(4.0)).tolist() == [0, 0, 2, 2, 2]


def test_offsets_of_a_chunk_are_relative_to_the_middle_of_the_steady_ones():
    # Chunks that differ by 10 ns in all; telescope 3 jumps by 50 ns, and is not steady.
    total = np.array([[1.0, 2.0, 3.0, 0.0], [11.0, 12.0, 13.0, 60.0]])
    covariance = np.stack([np.eye(4), 4.0 * np.eye(4)])
    fitted: Any = SimpleNamespace(
        solution=SimpleNamespace(
            offset_ns=0.25 * total, covariance=covariance, model_covariance=0.5 * covariance
        ),
        model=SimpleNamespace(offset_ns=0.75 * total),
        sums=SimpleNamespace(n_rows=np.array([[9.0] * 4, [9.0, 4.0, 5.0, 9.0]])),
        plan=PLAN,
    )
    found = clock_course(fitted, np.array([True, True, True, False]))
    # Medians of the telescopes over the chunks are 2 ns less than 1, 2, 3 in chunk 0. Of less
    # than 5 showers nothing is told.
    np.testing.assert_allclose(found.offset_ns[0], [-1.0, 0.0, 1.0, -2.0])
    np.testing.assert_allclose(found.offset_ns[1], [-1.0, np.nan, 1.0, 48.0])
    # One of three anchors has 2/3 of itself and 1/3 of the two others: 6/9; another telescope
    # 1 + 3/9. Of two anchors: 1/2; 1 + 2/4; times the variances.
    np.testing.assert_allclose(found.error_ns[0] ** 2, [6 / 9, 6 / 9, 6 / 9, 12 / 9])
    np.testing.assert_allclose(found.error_ns[1] ** 2, [2.0, np.nan, 2.0, 6.0])
    np.testing.assert_allclose(found.middle_s, [30.0, 90.0])


def test_stamps_of_a_clock_that_jumps_are_told_against_the_mean_of_the_others():
    shower = np.repeat([0, 1], 3)
    showers: Any = SimpleNamespace(
        # Offset, walk (2 x 0.5, 2 x 1, 3 x 2 ns), and what is left: 0.3, 1, -1, then 5, 0, 0.
        delay_ns=np.array([11.3, 23.0, 35.0, 16.0, 23.0, 37.0]),
        predict=lambda _: (np.zeros(6), None),
        telescope=np.tile([0, 1, 2], 2),
        kind=np.tile([0, 0, 1], 2),
        brightness=np.tile([0.5, 1.0, 2.0], 2),
        shower=shower,
        total=lambda values: np.bincount(shower, values),
    )
    found, of = _deviations(showers, np.array([0, 1]), MODEL, 0, 0)
    # Others with sigmas of 1 and 2 ns: (1 - 1/4) / (1 + 1/4) = 0.6.
    np.testing.assert_allclose(found, [0.3 - 0.6, 5.0])
    assert of.tolist() == [0, 1]


def test_a_jump_in_the_middle_of_a_chunk_cuts_it():
    offset = np.array([[1.0, 7.0], [5.0, 8.0]])
    plan, found = _cut(PLAN, offset, 150, 89.0, 90.0, 0, 10.0)
    assert plan.edges.tolist() == [0, 100, 150, 200]
    # The level of the chunk before, then that and the jump; the other telescope as it was.
    assert found.tolist() == [[1.0, 7.0], [1.0, 8.0], [11.0, 8.0]]


def test_a_jump_at_the_edge_of_an_observation_cuts_nothing():
    offset = np.array([[1.0, 7.0], [5.0, 8.0]])
    plan, found = _cut(PLAN, offset, 102, 60.5, 61.0, 0, 10.0)
    assert plan is PLAN
    assert found.tolist() == offset.tolist()


def test_a_jump_is_no_drift_where_it_describes_better_what_a_line_describes_too():
    hours, error = np.arange(12.0), np.full(12, 0.2)
    # A line through a jump of 1 ns is 7 errors from level, with a chi-square of 18 in the place of
    # 0; through an even rise it leaves nothing.
    assert _rate(np.repeat([0.0, 1.0], 6), error, hours, 1e-4) == 0.0
    assert _rate(0.1 * hours, error, hours, 1e-4) == pytest.approx(0.1)
