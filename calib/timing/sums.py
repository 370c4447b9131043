"""Sums over showers: the normal equations by chunk, and what the residuals look like.

With weights w = 1/sigma^2 and the shower's own time eliminated, the equations of a chunk are sums
over its showers of ``X^T (diag(w) - w w^T / W) X``, where X holds a telescope indicator and the
global columns (front radius, walk). They add up over windows, chunks and blocks, so one pass gives
the solution of every chunk, of every pointing and of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from calib.showers import tally
from calib.timing.front import C_M_PER_NS

if TYPE_CHECKING:
    import numpy.typing as npt

    from calib.timing.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["Model", "Residuals", "Sums", "clip", "empty_sums", "residuals", "sums"]

#: A shower with more wrong stamps than this is left to its fate.
CLIP_ROUNDS = 12


@dataclass(frozen=True)
class Model:
    """Everything the stamps are predicted and weighted with.

    Parameters
    ----------
    offset_ns : array, shape (n_chunks, n_telescopes)
        Offset of every telescope in every chunk; NaN where unknown.
    log_scale : float
        ln of the scale of the front's radius.
    walk_ns : array, shape (n_types,)
        Delay of an image of ``WALK_SIZE``, by type.
    sigma_ns : array, shape (n_telescopes,)
        Noise of a stamp.
    clip : float
        Stamps further off than this many sigma are left out.
    columns : tuple of str
        Global columns to fit: ``curvature``, ``walk``, and for the guards ``towards_x`` and
        ``towards_y``.
    """

    offset_ns: Floats
    log_scale: float
    walk_ns: Floats
    sigma_ns: Floats
    clip: float
    columns: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Name of each global column; the walk has one for each type."""
        walks = tuple(f"walk_{kind}" for kind in range(len(self.walk_ns)))
        return tuple(n for c in self.columns for n in (walks if c == "walk" else (c,)))


class Residuals(NamedTuple):
    """Stamps against the model.

    Parameters
    ----------
    value : array, shape (n_rows,)
        Stamp minus prediction and offset, less the weighted mean of the shower, ns.
    weight : array, shape (n_rows,)
        1/sigma^2; 0 for stamps that are left out.
    total : array, shape (n_showers,)
        Sum of the weights.
    column : array, shape (n_rows, n_columns)
        Global columns, less their weighted mean in the shower.
    """

    value: Floats
    weight: Floats
    total: Floats
    column: Floats


@dataclass(frozen=True)
class Sums:
    """Additive sums, by chunk. n telescopes come first, then m global columns.

    Parameters
    ----------
    matrix, meat : array, shape (n_chunks, n + m, n + m)
        Normal matrix, and the sum of g g^T of the showers' gradients g.
    vector : array, shape (n_chunks, n + m)
        Gradient.
    n_rows : array, shape (n_chunks, n)
        Stamps in use.
    n_all : array, shape (n,)
        Stamps before clipping.
    n_showers : array, shape (n_chunks,)
        Showers in use.
    square, expected : array, shape (n,)
        Squared residuals in units of sigma^2, and what they should be.
    square_ns2 : array, shape (n,)
        Squared residuals.
    """

    matrix: Floats
    meat: Floats
    vector: Floats
    n_rows: Floats
    n_all: Floats
    n_showers: Floats
    square: Floats
    expected: Floats
    square_ns2: Floats

    def add(self, part: Sums, low: int, high: int) -> None:
        """Add the sums of the chunks from `low` to before `high`, in place."""
        for name in vars(self):
            own: Floats = getattr(self, name)
            where = slice(low, high) if name in BY_CHUNK else slice(None)
            own[where] += getattr(part, name)


#: Sums that are kept by chunk.
BY_CHUNK = frozenset({"matrix", "meat", "vector", "n_rows", "n_showers"})


def empty_sums(n_groups: int, n_telescopes: int, n_columns: int) -> Sums:
    """Sums over no shower."""
    size = n_telescopes + n_columns
    return Sums(
        matrix=np.zeros((n_groups, size, size)),
        meat=np.zeros((n_groups, size, size)),
        vector=np.zeros((n_groups, size)),
        n_rows=np.zeros((n_groups, n_telescopes)),
        n_all=np.zeros(n_telescopes),
        n_showers=np.zeros(n_groups),
        square=np.zeros(n_telescopes),
        expected=np.zeros(n_telescopes),
        square_ns2=np.zeros(n_telescopes),
    )


