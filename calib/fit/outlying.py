"""Telescopes whose values do not fit their showers, and the fit that is not pulled by them.

A few values that are far off, of one telescope, move its coefficient and that of its siblings by
their share times their size, and make it look noisy: the fitted resolution takes them in. They are
found beside the core of the telescope's own deviations, which they do not move.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import betainc

from arraycal.calib.fit.loop import Fit, FitOptions, fit, no_observers
from arraycal.calib.fit.pull import pull_of_window
from arraycal.calib.fit.resolutions import medians, usual
from arraycal.calib.fit.sums.summary import CLIP, CLIPPED_VARIANCE, DEVIATION_STEP, N_DEVIATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Observers
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.fit.sweep import Observer
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]
    Windows = Callable[[], Iterable[Showers]]

__all__ = ["FAR", "LEAST_ROWS", "PULLED", "Outlying", "find_outlying", "fit_robustly"]

#: A value is outlying this many widths of the core away from the mean of its shower.
FAR = 4.0
#: Telescope events below which nothing is said of a telescope: 5 values are 5 % of so many.
LEAST_ROWS, LEAST_OUTLYING = 100, 5
#: Share of outlying values that no model is blamed for: energies of random forests are not quite
#: Gaussian (1e-3 in simulated nights, 6e-5 of Gaussian noise).
USUAL_SHARE = 2e-3
#: Share that matters: it moves a coefficient by half a percent if the values are off by a factor of
#: three.
MIN_SHARE = 0.005
#: The same of a whole type, whose telescopes move together: genuine reconstructions have up to 1 %.
MIN_TYPE_SHARE = 0.02
#: Chance that any telescope of a result without outlying values is named.
CHANCE = 1e-3
#: A width of the core that matters, and errors it must lie off.
MIN_WIDTH, MIN_WIDTH_ERRORS = 0.25, 5.0
#: Resolution relative to that of the type in which outlying values may hide: 5 % of them, three
#: times the resolution off, make it 1.2. Telescopes of a type differ by 1.01 in simulated nights;
#: one that differs by more is named, as a tail that wide moves its coefficient by several errors.
NOISIER = 1.2
#: Difference of the width of the core from that of the resolution, from which on the resolution is
#: not that of the core: 5 % of values three times the resolution off make it 0.15.
SWOLLEN = 0.1
#: Width of the core over the resolution of the type, from which on no value of the telescope fits:
#: outlying values, which pull its throughput along, make it 2.
STRANGE = 2.5
#: Telescope events below which outlying values may hide, see `arraycal.calib.fit.pull`.
FEW_ROWS = 1000
#: Errors by which such weights move a throughput that outlying values have pulled. Without any it
#: is 0.45 (rms, showers of two telescopes).
MOVED = 2.5
#: Names of the sums that tell, and of the telescopes that a robust fit has moved therefore.
PULL, PULLED = "pull", "pulled"
#: Median of the deviation of a unit Gaussian.
MEDIAN = 0.6744897501960817


class Outlying(NamedTuple):
    """What the deviations say of every telescope, arrays of shape (n,).

    Parameters
    ----------
    n_rows : array
        Telescope events in use.
    width, width_error : array
        Deviations within 3 sigma, over the width that belongs to the fitted resolution.
    n_outlying, share : array
        Values further off than `FAR` times the width of the core, and their part of all.
    expected : array
        The part that telescopes of the type have otherwise.
    chance : array
        That of finding so many by chance.
    tested, tailed, misfit, noisy : array of bool
        With enough rows; with outlying values beyond the others of the type; of another width than
        the model says; of a resolution beyond that of the quieter half of the type.
    noisier : array of bool
        Of a resolution beyond that of its type in which outlying values may hide.
    swollen : array of bool
        Those of them whose core is not as wide as the resolution, and those with outlying values:
        the resolution has taken outlying values in. Not those of which no value fits.
    type_share : array
        Part of outlying values of all telescopes of the type.
    type_tailed : array of bool
        Whether the type has too many as a whole.
    """

    n_rows: Floats
    width: Floats
    width_error: Floats
    n_outlying: Floats
    share: Floats
    expected: Floats
    chance: Floats
    tested: Flags
    tailed: Flags
    misfit: Flags
    noisy: Flags
    noisier: Flags
    swollen: Flags
    type_share: Floats
    type_tailed: Flags

    @property
    def any(self) -> bool:
        """Whether values do not fit their showers."""
        return bool((self.tailed | self.misfit | self.noisy | self.type_tailed).any())


def fit_robustly(
    windows: Windows,
    subarray: Subarray,
    options: FitOptions,
    observers: Observers = no_observers,
) -> Fit:
    """Fit, and once more with robust weights if values do not fit their showers.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window; called once per pass.
    subarray : Subarray
        The telescopes.
    options : FitOptions
        With ``robust: auto``; anything else is fitted as it is.
    observers : callable
        What else to sum, see `arraycal.calib.fit.loop.fit`.

    Returns
    -------
    Fit
        Without outlying values that of ``robust: none``, so that clean data lose nothing.
    """
    if options.robust != "auto":
        return fit(windows, subarray, options, observers=observers)
    with_pull = partial(_with_pull, observers=observers, kinds=subarray.type_codes)
    plain = fit(windows, subarray, replace(options, robust="none"), observers=with_pull)
    found = find_outlying(plain.summary, plain.model.now.variance, subarray.type_codes)
    pulled = _pulled(plain)
    told = found.any or found.noisier.any() or pulled.any()
    if options.estimator == "pair" or not told:
        return plain
    # From the resolution of the type: outlying values hide in a variance that has taken them in;
    # and from throughputs that are known, or all values of a telescope far off would be outlying.
    now = plain.model.now
    typical = medians(now.variance, subarray.type_codes)
    start = replace(now, variance=typical, shape=np.ones_like(now.shape))
    # What has taken outlying values in would take them in again, and their weight with them.
    again = replace(options, robust="tukey", typical=found.swollen)
    robust = fit(windows, subarray, again, start, observers)
    lost = (robust.solution.component < 0) & (plain.solution.component >= 0)
    chosen = plain if lost.any() else robust
    return replace(chosen, observed={**chosen.observed, PULLED: pulled})


def _with_pull(
    learnt: Fit, chosen: Sequence[Showers], observers: Observers, kinds: Indices
) -> Mapping[str, Observer]:
    """What is to be summed anyhow, and the pull on telescopes of few showers."""
    watched = observers(learnt, chosen)
    # The sample has all showers of such telescopes.
    n, now = learnt.summary.n_events, learnt.model.now
    few = (n >= LEAST_ROWS) & (n < FEW_ROWS)
    if not few.any():
        return watched
    look = partial(pull_of_window, few=few, variance=medians(now.variance, kinds))
    return {**watched, PULL: look}


def _pulled(plain: Fit) -> Flags:
    """Telescopes whose throughput robust weights would move by more than chance."""
    error = np.sqrt(np.diag(plain.solution.covariance))
    if PULL not in plain.observed:
        return np.zeros(len(error), np.bool_)
    return np.asarray(np.abs(plain.observed[PULL].step) > MOVED * error)


def find_outlying(
    summary: Summary, variance: Floats, kinds: Indices, *, robust: bool = False
) -> Outlying:
    """Judge the deviations of the last pass.

    Parameters
    ----------
    summary : Summary
        Its sums.
    variance : array, shape (n,)
        Fitted variance of every telescope.
    kinds : array of int, shape (n,)
        Code of the type of every telescope.
    robust : bool
        Whether the fit had robust weights: no core is then wider than its resolution, but for the
        outlying values in its median.

    Returns
    -------
    Outlying
        By telescope.
    """
    n = summary.deviations.sum(axis=1)
    tested = n >= LEAST_ROWS
    core = np.where(tested, _median(summary.deviations) / MEDIAN, 1.0)
    n_far = _beyond(summary.farthest, FAR * (np.minimum(core, 1.0) if robust else core))
    of_type = np.eye(int(kinds.max(initial=0)) + 1)[kinds]
    type_rows, type_far = (of_type @ (of_type.T @ values) for values in (n, n_far))
    # One more, because none of few is no proof that there are none.
    others = (type_far - n_far + 1.0) / np.maximum(type_rows - n, 1.0)
    expected = np.where(type_rows > n, np.clip(others, USUAL_SHARE, 1.0), USUAL_SHARE)
    # The binomial chance of at least so many, in its form for halves.
    chance = np.where(n_far > 0, betainc(np.maximum(n_far, 0.5), n - n_far + 1.0, expected), 1.0)
    share, type_share = (
        np.divide(far, rows, out=np.zeros_like(rows), where=rows > 0)
        for far, rows in ((n_far, n), (type_far, type_rows))
    )
    rare = chance < CHANCE / max(int(tested.sum()), 1)
    width, width_error = _width(summary.deviations)
    off = np.abs(width - 1.0)
    noisier = tested & (variance > NOISIER**2 * medians(variance, kinds))
    tailed = tested & rare & (share - expected > MIN_SHARE) & (n_far >= LEAST_OUTLYING)
    wide = core * np.sqrt(variance / medians(variance, kinds))
    return Outlying(
        n_rows=n,
        width=width,
        width_error=width_error,
        n_outlying=n_far,
        share=share,
        expected=expected,
        chance=chance,
        tested=tested,
        tailed=tailed,
        misfit=tested & (off > MIN_WIDTH) & (off > MIN_WIDTH_ERRORS * width_error),
        noisier=noisier,
        swollen=(tailed | (noisier & (np.abs(core - 1.0) > SWOLLEN))) & (wide < STRANGE),
        noisy=tested & (variance > NOISIER**2 * usual(variance, kinds)),
        type_share=type_share,
        type_tailed=(type_rows >= LEAST_ROWS)
        & (type_share > MIN_TYPE_SHARE)
        & (type_far >= LEAST_OUTLYING),
    )


def _median(histograms: Floats) -> Floats:
    """Median deviation of each telescope, in line inside its bin; NaN without any."""
    n = histograms.sum(axis=1)
    up_to = np.cumsum(histograms, axis=1)
    place = np.argmax(up_to >= 0.5 * n[:, None], axis=1)
    rows = np.arange(len(n))
    inside, reached = histograms[rows, place], up_to[rows, place]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((place + 1 - (reached - 0.5 * n) / inside) * DEVIATION_STEP)


def _beyond(histograms: Floats, limits: Floats) -> Floats:
    """Counts above a limit of each telescope, to the width of a bin."""
    low = np.arange(N_DEVIATIONS) * DEVIATION_STEP
    # What lies beyond the last edge is in the last bin, however large the limit.
    outside = low >= np.minimum(limits, low[-1])[:, None]
    return np.asarray((histograms * outside).sum(axis=1))


def _width(histograms: Floats) -> tuple[Floats, Floats]:
    """Rms of the deviations within `CLIP` over that of a unit Gaussian, and its error."""
    middle = (np.arange(N_DEVIATIONS) + 0.5) * DEVIATION_STEP
    inside = histograms * (middle < CLIP)
    n = inside.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        square = (inside @ middle**2) / n / CLIPPED_VARIANCE
        return np.sqrt(square), np.sqrt(0.5 * square / n)
