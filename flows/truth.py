"""Known truth of a simulated night beside what was found."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from config.errors import ConfigurationError

__all__ = ["compare", "read_truth"]


def read_truth(path: Path) -> dict[int, float]:
    """Read the throughput by telescope id from a ``truth.json``.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {int(tel_id): float(value) for tel_id, value in content["throughput"].items()}
    except OSError as error:
        raise ConfigurationError(f"--truth {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            f"--truth {path}: expected the truth.json of `arraycal simulate`, with a throughput "
            "by telescope"
        ) from None


def compare(
    telescopes: pl.DataFrame, truth: Mapping[int, float], *, within_types: bool = True
) -> pl.DataFrame:
    """Add columns ``truth`` and ``pull`` to a table of telescopes.

    Parameters
    ----------
    telescopes : DataFrame
        Schema ``calib.result.TELESCOPES``.
    truth : mapping of int to float
        True throughput by telescope id; its scale does not matter.
    within_types : bool
        Whether only ratios within a type were measured; else one scale holds for all.

    Returns
    -------
    DataFrame
        The same rows. A telescope without value or without truth has NaN in both columns.

    Notes
    -----
    The truth of a type (or of all telescopes) is scaled so that its geometric mean over the
    telescopes with a value equals that of the values; ``pull`` is the difference
    over the error, NaN where the gauge left no error.
    """
    logs = [_log(truth.get(tel_id, math.nan)) for tel_id in telescopes["tel_id"]]
    known = pl.col("value").is_finite()
    shift = pl.col("value").log() - pl.col("truth")
    mean_shift = shift.filter(shift.is_finite()).mean()
    mean_shift = mean_shift.over("tel_type") if within_types else mean_shift
    scaled = pl.when(known).then((pl.col("truth") + mean_shift).exp()).otherwise(math.nan)
    pull = (pl.col("value") - pl.col("truth")) / pl.col("error")
    has_error = pl.col("error") > 0
    return (
        telescopes.with_columns(pl.Series("truth", logs, pl.Float64))
        .with_columns(scaled.alias("truth"))
        .with_columns(pl.when(has_error).then(pull).otherwise(math.nan).alias("pull"))
    )


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
