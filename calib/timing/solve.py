"""Sums to offsets: chunk by chunk for the history, and pooled over chunks for the result."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.normal import Normal

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.timing.sums import ClockSums

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["ChunkSolution", "Nodes", "constant_nodes", "pooled", "solve_chunks"]

#: A global column with less than this part of its sum of squares left is not determined.
NO_INFORMATION = 1e-9
#: Chunks whose matrices are inverted at a time.
BATCH = 64


@dataclass(frozen=True)
class ChunkSolution:
    """Corrections to a model, every chunk on its own but with common global columns.

    Parameters
    ----------
    offset_ns : array, shape (n_chunks, n)
        Correction of the offsets, mean zero in each chunk; NaN where the chunk says nothing.
    covariance : array, shape (n_chunks, n, n)
        Event-clustered sandwich of the offsets at fixed global columns; zero where NaN.
    model_covariance : array, shape (n_chunks, n, n)
        The same from the noise of the telescopes alone. The sandwich takes the noise from the
        residuals of the chunk, and a telescope with a single shower in it has none.
    columns : array, shape (m,)
        Correction of the global columns; 0 without information.
    column_error : array, shape (m,)
        Their errors; infinite without information.
    """

    offset_ns: Floats
    covariance: Floats
    model_covariance: Floats
    columns: Floats
    column_error: Floats


def solve_chunks(sums: ClockSums) -> ChunkSolution:
    """Solve the normal equations of all chunks together.

    Parameters
    ----------
    sums : ClockSums
        By chunk.

    Returns
    -------
    ChunkSolution
        The global columns are solved on what the offsets of every chunk leave over, so that a
        clock that jumps from chunk to chunk does not disturb them.
    """
    n = sums.n_rows.shape[1]
    size = sums.vector.shape[1]
    n_chunks = len(sums.n_showers)
    present = np.zeros((n_chunks, n), np.bool_)
    inverse = np.zeros((n_chunks, n, n))
    for first in range(0, n_chunks, BATCH):
        part = slice(first, first + BATCH)
        present[part] = _present(sums.matrix[part, :n, :n])
        inverse[part] = _inverses(sums.matrix[part, :n, :n], present[part])
    mixed = sums.matrix[:, :n, n:]
    taken = inverse @ mixed
    schur = (sums.matrix[:, n:, n:] - mixed.transpose(0, 2, 1) @ taken).sum(axis=0)
    rest = (sums.vector[:, n:] - np.einsum("cnm,cn->cm", taken, sums.vector[:, :n])).sum(axis=0)
    whole = np.concatenate([-taken, np.tile(np.eye(size - n), (len(taken), 1, 1))], axis=1)
    meat = (whole.transpose(0, 2, 1) @ sums.meat @ whole).sum(axis=0)
    columns, error = _columns(schur, rest, meat, np.diag(sums.matrix[:, n:, n:].sum(axis=0)))
    offset = np.einsum("cij,cj->ci", inverse, sums.vector[:, :n] - mixed @ columns)
    offset[~present] = np.nan
    covariance = inverse @ sums.meat[:, :n, :n] @ inverse
    return ChunkSolution(offset, covariance, inverse, columns, error)


def _present(blocks: Floats) -> Bools:
    """Telescopes of the largest group of each chunk that showers tie together."""
    reached = (blocks != 0) | np.eye(blocks.shape[1], dtype=np.bool_)
    while True:
        # Twice as many steps from telescope to telescope; they end after one or two rounds.
        steps = reached.astype(np.float32)
        further = steps @ steps > 0
        if np.array_equal(further, reached):
            break
        reached = further
    size = reached.sum(axis=2)
    group = reached[np.arange(len(size)), size.argmax(axis=1)]
    return np.asarray(group & (size.max(axis=1) > 1)[:, None])


def _inverses(blocks: Floats, present: Bools) -> Floats:
    """Inverses on the vectors that sum to zero over the telescopes present, 0 for the others."""
    n = blocks.shape[1]
    count = np.maximum(present.sum(axis=1), 1)
    both = present[:, :, None] & present[:, None, :]
    scale = np.einsum("cii->ci", np.where(both, blocks, 0.0)).sum(axis=1) / count
    scale = np.where(scale > 0, scale, 1.0)
    ones = (scale / count)[:, None, None]
    filled = np.where(both, blocks + ones, np.eye(n))
    inverse = np.linalg.inv(filled) - (1.0 / (scale * count))[:, None, None]
    return np.asarray(np.where(both, inverse, 0.0))


def _columns(schur: Floats, rest: Floats, meat: Floats, square: Floats) -> tuple[Floats, Floats]:
    """Solve for the global columns and their errors, those without information left alone."""
    size = np.sqrt(np.maximum(square, 0.0))
    inverse_size = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    value, vector = np.linalg.eigh(schur * np.outer(inverse_size, inverse_size))
    null = value < NO_INFORMATION
    inverse_value = np.divide(1.0, value, out=np.zeros_like(value), where=~null)
    inverse = inverse_size[:, None] * ((vector * inverse_value) @ vector.T) * inverse_size
    lost = (np.abs(vector[:, null]) > 1e-5).any(axis=1)  # noqa: PLR2004  as in arraycal.calib.fit.normal
    error = np.sqrt(np.maximum(np.diag(inverse @ meat @ inverse), 0.0))
    return np.where(lost, 0.0, inverse @ rest), np.where(lost, np.inf, error)


@dataclass(frozen=True)
class Nodes:
    """Which offset belongs to which node: a node is a telescope between two of its jumps.

    Parameters
    ----------
    of : array of int, shape (n_chunks, n)
        Node of every telescope in every chunk.
    telescope : array of int, shape (n_nodes,)
        Telescope of each node.
    first, last : array of int, shape (n_nodes,)
        First and last chunk of each node.
    """

    of: Indices
    telescope: Indices
    first: Indices
    last: Indices

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.telescope)

    @property
    def newest(self) -> Indices:
        """Last node of every telescope, shape (n,)."""
        return np.asarray(self.of[-1])


def constant_nodes(n_chunks: int, n: int, cuts: dict[int, list[int]] | None = None) -> Nodes:
    """Nodes of telescopes whose offset is constant but for jumps.

    Parameters
    ----------
    n_chunks, n : int
        Chunks and telescopes.
    cuts : dict of int to list of int, optional
        First chunks behind the jumps, ascending, by telescope.

    Examples
    --------
    >>> constant_nodes(3, 2, {1: [2]}).of.tolist()
    [[0, 1], [0, 1], [0, 2]]
    """
    of = np.zeros((n_chunks, n), np.intp)
    telescope: list[int] = []
    first: list[int] = []
    last: list[int] = []
    for tel in range(n):
        edges = [0, *(cuts or {}).get(tel, []), n_chunks]
        for low, high in pairwise(edges):
            of[low:high, tel] = len(telescope)
            telescope.append(tel)
            first.append(low)
            last.append(high - 1)
    return Nodes(of, np.array(telescope), np.array(first), np.array(last))


def pooled(
    sums: ClockSums,
    offset_ns: Floats,
    nodes: Nodes,
    chunks: Bools | None = None,
    *,
    columns: bool = True,
) -> tuple[Normal, Floats]:
    """Normal equations of constant offsets from those of the chunks.

    Parameters
    ----------
    sums : ClockSums
        By chunk, made with the offsets below.
    offset_ns : array, shape (n_chunks, n)
        Offsets of the model.
    nodes : Nodes
        What is constant.
    chunks : array of bool, shape (n_chunks,), optional
        Chunks to use; all by default.
    columns : bool
        Whether to solve for the global columns too, or to hold them.

    Returns
    -------
    Normal, array of shape (n_nodes,)
        The equations for the nodes minus the values returned with them: offsets may be
        milliseconds, and their differences are solved without losing digits.
    """
    n, n_nodes = sums.n_rows.shape[1], len(nodes)
    m = sums.vector.shape[1] - n if columns else 0
    part = slice(n + m)
    use = np.arange(len(sums.n_showers)) if chunks is None else np.flatnonzero(chunks)
    start = _first_known(offset_ns, nodes)
    matrix, meat = np.zeros((n_nodes + m,) * 2), np.zeros((n_nodes + m,) * 2)
    vector = np.zeros(n_nodes + m)
    ends = np.arange(n_nodes, n_nodes + m)
    for chunk in use:
        index = np.append(nodes.of[chunk], ends)
        shift = np.nan_to_num(offset_ns[chunk] - start[nodes.of[chunk]])
        block = np.ix_(index, index)
        matrix[block] += sums.matrix[chunk, part, part]
        meat[block] += sums.meat[chunk, part, part]
        vector[index] += sums.vector[chunk, part] + sums.matrix[chunk, part, :n] @ shift
    clusters = float(sums.n_showers[use].sum())
    return Normal(matrix, vector, matrix, meat, n_nodes, clusters), start


def _first_known(offset_ns: Floats, nodes: Nodes) -> Floats:
    """First offset of every node that the model has; 0 for one it never saw."""
    start = np.zeros(len(nodes))
    for node, (tel, first, last) in enumerate(
        zip(nodes.telescope, nodes.first, nodes.last, strict=True)
    ):
        known = offset_ns[first : last + 1, tel]
        known = known[~np.isnan(known)]
        if len(known):
            start[node] = known[0]
    return start
