"""The last pass: common showers, residuals by what they may depend on, halves of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from calib.normal import solve_normal
from calib.showers import tally
from calib.summary import RESIDUAL_EDGES
from calib.timing.fit import with_chunks
from calib.timing.solve import constant_nodes, pooled
from calib.timing.sums import Sums, empty_sums, residuals, sums

if TYPE_CHECKING:
    import numpy.typing as npt

    from calib.timing.fit import Windows
    from calib.timing.showers import Plan, Showers
    from calib.timing.sums import Model, Residuals

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["DISTANCE_EDGES_M", "GUARD_COLUMNS", "SIZE_EDGES", "Detail", "Profile", "detail",
           "systematic_ns"]  # fmt: skip

#: Columns of the guard against mirrored axes.
GUARD_COLUMNS = ("towards_x", "towards_y")
#: Edges of the bins in which residuals are shown; the last one is open.
DISTANCE_EDGES_M = np.append(np.arange(0.0, 420.0, 20.0), np.inf)
SIZE_EDGES = np.append(10.0 ** np.arange(0.0, 5.01, 0.2), np.inf)
#: Halves of the showers whose offsets are compared: by distance, brightness and multiplicity.
N_SPLITS = 3


@dataclass
class Profile:
    """Count, sum and sum of squares of residuals by type and bin, each of shape (n_types, k)."""

    n: Floats
    total: Floats
    square: Floats

    @classmethod
    def empty(cls, n_types: int, n_bins: int) -> Profile:
        """Nothing yet."""
        return cls(*(np.zeros((n_types, n_bins)) for _ in range(3)))

    def add(self, kind: Indices, place: Indices, values: Floats) -> None:
        """Add residuals."""
        shape = self.n.shape
        link, size = kind * shape[1] + place, self.n.size
        self.n += np.bincount(link, minlength=size).reshape(shape)
        self.total += tally(link, values, size).reshape(shape)
        self.square += tally(link, values**2, size).reshape(shape)


@dataclass
class Detail:
    """What the last pass gives, sums over all showers.

    Parameters
    ----------
    sums : Sums
        By chunk, with the columns of the guard.
    common : array, shape (n_chunks, n, n)
        Showers in common, by chunk.
    pair_sum, pair_square : array, shape (n, n)
        Differences of residuals of two telescopes of a shower (row minus column), and squares.
    histogram : array, shape (n_types, n_bins)
        Residuals in units of their expected size.
    distance, walk : Profile
        Residuals (ns) by distance from the axis, and by size with the fitted walk put back.
    brightness : Profile
        ``WALK_SIZE / size`` in the bins of size, for the mean of it.
    halves : Sums
        Of the eight combinations of halves.
    direction : array, shape (3, 2)
        Number, sum and square of the shower directions along x and y relative to the pointing.
    """

    sums: Sums
    common: Floats
    pair_sum: Floats
    pair_square: Floats
    histogram: Floats
    distance: Profile
    walk: Profile
    brightness: Profile
    halves: Sums
    direction: Floats

    @property
    def direction_spread_deg(self) -> Floats:
        """Scatter of the shower directions along x and y, deg."""
        n, total, square = self.direction
        mean = total / np.maximum(n, 1)
        return np.asarray(np.degrees(np.sqrt(np.maximum(square / np.maximum(n, 1) - mean**2, 0.0))))


def detail(windows: Windows, plan: Plan, model: Model, n_types: int) -> Detail:
    """Run the last pass.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window.
    plan : Plan
        Chunks.
    model : Model
        The solution.
    n_types : int
        Number of telescope types.

    Returns
    -------
    Detail
        The sums.
    """
    model = replace(model, columns=(*model.columns, *GUARD_COLUMNS))
    n, m = model.offset_ns.shape[1], len(model.names())
    result = Detail(
        sums=empty_sums(len(plan), n, m),
        common=np.zeros((len(plan), n, n)),
        pair_sum=np.zeros((n, n)),
        pair_square=np.zeros((n, n)),
        histogram=np.zeros((n_types, len(RESIDUAL_EDGES) - 1)),
        distance=Profile.empty(n_types, len(DISTANCE_EDGES_M) - 1),
        walk=Profile.empty(n_types, len(SIZE_EDGES) - 1),
        brightness=Profile.empty(n_types, len(SIZE_EDGES) - 1),
        halves=empty_sums(2**N_SPLITS, n, 0),
        direction=np.zeros((3, 2)),
    )
    limits: Floats | None = None
    for showers, chunk in with_chunks(windows, plan):
        found = residuals(showers, chunk, model)
        low, high = int(chunk[0]), int(chunk[-1]) + 1
        result.sums.add(sums(showers, chunk - low, high - low, found, n), low, high)
        _add_pairs(result, showers, chunk - low, low, found)
        _add_profiles(result, showers, found, model)
        values = _split_values(showers, found)
        # Any cut serves: a rough half is enough.
        limits = np.median(values, axis=1) if limits is None else limits
        code = np.sum((values > limits[:, None]) << np.arange(N_SPLITS)[:, None], axis=0)
        plain = found._replace(column=found.column[:, :0])
        result.halves.add(sums(showers, code, 2**N_SPLITS, plain, n), 0, 2**N_SPLITS)
        known = showers.offset[np.isfinite(showers.offset).all(axis=1), :2]
        result.direction += [np.full(2, len(known)), known.sum(axis=0), (known**2).sum(axis=0)]
    return result


def _add_pairs(
    result: Detail, showers: Showers, chunk: Indices, first: int, found: Residuals
) -> None:
    n, n_chunks = len(result.pair_sum), int(chunk[-1]) + 1
    used = (found.weight > 0).astype(float)
    link = chunk[showers.shower] * n + showers.telescope
    shape = (len(showers), n_chunks * n)
    present = sparse.csr_array((used, link, showers.start), shape=shape)
    product = (present.T @ present).tocoo()
    row, column = product.coords
    np.add.at(result.common, (first + row // n, row % n, column % n), product.data)
    # Sums over pairs from sums over rows: the differences themselves are never made.
    shape = (len(showers), n)
    present = sparse.csr_array((used, showers.telescope, showers.start), shape=shape)
    value = sparse.csr_array((used * found.value, showers.telescope, showers.start), shape=shape)
    square = sparse.csr_array(
        (used * found.value**2, showers.telescope, showers.start), shape=shape
    )
    one = np.asarray((value.T @ present).toarray(), np.float64)
    two = np.asarray((square.T @ present).toarray(), np.float64)
    cross = np.asarray((value.T @ value).toarray(), np.float64)
    result.pair_sum += np.asarray(one - one.T)
    result.pair_square += np.asarray(two + two.T - 2.0 * cross)


def _add_profiles(result: Detail, showers: Showers, found: Residuals, model: Model) -> None:
    used = np.flatnonzero(found.weight > 0)
    kind, value = showers.kind[used], found.value[used]
    total = found.total[showers.shower[used]]
    spread = np.sqrt(np.maximum(1.0 / found.weight[used] - 1.0 / total, 1e-12))
    place = np.searchsorted(RESIDUAL_EDGES, value / spread, side="right") - 1
    place = place.clip(0, len(RESIDUAL_EDGES) - 2)
    shape = result.histogram.shape
    link = kind * shape[1] + place
    result.histogram += np.bincount(link, minlength=result.histogram.size).reshape(shape)
    near = np.searchsorted(DISTANCE_EDGES_M, showers.place.distance_m[used], side="right") - 1
    result.distance.add(kind, near, value)
    bright = showers.brightness[used]
    sized = bright > 0
    kind, value, bright = kind[sized], value[sized], bright[sized]
    bins = np.searchsorted(SIZE_EDGES, 100.0 / bright, side="right") - 1
    bins = bins.clip(0)
    result.walk.add(kind, bins, value + model.walk_ns[kind] * bright)
    result.brightness.add(kind, bins, bright)


def _split_values(showers: Showers, found: Residuals) -> Floats:
    """What the halves are told apart by, shape (N_SPLITS, n_showers)."""
    count = np.diff(showers.start)
    return np.stack(
        [
            showers.total(showers.place.distance_m) / count,
            showers.total(showers.brightness) / count,
            showers.total((found.weight > 0).astype(float)),
        ]
    )


def systematic_ns(halves: Sums, transform: Floats, min_events: float) -> Floats:
    """Excess rms of the offsets over halves of the showers beyond their statistical errors.

    Parameters
    ----------
    halves : Sums
        Of the combinations of halves.
    transform : array, shape (n, n)
        From offsets to offsets in the gauge of the result.
    min_events : float
        Showers of a telescope that each half needs.

    Returns
    -------
    array, shape (n,)
        0 where nothing exceeds the errors; NaN where no split has enough showers.
    """
    n = halves.n_rows.shape[1]
    codes = np.arange(len(halves.n_showers))
    nodes, zero = constant_nodes(len(codes), n), np.zeros((len(codes), n))
    square, count = np.zeros(n), np.zeros(n)
    for split in range(N_SPLITS):
        parts = [(codes >> split) & 1 == half for half in (0, 1)]
        enough = np.all([halves.n_rows[part].sum(axis=0) >= min_events for part in parts], axis=0)
        solved = [
            solve_normal(pooled(halves, zero, nodes, part)[0], np.where(enough, 0, -1))
            for part in parts
        ]
        difference = 0.5 * (solved[0].nodes - solved[1].nodes)
        noise = 0.25 * (solved[0].covariance + solved[1].covariance)
        known = np.isfinite(difference)
        turned = transform * known / np.where(known.any(), 1.0, np.nan)
        value = turned @ np.nan_to_num(difference)
        variance = np.einsum("ij,jk,ik->i", turned, noise, turned)
        square[known] += value[known] ** 2 - variance[known]
        count[known] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.sqrt(np.maximum(square / count, 0.0)), np.nan)
