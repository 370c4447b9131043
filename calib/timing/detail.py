"""The last pass: common showers, residuals by what they may depend on, halves of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.normal import solve_normal
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.sums.summary import RESIDUAL_EDGES
from arraycal.calib.timing.fit import with_chunks
from arraycal.calib.timing.residuals import stamp_residuals
from arraycal.calib.timing.showers import WALK_SIZE
from arraycal.calib.timing.solve import constant_nodes, pooled
from arraycal.calib.timing.sums import ClockSums, empty_sums, pairs, sums

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.timing.fit import Windows
    from arraycal.calib.timing.residuals import FrontModel, Residuals
    from arraycal.calib.timing.showers import Plan, StampedShowers
    from arraycal.calib.timing.solve import Nodes

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["DISTANCE_EDGES_M", "GUARD_COLUMNS", "SIZE_EDGES", "Detail", "Profile", "counts",
           "detail", "systematic_ns"]  # fmt: skip

#: Columns of the guard against mirrored axes.
GUARD_COLUMNS = ("towards_x", "towards_y")
#: Edges of the bins in which residuals are shown; the last one is open.
DISTANCE_STEP_M, LOG_SIZE_STEP = 20.0, 0.2
DISTANCE_EDGES_M = np.append(np.arange(0.0, 420.0, DISTANCE_STEP_M), np.inf)
SIZE_EDGES = np.append(10.0 ** np.arange(0.0, 5.01, LOG_SIZE_STEP), np.inf)
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
    sums : ClockSums
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
    halves : ClockSums
        Of the eight combinations of halves.
    direction : array, shape (3, 2)
        Number, sum and square of the shower directions along x and y relative to the pointing.
    """

    sums: ClockSums
    common: Floats
    pair_sum: Floats
    pair_square: Floats
    histogram: Floats
    distance: Profile
    walk: Profile
    brightness: Profile
    halves: ClockSums
    direction: Floats

    @property
    def direction_spread_deg(self) -> Floats:
        """Scatter of the shower directions along x and y, deg."""
        n, total, square = self.direction
        mean = total / np.maximum(n, 1)
        return np.asarray(np.degrees(np.sqrt(np.maximum(square / np.maximum(n, 1) - mean**2, 0.0))))


def detail(windows: Windows, plan: Plan, model: FrontModel, n_types: int) -> Detail:
    """Run the last pass.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window.
    plan : Plan
        Chunks.
    model : FrontModel
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
        found = stamp_residuals(showers, chunk, model)
        low, high = int(chunk[0]), int(chunk[-1]) + 1
        result.sums.add(sums(showers, chunk - low, high - low, found, n), low, high)
        _add_pairs(result, showers, chunk - low, low, found)
        _add_profiles(result, showers, found, model)
        values = _split_values(showers, found)
        # Any cut serves: a rough half is enough.
        limits = np.median(values, axis=1) if limits is None else limits
        code = np.sum((values > limits[:, None]) << np.arange(N_SPLITS)[:, None], axis=0)
        plain = found._replace(column=found.column[:0], pull=found.pull[:0])
        result.halves.add(sums(showers, code, 2**N_SPLITS, plain, n), 0, 2**N_SPLITS)
        known = showers.offset[np.isfinite(showers.offset).all(axis=1), :2]
        result.direction += [np.full(2, len(known)), known.sum(axis=0), (known**2).sum(axis=0)]
    return result


def counts(last: Detail, nodes: Nodes) -> tuple[Floats, Floats]:
    """Showers in common of every two nodes, shape (n_nodes, n_nodes), and of every node."""
    common, n_events = np.zeros((len(nodes), len(nodes))), np.zeros(len(nodes))
    for chunk, of in enumerate(nodes.of):
        # One triangle: the counts of a pair are added up from both.
        common[np.ix_(of, of)] += np.triu(last.common[chunk], 1)
        n_events[of] += last.sums.n_rows[chunk]
    return common, n_events


def _add_pairs(
    result: Detail, showers: StampedShowers, chunk: Indices, first: int, found: Residuals
) -> None:
    """Add what is counted and summed over pairs of stamps; `chunk` counts from `first`."""
    n, n_chunks = len(result.pair_sum), int(chunk[-1]) + 1
    used = found.weight > 0
    here = showers.spread(chunk * n) + showers.telescope
    common = np.zeros(n_chunks * n * n)
    for first_rows, second_rows in pairs(showers):
        both = np.flatnonzero(used.take(first_rows) & used.take(second_rows))
        one, two = first_rows.take(both), second_rows.take(both)
        column = showers.telescope.take(two)
        common += np.bincount(here.take(one) * n + column, minlength=len(common))
        cell = showers.telescope.take(one) * n + column
        difference = found.value.take(one) - found.value.take(two)
        signed = tally(cell, difference, n * n).reshape(n, n)
        square = tally(cell, difference**2, n * n).reshape(n, n)
        result.pair_sum += signed - signed.T
        result.pair_square += square + square.T
    blocks = common.reshape(n_chunks, n, n)
    blocks = blocks + blocks.transpose(0, 2, 1)
    alone = np.bincount(here[used], minlength=n_chunks * n).reshape(n_chunks, n)
    blocks[:, np.arange(n), np.arange(n)] += alone
    result.common[first : first + n_chunks] += blocks


def _add_profiles(
    result: Detail, showers: StampedShowers, found: Residuals, model: FrontModel
) -> None:
    used = np.flatnonzero(found.weight > 0)
    kind, value = showers.kind.take(used), found.value.take(used)
    free = (1.0 - found.share.take(used)) / found.weight.take(used)
    spread = np.sqrt(np.maximum(free, 1e-12))
    step = RESIDUAL_EDGES[1] - RESIDUAL_EDGES[0]
    place = _bins((value / spread - RESIDUAL_EDGES[0]) / step, RESIDUAL_EDGES)
    shape = result.histogram.shape
    link = kind * shape[1] + place
    result.histogram += np.bincount(link, minlength=result.histogram.size).reshape(shape)
    near = _bins(showers.place.distance_m.take(used) / DISTANCE_STEP_M, DISTANCE_EDGES_M)
    result.distance.add(kind, near, value)
    bright = showers.brightness.take(used)
    sized = np.flatnonzero(bright > 0)
    kind, value, bright = kind.take(sized), value.take(sized), bright.take(sized)
    bins = _bins(np.log10(WALK_SIZE / bright) / LOG_SIZE_STEP, SIZE_EDGES)
    result.walk.add(kind, bins, value + model.walk_ns[kind] * bright)
    result.brightness.add(kind, bins, bright)


def _bins(steps: Floats, edges: Floats) -> Indices:
    """Bins of even width from the number of steps above the first edge; the outer ones are open."""
    return np.clip(steps, 0.0, len(edges) - 2).astype(np.intp)


def _split_values(showers: StampedShowers, found: Residuals) -> Floats:
    """What the halves are told apart by, shape (N_SPLITS, n_showers)."""
    return np.stack(
        [
            showers.total(showers.place.distance_m) / showers.count,
            showers.total(showers.brightness) / showers.count,
            showers.total((found.weight > 0).astype(float)),
        ]
    )


def systematic_ns(halves: ClockSums, transform: Floats, min_events: float) -> Floats:
    """Excess rms of the offsets over halves of the showers beyond their statistical errors.

    Parameters
    ----------
    halves : ClockSums
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
