"""Type contrasts in bins: what showers cannot tell from throughput, put on display.

A bias of the energies of one type (with energy, distance, zenith angle or offset from the
pointing) looks like a throughput of that type. It shows as a contrast that is not the same in all
bins. Bins are in the inverse-variance mean energy of all telescopes of the shower, never in the
energy of one type: noise of that mean is uncorrelated with the difference of any two telescopes.

With the telescopes held at the joint solution s, residuals ``z = y - s`` of a bin are fitted by one
number per type and a free shower term: the normal equations of `arraycal.calib.fit.sums.summary`,
added up over the telescopes of each type, per bin. Errors are event-clustered; those of s, common
to all bins of a type, are not in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse
from scipy.special import chdtrc

from arraycal.calib.fit import network
from arraycal.calib.fit.model import resolution
from arraycal.calib.fit.robust import curvature_scale
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.weighing import pairs_in_use, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "BINS",
    "CONTRAST_BINS",
    "COVARIATES",
    "ENERGY",
    "TRENDS",
    "ContrastObserver",
    "ContrastSums",
    "Covariate",
    "contrast_bins",
    "contrast_observer",
    "contrast_trends",
]

#: One row per type, covariate and bin. `contrast` is ln of the throughput of the type over that of
#: `tel_ref` (means over telescopes) in the bin, `expected` the same in a simulation (0 without).
CONTRAST_BINS = pl.Schema(
    {
        "covariate": pl.String,
        "unit": pl.String,
        "tel_type": pl.String,
        "tel_ref": pl.String,
        "low": pl.Float64,
        "high": pl.Float64,
        "mean": pl.Float64,
        "n_showers": pl.Int64,
        "contrast": pl.Float64,
        "error": pl.Float64,
        "expected": pl.Float64,
        "expected_error": pl.Float64,
    }
)

#: One row per type and covariate: the straight line through the bins of `contrast - expected`, in
#: ln(energy) or in the covariate itself; `span` is its rise from the first bin to the last.
TRENDS = pl.Schema(
    {
        "covariate": pl.String,
        "tel_type": pl.String,
        "tel_ref": pl.String,
        "n_bins": pl.Int64,
        "slope": pl.Float64,
        "slope_error": pl.Float64,
        "significance": pl.Float64,
        "span": pl.Float64,
        "chi2_constant": pl.Float64,
        "ndf_constant": pl.Int64,
        "chi2_line": pl.Float64,
        "ndf_line": pl.Int64,
        "p_line": pl.Float64,
        "flag": pl.String,
    }
)

#: A line is flagged when it is this significant and rises by this much over the bins.
MIN_SIGNIFICANCE, MIN_SPAN = 3.0, 0.02


@dataclass(frozen=True)
class Covariate:
    """Quantity of a shower in whose bins contrasts are shown.

    Parameters
    ----------
    name, unit : str
        For the reader.
    edges : sequence of float
        Edges of the bins, in `unit`: the same for all data, so that results compare.
    logarithmic : bool
        Whether trends are in its logarithm.
    """

    name: str
    unit: str
    edges: tuple[float, ...]
    logarithmic: bool = False

    def position(self, values: Floats) -> Floats:
        """Where values lie on the axis of the straight line."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(values) if self.logarithmic else values


ENERGY = Covariate("energy", "TeV", tuple(10.0 ** np.arange(-3.0, 3.01, 0.25)), logarithmic=True)
IMPACT = Covariate("impact distance", "m", (0, 50, 75, 100, 125, 150, 200, 250, 300, 400, 600, 1e3))
ZENITH = Covariate("zenith angle", "deg", (0, 10, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 80))
OFFSET = Covariate("offset", "deg", (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0))
COVARIATES: dict[str, Covariate] = {c.name: c for c in (ENERGY, IMPACT, ZENITH, OFFSET)}


class BINS(NamedTuple):
    """Sums by bin; types in the order of their codes. Bins include under- and overflow."""

    weight: Floats
    weighted: Floats
    curvature: Floats
    meat: Floats
    n_common: Floats
    position: Floats


@dataclass(frozen=True)
class ContrastSums:
    """Sums by covariate, in the order of `COVARIATES`."""

    covariates: tuple[BINS, ...]

    def __add__(self, other: ContrastSums) -> ContrastSums:
        """Merge sums of disjoint showers."""
        return ContrastSums(
            tuple(
                BINS(*(x + y for x, y in zip(one, two, strict=True)))
                for one, two in zip(self.covariates, other.covariates, strict=True)
            )
        )


