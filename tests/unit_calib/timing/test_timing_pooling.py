"""Offsets that are constant but for jumps, and what they would be without walk, by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from arraycal.calib.fit.normal import Normal
from arraycal.calib.timing.answer import _pooled_model
from arraycal.calib.timing.residuals import FrontModel
from arraycal.calib.timing.shapes import walk_shifts
from arraycal.calib.timing.solve import constant_nodes
from arraycal.calib.timing.sums import empty_sums


def test_chunks_of_a_node_get_the_mean_of_their_offsets():
    # Telescope 1 is 0 ns late in a chunk of one shower, 4 ns in one of three, 10 ns behind a jump.
    late, n_showers = (0.0, 4.0, 10.0), (1.0, 3.0, 1.0)
    sums = empty_sums(3, 3, 0)
    for chunk, n in enumerate(n_showers):
        # Two stamps of a shower: half a unit of weight for their difference.
        sums.matrix[chunk, :2, :2] = 0.5 * n * np.array([[1.0, -1.0], [-1.0, 1.0]])
        sums.n_rows[chunk, :2] = sums.n_showers[chunk] = n
    offset = np.array([[-0.5 * x, 0.5 * x, np.nan] for x in late])
    model = FrontModel(offset, 0.0, np.zeros(1), np.ones(3), np.inf, ())
    fitted: Any = SimpleNamespace(sums=sums, model=model)
    found = _pooled_model(fitted, constant_nodes(3, 3, {1: [2]})).offset_ns
    np.testing.assert_allclose(found[:, 1] - found[:, 0], [3.0, 3.0, 10.0])
    np.testing.assert_allclose(np.ptp(found[:, 0]), 0.0, atol=1e-12)
    # It was never seen.
    assert np.isnan(found[:, 2]).all()


def test_shifts_without_walk_are_those_of_the_equations_with_the_walk_in_the_stamps():
    # Telescope 0 against 1 in two showers, in which it is dark and bright: 1 and 1.5 ns late
    # beyond a walk of 4 ns. With a walk that is 1 ns and 0.5 ns; without, the mean of 1 and 5.5.
    design = np.array([[1.0, -1.0, 0.0], [1.0, -1.0, 1.0]])
    matrix = design.T @ design
    normal = Normal(matrix, design.T @ np.array([1.0, 1.5]), matrix, matrix, 2, 2.0)
    model: Any = SimpleNamespace(
        columns=("walk",), names=lambda: ("walk_0",), walk_ns=np.array([4.0])
    )
    found = walk_shifts(normal, model, np.zeros(2, np.intp))
    np.testing.assert_allclose(found.nodes_ns, [1.125, -1.125])
    assert found.log_scale == 0.0