def residuals(showers: Showers, chunk: Indices, model: Model) -> Residuals:
    """Compare a window with the model, and leave out what does not fit.

    Parameters
    ----------
    showers : Showers
        The window.
    chunk : array of int, shape (n_showers,)
        Chunk of each shower.
    model : Model
        The model.

    Returns
    -------
    Residuals
        One per row.
    """
    time, slope = showers.predict(model.log_scale)
    rest = showers.delay_ns - time - model.walk_ns[showers.kind] * showers.brightness
    rest -= model.offset_ns[chunk[showers.shower], showers.telescope]
    unknown = np.isnan(rest)
    weight = np.where(unknown, 0.0, 1.0 / model.sigma_ns[showers.telescope] ** 2)
    rest[unknown] = 0.0
    weight = clip(showers, rest, weight, model.clip)
    total = showers.total(weight)
    share = _share(showers, weight, total)
    columns = _columns(showers, slope, model)
    for values in (rest, *columns):
        np.subtract(values, showers.total(share * values)[showers.shower], out=values)
    return Residuals(rest, weight, total, np.stack(columns, 1) if columns else rest[:, None][:, :0])


def _share(showers: Showers, weight: Floats, total: Floats) -> Floats:
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return weight * inverse[showers.shower]


def _columns(showers: Showers, slope: Floats, model: Model) -> list[Floats]:
    columns: list[Floats] = []
    for name in model.columns:
        if name == "curvature":
            columns.append(slope)
        elif name == "walk":
            columns += [
                np.where(showers.kind == kind, showers.brightness, 0.0)
                for kind in range(len(model.walk_ns))
            ]
        else:
            axis = "xy".index(name[-1])
            off = np.nan_to_num(showers.offset[:, axis])[showers.shower]
            columns.append(off * showers.position_m[showers.telescope, axis] / C_M_PER_NS)
    return columns


def clip(showers: Showers, rest: Floats, weight: Floats, limit: float) -> Floats:
    """Set the weight of outlying stamps to zero.

    Parameters
    ----------
    showers : Showers
        The window.
    rest : array, shape (n_rows,)
        Stamps less prediction and offset, ns.
    weight : array, shape (n_rows,)
        1/sigma^2.
    limit : float
        Largest residual in units of its expected size.

    Returns
    -------
    array, shape (n_rows,)
        The weights. A shower with fewer than two stamps left loses them all.

    Notes
    -----
    One wrong stamp pulls the mean of its shower and makes the right ones look wrong. So only the
    worst stamp of a shower is left out at a time, and the rest judged again. Only showers with a
    wrong stamp are looked at more than once.
    """
    weight = weight.copy()
    rows = np.arange(len(rest))
    group, n_groups = showers.shower, len(showers)
    for _ in range(CLIP_ROUNDS):
        worst, bad = _worst(rest[rows], weight[rows], group, n_groups, limit)
        if not len(bad):
            break
        weight[rows[worst]] = 0.0
        again = np.zeros(n_groups, np.bool_)
        again[bad] = True
        keep = again[group]
        rows = rows[keep]
        number = np.cumsum(again) - 1
        group, n_groups = number[group[keep]], int(again.sum())
    few = tally(showers.shower, (weight > 0).astype(float), len(showers)) < 2  # noqa: PLR2004
    weight[few[showers.shower]] = 0.0
    return weight


def _worst(
    rest: Floats, weight: Floats, group: Indices, n_groups: int, limit: float
) -> tuple[Indices, Indices]:
    """Worst row of every group that has one beyond the limit, and those groups."""
    total = tally(group, weight, n_groups)
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    mean = tally(group, weight * rest, n_groups) * inverse
    # Variance of a residual: 1/w - 1/W. Without weight, or alone, it is nothing to judge.
    spread = 1.0 - weight * inverse[group]
    square = weight * (rest - mean[group]) ** 2
    excess = np.where((weight > 0) & (spread > ALONE), square / np.maximum(spread, ALONE), 0.0)
    beyond = np.flatnonzero(excess > limit**2)
    if not len(beyond):
        nothing = np.empty(0, np.intp)
        return nothing, nothing
    order = beyond[np.lexsort((-excess[beyond], group[beyond]))]
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    return order[first], group[order[first]]


#: A residual whose variance is less than this part of the stamp's is the mean itself.
ALONE = 1e-9