@dataclass(frozen=True)
class ContrastObserver:
    """Sums up the contrasts of a window, an `arraycal.calib.fit.sweep.Observer`.

    Parameters
    ----------
    usable : array of bool, shape (n,)
        Telescopes with a coefficient; the others take no part.
    n_types : int
        Types of the array.
    about : tuple of array, optional
        Shift by bin and type that residuals are taken about, by covariate; zero by default.
    """

    usable: npt.NDArray[np.bool_]
    n_types: int
    about: tuple[Floats, ...] = ()

    def __call__(self, showers: Showers, model: Model, rows: WeighedRows) -> ContrastSums:
        """Sum up the contrasts of some showers."""
        known = list(COVARIATES.values())
        cells = _cells(showers, rows, self.usable, self.n_types)
        values = _values(showers, model, known)
        flat = [np.zeros((len(covariate.edges) + 1, self.n_types)) for covariate in known]
        about = self.about or flat
        return ContrastSums(
            tuple(
                _binned(covariate, value, cells, shift)
                for covariate, value, shift in zip(known, values, about, strict=True)
            )
        )


def contrast_observer(
    chosen: Sequence[Showers],
    model: Model,
    usable: npt.NDArray[np.bool_],
    n_types: int,
    *,
    least: int,
) -> ContrastObserver:
    """Learn on a sample where the contrasts of the bins are, and sum about that.

    Parameters
    ----------
    chosen : sequence of Showers
        The sample.
    model : Model
        Its log throughputs are what residuals are taken from.
    usable : array of bool, shape (n,)
        Telescopes with a coefficient; the others take no part.
    n_types : int
        Types of the array.
    least : int
        Showers with both types that a bin needs.
    """
    plain = ContrastObserver(usable, n_types)
    sums = [plain(showers, model, weigh(showers, model)) for showers in chosen]
    about = tuple(_solve(bins, least)[0] for bins in reduce(add, sums).covariates)
    return replace(plain, about=about)


def contrast_bins(
    sums: ContrastSums,
    model: Model,
    types: Sequence[str],
    usable: npt.NDArray[np.bool_],
    reference: str,
    *,
    least: int,
) -> pl.DataFrame:
    """Contrast of every type with the reference type in bins of every covariate.

    Parameters
    ----------
    sums : ContrastSums
        Of all showers.
    model : Model
        Of the sweep; its log throughputs are what residuals were taken from.
    types : sequence of str, shape (n,)
        Type of each telescope.
    usable : array of bool, shape (n,)
        Telescopes that took part.
    reference : str
        The type to compare with.
    least : int
        Showers with both types that a bin needs.

    Returns
    -------
    DataFrame
        Schema `CONTRAST_BINS`; bins without a contrast have no row. Expected contrasts are zero.
    """
    names = sorted(set(types))
    base = _type_means(model.now.log_throughput, types, usable)
    frames = [CONTRAST_BINS.to_frame()]
    for covariate, bins in zip(COVARIATES.values(), sums.covariates, strict=True):
        frames.append(_rows(covariate, bins, *_solve(bins, least), names, reference, base))
    return pl.concat(frames)


def _type_means(s: Floats, types: Sequence[str], usable: npt.NDArray[np.bool_]) -> Floats:
    codes = np.unique(np.asarray(types), return_inverse=True)[1]
    members = [usable & (codes == code) for code in range(int(codes.max()) + 1)]
    return np.array([s[member].mean() if member.any() else np.nan for member in members])


class _Cells(NamedTuple):
    """Sums of every group over pairs of telescopes by pair of types.

    Shape (n_groups, n_types, n_types): the type that comes first in the rows; zero within a type.
    """

    weight: Floats
    weighted: Floats
    curvature: Floats


