"""Nodes and global columns in one solve: against the full design, and what is undetermined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from arraycal.calib.fit.normal import Normal, NormalSolution, solve_normal
from arraycal.calib.fit.sums.columns import hold_columns

NODES = np.array([0.2, -0.1, 0.05, -0.15, 0.3, -0.3])
COLUMNS = np.array([0.7, -1.2])
#: Two groups of telescopes that never see the same shower.
COMPONENT = np.array([0, 0, 0, 0, 1, 1])


class Design:
    """Rows of showers with their design, shower terms taken out by subtracting weighted means."""

    def __init__(self, n_showers: int = 400, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        rows, shower = [], []
        for number in range(n_showers):
            group = np.flatnonzero(rng.integers(0, 2) == COMPONENT)
            seen = group[rng.random(len(group)) < 0.8]
            if len(seen) > 1:
                rows += seen.tolist()
                shower += [number] * len(seen)
        self.node, self.shower = np.array(rows), np.unique(shower, return_inverse=True)[1]
        self.weight = rng.uniform(0.5, 2.0, len(rows))
        self.h = rng.normal(size=(len(rows), 2))
        x = np.hstack([np.eye(6)[self.node], self.h])
        truth = np.concatenate([NODES, COLUMNS])
        free = rng.normal(size=self.shower.max() + 1)[self.shower]
        self.y = x @ truth + free + rng.normal(size=len(rows)) / np.sqrt(self.weight)
        self.x = x

    def within(self, values: np.ndarray) -> np.ndarray:
        """Subtract the weighted mean of each shower."""
        total = np.bincount(self.shower, self.weight)
        sums = np.zeros((len(total), *values.shape[1:]))
        np.add.at(sums, self.shower, values * _as(values, self.weight))
        return np.asarray(values - (sums / _as(sums, total))[self.shower])

    def normal(self) -> Normal:
        """Sums over the showers; gradients at the solution of a least-squares routine."""
        x, y = self.within(self.x), self.within(self.y)
        root = np.sqrt(self.weight)
        best = np.linalg.lstsq(x * root[:, None], y * root, rcond=1e-10)[0]
        gradient = np.zeros((self.shower.max() + 1, x.shape[1]))
        np.add.at(gradient, self.shower, x * (self.weight * (y - x @ best))[:, None])
        matrix = x.T @ (x * self.weight[:, None])
        # Exact zeros where telescopes share no shower, as sums over pair rows have them.
        matrix[np.abs(matrix) < 1e-12] = 0.0
        return Normal(
            matrix=matrix,
            vector=x.T @ (self.weight * y),
            curvature=matrix,
            meat=gradient.T @ gradient,
            n_nodes=6,
            n_clusters=float(len(gradient)),
        )


def _as(like: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values if like.ndim == 1 else values[:, None]


@pytest.fixture(scope="module")
def design() -> Design:
    return Design()


@pytest.fixture(scope="module")
def linear(design: Design) -> NormalSolution:
    return solve_normal(design.normal(), COMPONENT)


def test_every_component_keeps_its_own_shift_free(linear: NormalSolution) -> None:
    for number in (0, 1):
        nodes = np.flatnonzero(number == COMPONENT)
        assert linear.nodes[nodes].sum() == pytest.approx(0.0, abs=1e-13)
        # ... and so do the errors: the sum of a component is known exactly, to be zero.
        np.testing.assert_allclose(linear.covariance[nodes].sum(axis=0), 0.0, atol=1e-15)


def test_nodes_and_columns_are_those_of_the_full_least_squares_fit(
    design: Design, linear: NormalSolution
) -> None:
    # The same with a column for every shower and no elimination at all.
    full = np.hstack([design.x, np.eye(design.shower.max() + 1)[design.shower]])
    root = np.sqrt(design.weight)
    best = np.linalg.lstsq(full * root[:, None], design.y * root, rcond=1e-10)[0]
    np.testing.assert_allclose(linear.columns, best[6:8], rtol=1e-9)
    for number in (0, 1):
        nodes = np.flatnonzero(number == COMPONENT)
        expected = best[nodes] - best[nodes].mean()
        np.testing.assert_allclose(linear.nodes[nodes], expected, atol=1e-11)


def test_columns_are_recovered_within_their_errors(linear: NormalSolution) -> None:
    errors = np.sqrt(np.diag(linear.covariance))
    np.testing.assert_array_less(np.abs(linear.columns - COLUMNS), 4 * errors[6:])
    assert np.all(errors[6:] < 0.1)


def test_the_errors_are_the_scatter_of_repeated_data() -> None:
    # 200 repetitions know a standard deviation to 5 %; five of them for the largest of eight.
    solved = [solve_normal(Design(120, seed).normal(), COMPONENT) for seed in range(200)]
    values = np.array([np.concatenate([one.nodes, one.columns]) for one in solved])
    quoted = np.mean([np.diag(one.covariance) for one in solved], axis=0)
    truth = np.concatenate([NODES, COLUMNS])
    assert np.abs(values.mean(axis=0) - truth).max() < 5 * np.sqrt(quoted.max() / 200)
    np.testing.assert_allclose(values.std(axis=0), np.sqrt(quoted), rtol=0.25)


def test_without_columns_only_the_nodes_are_solved(design: Design) -> None:
    normal = design.normal()
    nodes = replace(
        normal,
        matrix=normal.matrix[:6, :6],
        vector=normal.vector[:6],
        curvature=normal.matrix[:6, :6],
        meat=normal.meat[:6, :6],
    )
    linear = solve_normal(nodes, COMPONENT)
    assert linear.columns.shape == (0,)
    np.testing.assert_allclose(nodes.matrix @ linear.nodes, nodes.vector, atol=1e-10)


def _extended(normal: Normal, design: Design, column: np.ndarray) -> Normal:
    """Add a global column to the sums."""
    x = design.within(np.hstack([design.x, column[:, None]]))
    matrix = x.T @ (x * design.weight[:, None])
    matrix[np.abs(matrix) < 1e-12] = 0.0
    matrix[:8, :8] = normal.matrix
    vector = np.append(normal.vector, x[:, 8] @ (design.weight * design.within(design.y)))
    meat = np.pad(normal.meat, (0, 1))
    return replace(normal, matrix=matrix, vector=vector, curvature=matrix, meat=meat)


def test_a_column_without_information_gets_no_number_and_takes_none_away(
    design: Design, linear: NormalSolution
) -> None:
    nothing = np.zeros(len(design.y))
    shower_only = np.asarray(design.shower % 2, float)  # the same for all telescopes of a shower
    for column in (nothing, shower_only):
        solved = solve_normal(_extended(design.normal(), design, column), COMPONENT)
        assert np.isnan(solved.columns[2])
        np.testing.assert_allclose(solved.columns[:2], linear.columns, rtol=1e-9)
        np.testing.assert_allclose(solved.nodes, linear.nodes, atol=1e-12)
        assert not solved.covariance[8].any()


def test_columns_that_say_the_same_are_both_undetermined(
    design: Design, linear: NormalSolution
) -> None:
    solved = solve_normal(_extended(design.normal(), design, 3 * design.h[:, 0]), COMPONENT)
    assert np.isnan(solved.columns[[0, 2]]).all()
    assert solved.columns[1] == pytest.approx(linear.columns[1], rel=1e-9)
    np.testing.assert_allclose(solved.nodes, linear.nodes, atol=1e-10)


def test_a_column_that_belongs_to_one_node_leaves_neither_a_number(design: Design) -> None:
    own = (design.node == 2).astype(float)
    solved = solve_normal(_extended(design.normal(), design, own), COMPONENT)
    assert np.isnan(solved.columns[2])
    assert np.isnan(solved.nodes[2])
    # The other component has nothing to do with it.
    assert np.isfinite(solved.nodes[4:]).all()


def test_nodes_without_a_component_get_no_value_but_do_not_count_as_zero(
    design: Design, linear: NormalSolution
) -> None:
    component = np.array([0, 0, 0, -1, 1, 1])
    solved = solve_normal(design.normal(), component)
    assert np.isnan(solved.nodes[3])
    expected = linear.nodes[:3] - linear.nodes[:3].mean()
    np.testing.assert_allclose(solved.nodes[:3], expected, atol=1e-12)
    assert not solved.covariance[3].any()


def test_a_component_that_no_link_holds_together_gets_no_value(design: Design) -> None:
    solved = solve_normal(design.normal(), np.zeros(6, int))
    assert np.isnan(solved.nodes).all()
    assert np.isfinite(solved.columns).all()


def test_with_columns_held_the_nodes_are_those_of_what_the_columns_leave(design: Design) -> None:
    normal = design.normal()
    held = solve_normal(hold_columns(normal, COLUMNS), COMPONENT)
    nodes, root = np.eye(6)[design.node], np.sqrt(design.weight)
    rest = design.within(design.y - design.h @ COLUMNS)
    x = design.within(nodes) * root[:, None]
    best = np.linalg.lstsq(x, rest * root, rcond=1e-10)[0]
    for group in (COMPONENT == 0, COMPONENT == 1):
        best[group] -= best[group].mean()
    np.testing.assert_allclose(held.nodes, best, atol=1e-12)
    assert len(held.columns) == 0
    # The sandwich of the nodes alone: columns that are known add no error.
    bread, n = np.linalg.pinv(x.T @ x, rcond=1e-10), normal.n_clusters
    expected = bread @ normal.meat[:6, :6] @ bread * n / (n - 1)
    np.testing.assert_allclose(held.covariance, expected, atol=1e-15)
    apart = replace(normal, curvature=normal.matrix.copy())
    again = solve_normal(hold_columns(apart, COLUMNS), COMPONENT)
    np.testing.assert_allclose(again.covariance, expected, atol=1e-15)