def sums(
    showers: Showers, group: Indices, n_groups: int, found: Residuals, n_telescopes: int
) -> Sums:
    """Sum up a window.

    Parameters
    ----------
    showers : Showers
        The window.
    group : array of int, shape (n_showers,)
        Chunk of each shower, or any other grouping.
    n_groups : int
        Number of groups.
    found : Residuals
        From `residuals`.
    n_telescopes : int
        Telescopes of the array.

    Returns
    -------
    Sums
        By group.
    """
    result = empty_sums(n_groups, n_telescopes, found.column.shape[1])
    if not len(showers):
        return result
    tel, weight = showers.telescope, found.weight
    used = weight > 0
    row_group = group[showers.shower]
    link = row_group * n_telescopes + tel
    size = n_groups * n_telescopes
    by_tel = (n_groups, n_telescopes)
    result.n_rows[:] = tally(link, used.astype(float), size).reshape(by_tel)
    result.n_all[:] = np.bincount(tel, minlength=n_telescopes)
    result.n_showers[:] = np.bincount(group[found.total > 0], minlength=n_groups)
    _add_matrix(result, showers, row_group, link, found)
    gradient = weight * found.value
    _add_gradient(result, showers, group, link, gradient, found)
    square = gradient * found.value
    share = _share(showers, weight, found.total)
    result.square[:] = tally(tel, square, n_telescopes)
    result.expected[:] = tally(tel, np.where(used, 1.0 - share, 0.0), n_telescopes)
    result.square_ns2[:] = tally(tel, np.where(used, found.value**2, 0.0), n_telescopes)
    return result


def _add_matrix(
    result: Sums, showers: Showers, row_group: Indices, link: Indices, found: Residuals
) -> None:
    n = result.n_rows.shape[1]
    n_groups, m = len(result.n_showers), found.column.shape[1]
    weight = found.weight
    root = np.sqrt(
        np.divide(1.0, found.total, out=np.zeros_like(found.total), where=found.total > 0)
    )
    by_shower = sparse.csr_array(
        (weight * root[showers.shower], link, showers.start), shape=(len(showers), n_groups * n)
    )
    _add_blocks(result.matrix, -(by_shower.T @ by_shower).tocoo(), n)
    diagonal = tally(link, weight, n_groups * n).reshape(n_groups, n)
    result.matrix[:, np.arange(n), np.arange(n)] += diagonal
    for one in range(m):
        weighted = weight * found.column[:, one]
        mixed = tally(link, weighted, n_groups * n).reshape(n_groups, n)
        result.matrix[:, :n, n + one] = result.matrix[:, n + one, :n] = mixed
    if m:
        result.matrix[:, n:, n:] = _column_products(found, row_group, n_groups)


def _column_products(found: Residuals, row_group: Indices, n_groups: int) -> Floats:
    """Weighted products of the global columns, shape (n_groups, m, m)."""
    column, weight = found.column, found.weight
    if np.any(np.diff(row_group) < 0):
        order = np.argsort(row_group, kind="stable")
        column, weight, row_group = column[order], weight[order], row_group[order]
    # Chunks are contiguous: one product of matrices for each.
    edges = np.searchsorted(row_group, np.arange(n_groups + 1))
    products = [
        column[low:high].T @ (weight[low:high, None] * column[low:high])
        for low, high in pairwise(edges.tolist())
    ]
    return np.array(products)


def _add_gradient(
    result: Sums,
    showers: Showers,
    group: Indices,
    link: Indices,
    gradient: Floats,
    found: Residuals,
) -> None:
    n = result.n_rows.shape[1]
    n_groups, m = len(result.n_showers), found.column.shape[1]
    result.vector[:, :n] = tally(link, gradient, n_groups * n).reshape(n_groups, n)
    by_shower = sparse.csr_array(
        (gradient, link, showers.start), shape=(len(showers), n_groups * n)
    )
    _add_blocks(result.meat, (by_shower.T @ by_shower).tocoo(), n)
    of_shower = [showers.total(gradient * found.column[:, one]) for one in range(m)]
    for one in range(m):
        result.vector[:, n + one] = tally(group, of_shower[one], n_groups)
        mixed = tally(link, gradient * of_shower[one][showers.shower], n_groups * n)
        block = mixed.reshape(n_groups, n)
        result.meat[:, :n, n + one] = result.meat[:, n + one, :n] = block
        for two in range(one, m):
            product = tally(group, of_shower[one] * of_shower[two], n_groups)
            result.meat[:, n + one, n + two] = result.meat[:, n + two, n + one] = product


def _add_blocks(into: Floats, product: sparse.coo_array, n: int) -> None:
    """Add a block-diagonal matrix over (group, telescope) to its dense blocks."""
    row, column = product.coords
    np.add.at(into, (row // n, row % n, column % n), product.data)