def _cells(
    showers: Showers, rows: WeighedRows, usable: npt.NDArray[np.bool_], n_types: int
) -> _Cells:
    part = rows.used & usable[showers.node]
    n_groups = len(showers.group_start)
    shape = (n_groups, n_types, n_types)
    inverse = np.divide(1.0, rows.total, out=np.zeros(n_groups), where=rows.total > 0)
    if showers.complete:
        place = np.flatnonzero(part)
        link = showers.group[place] * n_types + showers.kind[place]

        def by_type(values: Floats) -> Floats:
            return tally(link, values, n_groups * n_types).reshape(n_groups, n_types)

        def outer(one: Floats, two: Floats, scale: Floats) -> Floats:
            return one[:, :, None] * two[:, None, :] * scale[:, None, None]

        weight, sums = by_type(rows.weight[place]), by_type((rows.weight * rows.z)[place])
        product = outer(sums, weight, inverse)
        level = outer(weight, weight, inverse)
        curved = level
        if rows.steep is not rows.weight:
            steep = by_type(rows.steep[place])
            curved = outer(steep, steep, curvature_scale(showers, rows.steep))
        found = _Cells(level, product - product.transpose(0, 2, 1), curved)
    else:
        pairs = pairs_in_use(showers, rows)
        both = part[pairs.first] & part[pairs.second]
        one, two = pairs.first[both], pairs.second[both]
        swapped = showers.kind[one] > showers.kind[two]
        first, second = np.where(swapped, two, one), np.where(swapped, one, two)
        cell = (showers.group[first] * n_types + showers.kind[first]) * n_types
        cell += showers.kind[second]
        difference = rows.z[first] - rows.z[second]
        weight = pairs.weight[both]
        found = _Cells(
            *(
                tally(cell, values, n_groups * n_types**2).reshape(shape)
                for values in (weight, weight * difference, pairs.curvature[both])
            )
        )
    upper = np.triu(np.ones((n_types, n_types)), 1)
    return _Cells(*(values * upper for values in found))


def _binned(covariate: Covariate, value: Floats, cells: _Cells, about: Floats) -> BINS:
    """Sums by bin of the covariate, whose value is given by group."""
    n_bins, n_types = about.shape
    bin_of = _bin(covariate, value)
    n_groups = len(bin_of)
    adding = sparse.csr_array(
        (np.ones(n_groups), (bin_of, np.arange(n_groups))), shape=(n_bins, n_groups)
    )

    def by_bin(values: Floats) -> Floats:
        return np.asarray(adding @ values.reshape(n_groups, -1)).reshape(n_bins, n_types, n_types)

    shift = np.nan_to_num(about[:, :, None] - about[:, None, :])[bin_of]
    misfit = cells.weighted - cells.weight * shift
    gradient = misfit.sum(axis=2) - misfit.sum(axis=1)
    position = np.nan_to_num(covariate.position(value), posinf=0.0, neginf=0.0)
    return BINS(
        weight=by_bin(cells.weight),
        weighted=by_bin(cells.weighted),
        curvature=by_bin(cells.curvature),
        meat=by_bin(gradient[:, :, None] * gradient[:, None, :]),
        n_common=by_bin((cells.weight > 0).astype(float)),
        position=by_bin(cells.weight * position[:, None, None]),
    )


def _values(showers: Showers, model: Model, covariates: Sequence[Covariate]) -> list[Floats]:
    """Covariates of every group; NaN where unknown."""
    n_groups = len(showers.group_start)
    known: dict[str, Floats] = {}
    if "altitude_deg" in showers.covariates:
        known[ZENITH.name] = 90.0 - showers.covariates["altitude_deg"]
    if showers.covariates.keys() >= DIRECTIONS:
        known[OFFSET.name] = _offset_deg(showers.covariates)
    known[ENERGY.name] = np.exp(resolution(showers, model.now).mean)
    if n_groups:
        multiplicity = np.bincount(showers.group, minlength=n_groups)
        known[IMPACT.name] = showers.total(showers.impact_m) / multiplicity
    nothing = np.full(n_groups, np.nan)
    return [known.get(covariate.name, nothing) for covariate in covariates]


#: What the offset of a shower is made of.
DIRECTIONS = {"altitude_deg", "azimuth_deg", "pointing_altitude_rad", "pointing_azimuth_rad"}


def _offset_deg(covariates: Mapping[str, Floats]) -> Floats:
    """Angle between the direction of each shower and the pointing, deg; exact for small ones."""
    import erfa  # what astropy is made of; its coordinates take half a second to import

    angle: Floats = np.degrees(
        erfa.seps(
            np.radians(covariates["azimuth_deg"]),
            np.radians(covariates["altitude_deg"]),
            covariates["pointing_azimuth_rad"],
            covariates["pointing_altitude_rad"],
        )
    )
    return angle


def _bin(covariate: Covariate, values: Floats) -> Indices:
    """Bin of each group; what is unknown falls in the underflow, which is never shown."""
    return np.where(np.isfinite(values), np.digitize(values, covariate.edges), 0)


def _solve(bins: BINS, least: int) -> tuple[Floats, Indices]:
    """Shift of every type in every bin (mean zero by component), and its component."""
    n_bins, n_types = bins.weight.shape[:2]
    shift = np.full((n_bins, n_types), np.nan)
    component = np.full((n_bins, n_types), -1)
    for number in range(n_bins):
        common = bins.n_common[number]
        enough = np.full(n_types, float(least))
        component[number] = network.components(common, enough, min_common=least, min_events=0)
        for nodes in _members(component[number]):
            part = np.ix_(nodes, nodes)
            weighted = bins.weighted[number][part]
            inverse = network.pseudo_inverse(network.laplacian(bins.weight[number][part]))
            shift[number, nodes] = inverse @ (weighted.sum(axis=1) - weighted.sum(axis=0))
    return shift, component


