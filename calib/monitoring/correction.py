"""From coefficients to what is done to the telescopes of an array.

A throughput coefficient ``c`` says that a telescope reports ``c`` times the light: its quantity is
multiplied by ``factor = c ** -slope``, whose error is ``factor * slope * error / c``. A time
offset says that it stamps late: it is subtracted, in whole quarter nanoseconds.

The error of a factor is common to all events of its telescope. It is stated beside the events and
never added to the uncertainty of one of them, where it would look like something that averages out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.errors import CannotCompute
from arraycal.calib.monitoring.clock_intervals import QUANTA_PER_NS, QUANTA_PER_S

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.monitoring.read_coefficients import Coefficients
    from arraycal.calib.subarray import Subarray

__all__ = [
    "NO_ROW",
    "by_telescope",
    "correct_stamps",
    "corrections",
    "for_array",
    "refuse_failed_fit",
]

NO_ROW = "the file of coefficients does not name it"
JUMPED = "jumped: stamps have the offset of their interval"
DRIFTS = "drifts: stamps have the offset of their time"
OUTSIDE = ", none outside; its intervals: "
#: Surveys move a telescope by centimetres; the next telescope is tens of metres away.
SAME_PLACE_M = 1.0
LARGEST_SECONDS = np.iinfo(np.uint32).max


def corrections(coefficients: Coefficients) -> pl.DataFrame:
    """Correction of every telescope the coefficients name.

    Parameters
    ----------
    coefficients : Coefficients
        What was read.

    Returns
    -------
    DataFrame
        ``tel_id``, ``tel_type``, then ``value``, ``error`` (no unit), ``factor``,
        ``factor_error`` (no unit); or ``offset``, ``error``, ``offset_applied`` (ns), the last
        rounded to quarter nanoseconds, ``valid_from``, ``valid_to`` (TAI seconds since 1970; NaN
        for no limit), ``drift`` (ns/h) and the date of ``reference`` at which a clock that drifts
        has the offset. NaN with its ``reason`` where there is none. A clock that jumps has a row
        per interval, any other telescope one row.
    """
    value, error = pl.col("value"), pl.col("error")
    telescopes = coefficients.telescopes
    if coefficients.quantity == "time":
        applied = (value * QUANTA_PER_NS).round() / QUANTA_PER_NS
        when = pl.col("valid_from", "valid_to", "drift", "reference")
        numbers = [value.alias("offset"), error, applied.alias("offset_applied"), when]
        telescopes = _with_intervals(coefficients)
    else:
        factor = value ** (-coefficients.slope)
        relative = coefficients.slope * error / value
        numbers = [value, error, factor.alias("factor"), (factor * relative).alias("factor_error")]
    return telescopes.select("tel_id", "tel_type", *numbers, "reason")


def _with_intervals(coefficients: Coefficients) -> pl.DataFrame:
    """Telescopes with the offset that always holds, or those of their intervals."""
    intervals = coefficients.intervals.rename({"value": "its_value", "error": "its_error"})
    moves = pl.col("valid_from").is_not_null()
    return (
        coefficients.telescopes.join(intervals, on="tel_id", how="left")
        .with_columns(
            pl.coalesce("its_value", "value").alias("value"),
            pl.coalesce("its_error", "error").alias("error"),
            pl.when(moves).then(pl.lit("")).otherwise("reason").alias("reason"),
            pl.col("valid_from", "valid_to", "reference").fill_null(np.nan),
            pl.col("drift").fill_null(0.0),
        )
        .sort("tel_id", "valid_from")
    )


def refuse_failed_fit(coefficients: Coefficients) -> None:
    """Refuse coefficients that are 1 with an unknown error, every one.

    The fit of ctao-calibpipe leaves its start values when it fails, as a pair with a single shower
    makes it do. A coefficient whose error alone is unknown corrects as well as any other.

    Raises
    ------
    CannotCompute
        With what is to be done.
    """
    rows = coefficients.telescopes.filter(pl.col("value").is_finite())
    failed = (rows["value"] == 1) & rows["error"].is_nan()
    if coefficients.quantity != "time" and len(rows) > 1 and failed.all():
        raise CannotCompute(
            f"{coefficients.path}: all {len(rows)} coefficients of {coefficients.table} are 1 and "
            "their errors NaN: the fit that made them failed, and left what it started from. "
            "Produce the coefficients again."
        )


def by_telescope(table: pl.DataFrame) -> pl.DataFrame:
    """Telescopes of `corrections` or `for_array`, and why values of theirs stay uncorrected.

    Parameters
    ----------
    table : DataFrame
        Corrections, in one or more rows per telescope.

    Returns
    -------
    DataFrame
        ``tel_id``, ``tel_type``, ``reason``: one row per telescope.
    """
    if "valid_from" in table.columns:
        text = pl.when(pl.col("drift") != 0).then(pl.lit(DRIFTS)).otherwise(pl.lit(JUMPED))
        text += OUTSIDE + pl.len().over("tel_id").cast(pl.String)
        moves = pl.col("valid_from").is_not_nan()
        table = table.with_columns(pl.when(moves).then(text).otherwise("reason").alias("reason"))
    columns = table.select("tel_id", "tel_type", "reason")
    return columns.unique("tel_id", keep="first", maintain_order=True)


def for_array(
    coefficients: Coefficients, subarray: Subarray
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Corrections of the telescopes of an array, if they are the same telescopes.

    Parameters
    ----------
    coefficients : Coefficients
        What was read.
    subarray : Subarray
        The telescopes of a block.

    Returns
    -------
    (DataFrame, tuple of str)
        `corrections` with every telescope of the array, by id and time; and remarks.

    Raises
    ------
    CannotCompute
        If no telescope is in both, or one has another type or stands elsewhere: the ids then mean
        other telescopes. A block of a part of the array is no contradiction, nor is a telescope
        that the coefficients do not name.
    """
    layout = pl.DataFrame(
        {
            "tel_id": list(subarray.tel_ids),
            "its_type": list(subarray.types),
            **{axis: list(at) for axis, at in zip("xyz", zip(*subarray.positions_m), strict=True)},  # noqa: B905  n triples
        },
        schema_overrides={"tel_id": pl.Int64},
    )
    both = layout.join(coefficients.telescopes, on="tel_id", how="inner")
    if both.is_empty():
        raise CannotCompute(
            f"none of its telescopes {list(subarray.tel_ids)} is in {coefficients.path}, which "
            f"has {coefficients.telescopes['tel_id'].to_list()}."
        )
    moved = pl.max_horizontal((pl.col(f"pos_{axis}") - pl.col(axis)).abs() for axis in "xyz")
    for bad, what in (
        (pl.col("tel_type") != pl.col("its_type"), "are of another type"),
        (moved.is_finite() & (moved > SAME_PLACE_M), f"stand more than {SAME_PLACE_M:g} m away"),
    ):
        strangers = sorted(both.filter(bad)["tel_id"])
        if strangers:
            raise CannotCompute(
                f"telescopes {strangers} {what} in {coefficients.path}: it was made for another "
                "array. Give coefficients of this one."
            )
    known = corrections(coefficients).drop("tel_type")
    table = layout.select("tel_id", tel_type="its_type").join(known, on="tel_id", how="left")
    numbers = [name for name, dtype in known.schema.items() if dtype == pl.Float64]
    table = table.with_columns(
        pl.col(numbers).fill_null(np.nan), pl.col("reason").fill_null(NO_ROW)
    )
    table = table.sort("tel_id", *({"valid_from"} & set(table.columns)))
    return table, _remarks(coefficients, subarray)


