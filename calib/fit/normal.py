"""Normal equations of a fixed-effects fit with global columns, and their solution.

A shower e seen by telescope i gives ``y_ei = x_e + s_i + h_ei . theta + noise``. The shower terms
x_e are eliminated before the sums are made, so what is left are n nodes s (throughputs, clock
offsets) and m global columns theta (a distance curve, a front radius, a trigger walk). Nodes
compare with each other only: each connected part of the graph leaves one common shift free.

Numerics: the shift is removed explicitly (`pseudo_inverse`); the columns are then solved on what
the nodes leave over (Schur complement), where a direction without information is told by its
eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, sparse

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Normal", "NormalSolution", "laplacian", "members", "pseudo_inverse", "solve_normal"]

#: A combination of columns carries no information when, of its sum of squares, less than this
#: part is left once the nodes have taken theirs; rounding leaves about 1e-15.
NO_INFORMATION = 1e-10
#: A column or node with a larger part in such a combination (in units of what one row would
#: determine) is not determined either.
INVOLVED = 1e-5


@dataclass(frozen=True)
class Normal:
    """Normal equations of a fixed-effects fit: n nodes first, then m global columns.

    Parameters
    ----------
    matrix : array, shape (n + m, n + m)
        Sum of X^T W X over showers, shower terms eliminated.
    vector : array, shape (n + m,)
        Sum of X^T W y likewise.
    curvature : array, shape (n + m, n + m)
        Derivative of the gradient; equal to `matrix` without robust weights.
    meat : array, shape (n + m, n + m)
        Sum over showers of g g^T, g the gradient of one shower at (nearly) the solution.
    n_nodes : int
        n.
    n_clusters : float
        Number of showers.
    """

    matrix: Floats
    vector: Floats
    curvature: Floats
    meat: Floats
    n_nodes: int
    n_clusters: float


@dataclass(frozen=True)
class NormalSolution:
    """Solution of `Normal`.

    Parameters
    ----------
    nodes : array, shape (n,)
        Values of the nodes, mean zero in each component; NaN where undetermined.
    columns : array, shape (m,)
        Values of the global columns; NaN without information.
    covariance : array, shape (n + m, n + m)
        Event-clustered sandwich; zero in the rows and columns of what is undetermined.
    prediction : array, shape (m,)
        Values of the columns without gaps, to compute residuals with: among the solutions that
        fit equally well, the one without any part in what is undetermined.
    bread : array, shape (n + m, n + m)
        Answer of the solution to the gradient of one shower; zero in rows of what is undetermined.
    """

    nodes: Floats
    columns: Floats
    covariance: Floats
    prediction: Floats
    bread: Floats


def laplacian(weight: Floats) -> Floats:
    """Graph Laplacian of symmetric or one-sided edge weights, shape (n, n).

    Examples
    --------
    >>> laplacian(np.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
    [[2.0, -2.0], [-2.0, 2.0]]
    """
    both = weight + weight.T
    return np.diag(both.sum(axis=1)) - both


def pseudo_inverse(matrix: Floats) -> Floats:
    """Inverse of a connected Laplacian on the space of vectors that sum to zero.

    The Laplacian has the constant as its null vector. A pseudo-inverse with a default cut-off
    mistakes rounding noise for a small eigenvalue; here the null space is filled explicitly,
    ``A^+ = inv(A + k 11^T) - 11^T / (k n^2)``.
    """
    n = len(matrix)
    filling = float(np.trace(matrix)) / n
    inverse = linalg.inv(matrix + filling / n, assume_a="sym")
    inverse = 0.5 * (inverse + inverse.T)
    return np.asarray(inverse - 1.0 / (filling * n))


def members(component: Indices) -> list[Indices]:
    """Nodes of each component, by its number."""
    return [
        np.flatnonzero(component == number) for number in range(int(component.max(initial=-1)) + 1)
    ]


def solve_normal(normal: Normal, component: Indices) -> NormalSolution:
    """Solve the normal equations with event-clustered errors.

    Parameters
    ----------
    normal : Normal
        The equations.
    component : array of int, shape (n,)
        Number of each node's component; -1 for nodes that shall get no value. Those are still
        fitted along, as are links between components: left out of the equations they would count
        as known to be zero.

    Returns
    -------
    NormalSolution
        The solution. Its covariance is the sandwich ``G (sum_e g_e g_e^T) G^T N / (N - 1)`` with
        the generalised inverse G of the curvature, which holds whatever the correlations inside
        a shower are (Arellano 1987).

    Notes
    -----
    With the node block A (a weighted graph Laplacian), the columns' block C and the mixed
    block B, ``S = C - B^T A^+ B`` holds what the columns know beyond the nodes.
    """
    n = normal.n_nodes
    parts = _linked(normal.matrix[:n, :n])
    inverse, lost = _generalised_inverse(normal.matrix, parts, n)
    bread = (
        inverse
        if normal.curvature is normal.matrix
        else _generalised_inverse(normal.curvature, parts, n)[0]
    )
    lost[:n] |= _without_value(component, parts)
    solution = inverse @ normal.vector
    prediction = solution[n:]
    solution = _centred(solution, component, lost)
    solution[lost] = np.nan
    bread = _centred(bread, component, lost)
    clusters = normal.n_clusters
    scale = clusters / (clusters - 1) if clusters > 1 else np.nan
    covariance = bread @ normal.meat @ bread.T * scale
    return NormalSolution(solution[:n], solution[n:], covariance, prediction, bread)


def _linked(block: Floats) -> list[Indices]:
    """Nodes that are tied together by any link at all; a node without one is in no part."""
    links = block != 0
    np.fill_diagonal(links, val=False)
    _, label = sparse.csgraph.connected_components(links, directed=False)
    groups = members(label.astype(np.intp))
    return [group for group in groups if len(group) > 1]


def _generalised_inverse(
    matrix: Floats, parts: list[Indices], n: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Symmetric generalised inverse, and which unknowns are not determined by it."""
    nodes = np.zeros((n, n))
    for part in parts:
        block = np.ix_(part, part)
        nodes[block] = pseudo_inverse(matrix[block])
    lost = np.zeros(len(matrix), np.bool_)
    if len(matrix) == n:
        return nodes, lost
    mixed, size = matrix[:n, n:], np.sqrt(np.maximum(np.diag(matrix)[n:], 0.0))
    inverse_size = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    taken = nodes @ mixed  # what the nodes answer to a unit of each column
    left = (matrix[n:, n:] - mixed.T @ taken) * np.outer(inverse_size, inverse_size)
    value, vector = np.linalg.eigh(0.5 * (left + left.T))
    null = np.abs(value) < NO_INFORMATION
    inverse_value = np.divide(1.0, value, out=np.zeros_like(value), where=~null)
    columns = inverse_size[:, None] * ((vector * inverse_value) @ vector.T) * inverse_size
    lost[n:] = (np.abs(vector[:, null]) > INVOLVED).any(axis=1)
    # A column that is a pattern of the nodes takes these with it.
    echo = (taken * inverse_size) @ vector[:, null]
    # Sums over halves are differences: a node without showers there may have -1e-17.
    strength = np.sqrt(np.maximum(np.diag(matrix)[:n, None], 0.0))
    lost[:n] = (np.abs(echo) * strength > INVOLVED).any(axis=1)
    across = -taken @ columns
    inverse = np.block([[nodes - across @ taken.T, across], [across.T, columns]])
    return inverse, lost


def _without_value(component: Indices, parts: list[Indices]) -> npt.NDArray[np.bool_]:
    """Nodes outside the components, and those of a component that nothing holds together."""
    part = np.full(len(component), -1)
    for number, nodes in enumerate(parts):
        part[nodes] = number
    lost = component < 0
    for nodes in members(component):
        lost[nodes] = (part[nodes] < 0).any() or (part[nodes] != part[nodes[0]]).any()
    return np.asarray(lost)


def _centred(
    values: Floats, component: Indices, lost: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Rows of the unknowns with mean zero over the known nodes of each component, zero if lost."""
    centred = np.where(lost[:, None] if values.ndim > 1 else lost, 0.0, values)
    for nodes in members(component):
        known = nodes[~lost[nodes]]
        if len(known):
            centred[known] -= centred[known].mean(axis=0)
    return centred
