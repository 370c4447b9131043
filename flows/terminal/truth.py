"""Known truth of a simulated night beside what was found."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl

from arraycal.calib.disk.texts import read_json
from arraycal.config.errors import ConfigurationError

__all__ = ["TrueValues", "compare_with_truth", "read_truth"]

#: Entries of ``truth.json`` that are factors, by calibration, the first there is; older ones have
#: the throughput only.
FACTORS: Mapping[str, tuple[str, ...]] = {
    "energy-inter": ("energy_factor", "throughput"),
    "energy-cross": ("energy_factor", "throughput"),
    "image-inter": ("size_factor", "throughput"),
}
#: Entries that are differences and add up; of the second ones there may be none.
DIFFERENCES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "timing-cross": ("clock_offset_ns", ("latency_ns",)),
}
#: Jumps that add to them: telescope, date, size.
STEPS: Mapping[str, str] = {"timing-cross": "clock_steps"}
#: Their change per hour; earlier versions did not tell it.
RATES: Mapping[str, str] = {"timing-cross": "clock_drift_ns_per_h"}
S_PER_HOUR = 3600.0


class TrueValues(NamedTuple):
    """Truth of one calibration by telescope id.

    Parameters
    ----------
    values : dict of int to float
        Factors, or differences.
    additive : bool
        Whether a common shift, and not a common factor, is free.
    rates : mapping of int to float
        Change of the values per hour, by telescope, of those that change.
    start_s : float
        Date for which the values hold, s since 1970 (TAI).
    """

    values: dict[int, float]
    additive: bool = False
    rates: Mapping[int, float] = MappingProxyType({})
    start_s: float = 0.0

    def at(self, tel_id: int, date_s: float | None) -> float:
        """Value of a telescope at a date; NaN for an unknown one."""
        value = self.values.get(tel_id, math.nan)
        if date_s is None or tel_id not in self.rates:
            return value
        return value + self.rates[tel_id] * (date_s - self.start_s) / S_PER_HOUR


def read_truth(path: Path, calibration: str) -> TrueValues:
    """Read the truth of a calibration from a ``truth.json``.

    Parameters
    ----------
    path : Path
        The file.
    calibration : str
        Which calibration.

    Returns
    -------
    TrueValues
        A clock's offset holds the latency of its telescope and all its jumps; how it drifts stands
        beside it.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is something else.
    """
    try:
        content = read_json(path)
        if calibration in DIFFERENCES:
            return TrueValues(
                _differences(content, calibration),
                additive=True,
                rates=_by_id(content.get(RATES[calibration], {})),
                start_s=float(content.get("start_s", 0.0)),
            )
        names = FACTORS.get(calibration, ("throughput",))
        entry = next((name for name in names if name in content), names[-1])
        return TrueValues(_by_id(content[entry]))
    except OSError as error:
        raise ConfigurationError(f"--truth {path}: {error.strerror}") from None
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
        needed = DIFFERENCES.get(calibration, ("throughput",))[0]
        raise ConfigurationError(
            f"--truth {path}: expected the truth.json of `arraycal simulate`, with {needed} "
            "by telescope"
        ) from None


def _differences(content: Mapping[str, Any], calibration: str) -> dict[int, float]:
    base, more = DIFFERENCES[calibration]
    values = _by_id(content[base])
    for name in more:
        for tel_id, value in _by_id(content.get(name, {})).items():
            values[tel_id] += value
    for tel_id, _, size in content.get(STEPS[calibration], ()):
        values[int(tel_id)] += float(size)
    return values


def _by_id(values: Mapping[str, Any]) -> dict[int, float]:
    return {int(tel_id): float(value) for tel_id, value in values.items()}


def compare_with_truth(
    telescopes: pl.DataFrame,
    truth: TrueValues,
    *,
    within_types: bool = True,
    dates: Mapping[int, float] | None = None,
) -> pl.DataFrame:
    """Add columns ``truth``, ``difference`` and ``pull`` to a table of telescopes.

    Parameters
    ----------
    telescopes : DataFrame
        Schema ``arraycal.calib.result.result.TELESCOPES``.
    truth : TrueValues
        True factors, whose scale does not matter, or true differences, up to a constant.
    within_types : bool
        Whether only ratios within a type were measured; else one scale holds for all.
    dates : mapping of int to float, optional
        Dates for which the values hold, by telescope; they matter to what changes with time.

    Returns
    -------
    DataFrame
        The same rows. A telescope without value or without truth has NaN in all three columns.

    Notes
    -----
    The truth of a type (or of all telescopes) is scaled so that its geometric mean over the
    telescopes with a value equals that of the values; ``difference`` is value minus truth, and
    ``pull`` that over the error, NaN where the gauge left no error. Differences are shifted as a
    whole: to 0 at the telescope that has no error, the reference, or to a mean of 0.
    """
    when = dates or {}
    true = [truth.at(tel_id, when.get(tel_id)) for tel_id in telescopes["tel_id"]]
    value = pl.col("value")
    if not truth.additive:
        true, value = [_log(factor) for factor in true], value.log()
    shift = value - pl.col("truth")
    mean_shift = shift.filter(shift.is_finite()).mean()
    if truth.additive:
        reference = shift.filter(shift.is_finite() & (pl.col("error") == 0)).first()
        mean_shift = pl.coalesce(reference, mean_shift)
    elif within_types:
        mean_shift = mean_shift.over("tel_type")
    scaled = pl.col("truth") + mean_shift
    scaled = scaled if truth.additive else scaled.exp()
    scaled = pl.when(pl.col("value").is_finite()).then(scaled).otherwise(math.nan)
    pull = pl.when(pl.col("error") > 0).then(pl.col("difference") / pl.col("error"))
    return (
        telescopes.with_columns(pl.Series("truth", true, pl.Float64))
        .with_columns(scaled.alias("truth"))
        .with_columns((pl.col("value") - pl.col("truth")).alias("difference"))
        .with_columns(pull.otherwise(math.nan).alias("pull"))
    )


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