def _remarks(coefficients: Coefficients, subarray: Subarray) -> tuple[str, ...]:
    usable = coefficients.telescopes.filter(pl.col("value").is_finite())
    absent = sorted(set(usable["tel_id"]) - set(subarray.tel_ids))
    remarks = [f"coefficients of telescopes {absent} serve nothing here"] if absent else []
    for (tel_id,), rows in coefficients.intervals.group_by("tel_id", maintain_order=True):
        if tel_id not in subarray.tel_ids:
            continue
        drift = float(rows["drift"][0])
        what = f"drifts by {drift:+.2f} ns/h" if drift else "jumped"
        which = "time" if drift else "interval"
        remarks.append(
            f"the clock of telescope {tel_id} {what}: each stamp has the offset of its {which} "
            f"(intervals: {len(rows)}), none outside"
        )
    return tuple(remarks)


def correct_stamps(
    stamps: npt.NDArray[np.uint32], offset_ns: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint32]:
    """Subtract offsets from time stamps, in integers.

    Parameters
    ----------
    stamps : array of uint32, shape (n, 2)
        Seconds and quarter nanoseconds, below 4e9; (0, 0) is no time.
    offset_ns : array, shape (n,)
        What to subtract, ns; rounded to quarter nanoseconds. NaN gives (0, 0).

    Returns
    -------
    array of uint32, shape (n, 2)
        Corrected stamps.

    Raises
    ------
    CannotCompute
        If a stamp has 4e9 quarter nanoseconds or more, or the result cannot be written.

    Examples
    --------
    >>> correct_stamps(np.array([[7, 1], [7, 3_999_999_999]], np.uint32), np.array([1.0, -0.25]))
    array([[         6, 3999999997],
           [         8,          0]], dtype=uint32)
    """
    seconds, quanta = stamps[:, 0].astype(np.int64), stamps[:, 1].astype(np.int64)
    if np.any(quanta >= QUANTA_PER_S):
        raise CannotCompute(
            f"time stamps with {quanta.max():,} quarter nanoseconds; a second has "
            f"{QUANTA_PER_S:,}. The file is damaged, or its times are not of ctapipe."
        )
    known = np.isfinite(offset_ns) & ((seconds > 0) | (quanta > 0))
    shift = np.rint(np.where(known, offset_ns, 0.0) * QUANTA_PER_NS).astype(np.int64)
    # Seconds apart from their parts: a time since 1970 in quarter nanoseconds takes 63 bits.
    carry, quanta = np.divmod(quanta - shift, QUANTA_PER_S)
    seconds += carry
    if np.any((seconds < 0) | (seconds > LARGEST_SECONDS)):
        raise CannotCompute("corrected time stamps lie outside 1970 to 2106: check the offsets.")
    corrected = np.stack([seconds, quanta], axis=1)
    corrected[~known] = 0
    return corrected.astype(np.uint32)
