"""One telescope over many nights: steady, ageing or stepped, and which nights stand out.

Four models compete: a constant, a straight line, steps between constants, and steps on a line.
With few nights several of them can describe the same points; then this says so and chooses none.
Nothing in here knows what is measured, or how nights were made comparable: see
`arraycal.calib.trends.trends`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri, ndtr

from arraycal.calib.checks.changepoint import Step, find_step, find_steps

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]
    Indices = npt.NDArray[np.intp]

__all__ = ["AGEING", "OUTLIER", "STEP", "Course", "Limits", "course_of"]

AGEING, STEP, OUTLIER = "ageing", "step", "outlier"
#: A night is looked at as an outlier if it is so many errors off its neighbours.
SUSPICIOUS = 3.0
#: So many suspicious nights are tried at a time, and one in so many nights may be an outlier.
MAX_TRIED, ONE_IN = 3, 5
#: Numbers below this fraction of the largest one are rounding noise.
ROUNDING = 1e-10


@dataclass(frozen=True)
class Limits:
    """What counts as a change; sizes are in the unit of the series.

    Parameters
    ----------
    false_alarm : float
        Chance that a steady telescope gets any flag.
    min_odds : float
        How much more probable the better of two descriptions must be to be chosen alone.
    min_nights : int
        Fewer nights are not judged; at least 3.
    min_change : float
        Smallest step, or total change by ageing, that gets a flag.
    min_outlier : float
        Smallest deviation of a single night that gets a flag.
    """

    false_alarm: float
    min_odds: float
    min_nights: int
    min_change: float
    min_outlier: float

    @property
    def alpha(self) -> float:
        """Chance of a false alarm by a change, and the same by an outlier."""
        return 0.5 * self.false_alarm

    @property
    def parameter_cost(self) -> float:
        """Drop of chi-square that a further parameter must bring."""
        return float(chdtri(1, self.alpha))


@dataclass(frozen=True)
class Course:
    """What became of a telescope. Indices and lengths are those of the whole series.

    Parameters
    ----------
    flags : tuple of str
        `AGEING`, `STEP`, `OUTLIER`; of two changes, the one that describes the nights better first.
    is_open : bool
        Whether the nights cannot tell a step from ageing; then both flags are there.
    rate, rate_error : float
        Slope per day with the steps fitted along; NaN where the nights cannot tell.
    steps : tuple of Step
        Those large enough to be flagged.
    outliers : array of bool, shape (n,)
        Nights that stand out.
    outlier_z : array, shape (n,)
        By how many errors; 0 for the others.
    fitted : array, shape (n,)
        The model in force; NaN where nothing was measured.
    p_value : float
        Chance of a change at least as significant in a telescope that is steady; NaN if not judged.
    strength : float
        Drop of chi-square by the change; 0 without one.
    """

    flags: tuple[str, ...]
    is_open: bool
    rate: float
    rate_error: float
    steps: tuple[Step, ...]
    outliers: Flags
    outlier_z: Floats
    fitted: Floats
    p_value: float
    strength: float

    @property
    def has_changed(self) -> bool:
        """Whether a change is flagged; outliers are none."""
        return bool({AGEING, STEP} & set(self.flags))


@dataclass(frozen=True)
class _Model:
    """A fitted model of counted points; `places` are the first points behind steps."""

    has_line: bool
    places: tuple[int, ...]
    chi2: float
    score: float

    @property
    def kinds(self) -> tuple[str, ...]:
        return (AGEING,) * self.has_line + (STEP,) * bool(self.places)


CONSTANT = _Model(has_line=False, places=(), chi2=0.0, score=0.0)


@dataclass(frozen=True)
class _Fit:
    """Weighted least squares; parameters are constant, slope (if any), steps."""

    parameters: Floats
    covariance: Floats
    chi2: float


def course_of(days: Floats, values: Floats, errors: Floats, limits: Limits) -> Course:
    """Judge the series of a telescope.

    Parameters
    ----------
    days : array, shape (n,)
        Dates, rising, in days.
    values, errors : array, shape (n,)
        Independent measurements and their standard errors; NaN is a gap.
    limits : Limits
        What counts as a change.

    Returns
    -------
    Course
        Without flags if there are fewer nights than `Limits.min_nights`.

    Notes
    -----
    A change is significant if ``2 min(p_line, p_step)``, the p-value of the better of two looks, is
    below half of the accepted chance of a false alarm; p_step is that of the scan over all nights
    (`arraycal.calib.checks.changepoint.find_step`). Which change it is, is then decided by
    ``chi2 + cost (number of parameters) + 2 ln(N - 1) (number of steps)``: a step also chooses its
    night, out of N - 1 equally probable ones, and the likelihood is divided among them. A
    description is chosen alone if it beats every other kind by ``2 ln(min_odds)``.
    """
    counted = np.flatnonzero(np.isfinite(values) & np.isfinite(errors) & (errors > 0))
    x, y, e = days[counted], values[counted], errors[counted]
    z = np.zeros(len(x))
    if len(x) >= limits.min_nights:
        z = _outliers(x, y, e, limits)
    kept = np.flatnonzero(z == 0)
    course = _without_outliers(x[kept], y[kept], e[kept], limits)
    return _on_all_nights(course, counted[kept], counted, z, days)


def _without_outliers(x: Floats, y: Floats, e: Floats, limits: Limits) -> Course:
    """Course of counted nights, none of which stands out."""
    nothing = np.zeros(len(x))
    steady = Course(
        (), False, math.nan, math.nan, (), nothing > 0, nothing, nothing, math.nan, 0.0  # noqa: FBT003
    )  # fmt: skip
    if not len(x):
        return steady
    steady = _with_fit(steady, CONSTANT, x, y, e)
    if len(x) < limits.min_nights:
        return steady
    p_value, strength = _significance(y, e, steady.rate / steady.rate_error)
    steady = replace(steady, p_value=p_value)
    if p_value > limits.alpha:
        return steady
    best, *others = _changes(x, y, e, limits)
    margin = 2.0 * math.log(limits.min_odds)
    rivals = [model for model in others if model.score < best.score + margin]
    simple = {(AGEING,), (STEP,)}
    rival = next((m for m in rivals if {best.kinds, m.kinds} == simple), None)
    course = _with_fit(steady, best, x, y, e)
    found = _large_enough(course, best.kinds, x, limits)
    if rival is not None:
        other = _with_fit(steady, rival, x, y, e)
        also = _large_enough(other, rival.kinds, x, limits)
        line, step = (course, other) if best.has_line else (other, course)
        course = replace(
            course, rate=line.rate, rate_error=line.rate_error, steps=step.steps, is_open=True
        )
        found = (*found, *also) if found and also else ()
    if not found:
        return steady
    large = tuple(s for s in course.steps if abs(s.size) >= limits.min_change)
    return replace(course, flags=found, steps=large if STEP in found else (), strength=strength)


def _on_all_nights(
    course: Course, kept: Indices, counted: Indices, z: Floats, days: Floats
) -> Course:
    """The same with indices of the whole series, and its outliers."""
    outlier_z, fitted = np.zeros(len(days)), np.full(len(days), np.nan)
    outlier_z[counted] = z
    if len(kept):
        # A night that was left out has the value between its neighbours.
        fitted[counted] = np.interp(days[counted], days[kept], course.fitted)
    steps = tuple(
        replace(s, index=int(kept[s.index]), first=int(kept[s.first]), last=int(kept[s.last]))
        for s in course.steps
    )
    outliers = outlier_z != 0
    flags = (*course.flags, OUTLIER) if outliers.any() else course.flags
    return replace(
        course, flags=flags, steps=steps, outliers=outliers, outlier_z=outlier_z, fitted=fitted
    )


def _significance(y: Floats, e: Floats, z_line: float) -> tuple[float, float]:
    """P-value of a constant against a line or a step, and the larger drop of chi-square."""
    p_value, strength = 2.0 * float(ndtr(-abs(z_line))), z_line**2
    step = find_step(y, e)
    if step is not None:
        p_value = min(p_value, step.p_value)
        strength = max(strength, (step.size / step.error) ** 2)
    return min(1.0, 2.0 * p_value), strength


def _changes(x: Floats, y: Floats, e: Floats, limits: Limits) -> list[_Model]:
    """Models with a change, the best one first."""
    single = find_step(y, e)
    shapes: set[tuple[bool, tuple[int, ...]]] = {(True, ())}
    if single is not None:
        shapes.add((False, (single.index,)))
    shapes.add((False, tuple(s.index for s in find_steps(y, e, alpha=limits.alpha))))
    shapes.add((True, tuple(s.index for s in find_steps(y, e, times=x, alpha=limits.alpha))))
    # A model must leave a degree of freedom: with as many parameters as nights anything fits.
    fit = [shape for shape in shapes - {(False, ())} if 1 + shape[0] + len(shape[1]) < len(x)]
    models = [_scored(x, y, e, shape, limits) for shape in fit]
    return sorted(models, key=lambda model: model.score)


def _scored(
    x: Floats, y: Floats, e: Floats, shape: tuple[bool, tuple[int, ...]], limits: Limits
) -> _Model:
    has_line, places = shape
    chi2 = _fit(x, y, e, has_line=has_line, places=places).chi2
    place_cost = limits.parameter_cost + 2.0 * math.log(max(len(x) - 1, 1))
    score = chi2 + has_line * limits.parameter_cost + len(places) * place_cost
    return _Model(has_line, places, chi2, score)


def _design(x: Floats, *, has_line: bool, places: tuple[int, ...]) -> Floats:
    columns = [np.ones(len(x))]
    if has_line:
        columns.append(x - x.mean())
    columns += [(np.arange(len(x)) >= place).astype(float) for place in places]
    return np.stack(columns, axis=1)


def _fit(x: Floats, y: Floats, e: Floats, *, has_line: bool, places: tuple[int, ...]) -> _Fit:
    """Fit a model; parameters that the points leave open are NaN with NaN errors."""
    weighted = _design(x, has_line=has_line, places=places) / e[:, None]
    n = weighted.shape[1]
    unknown = _Fit(np.full(n, np.nan), np.full((n, n), np.nan), math.nan)
    if len(x) < n:
        return unknown
    scale = np.sqrt(np.sum(weighted**2, axis=0))
    unit = weighted / scale
    size, rotation = np.linalg.eigh(unit.T @ unit)
    if size[0] < ROUNDING * size[-1]:
        return unknown
    covariance = (rotation / size) @ rotation.T / np.outer(scale, scale)
    parameters = covariance @ (weighted.T @ (y / e))
    chi2 = float(np.sum((y / e - weighted @ parameters) ** 2))
    return _Fit(parameters, covariance, chi2)


def _with_fit(course: Course, model: _Model, x: Floats, y: Floats, e: Floats) -> Course:
    """Course with the numbers of a model; the rate is always fitted along with the steps."""
    own = _fit(x, y, e, has_line=model.has_line, places=model.places)
    with_line = own if model.has_line else _fit(x, y, e, has_line=True, places=model.places)
    places = list(model.places)
    first = 2 if model.has_line else 1
    steps = tuple(
        Step(
            place,
            place,
            place,
            float(own.parameters[first + number]),
            math.sqrt(own.covariance[first + number, first + number]),
            course.p_value,
        )
        for number, place in enumerate(places)
    )
    return replace(
        course,
        rate=float(with_line.parameters[1]),
        rate_error=math.sqrt(with_line.covariance[1, 1]),
        steps=tuple(_with_range(step, x, y, e, model) for step in steps),
        fitted=_design(x, has_line=model.has_line, places=model.places) @ own.parameters,
    )


def _with_range(step: Step, x: Floats, y: Floats, e: Floats, model: _Model) -> Step:
    """The step with the other nights at which it describes the series nearly as well."""
    others = [place for place in model.places if place != step.index]
    low = max([place for place in others if place < step.index], default=0) + 1
    high = min([place for place in others if place > step.index], default=len(x))
    places = range(low, high)
    chi2 = [
        _fit(x, y, e, has_line=model.has_line, places=(*others, place)).chi2 for place in places
    ]
    near = [place for place, c in zip(places, chi2, strict=True) if c <= np.nanmin(chi2) + 3.84]
    return replace(step, first=min([*near, step.index]), last=max([*near, step.index]))


def _large_enough(
    course: Course, kinds: tuple[str, ...], x: Floats, limits: Limits
) -> tuple[str, ...]:
    """Those kinds of change whose size is worth a flag."""
    sizes = {
        AGEING: abs(course.rate) * float(x[-1] - x[0]),
        STEP: max((abs(step.size) for step in course.steps), default=0.0),
    }
    return tuple(kind for kind in kinds if sizes[kind] >= limits.min_change)


def _outliers(x: Floats, y: Floats, e: Floats, limits: Limits) -> Floats:
    """How many errors a night is off what all others say of it; 0 for ordinary ones.

    The first and the last night are never outliers: a step beside them looks the same.
    """
    z = np.zeros(len(x))
    for _ in range(max(1, len(x) // ONE_IN)):
        kept = np.flatnonzero(z == 0)
        found = _worst_outlier(x[kept], y[kept], e[kept], limits)
        if found is None:
            break
        z[kept[found[0]]] = found[1]
    return z


def _worst_outlier(x: Floats, y: Floats, e: Floats, limits: Limits) -> tuple[int, float] | None:
    """Night whose omission simplifies the series most, and by how many errors it is off."""
    suspects = _suspects(x, y, e)
    if not len(suspects):
        return None
    places_cost = limits.parameter_cost + 2.0 * math.log(len(x))
    best, found = _best(x, y, e, limits).score, None
    for night in suspects:
        others = np.delete(np.arange(len(x)), night)
        model = _best(x[others], y[others], e[others], limits)
        deviation, error = _left_out(x, y, e, int(night), model)
        z = deviation / error
        chance = 2.0 * float(ndtr(-abs(z))) * len(x)
        is_large = chance <= limits.alpha and abs(deviation) >= limits.min_outlier
        if is_large and model.score + places_cost < best:
            best, found = model.score + places_cost, (int(night), z)
    return found


def _suspects(x: Floats, y: Floats, e: Floats) -> Indices:
    """Nights that are far off the line between their neighbours, the farthest first."""
    if len(x) < 3:  # noqa: PLR2004  no night has two neighbours
        return np.empty(0, np.intp)
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    deviation = y[1:-1] - (1 - share) * y[:-2] - share * y[2:]
    variance = e[1:-1] ** 2 + ((1 - share) * e[:-2]) ** 2 + (share * e[2:]) ** 2
    z = np.abs(deviation) / np.sqrt(variance)
    order = np.argsort(-z, kind="stable")[:MAX_TRIED]
    return np.asarray(order[z[order] > SUSPICIOUS] + 1, np.intp)


def _best(x: Floats, y: Floats, e: Floats, limits: Limits) -> _Model:
    """The best model, a constant included."""
    constant = _scored(x, y, e, (False, ()), limits)
    if len(x) < 3:  # noqa: PLR2004  two points are described by anything
        return constant
    return min([constant, *_changes(x, y, e, limits)], key=lambda model: model.score)


def _left_out(x: Floats, y: Floats, e: Floats, night: int, model: _Model) -> tuple[float, float]:
    """Deviation of a night from the model of all others, and its standard error."""
    others = np.delete(np.arange(len(x)), night)
    fit = _fit(x[others], y[others], e[others], has_line=model.has_line, places=model.places)
    row = [1.0, *([x[night] - x[others].mean()] if model.has_line else [])]
    results = []
    # Where a step lies just at this night, it may be on either side of it.
    for behind in {night, night + 1}:
        steps = [1.0 if place < behind else 0.0 for place in model.places]
        whole = np.array([*row, *steps])
        variance = float(whole @ fit.covariance @ whole) + e[night] ** 2
        results.append((float(y[night] - whole @ fit.parameters), math.sqrt(variance)))
    return min(results, key=lambda item: abs(item[0]) / item[1])