def _members(component: Indices) -> list[Indices]:
    return [np.flatnonzero(component == k) for k in range(int(component.max(initial=-1)) + 1)]


def _rows(
    covariate: Covariate,
    bins: BINS,
    shift: Floats,
    component: Indices,
    names: Sequence[str],
    reference: str,
    base: Floats,
) -> pl.DataFrame:
    ref = names.index(reference)
    rows = []
    for number in range(1, len(covariate.edges)):
        for nodes in _members(component[number]):
            if ref not in nodes:
                continue
            covariance = _covariance(bins, number, nodes)
            at = {int(node): place for place, node in enumerate(nodes)}
            for node in nodes[nodes != ref]:
                contrast = np.zeros(len(nodes))
                contrast[at[int(node)]], contrast[at[ref]] = 1.0, -1.0
                both = bins.weight[number][[node, ref], [ref, node]].sum()
                mean = bins.position[number][[node, ref], [ref, node]].sum() / both
                rows.append(
                    (
                        covariate.name,
                        covariate.unit,
                        names[node],
                        reference,
                        float(covariate.edges[number - 1]),
                        float(covariate.edges[number]),
                        float(np.exp(mean) if covariate.logarithmic else mean),
                        int(bins.n_common[number][[node, ref], [ref, node]].sum()),
                        float(shift[number, node] - shift[number, ref] + base[node] - base[ref]),
                        math.sqrt(contrast @ covariance @ contrast),
                        0.0,
                        0.0,
                    )
                )
    frame = pl.DataFrame(rows, schema=CONTRAST_BINS, orient="row")
    return frame.filter(pl.col("mean").is_finite() & (pl.col("error") > 0)).sort("tel_type", "low")


def _covariance(bins: BINS, number: int, nodes: Indices) -> Floats:
    part = np.ix_(nodes, nodes)
    bread = network.pseudo_inverse(network.laplacian(bins.curvature[number][part]))
    n = bins.n_common[number].sum()
    scale = n / (n - 1) if n > 1 else math.nan
    return np.asarray(bread @ bins.meat[number][part] @ bread * scale)


def contrast_trends(bins: pl.DataFrame) -> pl.DataFrame:
    """Fit a straight line to the contrasts of each type and covariate.

    Parameters
    ----------
    bins : DataFrame
        Schema `CONTRAST_BINS`.

    Returns
    -------
    DataFrame
        Schema `TRENDS`, one row where there are at least two bins. ``flag`` is ``trend`` where
        the line is more than 3 standard errors from level and rises by more than 2 %.
    """
    rows = []
    keys = ["covariate", "tel_type", "tel_ref"]
    for (name, tel_type, tel_ref), part in bins.group_by(keys, maintain_order=True):
        if len(part) > 1:
            rows.append((name, tel_type, tel_ref, *_line(part, COVARIATES[str(name)])))
    return pl.DataFrame(rows, schema=TRENDS, orient="row")


def _line(part: pl.DataFrame, covariate: Covariate) -> tuple[float | int | str, ...]:
    """Fit one line; the columns of `TRENDS` after the keys."""
    x = covariate.position(part["mean"].to_numpy())
    y = (part["contrast"] - part["expected"]).to_numpy()
    w = 1.0 / (part["error"] ** 2 + part["expected_error"] ** 2).to_numpy()
    middle, level = (float(np.average(values, weights=w)) for values in (x, y))
    spread = float(np.sum(w * (x - middle) ** 2))
    slope = float(np.sum(w * (x - middle) * y)) / spread
    chi2_constant = float(np.sum(w * (y - level) ** 2))
    chi2_line = float(np.sum(w * (y - level - slope * (x - middle)) ** 2))
    significance, span = slope * math.sqrt(spread), slope * float(np.ptp(x))
    flagged = abs(significance) > MIN_SIGNIFICANCE and abs(span) > MIN_SPAN
    ndf = len(x) - 2
    return (
        len(x),
        slope,
        1 / math.sqrt(spread),
        significance,
        span,
        chi2_constant,
        ndf + 1,
        chi2_line,
        ndf,
        float(chdtrc(ndf, chi2_line)) if ndf else math.nan,
        "trend" if flagged else "ok",
    )
