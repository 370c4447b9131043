"""Chunks of showers: edges are put in and moved with the dates on both sides."""

import numpy as np
import pytest

from arraycal.calib.timing.showers import Plan


@pytest.fixture
def plan():
    """Two chunks of 100 showers of two observations."""
    return Plan(
        edges=np.array([0, 100, 200]),
        start_s=np.array([0.0, 60.0]),
        stop_s=np.array([59.0, 120.0]),
        obs_id=np.array([1, 2]),
        pointing=np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    )


def test_a_new_edge_makes_two_chunks_of_one(plan):
    found = plan.split(150, 89.0, 90.0)
    assert found.edges.tolist() == [0, 100, 150, 200]
    assert found.start_s.tolist() == [0.0, 60.0, 90.0]
    assert found.stop_s.tolist() == [59.0, 89.0, 120.0]
    assert found.obs_id.tolist() == [1, 2, 2]
    assert found.pointing[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert found.chunks(98, 4).tolist() == [0, 0, 1, 1]


def test_an_edge_that_is_there_already_is_not_put_in_again(plan):
    assert plan.split(100, 59.0, 60.0) is plan


def test_an_edge_moves_with_its_dates(plan):
    found = plan.move(1, 110, 65.0, 66.0)
    assert found.edges.tolist() == [0, 110, 200]
    assert (found.stop_s[0], found.start_s[1]) == (65.0, 66.0)
    assert plan.edges.tolist() == [0, 100, 200]
