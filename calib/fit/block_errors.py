"""Errors clustered by block, where there are blocks enough to know them.

Showers of one block share what a run shares: weather, settings, the temperature of a camera. With
g_b the gradient of a block at the common solution,

    Cov = A^+ (sum_b g_b g_b^T) A^+ n_b / (n_b - 1)

holds for whatever wobbles from block to block. With few blocks it is too small, and of deficient
rank; then errors are those of showers alone, and how far the blocks disagree is stated beside them
(`arraycal.calib.checks.night_parts`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, stdtrit

from arraycal.calib.fit import network
from arraycal.calib.fit.normal import members

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["with_block_errors"]

#: Least number of blocks, and of blocks for each telescope: errors from 10 blocks of 12 telescopes
#: are 1.2 times too small where nothing wobbles, those from 30 are right within 3 %.
MIN_BLOCKS, MIN_BLOCKS_PER_TELESCOPE = 30, 2.5
#: Upper end of one standard deviation of a Gaussian, as a probability.
ONE_SIGMA = float(ndtr(1.0))


def with_block_errors(fitted: Fit) -> Fit:
    """Cluster errors by block where there are enough blocks and this makes them larger.

    Parameters
    ----------
    fitted : Fit
        With the sums of its blocks.

    Returns
    -------
    Fit
        The same solution. The telescopes of a component change together or not at all, so that
        theirs stays a covariance: it is larger if the mean variance is.

    Notes
    -----
    Errors are widened by Student's t with one degree of freedom less than blocks. Those of distance
    curves and energy slopes stay clustered by shower.
    """
    solution = fitted.solution
    enough = [(nodes, n) for nodes in members(solution.component) if (n := _blocks(fitted, nodes))]
    if not enough:
        return fitted
    by_block = _by_block(fitted)
    covariance, changed = solution.covariance.copy(), list[int]()
    for nodes, n_blocks in enough:
        part = np.ix_(nodes, nodes)
        widened = by_block[part] * stdtrit(n_blocks - 1, ONE_SIGMA) ** 2
        if np.trace(widened) > np.trace(covariance[part]):
            # Components compare with nothing, so nobody needs what they have in common.
            covariance[nodes] = covariance[:, nodes] = 0.0
            covariance[part] = widened
            changed += nodes.tolist()
    return replace(
        fitted,
        solution=replace(solution, covariance=covariance),
        by_block=tuple(sorted(changed)),
    )


def _blocks(fitted: Fit, nodes: Indices) -> int:
    """Blocks in which every telescope of a component has showers; zero if they are too few."""
    seen = np.array([block.n_events[nodes] > 0 for block in fitted.blocks.values()])
    n_blocks = int(seen.sum(axis=0).min()) if len(seen) else 0
    needed = max(MIN_BLOCKS, MIN_BLOCKS_PER_TELESCOPE * len(nodes))
    return n_blocks if n_blocks >= needed else 0


def _by_block(fitted: Fit) -> Floats:
    """Covariance of the nodes, clustered by block."""
    now, component = fitted.model.now, fitted.solution.component
    n = len(component)
    # As for showers, gradients at the point of the last pass.
    point = np.concatenate([now.log_throughput, now.curve])
    gradients = []
    for block in fitted.blocks.values():
        normal = network.equations(block, component)
        gradients.append(normal.vector - normal.matrix @ point)
    meat = np.transpose(gradients) @ np.asarray(gradients)
    columns = replace(fitted.summary.columns, mixed_meat=meat[:n, n:], columns_meat=meat[n:, n:])
    clustered = replace(
        fitted.summary, meat=meat[:n, :n], columns=columns, n_showers=float(len(gradients))
    )
    return network.solve_events(clustered, component).covariance
