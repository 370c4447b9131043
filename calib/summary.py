"""PAIRS to SUMMARY: the sums from which everything else is computed, and their exact merge.

The model of a shower e seen by telescope i is (all logarithms natural)

    y_ei = x_e + s_i + eps_ei,   y = ln(value),  s = ln(throughput),  Var(eps_ei) = sigma_ei^2

with a free shower term x_e. With weights w = 1/sigma^2 and W_e the sum of the weights of the
shower's telescopes, a pair row carries the weight ``w_i w_j / W_e``; the weighted sums over
pair rows are then the normal equations of the model with every x_e eliminated (fixed effects,
Cameron and Miller 2015). They add up over windows, blocks and nights.

Two more things depend on the current solution and are settled by repeating the pass
(`calib.fit`): the weights, which are estimated from the residuals, and the selection near a
threshold. That selection never looks at one telescope's own value. It uses the inverse-variance
mean of all telescopes of the shower, whose noise is uncorrelated with the difference of any two
of them whatever the energy spectrum, and keeps a telescope only where the value *expected* from
that mean clears its threshold by a margin.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import integrate, sparse, stats

from calib.pairs import node_index, shower_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    import polars as pl

    from calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "IMPACT_EDGES_M",
    "Model",
    "Moments",
    "Robust",
    "Showers",
    "Split",
    "Summary",
    "merge",
    "prepare",
    "summarise",
]

Robust = Literal["none", "huber", "tukey", "clip"]
Split = Literal["value", "impact", "multiplicity"]

#: Edges of the impact-distance bins in which the resolution may differ; a missing distance
#: falls in the last bin.
IMPACT_EDGES_M = np.array([60.0, 110.0, 160.0, 220.0, 320.0])
#: Edges of the bins in the logarithm of the shower's value: half e-folds from 1e-3 to 1e7 units.
VALUE_EDGES = np.arange(np.log(1e-3), np.log(1e7), 0.5)
#: Edges of the histogram in which the turn-on of each type is found.
TURN_ON_EDGES = np.arange(np.log(1e-3), np.log(1e7), 0.1)

#: Usual tuning constants: 95 % efficiency for Gaussian noise (Huber 1981; Beaton, Tukey 1974).
HUBER, TUKEY, CLIP = 1.345, 4.685, 3.0
#: Weight of rows out of use, relative to the largest: no part in a median, but no division by 0.
TINY = 1e-12
#: Rounds of re-weighting inside a shower, starting from its median.
CENTRE_ROUNDS = 4


@dataclass(frozen=True)
class Model:
    """What the weights and the selection of one pass depend on.

    Parameters
    ----------
    log_throughput : array, shape (n,)
        ln c of every telescope.
    variance : array, shape (n,)
        Variance of ln(value), averaged over the telescope's showers.
    shape : array, shape (n_types, n_impact_bins, n_value_bins)
        Variance relative to that average, by type, impact distance and shower value.
    threshold : array, shape (n_types, n_impact_bins)
        ln(value) below which a telescope loses showers; ``-inf`` switches the selection off.
    margin : float
        Distance from the threshold in units of the largest sigma of the shower.
    robust : {"none", "huber", "tukey", "clip"}
        Weighting of outlying telescope events.
    split_at : dict of str to array, shape (n_types,)
        Where `summarise` cuts the showers in two halves, by type.
    """

    log_throughput: Floats
    variance: Floats
    shape: Floats
    threshold: Floats
    margin: float
    robust: Robust
    split_at: dict[Split, Floats]

    @staticmethod
    def initial(subarray: Subarray, *, variance: float, margin: float, robust: Robust) -> Model:
        """Return the model of a first pass: equal telescopes, no selection."""
        n_types = len(set(subarray.types))
        bins = (n_types, len(IMPACT_EDGES_M) + 1)
        return Model(
            log_throughput=np.zeros(len(subarray)),
            variance=np.full(len(subarray), variance),
            shape=np.ones((*bins, len(VALUE_EDGES) + 1)),
            threshold=np.full(bins, -np.inf),
            margin=margin,
            robust=robust,
            split_at={},
        )


@dataclass(frozen=True)
class Showers:
    """PAIRS of complete showers as arrays: telescope rows sorted by shower, and pairs of rows.

    Parameters
    ----------
    node : array of int, shape (n_rows,)
        Index of the telescope in the subarray.
    kind : array of int, shape (n_rows,)
        Code of its type.
    y : array, shape (n_rows,)
        ln(value).
    impact_m, impact_bin : array, shape (n_rows,)
        Impact distance (m, NaN if unknown) and its bin.
    group : array of int, shape (n_rows,)
        Number of the group: telescopes of a shower that share a free shower term.
    group_start : array of int, shape (n_groups,)
        First row of each group.
    shower_start : array of int, shape (n_showers + 1,)
        First row of each shower, and the number of rows.
    first, second : array of int, shape (n_pairs,)
        Rows of the two telescopes of each pair.
    n_nodes : int
        Number of telescopes of the subarray.
    """

    node: Indices
    kind: Indices
    y: Floats
    impact_m: Floats
    impact_bin: Indices
    group: Indices
    group_start: Indices
    shower_start: Indices
    first: Indices
    second: Indices
    n_nodes: int

    def total(self, values: Floats) -> Floats:
        """Sum over the rows of each group, shape (n_groups,)."""
        return np.add.reduceat(values, self.group_start) if len(values) else np.empty(0)


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviation by telescope pair, each of shape (n, n)."""

    n: Floats
    mean: Floats
    m2: Floats

    @staticmethod
    def of(link: Indices, values: Floats, n_nodes: int) -> Moments:
        """Moments of `values` by pair number ``i * n_nodes + j``."""
        size = n_nodes * n_nodes
        n = np.bincount(link, minlength=size).astype(float)
        divisor = np.maximum(n, 1.0)
        mean = np.bincount(link, values, size) / divisor
        m2 = np.bincount(link, (values - mean[link]) ** 2, size)
        square = (n_nodes, n_nodes)
        return Moments(n.reshape(square), mean.reshape(square), m2.reshape(square))

    def __add__(self, other: Moments) -> Moments:
        """Merge exactly (Chan, Golub, LeVeque 1979)."""
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros_like(n), where=n > 0)
        shift = other.mean - self.mean
        return Moments(n, self.mean + shift * share, self.m2 + other.m2 + shift**2 * self.n * share)

    @property
    def error(self) -> Floats:
        """Standard error of the mean; NaN below two entries."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.where(self.n > 1, self.m2 / (self.n - 1) / self.n, np.nan))


@dataclass(frozen=True)
class Summary:
    """Additive sums over showers. n is the number of telescopes of the subarray.

    Parameters
    ----------
    weight, weighted : array, shape (n, n)
        Sums of ``w_i w_j / W`` and of the same times ``y_i - y_j``, row telescope minus column.
    meat : array, shape (n, n)
        Sum over showers of ``g g^T``, g the gradient of one shower.
    asymmetry, log_ratio : Moments
        Statistics of the pair rows.
    n_showers, n_groups, n_rows : float
        Showers, shower groups and telescope rows in use.
    n_events : array, shape (n,)
        Showers in use by telescope.
    n_below_margin, n_outliers : float
        Telescope rows left out by the threshold margin, and given no robust weight.
    n_candidates : array, shape (n,)
        Showers by telescope before the margin.
    variance_matrix : array, shape (n, n)
    variance_vector : array, shape (n,)
        Linear system for the factors by which the telescopes' variances should change.
    shape_observed, shape_expected : array, shape (n_types, n_impact_bins, n_value_bins)
        Squared residuals over their model, for the relative variances.
    turn_on : array, shape (n_types, n_impact_bins, n_turn_on_bins)
        Histogram of the telescopes' own ln(value).
    chi2 : float
        Weighted squared residuals; ``n_rows - n_groups`` minus free telescopes is its ndf.
    slope, slope_weight : float
        Sums of the derivative of the robust score and of its weights; their ratio corrects
        the curvature (1 without robust weights).
    """

    weight: Floats
    weighted: Floats
    meat: Floats
    asymmetry: Moments
    log_ratio: Moments
    n_showers: float
    n_groups: float
    n_rows: float
    n_events: Floats
    n_candidates: Floats
    n_below_margin: float
    n_outliers: float
    variance_matrix: Floats
    variance_vector: Floats
    shape_observed: Floats
    shape_expected: Floats
    turn_on: Floats
    chi2: float
    slope: float
    slope_weight: float


def merge(summaries: Iterable[Summary]) -> Summary:
    """Add summaries of disjoint showers.

    Raises
    ------
    ValueError
        If there is none.
    """
    total: Summary | None = None
    for summary in summaries:
        total = summary if total is None else _add(total, summary)
    if total is None:
        msg = "nothing to merge"
        raise ValueError(msg)
    return total


def _add(one: Summary, two: Summary) -> Summary:
    return Summary(**{f.name: getattr(one, f.name) + getattr(two, f.name) for f in fields(Summary)})


def prepare(pairs: pl.DataFrame, subarray: Subarray) -> Showers:
    """Turn PAIRS of complete showers into arrays.

    Parameters
    ----------
    pairs : DataFrame
        PAIRS; the rows of a shower may be in any order but must all be present.
    subarray : Subarray
        The telescopes.

    Returns
    -------
    Showers
        Rows sorted by shower and telescope.
    """
    n_nodes = len(subarray)
    shower = shower_index(pairs)
    n_showers = int(shower.max(initial=-1)) + 1
    keys = [shower * n_nodes + node_index(pairs[f"tel_id_{side}"], subarray) for side in (1, 2)]
    present = np.zeros(n_showers * n_nodes, np.bool_)
    present[keys[0]] = present[keys[1]] = True
    slots = np.flatnonzero(present)
    row_of = np.cumsum(present, dtype=np.int32) - 1
    first, second = (row_of[key].astype(np.intp) for key in keys)
    y, impact = np.empty(len(slots)), np.empty(len(slots))
    for side, rows in ((1, first), (2, second)):
        y[rows] = np.log(pairs[f"value_{side}"].to_numpy())
        impact[rows] = pairs[f"impact_{side}_m"].to_numpy()
    node, row_shower = slots % n_nodes, slots // n_nodes
    kind = subarray.type_codes[node]
    new_shower = np.diff(row_shower, prepend=-1) > 0
    new_group = _new_groups(pairs, new_shower, kind)
    return Showers(
        node=node,
        kind=kind,
        y=y,
        impact_m=impact,
        impact_bin=np.digitize(impact, IMPACT_EDGES_M),
        group=np.cumsum(new_group) - 1,
        group_start=np.flatnonzero(new_group),
        shower_start=np.append(np.flatnonzero(new_shower), len(slots)),
        first=first,
        second=second,
        n_nodes=n_nodes,
    )


def _new_groups(pairs: pl.DataFrame, new_shower: npt.NDArray[np.bool_], kind: Indices) -> npt.NDArray[np.bool_]:
    """Where a shower term begins: with each shower, and with each type if no pair mixes types."""
    mixed = pairs["tel_type"].str.contains("-", literal=True).any()
    return new_shower if mixed else new_shower | (np.diff(kind, prepend=-1) != 0)


def summarise(showers: Showers, model: Model, split: Split | None = None) -> Summary:
    """Reduce showers to SUMMARY.

    Parameters
    ----------
    showers : Showers
        Rows and pairs.
    model : Model
        Current solution, weights and selection.
    split : {"value", "impact", "multiplicity"}, optional
        Use only the upper half of the showers in this quantity; the lower half is the
        difference to the summary of all.

    Returns
    -------
    Summary
        The sums.
    """
    z = showers.y - model.log_throughput[showers.node]
    sigma2, mean, value_bin = _resolution(showers, model, z)
    keep = _above_margin(showers, model, sigma2, mean)
    n_below = int(len(keep) - keep.sum())
    if split is not None:
        keep = keep & _upper_half(showers, model, mean, split)[showers.group]
    pair_used = keep[showers.first] & keep[showers.second]
    first, second = showers.first[pair_used], showers.second[pair_used]
    used = np.zeros(len(z), np.bool_)
    used[first] = used[second] = True
    base = np.where(used, 1.0 / sigma2, 0.0)
    robust, slope = _robust_weights(showers, model, z, base)
    weight = base * robust
    total = showers.total(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(weight > 0, weight / total[showers.group], 0.0)
        centre = np.where(total > 0, showers.total(weight * z) / total, 0.0)
    residual = np.where(used, z - centre[showers.group], 0.0)
    n_nodes, node = showers.n_nodes, showers.node
    link = node[first] * n_nodes + node[second]
    pair_weight = share[first] * weight[second]
    difference = showers.y[first] - showers.y[second]
    misfit = pair_weight * (z[first] - z[second])
    gradient = np.bincount(first, misfit, len(z)) - np.bincount(second, misfit, len(z))
    square = (n_nodes, n_nodes)
    scoring = _variance_scoring(showers, model, sigma2, z, first, second)
    counted = np.where(used, robust, 0.0)
    shape = _shape_sums(showers, model, sigma2, share, residual, counted, value_bin)
    in_use = showers.total(used.astype(float)) > 0
    return Summary(
        weight=np.bincount(link, pair_weight, n_nodes**2).reshape(square),
        weighted=np.bincount(link, pair_weight * difference, n_nodes**2).reshape(square),
        meat=_meat(showers, gradient),
        asymmetry=Moments.of(link, np.tanh(difference / 2), n_nodes),
        log_ratio=Moments.of(link, difference, n_nodes),
        n_showers=float(np.count_nonzero(np.add.reduceat(used, showers.shower_start[:-1]))) if len(z) else 0.0,
        n_groups=float(in_use.sum()),
        n_rows=float(used.sum()),
        n_events=np.bincount(node[used], minlength=n_nodes).astype(float),
        n_candidates=np.bincount(node, minlength=n_nodes).astype(float),
        n_below_margin=float(n_below),
        n_outliers=float(np.count_nonzero(used & (robust == 0))),
        variance_matrix=scoring[0],
        variance_vector=scoring[1],
        shape_observed=shape[0],
        shape_expected=shape[1],
        turn_on=_turn_on(showers, model),
        chi2=float(np.sum(weight * residual**2)),
        slope=float(slope[used].sum()),
        slope_weight=float(robust[used].sum()),
    )


def _resolution(showers: Showers, model: Model, z: Floats) -> tuple[Floats, Floats, Indices]:
    """Variance of every row, inverse-variance mean of every group, value bin of every row."""
    plain = 1.0 / model.variance[showers.node]
    mean = showers.total(plain * z) / showers.total(plain)
    value_bin = np.digitize(mean, VALUE_EDGES)[showers.group]
    sigma2 = model.shape[showers.kind, showers.impact_bin, value_bin] / plain
    weight = 1.0 / sigma2
    return sigma2, showers.total(weight * z) / showers.total(weight), value_bin


def _above_margin(showers: Showers, model: Model, sigma2: Floats, mean: Floats) -> npt.NDArray[np.bool_]:
    """Rows whose expected value clears the threshold by the margin."""
    if not len(sigma2) or np.all(np.isneginf(model.threshold)):
        return np.ones(len(sigma2), np.bool_)
    largest = np.sqrt(np.maximum.reduceat(sigma2, showers.group_start))
    expected = mean[showers.group] + model.log_throughput[showers.node]
    limit = model.threshold[showers.kind, showers.impact_bin]
    return np.asarray(expected > limit + model.margin * largest[showers.group])


def split_values(showers: Showers, model: Model) -> dict[Split, tuple[Floats, Indices]]:
    """Quantity of each split and code of the type, by group."""
    z = showers.y - model.log_throughput[showers.node]
    mean = _resolution(showers, model, z)[1]
    kind = showers.kind[showers.group_start]
    return {name: (_split_value(showers, mean, name), kind) for name in ("value", "impact", "multiplicity")}


def _split_value(showers: Showers, mean: Floats, split: Split) -> Floats:
    multiplicity = np.bincount(showers.group, minlength=len(showers.group_start)).astype(float)
    if split == "value":
        return mean
    return multiplicity if split == "multiplicity" else showers.total(showers.impact_m) / multiplicity


def _upper_half(showers: Showers, model: Model, mean: Floats, split: Split) -> npt.NDArray[np.bool_]:
    cut = model.split_at[split][showers.kind[showers.group_start]]
    return np.asarray(_split_value(showers, mean, split) > cut)


def _robust_weights(showers: Showers, model: Model, z: Floats, base: Floats) -> tuple[Floats, Floats]:
    """Robust weight of every row, and the derivative of its score."""
    if model.robust == "none" or not len(z):
        return np.ones(len(z)), np.ones(len(z))
    score = _SCORES[model.robust]
    total = showers.total(base)[showers.group]
    with np.errstate(invalid="ignore", divide="ignore"):
        # Residuals of a shower's own mean are smaller than the noise by the leverage 1 - p.
        scale = np.sqrt(np.where(base > 0, 1.0 / base - 1.0 / total, np.inf))
        scale = np.where(scale > 0, scale, np.inf)
        centre = _centres(showers, z, np.maximum(base, TINY * base.max()))
        for _ in range(CENTRE_ROUNDS):
            weight, slope = score((z - centre[showers.group]) / scale)
            weight, slope = np.nan_to_num(weight), np.nan_to_num(slope)
            sum_weight = showers.total(base * weight)
            update = showers.total(base * weight * z) / sum_weight
            centre = np.where(sum_weight > 0, update, centre)
    return weight, slope


def _centres(showers: Showers, z: Floats, weight: Floats) -> Floats:
    """Where re-weighting starts: the weighted median of each group, or the mean of two.

    Weighted, because the plain median of unequal telescopes lies where the precise ones do not
    expect it, and a redescending weight would then throw those away. Of two telescopes neither
    is the outlier: from their mean both get the same weight.
    """
    order = np.lexsort((z, showers.group))
    ordered, part = z[order], weight[order]
    share = part / showers.total(part)[showers.group]
    reached = np.cumsum(share) - showers.group  # every earlier group has added exactly one
    tolerance = 1e-6  # rounding of that sum over up to 1e8 groups
    low = _first_in_group(showers, reached >= 0.5 - tolerance)
    high = _first_in_group(showers, reached > 0.5 + tolerance)
    median = 0.5 * (ordered[low] + ordered[high])
    n_used = showers.total((weight > weight.max() * 2 * TINY).astype(float))
    mean = showers.total(weight * z) / showers.total(weight)
    return np.where(n_used > 2, median, mean)  # noqa: PLR2004


def _first_in_group(showers: Showers, flags: npt.NDArray[np.bool_]) -> Indices:
    """Row of the first raised flag of every group (its last row if there is none)."""
    rows = np.where(flags, np.arange(len(flags)), len(flags))
    ends = np.append(showers.group_start[1:], len(flags)) - 1
    return np.minimum(np.minimum.reduceat(rows, showers.group_start), ends)


def _huber(t: Floats) -> tuple[Floats, Floats]:
    size = np.abs(t)
    return np.where(size <= HUBER, 1.0, HUBER / size), (size <= HUBER).astype(float)


def _tukey(t: Floats) -> tuple[Floats, Floats]:
    u2 = np.minimum((t / TUKEY) ** 2, 1.0)
    return (1 - u2) ** 2, np.where(u2 < 1, (1 - u2) * (1 - 5 * u2), 0.0)


def _clip(t: Floats) -> tuple[Floats, Floats]:
    # The derivative of a cut-off is a spike at its edge; its expectation for Gaussian noise is
    # spread over the rows inside.
    inside = (np.abs(t) <= CLIP).astype(float)
    lost = 2 * CLIP * stats.norm.pdf(CLIP) / (1 - 2 * stats.norm.sf(CLIP))
    return inside, inside * (1 - lost)


_SCORES: dict[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "huber": _huber,
    "tukey": _tukey,
    "clip": _clip,
}


@lru_cache
def _consistency(robust: Robust) -> float:
    """E[w t^2] / E[w] for standard Gaussian t: what a weighted variance must be divided by."""
    if robust == "none":
        return 1.0
    score = _SCORES[robust]

    def moment(power: int) -> float:
        def integrand(t: float) -> float:
            return float(score(np.array([t]))[0][0] * t**power * stats.norm.pdf(t))

        return float(integrate.quad(integrand, 0.0, 12.0, points=[HUBER, CLIP, TUKEY])[0])

    return moment(2) / moment(0)


def _meat(showers: Showers, gradient: Floats) -> Floats:
    n_showers = len(showers.shower_start) - 1
    per_shower = sparse.csr_array(
        (gradient, showers.node, showers.shower_start), shape=(n_showers, showers.n_nodes)
    )
    return np.asarray((per_shower.T @ per_shower).toarray())


def _variance_scoring(
    showers: Showers, model: Model, sigma2: Floats, z: Floats, first: Indices, second: Indices
) -> tuple[Floats, Floats]:
    """Normal equations for the factors by which the telescopes' variances should change.

    A pair row has ``Var(z_i - z_j) = sigma_i^2 + sigma_j^2``, linear in the variances; rows are
    weighted as in Fisher scoring. With robust weights, rows beyond the clip do not count.
    """
    n_nodes, node = showers.n_nodes, showers.node
    expected = sigma2[first] + sigma2[second]
    square = (z[first] - z[second]) ** 2 / expected
    counted = np.ones(len(square))
    if model.robust != "none":
        counted = np.where(square < CLIP**2, 1.0 / _clipped_variance(), 0.0)
    part = sigma2[first] / expected, sigma2[second] / expected
    ends = node[first], node[second]
    within = np.where(square < CLIP**2, 1.0, 0.0) if model.robust != "none" else counted
    matrix = np.zeros((n_nodes, n_nodes))
    vector = np.zeros(n_nodes)
    for one in (0, 1):
        vector += np.bincount(ends[one], part[one] * square * counted, n_nodes)
        for two in (0, 1):
            link = ends[one] * n_nodes + ends[two]
            weight = part[one] * part[two] * within
            matrix += np.bincount(link, weight, n_nodes**2).reshape(n_nodes, n_nodes)
    return matrix, vector


@lru_cache
def _clipped_variance() -> float:
    """Variance of a standard Gaussian cut at the clip."""
    return float(stats.truncnorm.var(-CLIP, CLIP))


def _shape_sums(  # noqa: PLR0913
    showers: Showers,
    model: Model,
    sigma2: Floats,
    share: Floats,
    residual: Floats,
    counted: Floats,
    value_bin: Indices,
) -> tuple[Floats, Floats]:
    """Squared residuals and their expectation, in units of sigma^2, by resolution bin.

    For a row with share p = w / W of its shower's weight, the expected squared residual is
    ``sigma_i^2 (1 - 2 p_i) + sum_k p_k^2 sigma_k^2``.
    """
    expected = sigma2 * (1 - 2 * share) + showers.total(share**2 * sigma2)[showers.group]
    bins = (showers.kind, showers.impact_bin, value_bin)
    flat = np.ravel_multi_index(bins, model.shape.shape)

    def by_bin(values: Floats) -> Floats:
        weighted = counted * values / sigma2
        return np.bincount(flat, weighted, model.shape.size).reshape(model.shape.shape)

    return by_bin(residual**2 / _consistency(model.robust)), by_bin(expected)


def _turn_on(showers: Showers, model: Model) -> Floats:
    shape = (*model.threshold.shape, len(TURN_ON_EDGES) + 1)
    bins = (showers.kind, showers.impact_bin, np.digitize(showers.y, TURN_ON_EDGES))
    flat = np.ravel_multi_index(bins, shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(float)
